//! The command line that every framework's binary shares.

mod checkpoint;
mod config;
mod coverage;
mod golden;
mod memory;
mod modules;
mod run_args;
mod say;
mod settings;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::registry;

pub use coverage::{coverage_command, run_coverage};
pub use golden::{golden_command, run_golden};
pub use memory::keep_pages;
pub use run_args::{ConfigArgs, TrainArgs, parse_device};
pub use say::say;
pub use settings::{Settings, default_device, settings};

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
    /// Print, explain or compare configs.
    Config(config::Args),
    /// List, convert or publish checkpoints.
    Checkpoint(checkpoint::Args),
}

/// A command of one framework's own, beside the shared ones.
pub struct TaskCommand {
    /// Its name and arguments.
    pub command: fn() -> clap::Command,
    /// What it does.
    pub run: fn(&clap::ArgMatches) -> Result<()>,
}

/// Runs a framework's binary: parses the arguments, runs the command, prints an error once.
///
/// The exit code is 0, 2 when a config or an argument is at fault, 1 when data or the run is.
pub fn main(name: &'static str, about: &'static str, own: &[TaskCommand]) -> ExitCode {
    use clap::{CommandFactory, FromArgMatches};
    keep_pages();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    // It fails only where a caller has set one up already, whose choice stands.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .log_internal_errors(false)
        .try_init();
    let commands = Args::command().name(name).about(about).subcommands(own.iter().map(|c| (c.command)()));
    let matches = commands.get_matches();
    let done = registry::check_unique().and_then(|()| settings::apply()).and_then(|()| {
        let own = matches.subcommand().and_then(|(chosen, arguments)| {
            own.iter().find(|c| (c.command)().get_name() == chosen).map(|c| (c, arguments))
        });
        match own {
            Some((command, arguments)) => (command.run)(arguments),
            None => Args::from_arg_matches(&matches)
                .map_err(|e| crate::Error::Usage(e.to_string()))
                .and_then(|args| run(args.command)),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "error: {e}");
            ExitCode::from(if e.is_usage() { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Modules(args) => modules::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Checkpoint(args) => checkpoint::run(&args),
    }
}
