//! The commands of the `mmdet` binary that only detection has.

mod flops;
pub mod golden;
mod shapes;

use mmcv::cli::TaskCommand;

/// All of them, for `mmcv::cli::main`.
pub const COMMANDS: [TaskCommand; 3] = [shapes::COMMAND, golden::COMMAND, flops::COMMAND];
