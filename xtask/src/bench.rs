//! `cargo xtask bench torch`: our kernels and models against PyTorch's on this machine, taking turns.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{cargo_command, run};

const HELP: &str = "\
cargo xtask bench torch [--threads 1,2] [--rounds N] [--seconds S] [--only TEXT] [--peer PYTHON] [--write]

Times the same cases here and in PyTorch (the newest of PyPI, installed into target/torch the first time), one after the
other in turns, and prints how many times as fast ours are. `--peer` names a Python with mmdet for the detectors' rows;
`--only` takes the cases whose name has TEXT; `--write` puts the table into BENCHMARKS.md.
";

/// Where the table stands in BENCHMARKS.md.
const MARKS: [&str; 2] = ["<!-- torch: begin -->", "<!-- torch: end -->"];

/// What is timed; `benches/torch/main.rs` says what the words mean.
const CASES: [&str; 39] = [
    "resnet50 8 224 224 forward",
    "resnet50 1 800 1216 forward",
    "resnet50 4 224 224 step",
    "mobilenet_v2 8 224 224 forward",
    "mobilenet_v2 8 224 224 step",
    "conv2d 4 3 224 224 64 7 2 3 1 forward",
    "conv2d 4 64 56 56 256 1 1 0 1 forward",
    "conv2d 4 1024 14 14 256 1 1 0 1 forward",
    "conv2d 4 64 56 56 64 3 1 1 1 forward",
    "conv2d 4 128 28 28 128 3 1 1 1 forward",
    "conv2d 4 256 14 14 256 3 1 1 1 forward",
    "conv2d 4 512 7 7 512 3 1 1 1 forward",
    "conv2d 4 128 56 56 128 3 2 1 1 forward",
    "conv2d 4 256 56 56 512 1 2 0 1 forward",
    "conv2d 4 96 112 112 96 3 1 1 96 forward",
    "conv2d 4 96 112 112 96 3 2 1 96 forward",
    "conv2d 1 256 100 152 256 3 1 1 1 forward",
    "conv2d 4 3 224 224 64 7 2 3 1 backward",
    "conv2d 4 64 56 56 256 1 1 0 1 backward",
    "conv2d 4 1024 14 14 256 1 1 0 1 backward",
    "conv2d 4 64 56 56 64 3 1 1 1 backward",
    "conv2d 4 128 28 28 128 3 1 1 1 backward",
    "conv2d 4 256 14 14 256 3 1 1 1 backward",
    "conv2d 4 512 7 7 512 3 1 1 1 backward",
    "conv2d 4 128 56 56 128 3 2 1 1 backward",
    "conv2d 4 256 56 56 512 1 2 0 1 backward",
    "conv2d 4 96 112 112 96 3 1 1 96 backward",
    "conv2d 4 96 112 112 96 3 2 1 96 backward",
    "batch_norm 4 64 100 152 both",
    "relu 4 64 100 152 both",
    "max_pool2d 4 64 100 152 3 2 1 both",
    "nearest_x2 4 64 50 76 both",
    "bilinear_x2 4 64 50 76 both",
    "softmax 8192 1000 both",
    "sigmoid_focal_loss 76725 80 both",
    "retinanet_r50 800 1216 infer",
    "retinanet_r18 8 256 320 step",
    "retinanet_r50 800 1216 infer memory",
    "retinanet_r18 8 256 320 step memory",
];

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
    let Some(("torch", rest)) = words.split_first().map(|(w, rest)| (*w, rest)) else {
        print!("{HELP}");
        return Ok(());
    };
    let Some(options) = Options::parse(rest)? else {
        print!("{HELP}");
        return Ok(());
    };
    let target = target_dir()?;
    let ours = build()?;
    let python = python(&target)?;
    let script = root().join("mmdet/benches/torch/server.py");
    let scratch = target.join("bench-torch");
    let mut rows = Vec::new();
    for &threads in &options.threads {
        let start = |program: &Path, script: Option<&Path>| Server::start(program, script, threads, &scratch);
        let mut servers = [start(&ours, None)?, start(&python, Some(&script))?];
        let mut peer = options.peer.as_deref().map(|p| start(p, Some(&script))).transpose()?;
        for case in CASES.iter().filter(|c| c.contains(&options.only)) {
            let detector = case.starts_with("retinanet");
            let rates = match (detector, &mut peer, case.strip_suffix(" memory")) {
                (true, None, _) => continue,
                (true, Some(_), Some(name)) => {
                    let peer = options.peer.as_deref().unwrap_or(&python);
                    vec![("mmdet", memory(start(peer, Some(&script))?, start(&ours, None)?, name)?)]
                }
                (true, Some(peer), None) => {
                    let [ours, _] = &mut servers;
                    ratios(ours, peer, case, &["mmdet"], &options)?
                }
                _ => {
                    let [ours, torch] = &mut servers;
                    ratios(ours, torch, case, ways(case), &options)?
                }
            };
            let row = row(case, threads, &rates);
            println!("{row}");
            rows.push(row);
        }
        if options.write {
            let version = servers[1].ask("version")?;
            write(&rows, &version, &options)?;
        }
    }
    Ok(())
}

/// How torch runs a case.
fn ways(case: &str) -> &'static [&'static str] {
    if ["resnet50", "mobilenet_v2"].iter().any(|net| case.starts_with(net)) && case.ends_with("forward") {
        &["eager", "channels_last", "jit", "compile"]
    } else {
        &["eager"]
    }
}

/// Their time divided by ours, for each way that runs; medians of rounds in turns.
fn ratios<'a>(
    ours: &mut Server,
    theirs: &mut Server,
    case: &str,
    ways: &[&'a str],
    options: &Options,
) -> Result<Vec<(&'a str, f64)>> {
    let mut found = Vec::new();
    for way in ways {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            match theirs.number(&format!("run {} {way} {case}", options.seconds)) {
                Ok(seconds) => b.push(seconds),
                Err(e) => {
                    eprintln!("{way} {case}: {e:#}");
                    break;
                }
            }
            a.push(ours.number(&format!("run {} {case}", options.seconds))?);
        }
        if !b.is_empty() && a.len() == b.len() {
            found.push((*way, median(&mut b) / median(&mut a)));
        }
    }
    Ok(found)
}

/// Our peak memory divided by theirs, each in a process of its own.
fn memory(mut theirs: Server, mut ours: Server, case: &str) -> Result<f64> {
    theirs.number(&format!("run 1 mmdet {case}"))?;
    ours.number(&format!("run 1 {case}"))?;
    Ok(ours.number("peak")? / theirs.number("peak")?)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn row(case: &str, threads: usize, rates: &[(&str, f64)]) -> String {
    let of = |way: &str| rates.iter().find(|(w, _)| *w == way).map(|(_, r)| format!("{r:.2}"));
    let first = of("eager").or_else(|| of("mmdet")).unwrap_or_default();
    // The least ratio is torch at its best.
    let best = rates.iter().filter(|_| rates.len() > 1).min_by(|a, b| a.1.total_cmp(&b.1));
    let best = best.map(|(way, r)| format!("{r:.2} ({way})")).unwrap_or_default();
    format!("| `{case}` | {threads} | {first} | {best} |")
}

fn write(rows: &[String], version: &str, options: &Options) -> Result<()> {
    let path = root().join("BENCHMARKS.md");
    let text = std::fs::read_to_string(&path)?;
    let (Some(begin), Some(end)) = (text.find(MARKS[0]), text.find(MARKS[1])) else {
        bail!("{}: the marks {MARKS:?} are missing", path.display());
    };
    let peer = if options.peer.is_some() { " --peer PYTHON" } else { "" };
    let table = format!(
        "{}\ntorch {version}; `cargo xtask bench torch{peer}`, medians of {} rounds in turns.\n\n\
         | case | threads | torch or mmdet / ours | torch's best / ours |\n|---|---|---|---|\n{}\n",
        MARKS[0],
        options.rounds,
        rows.join("\n")
    );
    std::fs::write(&path, format!("{}{table}{}", &text[..begin], &text[end..]))?;
    Ok(())
}

/// One side: a process that answers a line with a line.
struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start(program: &Path, script: Option<&Path>, threads: usize, scratch: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // glibc would give large buffers back to the kernel after each op.
        command.env("MALLOC_MMAP_THRESHOLD_", "4294967296").env("MALLOC_TRIM_THRESHOLD_", "8589934592");
        command.env("OMP_NUM_THREADS", threads.to_string()).env("RAYON_NUM_THREADS", threads.to_string());
        let mut child = command.spawn().with_context(|| format!("{} can't be started", program.display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { bail!("no pipes") };
        let mut server = Self { child, input, output: BufReader::new(output) };
        server.ask(&format!("prepare {}", scratch.display()))?;
        Ok(server)
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.input, "{line}")?;
        let mut answer = String::new();
        // A library may print lines of its own.
        loop {
            answer.clear();
            if self.output.read_line(&mut answer)? == 0 {
                bail!("the process ended at '{line}'");
            }
            match answer.trim_end().split_once(' ').unwrap_or((answer.trim_end(), "")) {
                ("ok", value) => return Ok(value.to_owned()),
                ("error", text) => bail!("{text}"),
                _ => {}
            }
        }
    }

    fn number(&mut self, line: &str) -> Result<f64> {
        let text = self.ask(line)?;
        text.parse().with_context(|| format!("'{text}' is not a number"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

fn target_dir() -> Result<PathBuf> {
    let out = cargo_command().args(["metadata", "--format-version", "1", "--no-deps"]).output()?;
    let text = String::from_utf8(out.stdout)?;
    let (_, rest) = text.split_once("\"target_directory\":\"").context("cargo metadata has no target_directory")?;
    Ok(rest.split('"').next().unwrap_or_default().into())
}

/// Builds our side; gives its path.
fn build() -> Result<PathBuf> {
    let args = ["bench", "--package", "mmdet", "--bench", "torch", "--no-run", "--message-format", "json"];
    let out = cargo_command().args(args).stderr(Stdio::inherit()).output()?;
    if !out.status.success() {
        bail!("the benchmark could not be built");
    }
    let text = String::from_utf8(out.stdout)?;
    let line = text.lines().rfind(|l| l.contains("\"executable\":\"")).context("cargo named no executable")?;
    let (_, rest) = line.split_once("\"executable\":\"").context("just found")?;
    Ok(rest.split('"').next().unwrap_or_default().into())
}

/// A Python with the newest torch, made the first time.
fn python(target: &Path) -> Result<PathBuf> {
    let venv = target.join("torch");
    let python = venv.join("bin/python");
    let works = |p: &Path| {
        let mut import = Command::new(p);
        import.args(["-c", "import torch, torchvision"]).stderr(Stdio::null());
        import.status().is_ok_and(|s| s.success())
    };
    if !works(&python) {
        println!("installing torch and torchvision into {}", venv.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-cache-dir",
            "torch",
            "torchvision",
            "numpy",
        ]))?;
    }
    Ok(python)
}
