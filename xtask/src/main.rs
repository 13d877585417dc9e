//! The front door: sets up what a build needs and runs the right binary.
//!
//! It links no task crate, so it compiles in seconds.

mod bench;
mod setup;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const HELP: &str = "\
cargo xtask <command>

  test-all   install what the build needs, then run every test
  check      rustfmt, typos and cargo-deny where installed, clippy at -D warnings, every test, docs
  setup      say what this machine has for a build, and install what is needed with apt when root
             (with --all also what is optional)
  bench      ours against the originals' time on this machine: `cargo xtask bench torch` against PyTorch,
             `cargo xtask bench ops --peer PYTHON` against mmcv-full and torchvision

cargo xtask <command> <framework> [arguments]

  train      train a model: `cargo xtask train mmdet CONFIG`
  test       evaluate a checkpoint: `cargo xtask test mmdet CONFIG CHECKPOINT --eval bbox`
  infer      detect in images: `cargo xtask infer mmdet CONFIG CHECKPOINT IMAGE... --out DIR`
  golden     compare a model with the numbers of the Python original
  bench      time a detector: images a second by stage, peak memory
  modules    what a config's `type` may name, with fields and defaults
  config     dump, explain or diff configs
  shapes     make the small detection data set
  <command>  any other command of the framework's binary (`cargo xtask help mmdet`)

Frameworks: mmcls, mmdet
MMRS_FEATURES=opencv builds the image backend `opencv` in.
";

const FRAMEWORKS: [&str; 2] = ["mmcls", "mmdet"];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.first().copied() {
        Some(command) if words.get(1).is_some_and(|name| FRAMEWORKS.contains(name)) => {
            return framework(command, words[1], &words[2..]);
        }
        Some("test-all") => test_all(),
        Some("check") => check(),
        Some("bench") => bench::bench(&words[1..]),
        Some("setup") => setup::report(words.contains(&"--all")),
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

/// Builds a framework's binary and hands the command over; its exit code is ours.
fn framework(command: &str, name: &str, rest: &[&str]) -> ExitCode {
    let command = if command == "help" { "--help" } else { command };
    let run = setup::needed().and_then(|()| {
        let features = setup::features()?;
        let cargo = ["run", "--quiet", "--release", "--package", name, "--features", features.as_str(), "--", command];
        cargo_command().args(cargo).args(rest).status().context("cargo can't be started")
    });
    match run {
        Ok(status) => ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1)),
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::from(1)
        }
    }
}

fn test_all() -> Result<()> {
    setup::needed()?;
    cargo(&["test", "--workspace"])
}

/// Cheapest first.
fn check() -> Result<()> {
    setup::needed()?;
    cargo(&["fmt", "--all", "--", "--check"])?;
    if Command::new("typos").arg("--version").output().is_ok_and(|o| o.status.success()) {
        run(&mut Command::new("typos"))?;
    } else {
        eprintln!("skipped: typos is not installed (cargo install typos-cli)");
    }
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    if setup::cargo_has("deny") {
        cargo(&["deny", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"])?;
    } else {
        eprintln!("skipped: cargo-deny is not installed (cargo install cargo-deny)");
    }
    cargo(&["test", "--workspace"])?;
    run(cargo_command().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn cargo(args: &[&str]) -> Result<()> {
    run(cargo_command().args(args))
}

/// The cargo that runs us, without what it told us of our own package: build scripts that look at those variables would run
/// again, and all that hangs on them be built again, whenever cargo is called by us and not by hand.
fn cargo_command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let ours = |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
        command.env_remove(name);
    }
    command
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{:?} can't be started", command.get_program()))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}
