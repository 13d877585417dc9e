//! `mmdet eval`: evaluates detections made before; mmdet's `tools/analysis_tools/eval_metric.py`.

use std::path::PathBuf;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use indexmap::IndexMap;
use mmcv::cli::{ConfigArgs, TaskCommand};
use mmcv::config::{Node, Value};
use mmcv::runner::hooks::EvalConfig;
use mmcv::{Error, Result};

use super::results::Predictions;
use crate::evaluation::{TestResults, evaluate};

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
    let mut options = match config.root.get("evaluation").filter(|n| !n.is_null()) {
        Some(node) => EvalConfig::split(node).map_err(|e| e.under("evaluation"))?.1,
        None => Node::from(Value::Dict(IndexMap::new())),
    };
    if !args.eval.is_empty() {
        options.set("metric", Value::List(args.eval.iter().map(|m| Node::from(m.as_str())).collect()));
    }
    let evaluation = evaluate(&*dataset, TestResults::Detections(&results), &options)?;
    println!("{}", evaluation.report.trim());
    for (name, value) in &evaluation.metrics {
        println!("{name}: {value}");
    }
    Ok(())
}
