//! What the commands that test and evaluate share: the test data, detections from a file, options and report.

use std::path::Path;

use mmcv::cli::ConfigArgs;
use mmcv::config::{Config, Node, Value};
use mmcv::runner::hooks::EvalConfig;
use mmcv::{Error, Result, say};

use crate::apis::result_ids;
use crate::core::DetResult;
use crate::datasets::{DatasetDefaults, DetDataset, build_dataset, update_data_root};
use crate::evaluation::coco::{read_results, results_of_records};
use crate::evaluation::{Evaluation, TestResults, evaluate};

/// The config and its `data.test`.
pub(super) fn test_data(args: &ConfigArgs) -> Result<(Config, Box<dyn DetDataset>)> {
    let mut config = args.load()?;
    update_data_root(&mut config.root)?;
    let defaults = DatasetDefaults { test_mode: true };
    let dataset = build_dataset(config.require("data.test")?, defaults).map_err(|e| e.under("data.test"))?;
    Ok((config, dataset))
}

/// The test data of a config and what was found in it.
pub(super) struct Predictions {
    /// The config.
    pub config: Config,
    /// Its `data.test`.
    pub dataset: Box<dyn DetDataset>,
    /// One result per image.
    pub results: Vec<DetResult>,
}

impl Predictions {
    /// Reads a COCO result file. Where the data set is not COCO's, an image's id is its place in the data set and a
    /// category's id its label.
    pub(super) fn load(args: &ConfigArgs, path: &Path) -> Result<Self> {
        let (config, dataset) = test_data(args)?;
        let (img_ids, cat_ids) = result_ids(&*dataset);
        let results = results_of_records(&read_results(path)?, &img_ids, &cat_ids);
        Ok(Self { config, dataset, results })
    }
}

/// Evaluates by `metrics`, else by those of the config's `evaluation`, whose other options hold; `options`
/// (`key=value`) go over them. Prints the tables and the metrics.
pub(super) fn evaluate_and_print(
    config: &Config,
    dataset: &dyn DetDataset,
    results: &[DetResult],
    metrics: &[String],
    options: &[String],
) -> Result<Evaluation> {
    let root = match config.root.get("evaluation").filter(|n| !n.is_null()) {
        Some(node) => EvalConfig::split(node).map_err(|e| e.under("evaluation"))?.1,
        None => Node::from(Value::Dict(Default::default())),
    };
    let mut own = Config { root, path: config.path.clone() };
    if !metrics.is_empty() {
        own.root.set("metric", Value::List(metrics.iter().map(|m| Node::from(m.as_str())).collect()));
    }
    // It warns of keys that are new: here they are meant to be.
    own.merge_options(options)?;
    let evaluation =
        evaluate(dataset, TestResults::Detections(results), &own.root).map_err(|e: Error| e.under("evaluation"))?;
    say!("{}", evaluation.report.trim())?;
    for (name, value) in &evaluation.metrics {
        say!("{name}: {value}")?;
    }
    Ok(evaluation)
}
