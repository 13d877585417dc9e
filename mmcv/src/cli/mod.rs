//! The command line that every framework's binary shares.

mod modules;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::registry;

#[derive(Parser)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List what a config's `type` may name, with fields and defaults.
    Modules(modules::Args),
}

/// Runs a framework's binary: parses the arguments, runs the command, prints an error once.
///
/// The exit code is 0, 2 when a config or an argument is at fault, 1 when data or the run is.
pub fn main(name: &'static str, about: &'static str) -> ExitCode {
    use clap::{CommandFactory, FromArgMatches};
    let matches = Args::command().name(name).about(about).get_matches();
    let done = Args::from_arg_matches(&matches)
        .map_err(|e| crate::Error::Usage(e.to_string()))
        .and_then(|args| registry::check_unique().and_then(|()| run(args.command)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(if e.is_usage() { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Modules(args) => modules::run(&args),
    }
}
