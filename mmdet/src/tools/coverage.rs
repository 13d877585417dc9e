//! `mmdet coverage`: of which of mmdet's configs the detectors have mmdet's weights.

use candle_core::Device;
use mmcv::cli::{TaskCommand, coverage_command, run_coverage};

use crate::apis::DetModel;

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: coverage_command,
    run: |matches| run_coverage(matches, |config| Ok(DetModel::from_config(config, &Device::Cpu, 0)?.store)),
};
