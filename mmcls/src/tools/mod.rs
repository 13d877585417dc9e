//! The `mmcls` binary's commands.

mod cam;
mod coverage;
mod golden;
mod infer;
mod test;
mod train;

use mmcv::cli::TaskCommand;

pub use golden::check;

/// All of them.
pub const COMMANDS: [TaskCommand; 6] =
    [train::COMMAND, test::COMMAND, infer::COMMAND, cam::COMMAND, golden::COMMAND, coverage::COMMAND];
