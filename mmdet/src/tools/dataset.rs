//! `mmdet dataset check`: what is wrong with a data set before a day of training finds out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{ArgMatches, Command, FromArgMatches as _, Subcommand as _};
use mmcv::cli::{ConfigArgs, TaskCommand};
use mmcv::config::{Node, Value};
use mmcv::{Error, Result, Rng};
use rayon::prelude::*;
use serde_json::json;

use crate::datasets::{DatasetDefaults, DetDataset, build_dataset, update_data_root};

/// Subcommands of `mmdet dataset`.
#[derive(Debug, clap::Subcommand)]
enum DatasetCommand {
    /// Read every annotation and image of a config's data sets; count classes; say what is wrong. The exit code is 1 when
    /// something is.
    Check(CheckArgs),
}

/// Arguments of `mmdet dataset check`.
#[derive(Debug, clap::Args)]
struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The splits to look at.
    #[arg(long, num_args = 1.., default_values = ["train", "val", "test"], value_name = "SPLIT")]
    split: Vec<String>,
    /// Look at the annotations alone.
    #[arg(long)]
    no_images: bool,
    /// Write what was found as JSON.
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || {
        DatasetCommand::augment_subcommands(
            Command::new("dataset").about("Look at a config's data sets").subcommand_required(true),
        )
    },
    run,
};

/// Problems that are printed of each split; `--out` has all.
const SHOWN: usize = 20;

fn run(matches: &ArgMatches) -> Result<()> {
    let DatasetCommand::Check(args) =
        DatasetCommand::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    let mut config = args.config.load()?;
    update_data_root(&mut config.root)?;
    let mut splits = serde_json::Map::new();
    let mut problems = 0;
    let mut seen: Vec<(String, Node)> = Vec::new();
    for split in &args.split {
        let key = format!("data.{split}");
        let Some(node) = config.root.at(&key).filter(|n| !n.is_null()) else {
            mmcv::say!("{split}: not in the config")?;
            continue;
        };
        let node = loading_only(node, args.no_images);
        if let Some((first, _)) = seen.iter().find(|(_, n)| *n == node) {
            mmcv::say!("{split}: the same as {first}")?;
            continue;
        }
        // In test mode nothing is filtered: small images and those without boxes are looked at too.
        let found = match build_dataset(&node, DatasetDefaults { test_mode: true }) {
            Ok(dataset) => check(&*dataset, !args.no_images),
            Err(e) if e.is_usage() => return Err(e.under(&key)),
            Err(e) => Found { problems: vec![e.to_string()], ..Found::default() },
        };
        mmcv::say!("{split}: {} images, {} boxes", found.images, found.boxes)?;
        for (class, count) in &found.classes {
            mmcv::say!("  {class:<24} {count}")?;
        }
        for class in &found.empty {
            mmcv::say!("  {class:<24} no box")?;
        }
        for problem in found.problems.iter().take(SHOWN) {
            mmcv::say!("  wrong: {problem}")?;
        }
        if found.problems.len() > SHOWN {
            mmcv::say!("  and {} more", found.problems.len() - SHOWN)?;
        }
        problems += found.problems.len();
        splits.insert(split.clone(), found.json());
        seen.push((split.clone(), node));
    }
    if let Some(out) = &args.out {
        let text = serde_json::to_string_pretty(&splits).map_err(|e| Error::Run(e.to_string()))?;
        mmcv::fileio::write_atomic(out, |file| file.write_all(text.as_bytes()))?;
    }
    match problems {
        0 => Ok(()),
        n => Err(Error::Run(format!("{n} problems"))),
    }
}

/// What a split holds.
#[derive(Debug, Default)]
struct Found {
    images: usize,
    boxes: usize,
    /// Boxes of each class that has some.
    classes: BTreeMap<String, usize>,
    /// Classes without one.
    empty: Vec<String>,
    problems: Vec<String>,
}

impl Found {
    fn json(&self) -> serde_json::Value {
        json!({
            "images": self.images, "boxes": self.boxes, "classes": self.classes, "classes_without_boxes": self.empty,
            "problems": self.problems,
        })
    }
}

/// A data set whose pipeline reads the image and does nothing else.
fn loading_only(node: &Node, no_images: bool) -> Node {
    let value = match &node.value {
        Value::Dict(d) => Value::Dict(
            d.iter()
                .map(|(key, child)| match (key.as_str(), child.as_list()) {
                    ("pipeline", Some(steps)) => {
                        let loads = |s: &&Node| s.type_name() == Some("LoadImageFromFile") && !no_images;
                        let kept = steps.iter().filter(loads).cloned().collect();
                        (key.clone(), Node { value: Value::List(kept), origin: child.origin.clone() })
                    }
                    _ => (key.clone(), loading_only(child, no_images)),
                })
                .collect(),
        ),
        Value::List(l) => Value::List(l.iter().map(|n| loading_only(n, no_images)).collect()),
        other => other.clone(),
    };
    Node { value, origin: node.origin.clone() }
}

fn check(dataset: &dyn DetDataset, images: bool) -> Found {
    let classes = dataset.classes();
    let each: Vec<(Vec<i64>, Vec<String>)> =
        (0..dataset.len()).into_par_iter().map(|i| one(dataset, i, images)).collect();
    let mut found = Found { images: dataset.len(), ..Found::default() };
    for (labels, problems) in each {
        found.boxes += labels.len();
        found.problems.extend(problems);
        for label in labels {
            let name = usize::try_from(label).ok().and_then(|l| classes.get(l));
            *found.classes.entry(name.cloned().unwrap_or_else(|| format!("class {label}"))).or_default() += 1;
        }
    }
    found.empty = classes.iter().filter(|c| !found.classes.contains_key(*c)).cloned().collect();
    found
}

/// The labels of an image's boxes, and what is wrong with it.
fn one(dataset: &dyn DetDataset, index: usize, images: bool) -> (Vec<i64>, Vec<String>) {
    let info = dataset.img_info(index);
    let name = &info.filename;
    let mut problems = Vec::new();
    let (mut height, mut width) = (info.height, info.width);
    if images {
        match dataset.fetch(index, &mut Rng::new(0)) {
            Ok(results) => {
                if let Some([h, w, _]) = results.img_shape {
                    if (height, width) != (0, 0) && (h, w) != (height, width) {
                        problems.push(format!("{name}: is {w}x{h}, the annotation says {width}x{height}"));
                    }
                    (height, width) = (h, w);
                }
            }
            Err(e) => problems.push(e.to_string()),
        }
    }
    let ann = match dataset.ann_info(index) {
        Ok(ann) => ann,
        Err(e) => {
            problems.push(e.to_string());
            return (Vec::new(), problems);
        }
    };
    for (i, b) in ann.bboxes.iter().enumerate() {
        // A pixel of slack: annotations are rounded.
        let outside =
            width > 0 && (b[0] < -1.0 || b[1] < -1.0 || b[2] > width as f32 + 1.0 || b[3] > height as f32 + 1.0);
        if b.iter().any(|v| !v.is_finite()) || b[2] <= b[0] || b[3] <= b[1] {
            problems.push(format!("{name}: box {i} {b:?} is empty or not finite"));
        } else if outside {
            problems.push(format!("{name}: box {i} {b:?} leaves the image of {width}x{height}"));
        }
    }
    (ann.labels.clone(), problems)
}
