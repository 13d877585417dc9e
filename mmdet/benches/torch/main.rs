//! Our side of `cargo xtask bench`: a server that times one case a line, so that both sides can take turns on one machine.
//!
//! It reads `prepare FOLDER`, `run SECONDS CASE` and `peak` from stdin and answers each with one line: nothing, the median
//! seconds of one run, the greatest memory so far in MB. A case's name says all about it (`conv2d 4 64 56 56 64 3 1 1 1 forward`);
//! `server.py` beside this file reads the same names.
#![allow(missing_docs)]

mod mmcv_ops;
mod nets;
mod ops;
mod run;

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use run::Run;

// As the binaries do.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sizes from a case's words.
pub fn sizes(words: &[&str]) -> Result<Vec<usize>> {
    words.iter().map(|w| w.parse().with_context(|| format!("'{w}' is not a size"))).collect()
}

fn make(name: &str, folder: &Path) -> Result<Run> {
    let words: Vec<&str> = name.split(' ').collect();
    let (Some((kind, rest)), Some(mode)) = (words.split_first(), words.last()) else { bail!("an empty case") };
    let rest = &rest[..rest.len().saturating_sub(1)];
    match *kind {
        "resnet50" | "mobilenet_v2" => nets::network(kind, &sizes(rest)?, mode),
        "retinanet_r50" | "retinanet_r18" => nets::retinanet(kind, &sizes(rest)?, mode, folder),
        _ => ops::make(kind, &sizes(rest)?, mode),
    }
}

/// Median of runs for about `seconds`, three at least.
fn time(run: &mut Run, seconds: f64) -> Result<f64> {
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || start.elapsed().as_secs_f64() < seconds {
        times.push(run()?.as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Greatest resident memory of this process, MB.
fn peak() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn main() -> Result<()> {
    mmcv::cli::keep_pages();
    let mut cases: HashMap<String, Run> = HashMap::new();
    let mut folder = std::env::temp_dir();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut answer = || -> Result<String> {
            let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match command {
                "prepare" => {
                    folder = rest.into();
                    nets::prepare(&folder)?;
                    Ok(String::new())
                }
                "run" => {
                    let (seconds, name) = rest.split_once(' ').context("run SECONDS CASE")?;
                    if !cases.contains_key(name) {
                        let mut run = make(name, &folder)?;
                        run()?;
                        // One case is kept: the next may need the memory.
                        cases.clear();
                        cases.insert(name.to_owned(), run);
                    }
                    let run = cases.get_mut(name).context("just made")?;
                    Ok(time(run, seconds.parse()?)?.to_string())
                }
                "peak" => Ok(peak()?.to_string()),
                other => bail!("unknown command '{other}'"),
            }
        };
        match answer() {
            Ok(text) => println!("ok {text}"),
            Err(e) => println!("error {}", format!("{e:#}").replace('\n', " ")),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}
