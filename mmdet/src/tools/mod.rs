//! The commands of the `mmdet` binary that only detection has.

mod shapes;

use mmcv::cli::TaskCommand;

/// All of them, for `mmcv::cli::main`.
pub const COMMANDS: [TaskCommand; 1] = [shapes::COMMAND];
