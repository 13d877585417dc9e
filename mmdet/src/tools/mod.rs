//! The commands of the `mmdet` binary that only detection has.

mod analyze_logs;
mod confusion_matrix;
mod eval;
mod flops;
pub mod golden;
mod infer;
mod results;
mod shapes;
mod test;
mod train;

use mmcv::cli::TaskCommand;

/// All of them, for `mmcv::cli::main`.
pub const COMMANDS: [TaskCommand; 9] = [
    train::COMMAND,
    test::COMMAND,
    infer::COMMAND,
    eval::COMMAND,
    confusion_matrix::COMMAND,
    analyze_logs::COMMAND,
    shapes::COMMAND,
    golden::COMMAND,
    flops::COMMAND,
];
