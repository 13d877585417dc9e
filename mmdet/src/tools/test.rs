//! `mmdet test`: evaluates a checkpoint; mmdet's `tools/test.py`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use indicatif::{ProgressBar, ProgressStyle};
use mmcv::cli::{ConfigArgs, TaskCommand, parse_device};
use mmcv::config::{Config, Node, Value};
use mmcv::runner::hooks::EvalConfig;
use mmcv::{Error, Result};

use crate::apis::{DetModel, ShowOptions, drawing_name, num_classes_fit, show_result, single_gpu_test, write_results};
use crate::datasets::{DatasetDefaults, DetDataset, build_dataset, update_data_root};
use crate::evaluation::{TestResults, evaluate};

/// Arguments of `mmdet test`.
#[derive(Debug, clap::Args)]
struct TestArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A .safetensors or .pth checkpoint.
    checkpoint: PathBuf,
    /// Metrics: `bbox`, `segm`, `proposal` for COCO, `mAP`, `recall` for VOC.
    #[arg(long, num_args = 1.., value_name = "METRIC")]
    eval: Vec<String>,
    /// Further arguments of the evaluation: `--eval-options classwise=true iou_thr=0.75`.
    #[arg(long, num_args = 1.., value_name = "KEY=VALUE")]
    eval_options: Vec<String>,
    /// Write the detections as COCO's list of records.
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// Draw the detections of each image into this folder.
    #[arg(long, value_name = "DIR")]
    show_dir: Option<PathBuf>,
    /// Detections below are not drawn.
    #[arg(long, default_value_t = 0.3)]
    show_score_thr: f32,
    /// Write the metrics as JSON into this folder.
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
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
    if args.eval.is_empty() && args.out.is_none() && args.show_dir.is_none() {
        return Err(Error::Usage("nothing to do: give --eval METRIC, --out FILE.json or --show-dir DIR".into()));
    }
    if args.out.as_ref().is_some_and(|o| o.extension().is_none_or(|e| e != "json")) {
        return Err(Error::Usage("--out: the detections are written as .json".into()));
    }
    let device = parse_device(&args.device)?;
    let mut config = args.config.load()?;
    update_data_root(&mut config.root)?;
    let mut options = eval_options(config.root.get("evaluation"), &args)?;
    let data = config.require("data.test")?;
    let dataset: Arc<dyn DetDataset> =
        Arc::from(build_dataset(data, DatasetDefaults { test_mode: true }).map_err(|e| e.under("data.test"))?);
    let model = DetModel::from_config(&config, &device, 0)?;
    num_classes_fit(model.detector.as_ref().as_ref(), dataset.classes(), &config)?;
    model.load_all(&args.checkpoint)?;

    let bar = ProgressBar::new(dataset.len() as u64).with_style(
        ProgressStyle::with_template("test {wide_bar} {pos}/{len} {per_sec} ETA {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let show = ShowOptions { score_thr: args.show_score_thr, ..ShowOptions::default() };
    let workers = config.root.at("data.workers_per_gpu").and_then(Node::as_i64).map_or(1, |n| n.clamp(1, 64) as usize);
    let results = single_gpu_test(model.detector.as_ref().as_ref(), &dataset, workers, |_, found, meta| {
        bar.inc(1);
        match &args.show_dir {
            Some(dir) => {
                let out = dir.join(drawing_name(&meta.ori_filename));
                show_result(meta.filename.as_ref(), found, dataset.classes(), &out, &show)
            }
            None => Ok(()),
        }
    })?;
    bar.finish_and_clear();
    if let Some(out) = &args.out {
        write_results(&*dataset, &results, out)?;
        println!("{}: detections of {} images", out.display(), results.len());
    }
    if let Some(dir) = &args.show_dir {
        println!("{}: drawings of {} images", dir.display(), results.len());
    }
    if args.eval.is_empty() {
        return Ok(());
    }
    let metric = args.eval.iter().map(|m| Node::from(m.as_str())).collect();
    options.set("metric", Value::List(metric));
    let evaluation = evaluate(&*dataset, TestResults::Detections(&results), &options)?;
    println!("{}", evaluation.report.trim());
    for (name, value) in &evaluation.metrics {
        println!("{name}: {value}");
    }
    if let Some(dir) = &args.work_dir {
        let text = serde_json::to_string_pretty(&evaluation.metrics).map_err(|e| Error::Run(e.to_string()))?;
        mmcv::fileio::write_atomic(&dir.join("eval.json"), |file| file.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// The config's `evaluation` without the hook's fields, and `--eval-options` over it.
fn eval_options(node: Option<&Node>, args: &TestArgs) -> Result<Node> {
    let options = match node.filter(|n| !n.is_null()) {
        Some(node) => EvalConfig::split(node).map_err(|e| e.under("evaluation"))?.1.without("metric"),
        None => Node::from(Value::Dict(Default::default())),
    };
    let mut options = Config { root: options, path: args.config.config.clone() };
    // It warns of keys that are new: here they are meant to be.
    options.merge_options(&args.eval_options)?;
    Ok(options.root)
}
