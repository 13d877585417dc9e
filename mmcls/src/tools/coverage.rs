//! `mmcls coverage`: of which of mmcls's configs the classifiers have mmcls's weights.

use candle_core::Device;
use mmcv::cli::{TaskCommand, coverage_command, run_coverage};

use crate::apis::ClsModel;

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: coverage_command,
    run: |matches| run_coverage(matches, |config| Ok(ClsModel::from_config(config, &Device::Cpu, 0)?.store)),
};
