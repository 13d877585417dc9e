//! `mmcls test`: evaluates a checkpoint; mmcls's `tools/test.py`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use indicatif::{ProgressBar, ProgressStyle};
use mmcv::checkpoint::load_whole_checkpoint;
use mmcv::cli::{ConfigArgs, TaskCommand, parse_device};
use mmcv::config::{Config, Node, Value};
use mmcv::data::{LoaderConfig, Split};
use mmcv::fileio::write_atomic;
use mmcv::runner::hooks::EvalConfig;
use mmcv::{Error, Result, say};
use serde_json::json;

use crate::apis::{ClsModel, num_classes_fit, single_gpu_test};
use crate::datasets::{ClsDataset, DatasetDefaults, build_dataset};
use crate::evaluation::evaluate_dataset;

/// Arguments of `mmcls test`.
#[derive(Debug, clap::Args)]
struct TestArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A .safetensors or .pth checkpoint.
    checkpoint: PathBuf,
    /// Metrics: `accuracy`, `precision`, `recall`, `f1_score`, `support`.
    #[arg(long, num_args = 1.., value_name = "METRIC")]
    metrics: Vec<String>,
    /// Further arguments of the evaluation: `--metric-options topk=1 average_mode=none`.
    #[arg(long, num_args = 1.., value_name = "KEY=VALUE")]
    metric_options: Vec<String>,
    /// Write the metrics, and for each image its scores, the best class and its score.
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// `cpu` or `cuda:N`.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || TestArgs::augment_args(Command::new("test")).about("Evaluate a checkpoint on the test images"),
    run,
};

fn run(matches: &ArgMatches) -> Result<()> {
    let args = TestArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    if args.metrics.is_empty() && args.out.is_none() {
        return Err(Error::Usage("nothing to do: give --metrics METRIC or --out FILE.json".into()));
    }
    if args.out.as_ref().is_some_and(|o| o.extension().is_none_or(|e| e != "json")) {
        return Err(Error::Usage("--out: the results are written as .json".into()));
    }
    let device = parse_device(&args.device)?;
    let config = args.config.load()?;
    let node = config.require("data.test")?;
    let dataset: Arc<dyn ClsDataset> =
        Arc::from(build_dataset(node, DatasetDefaults { test_mode: true }).map_err(|e| e.under("data.test"))?);
    let model = ClsModel::from_config(&config, &device, 0)?;
    num_classes_fit(&*model.classifier, dataset.classes(), &config)?;
    load_whole_checkpoint(&model.store, &args.checkpoint)?;
    let train = LoaderConfig::from_config(&config.root, Split::Train)?;
    let own = LoaderConfig::from_config(&config.root, Split::Test)?;
    let given = config.root.at("data.test_dataloader.samples_per_gpu").is_some();
    let batch = if given { own.samples_per_gpu } else { train.samples_per_gpu };
    let loading = LoaderConfig { samples_per_gpu: batch, ..own };

    let bar = ProgressBar::new(dataset.len() as u64).with_style(
        ProgressStyle::with_template("test {wide_bar} {pos}/{len} {per_sec} ETA {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let scores = single_gpu_test(&*model.classifier, &dataset, &loading, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let mut metrics = serde_json::Map::new();
    if !args.metrics.is_empty() {
        let root = match config.root.get("evaluation").filter(|n| !n.is_null()) {
            Some(node) => EvalConfig::split(node).map_err(|e| e.under("evaluation"))?.1,
            None => Node::from(Value::Dict(Default::default())),
        };
        let mut own = Config { root, path: config.path.clone() };
        own.root.set("metric", Value::List(args.metrics.iter().map(|m| Node::from(m.as_str())).collect()));
        let options: Vec<String> = args.metric_options.iter().map(|o| format!("metric_options.{o}")).collect();
        own.merge_options(&options)?;
        for (name, value) in evaluate_dataset(&scores, &*dataset, &own.root).map_err(|e| e.under("evaluation"))? {
            let shown: Vec<String> = value.iter().map(|v| format!("{v:.2}")).collect();
            say!("{name}: {}", shown.join(" "))?;
            metrics.insert(name, if let [one] = value[..] { json!(one) } else { json!(value) });
        }
    }
    if let Some(out) = &args.out {
        let best = scores.iter().enumerate().map(|(i, row)| {
            let (label, score) = top(row, 1).into_iter().next().unwrap_or_default();
            json!({
                "image": dataset.name(i), "class_scores": row, "pred_score": score, "pred_label": label,
                "pred_class": dataset.classes().get(label),
            })
        });
        let mut all = metrics;
        all.insert("results".into(), best.collect());
        let text = serde_json::Value::Object(all).to_string();
        write_atomic(out, |file| file.write_all(text.as_bytes()))?;
        say!("{}: results of {} images", out.display(), scores.len())?;
    }
    Ok(())
}

/// The best `k` classes and their scores.
pub(super) fn top(row: &[f32], k: usize) -> Vec<(usize, f32)> {
    let mut order: Vec<(usize, f32)> = row.iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    order.truncate(k);
    order
}
