//! The front door: sets up what a build needs and runs the right binary.
//!
//! It links no task crate, so it compiles in seconds.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const HELP: &str = "\
cargo xtask <command>

  test-all   install what the build needs, then run every test
  check      rustfmt, clippy at -D warnings, every test
  setup      say what is missing for a build, and install it with apt when root
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let done = match args.next().as_deref() {
        Some("test-all") => test_all(),
        Some("check") => check(),
        Some("setup") => setup(),
        None | Some("help" | "-h" | "--help") => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => {
            eprintln!("error: unknown command '{other}'\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(1)
        }
    }
}

fn test_all() -> Result<()> {
    setup()?;
    cargo(&["test", "--workspace"])
}

fn check() -> Result<()> {
    setup()?;
    cargo(&["fmt", "--all", "--", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    cargo(&["test", "--workspace"])
}

/// The vendored libjpeg-turbo is built with cmake; nasm gives it its SIMD.
fn setup() -> Result<()> {
    let missing: Vec<&str> = ["cmake", "nasm"].into_iter().filter(|tool| !runs(tool)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("missing: {}", missing.join(", "));
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.trim_ascii() == b"0");
    if !root {
        bail!("install them first: sudo apt-get install -y {}", missing.join(" "));
    }
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get").args(["install", "-y", "-qq"]).args(&missing))
}

fn runs(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success())
}

fn cargo(args: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(Command::new(cargo).args(args))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{:?} can't be started", command.get_program()))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}
