//! `golden`: whether models give the numbers that the originals gave.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};

use crate::error::{Error, Result};
use crate::fileio::write_atomic;
use crate::ops::set_exact;
use crate::say;
use crate::testing::golden::Report;

/// Each FILE holds a model's config and what the original answered, with weights that are generated from their names:
/// keys, outputs, losses, gradients. Prints one line per quantity with its greatest error, relative to the quantity's
/// greatest value.
#[derive(Debug, clap::Args)]
struct Args {
    /// Golden files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write our own numbers, in the form of the golden.
    #[arg(long, value_name = "OUT.json")]
    dump: Option<PathBuf>,
    /// Greatest relative error that passes.
    #[arg(long, default_value_t = 2e-3)]
    tolerance: f64,
}

/// The command's name and arguments.
pub fn golden_command() -> Command {
    // After the arguments, whose own doc would take its place.
    Args::augment_args(Command::new("golden")).about("Compare models with the numbers of the Python originals")
}

/// Compares each file by `check`; an error when one is beyond the tolerance.
pub fn run_golden(matches: &ArgMatches, check: fn(&Path) -> Result<Report>) -> Result<()> {
    let args = Args::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    if args.dump.is_some() && args.files.len() > 1 {
        return Err(Error::Usage("--dump takes one golden file".into()));
    }
    // The originals' numbers are those of sums of products.
    set_exact(true);
    let mut failed = Vec::new();
    for file in &args.files {
        say!("{}", file.display())?;
        let report = check(file)?;
        for (name, error) in &report.errors {
            let mark = if *error <= args.tolerance { "ok  " } else { "FAIL" };
            say!("  {mark} {name:<48} {error:.2e}")?;
        }
        if report.worst() > args.tolerance {
            failed.push(file.display().to_string());
        }
        if let Some(out) = &args.dump {
            let text = serde_json::to_string(&report.ours).map_err(|e| Error::Run(e.to_string()))?;
            write_atomic(out, |file| file.write_all(text.as_bytes()))?;
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Run(format!("beyond {:e}: {}", args.tolerance, failed.join(", "))))
}
