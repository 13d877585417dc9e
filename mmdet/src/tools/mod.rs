//! The commands of the `mmdet` binary that only detection has.

mod flops;
pub mod golden;
mod infer;
mod shapes;
mod test;
mod train;

use mmcv::cli::TaskCommand;

/// All of them, for `mmcv::cli::main`.
pub const COMMANDS: [TaskCommand; 6] =
    [train::COMMAND, test::COMMAND, infer::COMMAND, shapes::COMMAND, golden::COMMAND, flops::COMMAND];
