//! `mmdet infer`: detects in pictures; mmdet's `demo/image_demo.py`.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use mmcv::checkpoint::load_whole_checkpoint;
use mmcv::cli::{ConfigArgs, TaskCommand, parse_device};
use mmcv::{Error, Result, Rng, say};
use serde_json::json;

use crate::apis::{DetModel, ShowOptions, infer_image, show_result};
use crate::datasets::pipelines::{ImgInfo, Pipeline, Results};

/// Arguments of `mmdet infer`.
#[derive(Debug, clap::Args)]
struct InferArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A .safetensors or .pth checkpoint.
    checkpoint: PathBuf,
    /// Pictures.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Folder for the drawings and `detections.json`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Detections below are neither drawn nor listed.
    #[arg(long, default_value_t = 0.3)]
    score_thr: f32,
    /// `cpu` or `cuda:N`.
    #[arg(long, default_value_t = mmcv::cli::default_device(), value_name = "DEVICE")]
    device: String,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || InferArgs::augment_args(Command::new("infer")).about("Detect in pictures, draw and list what is found"),
    run,
};

fn run(matches: &ArgMatches) -> Result<()> {
    let args = InferArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    let config = args.config.load()?;
    let model = DetModel::from_config(&config, &parse_device(&args.device)?, 0)?;
    let found = load_whole_checkpoint(&model.store, &args.checkpoint)?;
    let classes = classes(&found.meta, model.detector.num_classes());
    let steps = config.require("data.test.pipeline")?;
    let Some(steps) = steps.as_list() else { return Err(steps.error("expected a list").under("data.test.pipeline")) };
    let pipeline = Pipeline::new(steps).map_err(|e| e.under("data.test.pipeline"))?;
    let show = ShowOptions { score_thr: args.score_thr, ..ShowOptions::default() };
    let mut listed = Vec::new();
    let mut failed = 0usize;
    for image in &args.images {
        let one = || -> Result<serde_json::Value> {
            let views = pipeline.samples(of_file(image), &mut Rng::new(0))?.unwrap_or_default();
            let result = infer_image(model.detector.as_ref().as_ref(), &views)?;
            let name = image.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            show_result(image, &result, &classes, &args.out.join(name), &show)?;
            let mut detections = Vec::new();
            for (label, boxes) in result.bboxes.iter().enumerate() {
                for [x1, y1, x2, y2, score] in boxes.iter().filter(|b| b[4] >= args.score_thr) {
                    detections.push(json!({"class": classes[label], "bbox": [x1, y1, x2, y2], "score": score}));
                }
            }
            say!("{}: {} detections", image.display(), detections.len())?;
            Ok(json!({"image": image.display().to_string(), "detections": detections}))
        };
        match one() {
            Ok(value) => listed.push(value),
            // The other pictures are still worth looking at.
            Err(e) if !e.is_usage() => {
                tracing::error!("{e}");
                failed += 1;
            }
            Err(e) => return Err(e),
        }
    }
    let text = serde_json::to_string_pretty(&listed).map_err(|e| Error::Run(e.to_string()))?;
    mmcv::fileio::write_atomic(&args.out.join("detections.json"), |file| file.write_all(text.as_bytes()))?;
    if failed > 0 {
        return Err(Error::Run(format!("{failed} of {} pictures could not be read", args.images.len())));
    }
    Ok(())
}

/// What a pipeline starts from for a picture of no data set.
fn of_file(image: &Path) -> Results {
    let info = ImgInfo { id: String::new(), filename: image.to_string_lossy().into_owned(), width: 0, height: 0 };
    Results { img_info: info, img_prefix: None, ..Results::default() }
}

/// The class names that the checkpoint carries, or numbers.
fn classes(meta: &serde_json::Map<String, serde_json::Value>, n: usize) -> Vec<String> {
    let named = meta
        .get("CLASSES")
        .and_then(|c| c.as_array())
        .map(|c| c.iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>());
    match named {
        Some(named) if named.len() == n => named,
        _ => (0..n).map(|i| format!("class {i}")).collect(),
    }
}
