//! `mmcls cam`: what a class's score hangs on, as heat over the picture; mmcls's `tools/visualizations/vis_cam.py`.
//!
//! The original looks at any layer and by default at the last norm, whose output lies before the last activation. Here the
//! outputs of the backbone's stages can be looked at, by default the last.

use std::path::PathBuf;

use candle_core::Tensor;
use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use mmcv::checkpoint::load_whole_checkpoint;
use mmcv::cli::{ConfigArgs, TaskCommand, parse_device};
use mmcv::config::{Config, Node, Value};
use mmcv::image::{Image, Pixels, gray2bgr, imwrite};
use mmcv::visualization::heat_map;
use mmcv::{Error, Result, Rng, say};

use super::golden::mirror;
use crate::apis::{CamMethod, ClsModel, activations, class_activation_map, class_names, image_steps, merge_maps};
use crate::datasets::pipelines::{Pipeline, Results};

/// Arguments of `mmcls cam`.
#[derive(Debug, clap::Args)]
struct CamArgs {
    /// The picture.
    image: PathBuf,
    #[command(flatten)]
    config: ConfigArgs,
    /// A .safetensors or .pth checkpoint.
    checkpoint: PathBuf,
    /// Stages of the backbone (`backbone.layer4`, `backbone.layers[2]`); several are averaged. Default the last.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    target_layers: Vec<String>,
    /// The class whose score is explained; default the best.
    #[arg(long, value_name = "CLASS")]
    target_category: Option<usize>,
    /// How channels are weighed.
    #[arg(long, value_enum, default_value_t)]
    method: CamMethod,
    /// The first principal component of the weighed activations in place of their sum.
    #[arg(long)]
    eigen_smooth: bool,
    /// The mean of six maps: of the image and its mirror image, each darker, as it is and brighter.
    #[arg(long)]
    aug_smooth: bool,
    /// The picture with the heat over it (.png, .jpg).
    #[arg(long, value_name = "FILE")]
    save_path: PathBuf,
    /// `cpu` or `cuda:N`.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
}

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand {
    command: || CamArgs::augment_args(Command::new("cam")).about("Draw what a class's score hangs on (Grad-CAM)"),
    run,
};

/// Steps that change how an image is kept, not what it shows.
const FORMATTING: [&str; 4] = ["ToTensor", "Normalize", "ImageToTensor", "Collect"];

fn run(matches: &ArgMatches) -> Result<()> {
    let args = CamArgs::from_arg_matches(matches).map_err(|e| Error::Usage(e.to_string()))?;
    let device = parse_device(&args.device)?;
    let config = args.config.load()?;
    let is_formatting = |s: &Node| s.type_name().is_some_and(|t| FORMATTING.contains(&t));
    let (formatting, picture): (Vec<Node>, Vec<Node>) = image_steps(&config)?.into_iter().partition(is_formatting);
    let under = |e: Error| e.under("data.test.pipeline");
    let results = Results { filename: args.image.display().to_string(), ..Results::default() };
    let seen = Pipeline::new(&picture).map_err(under)?.run(results, &mut Rng::new(0))?;
    let shown = as_bgr(seen.img.as_ref())?;
    let img = Pipeline::new(&formatting).map_err(under)?.sample(seen, &mut Rng::new(0))?.img;
    let img = img.unsqueeze(0)?.to_device(&device)?;

    let (mut models, mut classes) = (Vec::new(), Vec::new());
    for stage in stages(&args.target_layers, config.require("model.backbone")?)? {
        let mut own = config.clone();
        if let Some((stage, last)) = stage {
            set_out_indices(&mut own, &[stage, last]);
        }
        let model = ClsModel::from_config(&own, &device, 0)?;
        classes = class_names(&load_whole_checkpoint(&model.store, &args.checkpoint)?.meta);
        models.push((stage.map(|(stage, _)| stage), model));
    }
    let size = [shown.width(), shown.height()];
    let (mut heat, category) = look(&args, &models, &img, size)?;
    if args.aug_smooth {
        heat.fill(0.0);
        for flipped in [false, true] {
            let side = if flipped { mirror(&img)? } else { img.clone() };
            for factor in [0.9, 1.0, 1.1] {
                let (mut map, _) = look(&args, &models, &(&side * factor)?, size)?;
                if flipped {
                    map.chunks_exact_mut(size[0]).for_each(<[f32]>::reverse);
                }
                heat.iter_mut().zip(map).for_each(|(sum, v)| *sum += v / 6.0);
            }
        }
    }
    imwrite(&heat_map(&shown, &heat)?, &args.save_path)?;
    let name = classes.get(category).map_or_else(String::new, |n| format!(" ({n})"));
    say!("{}: class {category}{name}", args.save_path.display())
}

/// The map of `width` x `height` of one image, over all stages, and the class that it is about.
fn look(
    args: &CamArgs,
    models: &[(Option<usize>, ClsModel)],
    img: &Tensor,
    [width, height]: [usize; 2],
) -> Result<(Vec<f32>, usize)> {
    let (mut maps, mut category) = (Vec::new(), args.target_category);
    for (stage, model) in models {
        let found = activations(model, img, *stage, category)?;
        let [_, h, w] = found.shape;
        maps.push((class_activation_map(&found, args.method, args.eigen_smooth), [h, w]));
        // What the best class is doesn't hang on the stage.
        category = Some(found.category);
    }
    Ok((merge_maps(&maps, width, height)?, category.unwrap_or_default()))
}

/// The image as a u8 picture of three channels.
fn as_bgr(image: Option<&Image>) -> Result<Image> {
    let Some(image) = image else { return Err(Error::config("no step reads the image").under("data.test.pipeline")) };
    let pixels = match image.pixels() {
        Pixels::U8(v) => v.clone(),
        Pixels::F32(v) => v.iter().map(|v| v.clamp(0.0, 255.0) as u8).collect(),
    };
    let image = Image::new(image.height(), image.width(), image.channels(), Pixels::U8(pixels))?;
    if image.channels() == 1 { gray2bgr(&image) } else { Ok(image) }
}

fn set_out_indices(config: &mut Config, stages: &[usize]) {
    let list = Value::List(stages.iter().map(|s| Node::from(*s as i64)).collect());
    let model = config.root.as_dict_mut().and_then(|d| d.get_mut("model"));
    if let Some(backbone) = model.and_then(Node::as_dict_mut).and_then(|m| m.get_mut("backbone")) {
        backbone.set("out_indices", list);
    }
}

/// The stages that `names` mean, each with the last one; `None` is the last itself.
fn stages(names: &[String], backbone: &Node) -> Result<Vec<Option<(usize, usize)>>> {
    if names.is_empty() {
        return Ok(vec![None]);
    }
    let kind = backbone.type_name().unwrap_or_default();
    let own_last = backbone.get("out_indices").and_then(Node::as_list).and_then(|l| l.last()).and_then(Node::as_i64);
    let Some((prefix, first, default_last)) = numbering(kind, backbone) else {
        let message =
            format!("--target-layers: the stages of {kind} have no names here; without it the last output is taken");
        return Err(Error::Usage(message));
    };
    let last = own_last.and_then(|l| usize::try_from(l).ok()).unwrap_or(default_last);
    let one = |name: &String| {
        let plain = name.replace('[', ".").replace(']', "");
        let stage = stage_of(&plain, prefix, first).filter(|s| *s <= last);
        let stage =
            if kind == "MobileNetV2" && plain == "backbone.conv2" { Some(7).filter(|s| *s <= last) } else { stage };
        match stage {
            Some(stage) if stage == last => Ok(None),
            Some(stage) => Ok(Some((stage, last))),
            None => Err(Error::Usage(format!(
                "--target-layers {name}: whole stages can be looked at: backbone.{prefix}{first} to backbone.{prefix}{}",
                last + first
            ))),
        }
    };
    names.iter().map(one).collect()
}

/// How a backbone's stages are named, with the number of the first, and the stage that it hands on by default.
fn numbering(kind: &str, backbone: &Node) -> Option<(&'static str, usize, usize)> {
    match kind {
        "ResNet" | "ResNetV1c" | "ResNetV1d" | "ResNet_CIFAR" | "ResNeXt" | "SEResNet" | "SEResNeXt" | "RegNet" => {
            Some(("layer", 1, 3))
        }
        "MobileNetV2" => Some(("layer", 1, 7)),
        "MobileNetV3" => {
            let large = backbone.get("arch").and_then(Node::as_str) == Some("large");
            Some(("layer", 0, if large { 16 } else { 12 }))
        }
        "ShuffleNetV1" => Some(("layers.", 0, 2)),
        "ShuffleNetV2" => Some(("layers.", 0, 3)),
        _ => None,
    }
}

/// The stage of `backbone.{prefix}{number}`, which may say that its last block (`.-1`) is meant.
fn stage_of(name: &str, prefix: &str, first: usize) -> Option<usize> {
    let name = name.strip_prefix("backbone.")?;
    let number = name.strip_suffix(".-1").unwrap_or(name).strip_prefix(prefix)?;
    number.parse::<usize>().ok()?.checked_sub(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, backbone: &str) -> Result<Vec<Option<(usize, usize)>>> {
        stages(&[name.to_owned()], &Node::from_json(backbone)?)
    }

    #[test]
    fn layers_are_named_as_in_mmcls() {
        let resnet = r#"{"type": "ResNet", "depth": 18}"#;
        assert_eq!(of("backbone.layer4[-1]", resnet).unwrap(), [None]);
        assert_eq!(of("backbone.layer2", resnet).unwrap(), [Some((1, 3))]);
        assert_eq!(of("backbone.conv2", r#"{"type": "MobileNetV2"}"#).unwrap(), [None]);
        assert_eq!(of("backbone.layers[0]", r#"{"type": "ShuffleNetV1"}"#).unwrap(), [Some((0, 2))]);
        for bad in ["layer4", "backbone.layer5", "backbone.layer0", "backbone.layer4[0].bn1"] {
            let e = of(bad, resnet).unwrap_err();
            assert!(e.is_usage() && e.to_string().contains("backbone.layer1 to backbone.layer4"), "{e}");
        }
        assert!(of("backbone.features", r#"{"type": "VGG"}"#).unwrap_err().to_string().contains("VGG"));
    }
}
