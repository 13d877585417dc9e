//! `mmdet test`: evaluates a checkpoint; mmdet's `tools/test.py`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use indicatif::{ProgressBar, ProgressStyle};
use mmcv::checkpoint::load_whole_checkpoint;
use mmcv::cli::{ConfigArgs, TaskCommand, parse_device};
use mmcv::cnn::fuse_conv_bn;
use mmcv::data::{LoaderConfig, Split};
use mmcv::{Error, Result, say};

use super::results::{evaluate_and_print, test_data};
use crate::apis::{DetModel, ShowOptions, drawing_name, num_classes_fit, show_result, single_gpu_test, write_results};
use crate::datasets::DetDataset;

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
    /// Take the batch norms into the convolutions first, as mmdet's option does. Testing folds them in any case, so the
    /// speed stays; `mmdet fuse` writes the fused weights.
    #[arg(long)]
    fuse_conv_bn: bool,
    /// `cpu` or `cuda:N`.
    #[arg(long, default_value_t = mmcv::cli::default_device(), value_name = "DEVICE")]
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
    let (config, dataset) = test_data(&args.config)?;
    let dataset: Arc<dyn DetDataset> = Arc::from(dataset);
    let model = DetModel::from_config(&config, &device, 0)?;
    num_classes_fit(model.detector.as_ref().as_ref(), dataset.classes(), &config)?;
    load_whole_checkpoint(&model.store, &args.checkpoint)?;
    if args.fuse_conv_bn {
        tracing::info!("{} batch norms fused into their convolutions", fuse_conv_bn(&model.store)?);
    }

    let bar = ProgressBar::new(dataset.len() as u64).with_style(
        ProgressStyle::with_template("test {wide_bar} {pos}/{len} {per_sec} ETA {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let show = ShowOptions { score_thr: args.show_score_thr, ..ShowOptions::default() };
    let workers = LoaderConfig::from_config(&config.root, Split::Test)?.workers_per_gpu;
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
        say!("{}: detections of {} images", out.display(), results.len())?;
    }
    if let Some(dir) = &args.show_dir {
        say!("{}: drawings of {} images", dir.display(), results.len())?;
    }
    if args.eval.is_empty() {
        return Ok(());
    }
    let evaluation = evaluate_and_print(&config, &*dataset, &results, &args.eval, &args.eval_options)?;
    if let Some(dir) = &args.work_dir {
        let text = serde_json::to_string_pretty(&evaluation.metrics).map_err(|e| Error::Run(e.to_string()))?;
        mmcv::fileio::write_atomic(&dir.join("eval.json"), |file| file.write_all(text.as_bytes()))?;
    }
    Ok(())
}
