//! `mmcls infer`: the best classes of pictures, printed and drawn on them; mmcls's `demo/image_demo.py`.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use mmcv::checkpoint::load_whole_checkpoint;
use mmcv::cli::{ConfigArgs, TaskCommand, parse_device};
use mmcv::fileio::write_atomic;
use mmcv::image::{ChannelOrder, ColorFlag, imread, imwrite};
use mmcv::visualization::with_captions;
use mmcv::{Error, Result, Rng, say};
use serde_json::json;

use super::test::top;
use crate::apis::{ClsModel, class_names, image_steps};
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
    /// Folder for the pictures with their classes and scores drawn on.
    #[arg(long, value_name = "DIR")]
    show_dir: Option<PathBuf>,
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
    let classes = class_names(&found.meta);
    let pipeline = Pipeline::new(&image_steps(&config)?).map_err(|e| e.under("data.test.pipeline"))?;
    let name = |label: usize| classes.get(label).cloned().unwrap_or_else(|| label.to_string());
    let mut listed = Vec::new();
    let mut failed = 0usize;
    for image in &args.images {
        let one = || -> Result<Vec<(usize, f32)>> {
            let results = Results { filename: image.display().to_string(), ..Results::default() };
            let sample = pipeline.sample(results, &mut Rng::new(0))?;
            let scores = model.classifier.simple_test(&sample.img.unsqueeze(0)?)?;
            let best = top(&scores.squeeze(0)?.to_vec1::<f32>()?, args.topk);
            if let Some(dir) = &args.show_dir {
                let lines: Vec<String> = best.iter().map(|(l, s)| format!("{s:.2} {}", name(*l))).collect();
                show(image, &lines, dir)?;
            }
            Ok(best)
        };
        match one() {
            Ok(best) => {
                say!("{}", image.display())?;
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

/// Draws `lines` on the picture, into `dir` as a PNG of its name.
fn show(image: &Path, lines: &[String], dir: &Path) -> Result<()> {
    let picture = imread(image, ColorFlag::Color, ChannelOrder::Bgr)?;
    std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
    let file = dir.join(format!("{}.png", image.file_stem().unwrap_or_default().to_string_lossy()));
    imwrite(&with_captions(&picture, lines, [255; 3])?, file)
}
