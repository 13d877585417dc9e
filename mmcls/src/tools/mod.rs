//! The `mmcls` binary's commands.

mod golden;
mod infer;
mod test;
mod train;

use mmcv::cli::TaskCommand;

pub use golden::check;

/// All of them.
pub const COMMANDS: [TaskCommand; 4] = [train::COMMAND, test::COMMAND, infer::COMMAND, golden::COMMAND];
