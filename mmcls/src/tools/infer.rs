//! `mmcls infer`: the best classes of pictures; mmcls's `demo/image_demo.py`.

use std::path::PathBuf;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use mmcv::checkpoint::load_whole_checkpoint;
use mmcv::cli::{ConfigArgs, TaskCommand, parse_device};
use mmcv::fileio::write_atomic;
use mmcv::{Error, Result, Rng, say};
use serde_json::json;

use super::test::top;
use crate::apis::ClsModel;
use crate::datasets::pipelines::{Pipeline, Results};

/// Arguments of `mmcls infer`.
#[derive(Debug, clap::Args)]
struct InferArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A .safetensors or .pth checkpoint.
    checkpoint: PathBuf,
    /// Pictures.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Write the classes and scores.
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// Classes a picture.
    #[arg(long, default_value_t = 5)]
    topk: usize,
    /// `cpu` or `cuda:N`.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || InferArgs::augment_args(Command::new("infer")).about("Name the best classes of pictures"),
    run,
};

fn run(matches: &ArgMatches) -> Result<()> {
    let args = InferArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    let config = args.config.load()?;
    let model = ClsModel::from_config(&config, &parse_device(&args.device)?, 0)?;
    let found = load_whole_checkpoint(&model.store, &args.checkpoint)?;
    let classes: Vec<String> =
        found.meta.get("CLASSES").and_then(|c| serde_json::from_value(c.clone()).ok()).unwrap_or_default();
    let steps = config.require("data.test.pipeline")?;
    let Some(steps) = steps.as_list() else { return Err(steps.error("expected a list").under("data.test.pipeline")) };
    let pipeline = Pipeline::new(steps).map_err(|e| e.under("data.test.pipeline"))?;
    let mut listed = Vec::new();
    let mut failed = 0usize;
    for image in &args.images {
        let one = || -> Result<Vec<(usize, f32)>> {
            let results = Results { filename: image.display().to_string(), ..Results::default() };
            let sample = pipeline.sample(results, &mut Rng::new(0))?;
            let scores = model.classifier.simple_test(&sample.img.unsqueeze(0)?)?;
            Ok(top(&scores.squeeze(0)?.to_vec1::<f32>()?, args.topk))
        };
        match one() {
            Ok(best) => {
                say!("{}", image.display())?;
                let name = |label: usize| classes.get(label).cloned().unwrap_or_else(|| label.to_string());
                for (label, score) in &best {
                    say!("  {score:.4} {}", name(*label))?;
                }
                let best: Vec<_> =
                    best.iter().map(|(l, s)| json!({"label": l, "class": name(*l), "score": s})).collect();
                listed.push(json!({"image": image, "top": best}));
            }
            // The other pictures are done all the same.
            Err(e) => {
                failed += 1;
                tracing::error!("{e}");
            }
        }
    }
    if let Some(out) = &args.out {
        let text = serde_json::Value::from(listed).to_string();
        write_atomic(out, |file| file.write_all(text.as_bytes()))?;
    }
    if failed > 0 {
        return Err(Error::Run(format!("{failed} of {} pictures failed", args.images.len())));
    }
    Ok(())
}
