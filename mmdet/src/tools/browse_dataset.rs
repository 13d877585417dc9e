//! `mmdet browse-dataset`: what the training pipeline makes of the images; mmdet's `tools/misc/browse_dataset.py`.

use std::path::PathBuf;

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use mmcv::cli::{ConfigArgs, TaskCommand};
use mmcv::config::{Node, Value};
use mmcv::image::{Image, Interpolation, PadMode, Pixels, Scale, impad, imrescale, imwrite};
use mmcv::visualization::{draw_bboxes, palette};
use mmcv::{Error, Result, Rng};

use crate::datasets::pipelines::Results;
use crate::datasets::{DatasetDefaults, DetDataset, build_dataset, update_data_root};

/// Arguments of `mmdet browse-dataset`.
#[derive(Debug, clap::Args)]
struct BrowseArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The contact sheet.
    #[arg(long, default_value = "browse.png", value_name = "FILE.png")]
    out: PathBuf,
    /// Images on it.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=400), value_name = "N")]
    number: u64,
    /// Side of an image's square on it, pixels.
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u64).range(16..=2000), value_name = "PIXELS")]
    tile: u64,
    /// `train`, `val` or `test`.
    #[arg(long, default_value = "train", value_name = "SPLIT")]
    split: String,
    /// Decides the images and what the pipeline draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Steps that are left out; by default those that make tensors.
    #[arg(
        long,
        num_args = 1..,
        value_name = "TYPE",
        default_values = ["DefaultFormatBundle", "Normalize", "Collect", "ImageToTensor"]
    )]
    skip_type: Vec<String>,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || {
        BrowseArgs::augment_args(Command::new("browse-dataset"))
            .about("Draw images with their boxes, as the pipeline leaves them, on one contact sheet")
    },
    run,
};

fn run(matches: &ArgMatches) -> Result<()> {
    let args = BrowseArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    let key = match args.split.as_str() {
        split @ ("train" | "val" | "test") => format!("data.{split}"),
        other => return Err(Error::Usage(format!("--split {other}: expected train, val or test"))),
    };
    let mut config = args.config.load()?;
    update_data_root(&mut config.root)?;
    let node = without_steps(config.require(&key)?, &args.skip_type);
    let dataset = build_dataset(&node, DatasetDefaults { test_mode: false }).map_err(|e| e.under(&key))?;
    let mut rng = Rng::new(args.seed);
    let number = (args.number as usize).min(dataset.len());
    let chosen = rng.choose(dataset.len(), number);
    let tile = args.tile as usize;
    let mut tiles = Vec::with_capacity(number);
    for index in chosen {
        tiles.push(picture(&*dataset, dataset.fetch(index, &mut rng)?, tile)?);
    }
    let sheet = sheet(&tiles, tile)?;
    imwrite(&sheet, &args.out)?;
    mmcv::say!("{}: {number} of {} images, {}x{}", args.out.display(), dataset.len(), sheet.width(), sheet.height())?;
    Ok(())
}

/// A data set's node (and those inside wrappers) without the steps of these types.
fn without_steps(node: &Node, types: &[String]) -> Node {
    let value = match &node.value {
        Value::Dict(d) => Value::Dict(
            d.iter()
                .map(|(key, child)| match (key.as_str(), child.as_list()) {
                    ("pipeline" | "transforms", Some(steps)) => {
                        let named = |s: &&Node| s.type_name().is_some_and(|t| types.iter().any(|skip| skip == t));
                        let kept = steps.iter().filter(|s| !named(s)).map(|s| without_steps(s, types)).collect();
                        (key.clone(), Node { value: Value::List(kept), origin: child.origin.clone() })
                    }
                    _ => (key.clone(), without_steps(child, types)),
                })
                .collect(),
        ),
        Value::List(l) => Value::List(l.iter().map(|n| without_steps(n, types)).collect()),
        other => other.clone(),
    };
    Node { value, origin: node.origin.clone() }
}

/// The image with its boxes, fitted into a square.
fn picture(dataset: &dyn DetDataset, results: Results, tile: usize) -> Result<Image> {
    let image = results.img.clone().ok_or_else(|| results.error("the pipeline leaves no image"))?.into_image()?;
    let [h, w, c] = image.shape();
    let bytes: Vec<u8> = match image.into_pixels() {
        Pixels::U8(v) => v,
        Pixels::F32(v) => v.into_iter().map(|v| v.round().clamp(0.0, 255.0) as u8).collect(),
    };
    let color = if c == 1 { bytes.iter().flat_map(|v| [*v; 3]).collect() } else { bytes };
    let mut image = Image::new(h, w, 3, Pixels::U8(color))?;
    let boxes = results.gt_bboxes.clone().unwrap_or_default();
    let classes = dataset.classes();
    let labels: Vec<usize> = match &results.gt_labels {
        Some(labels) => labels.iter().map(|l| usize::try_from(*l).unwrap_or(0)).collect(),
        None => vec![0; boxes.len()],
    };
    draw_bboxes(&mut image, &boxes, &labels, None, classes, &palette(classes.len().max(1)), 1)?;
    let (small, _) = imrescale(&image, Scale::Within(tile, tile), Interpolation::Area)?;
    impad(&small, (tile, tile), &[255.0; 3], PadMode::Constant)
}

/// Squares in rows, about as many as there are columns, on white.
fn sheet(tiles: &[Image], tile: usize) -> Result<Image> {
    const GAP: usize = 4;
    let columns = (tiles.len() as f64).sqrt().ceil().max(1.0) as usize;
    let rows = tiles.len().div_ceil(columns).max(1);
    let (w, h) = (columns * (tile + GAP) + GAP, rows * (tile + GAP) + GAP);
    let mut out = vec![255u8; w * h * 3];
    for (i, image) in tiles.iter().enumerate() {
        let (x, y) = (GAP + i % columns * (tile + GAP), GAP + i / columns * (tile + GAP));
        let Pixels::U8(values) = image.pixels() else { continue };
        for (row, values) in values.chunks_exact(tile * 3).enumerate() {
            let at = ((y + row) * w + x) * 3;
            out[at..at + tile * 3].copy_from_slice(values);
        }
    }
    Image::new(h, w, 3, Pixels::U8(out))
}
