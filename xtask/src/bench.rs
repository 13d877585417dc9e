//! `cargo xtask bench torch|ops`: our kernels and models against the Python originals' on this machine, taking turns.

mod cases;
mod server;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use cases::{Case, PEER};
use server::Server;

const HELP: &str = "\
cargo xtask bench torch [--threads 1,2] [--rounds N] [--seconds S] [--only TEXT] [--peer PYTHON] [--write]
cargo xtask bench ops --peer PYTHON [the same options]

Times the same cases here and in Python, one after the other in turns, and prints how many times as fast ours are: `torch`
kernels and models against PyTorch (the newest of PyPI with its torchvision, installed into target/torch the first time), `ops`
mmcv's ops against the CPU ops of mmcv-full and torchvision.

`--peer` names a Python with mmcv-full and mmdet: `ops` needs it, `torch` leaves the detectors' rows out without it.
`--only` takes the cases whose name has TEXT; `--write` puts the table into BENCHMARKS.md.
";

/// A list of cases with a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Networks and plain ops against PyTorch.
    Torch,
    /// mmcv's ops against mmcv-full and torchvision.
    Ops,
}

impl Suite {
    fn named(name: &str) -> Option<Self> {
        [Self::Torch, Self::Ops].into_iter().find(|suite| suite.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Torch => "torch",
            Self::Ops => "ops",
        }
    }

    /// Where the table stands in BENCHMARKS.md.
    fn marks(self) -> [String; 2] {
        ["begin", "end"].map(|end| format!("<!-- {}: {end} -->", self.name()))
    }

    /// Heads of the table's columns of ratios.
    fn columns(self) -> [&'static str; 2] {
        match self {
            Self::Torch => ["torch or mmdet / ours", "torch's best / ours"],
            Self::Ops => ["mmcv / ours", "torchvision / ours"],
        }
    }

    /// A row's ratios.
    fn cells(self, rates: &[(&str, f64)]) -> [String; 2] {
        let of = |way: &str| rates.iter().find(|(w, _)| *w == way).map(|(_, r)| format!("{r:.2}"));
        match self {
            Self::Torch => {
                let first = of("eager").or_else(|| of("mmdet")).unwrap_or_default();
                // The least ratio is torch at its best.
                let best = rates.iter().filter(|_| rates.len() > 1).min_by(|a, b| a.1.total_cmp(&b.1));
                [first, best.map(|(way, r)| format!("{r:.2} ({way})")).unwrap_or_default()]
            }
            Self::Ops => ["mmcv", "torchvision"].map(|way| of(way).unwrap_or_default()),
        }
    }
}

struct Options {
    threads: Vec<usize>,
    rounds: usize,
    seconds: f64,
    only: String,
    peer: Option<PathBuf>,
    write: bool,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Option<Self>> {
        let mut options =
            Self { threads: vec![1, 2], rounds: 3, seconds: 1.0, only: String::new(), peer: None, write: false };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().copied().with_context(|| format!("{word} needs a value"));
            match *word {
                "--threads" => {
                    options.threads = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?;
                }
                "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
                "--seconds" => options.seconds = value()?.parse()?,
                "--only" => options.only = value()?.to_owned(),
                "--peer" => options.peer = Some(value()?.into()),
                "--write" => options.write = true,
                "-h" | "--help" => return Ok(None),
                other => bail!("unknown option '{other}'\n\n{HELP}"),
            }
        }
        Ok(Some(options))
    }
}

/// The command; `words` follow `bench`.
pub fn bench(words: &[&str]) -> Result<()> {
    let found = words.split_first().and_then(|(name, rest)| Some((Suite::named(name)?, rest)));
    let Some((suite, rest)) = found else {
        print!("{HELP}");
        return Ok(());
    };
    let Some(options) = Options::parse(rest)? else {
        print!("{HELP}");
        return Ok(());
    };
    if suite == Suite::Ops && options.peer.is_none() {
        bail!("bench ops needs --peer PYTHON, one with mmcv-full and mmdet");
    }
    let target = server::target_dir()?;
    let sides = Sides {
        ours: server::build()?,
        torch: server::python(&target)?,
        peer: options.peer.clone(),
        script: root().join("mmdet/benches/torch/server.py"),
        scratch: target.join("bench-torch"),
    };
    let (mut rows, mut failed) = (Vec::new(), 0);
    for &threads in &options.threads {
        let mut running = Running::start(&sides, threads)?;
        for case in cases::cases(suite).iter().filter(|c| c.name.contains(&options.only)) {
            let mut rates = Vec::new();
            for way in case.ways {
                // Without a peer its cases are left out.
                match running.rate(case, way, &options).transpose() {
                    None => {}
                    Some(Ok(rate)) => rates.push((*way, rate)),
                    Some(Err(e)) => {
                        eprintln!("{way} {}: {e:#}", case.name);
                        failed += 1;
                    }
                }
            }
            if !rates.is_empty() {
                let [first, second] = suite.cells(&rates);
                let row = format!("| `{}` | {threads} | {first} | {second} |", case.name);
                println!("{row}");
                rows.push(row);
            }
        }
        if options.write {
            write(suite, &rows, &running.versions(suite)?, &options)?;
        }
    }
    if failed > 0 {
        bail!("{failed} of the comparisons failed");
    }
    Ok(())
}

/// The programs of all sides.
struct Sides {
    ours: PathBuf,
    /// A Python with torch and torchvision.
    torch: PathBuf,
    /// A Python with mmcv-full and mmdet.
    peer: Option<PathBuf>,
    /// What Python runs.
    script: PathBuf,
    /// A folder for files.
    scratch: PathBuf,
}

impl Sides {
    fn ours(&self, threads: usize) -> Result<Server> {
        Server::start(&self.ours, None, threads, &self.scratch)
    }

    fn python(&self, program: &Path, threads: usize) -> Result<Server> {
        Server::start(program, Some(&self.script), threads, &self.scratch)
    }
}

/// All sides, with so many threads.
struct Running<'a> {
    sides: &'a Sides,
    threads: usize,
    ours: Server,
    torch: Server,
    peer: Option<Server>,
}

impl<'a> Running<'a> {
    fn start(sides: &'a Sides, threads: usize) -> Result<Self> {
        let ours = sides.ours(threads)?;
        let torch = sides.python(&sides.torch, threads)?;
        let peer = sides.peer.as_deref().map(|p| sides.python(p, threads)).transpose()?;
        Ok(Self { sides, threads, ours, torch, peer })
    }

    /// How many times as fast ours is as one way of Python's, for memory our share of theirs; none without the peer it needs.
    fn rate(&mut self, case: &Case, way: &str, options: &Options) -> Result<Option<f64>> {
        let sides = self.sides;
        let (program, theirs) = match (PEER.contains(&way), &sides.peer, &mut self.peer) {
            (true, Some(program), Some(peer)) => (program, peer),
            (true, ..) => return Ok(None),
            (false, ..) => (&sides.torch, &mut self.torch),
        };
        match case.name.strip_suffix(" memory") {
            Some(name) => memory(sides.ours(self.threads)?, sides.python(program, self.threads)?, name, way).map(Some),
            None => ratio(&mut self.ours, theirs, case.name, way, options).map(Some),
        }
    }

    /// What the originals are.
    fn versions(&mut self, suite: Suite) -> Result<String> {
        let torch = match suite {
            Suite::Torch => "torch",
            Suite::Ops => "torch torchvision",
        };
        let mut versions = self.torch.ask(&format!("version {torch}"))?;
        if let Some(peer) = &mut self.peer {
            versions = format!("{versions}; {}", peer.ask("version mmcv-full mmdet torch")?);
        }
        Ok(versions)
    }
}

/// Their time divided by ours; medians of rounds in turns.
fn ratio(ours: &mut Server, theirs: &mut Server, case: &str, way: &str, options: &Options) -> Result<f64> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        b.push(theirs.number(&format!("run {} {way} {case}", options.seconds))?);
        a.push(ours.number(&format!("run {} {case}", options.seconds)).context("ours")?);
    }
    Ok(median(&mut b) / median(&mut a))
}

/// Our peak memory divided by theirs, each in a process of its own.
fn memory(mut ours: Server, mut theirs: Server, case: &str, way: &str) -> Result<f64> {
    theirs.number(&format!("run 1 {way} {case}"))?;
    ours.number(&format!("run 1 {case}"))?;
    Ok(ours.number("peak")? / theirs.number("peak")?)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn write(suite: Suite, rows: &[String], versions: &str, options: &Options) -> Result<()> {
    let path = root().join("BENCHMARKS.md");
    let text = std::fs::read_to_string(&path)?;
    let marks = suite.marks();
    let (Some(begin), Some(end)) = (text.find(&marks[0]), text.find(&marks[1])) else {
        bail!("{}: the marks {marks:?} are missing", path.display());
    };
    let peer = if options.peer.is_some() { " --peer PYTHON" } else { "" };
    let [first, second] = suite.columns();
    let table = format!(
        "{}\n{versions}; `cargo xtask bench {}{peer}`, medians of {} rounds in turns.\n\n\
         | case | threads | {first} | {second} |\n|---|---|---|---|\n{}\n",
        marks[0],
        suite.name(),
        options.rounds,
        rows.join("\n")
    );
    std::fs::write(&path, format!("{}{table}{}", &text[..begin], &text[end..]))?;
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
