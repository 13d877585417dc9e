//! `mmdet eval`: evaluates detections made before; mmdet's `tools/analysis_tools/eval_metric.py`.

use std::path::PathBuf;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use mmcv::cli::{ConfigArgs, TaskCommand};
use mmcv::{Error, Result};

use super::results::{Predictions, evaluate_and_print};

/// Arguments of `mmdet eval`.
#[derive(clap::Args)]
struct EvalArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Detections in COCO's result format, as `mmdet test --out` writes them.
    #[arg(value_name = "RESULTS.json")]
    results: PathBuf,
    /// Metrics: `bbox`, `segm`, `proposal` for COCO data sets, `mAP` for others; those of the config's `evaluation`
    /// when not given. Its other options are set by `--cfg-options evaluation.classwise=true`.
    #[arg(long, num_args = 1.., value_name = "METRIC")]
    eval: Vec<String>,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || EvalArgs::augment_args(Command::new("eval")).about("Evaluate detections that were written to a file"),
    run,
};

fn run(matches: &ArgMatches) -> Result<()> {
    let args = EvalArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    let Predictions { dataset, results, config } = Predictions::load(&args.config, &args.results)?;
    evaluate_and_print(&config, &*dataset, &results, &args.eval, &[])?;
    Ok(())
}
