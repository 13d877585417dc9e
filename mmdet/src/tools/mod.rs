//! The commands of the `mmdet` binary that only detection has.

mod analyze_logs;
mod bench;
mod browse_dataset;
mod confusion_matrix;
mod coverage;
mod dataset;
mod eval;
mod flops;
mod fuse;
pub mod golden;
mod infer;
mod results;
mod shapes;
mod test;
mod train;

use mmcv::cli::TaskCommand;

/// All of them, for `mmcv::cli::main`.
pub const COMMANDS: [TaskCommand; 14] = [
    train::COMMAND,
    test::COMMAND,
    infer::COMMAND,
    eval::COMMAND,
    confusion_matrix::COMMAND,
    analyze_logs::COMMAND,
    shapes::COMMAND,
    golden::COMMAND,
    coverage::COMMAND,
    flops::COMMAND,
    fuse::COMMAND,
    bench::COMMAND,
    browse_dataset::COMMAND,
    dataset::COMMAND,
];
