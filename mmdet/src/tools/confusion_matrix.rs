//! `mmdet confusion-matrix`: which class is taken for which.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use mmcv::cli::{ConfigArgs, TaskCommand};
use mmcv::visualization::plot_confusion_matrix;
use mmcv::{Error, Result, say};

use super::results::Predictions;
use crate::core::AnnInfo;
use crate::evaluation::{ConfusionOptions, confusion_matrix};

/// Arguments of `mmdet confusion-matrix`.
#[derive(clap::Args)]
struct ConfusionArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Detections in COCO's result format, as `mmdet test --out` writes them.
    #[arg(value_name = "RESULTS.json")]
    prediction_path: PathBuf,
    /// Folder for `confusion_matrix.png`.
    save_dir: PathBuf,
    /// Detections with a lower score don't count.
    #[arg(long, default_value_t = 0.3)]
    score_thr: f64,
    /// IoU from which on a detection finds an object.
    #[arg(long, default_value_t = 0.5)]
    tp_iou_thr: f64,
    /// Suppresses detections of a class once more, with this IoU.
    #[arg(long)]
    nms_iou_thr: Option<f64>,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || {
        ConfusionArgs::augment_args(Command::new("confusion-matrix"))
            .about("Plot which class detections take for which")
    },
    run,
};

fn run(matches: &ArgMatches) -> Result<()> {
    let args = ConfusionArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    let Predictions { dataset, results, .. } = Predictions::load(&args.config, &args.prediction_path)?;
    let annotations: Vec<Arc<AnnInfo>> = (0..dataset.len()).map(|i| dataset.ann_info(i)).collect::<Result<_>>()?;
    let annotations: Vec<&AnnInfo> = annotations.iter().map(|a| &**a).collect();
    let opts =
        ConfusionOptions { score_thr: args.score_thr, tp_iou_thr: args.tp_iou_thr, nms_iou_thr: args.nms_iou_thr };
    let matrix = confusion_matrix(&results, &annotations, dataset.classes().len(), opts)?;
    let names: Vec<String> = dataset.classes().iter().cloned().chain(["background".to_owned()]).collect();
    let out = args.save_dir.join("confusion_matrix.png");
    std::fs::create_dir_all(&args.save_dir).map_err(|e| Error::io(&args.save_dir, e))?;
    plot_confusion_matrix(&out, "Normalized Confusion Matrix", &matrix, &names)?;
    say!("{}", out.display())?;
    Ok(())
}
