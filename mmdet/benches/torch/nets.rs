//! Whole networks: forward, a training step, from a JPEG to boxes.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use candle_core::{Device, Tensor};
use mmcv::Rng;
use mmcv::cnn::{Backbone, MobileNetV2, ResNet};
use mmcv::config::{Config, Node};
use mmcv::image::{Image, Pixels, imwrite};
use mmcv::nn::{Ctx, Init, Param, ParamStore, VarBuilder, backward, no_grad};
use mmcv::ops;
use mmcv::optim::{Grads, Optimizer, build_optimizer};
use mmcv::runner::Trainable as _;
use mmdet::apis::{DetModel, infer_image};
use mmdet::core::{DetBatch, ImgMeta};
use mmdet::datasets::{Pipeline, Results};

use crate::ops::random;
use crate::run::{Run, whole};

/// Configs of the two detectors, as files of this repository.
const CONFIGS: [(&str, &str); 2] = [
    ("retinanet_r50", "../configs/mmdet/retinanet/retinanet_r50_fpn_1x_coco.toml"),
    ("retinanet_r18", "../configs/mmdet/retinanet/retinanet_r18_fpn_bccd.toml"),
];

/// The config `name`, without weights to start from.
fn config(name: &str) -> Result<Config> {
    let (_, file) = CONFIGS.iter().find(|(n, _)| *n == name).context("a config's name")?;
    let mut config = Config::from_file(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))?;
    config.merge_options(&["model.backbone.init_cfg=None"])?;
    Ok(config)
}

/// Writes what the other side reads: each config as JSON, and a JPEG of 1216x800 pixels.
pub fn prepare(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, _) in CONFIGS {
        std::fs::write(folder.join(format!("{name}.json")), serde_json::to_string(&config(name)?.root)?)?;
    }
    let (h, w, mut rng) = (800, 1216, Rng::new(1));
    let mut values = Vec::with_capacity(h * w * 3);
    for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
        let (u, v) = (x as f64 / 190.0, y as f64 / 140.0);
        let shape = if (u.fract() - 0.5).hypot(v.fract() - 0.5) < 0.4 { 60.0 } else { 0.0 };
        for c in 0..3 {
            let soft = 110.0 + 50.0 * (u * 0.7 + c as f64).sin() * (v * 0.9).cos();
            values.push((soft + shape + 6.0 * rng.normal()) as u8);
        }
    }
    imwrite(&Image::new(h, w, 3, Pixels::U8(values))?, picture(folder))?;
    Ok(())
}

fn picture(folder: &Path) -> PathBuf {
    folder.join("picture.jpg")
}

/// A backbone with its classifier.
struct Classifier {
    backbone: Box<dyn Backbone>,
    weight: Param,
    bias: Param,
}

impl Classifier {
    fn new(kind: &str, vb: &VarBuilder) -> Result<Self> {
        let at = vb.pp("backbone");
        let (backbone, width): (Box<dyn Backbone>, usize) = match kind {
            "resnet50" => {
                let cfg = r#"{"depth": 50, "out_indices": [3], "norm_eval": false}"#;
                (Box::new(ResNet::new(&Node::from_json(cfg)?.parse()?, at)?), 2048)
            }
            "mobilenet_v2" => (Box::new(MobileNetV2::new(&Node::from_json("{}")?.parse()?, at)?), 1280),
            _ => bail!("unknown network '{kind}'"),
        };
        let fc = vb.pp("fc").layer("Linear");
        Ok(Self {
            backbone,
            weight: fc.param("weight", (1000, width), Init::torch_default(width))?,
            bias: fc.param("bias", 1000, Init::torch_default(width))?,
        })
    }

    fn forward(&self, x: &Tensor, ctx: &Ctx) -> candle_core::Result<Tensor> {
        let maps = self.backbone.forward(x, ctx)?;
        ops::linear(
            &ops::adaptive_avg_pool2d(&maps[0], (1, 1))?.flatten_from(1)?,
            &self.weight.get(),
            Some(&self.bias.get()),
        )
    }
}

/// `resnet50|mobilenet_v2 N H W forward|step`.
pub fn network(kind: &str, sizes: &[usize], mode: &str) -> Result<Run> {
    let &[n, h, w] = sizes else { bail!("{kind} N H W") };
    let store = ParamStore::new(&Device::Cpu, 0);
    let model = Classifier::new(kind, &VarBuilder::new(&store))?;
    let x = random(&[n, 3, h, w])?;
    match mode {
        "forward" => Ok(whole(move || {
            black_box(no_grad(|| model.forward(&x, &Ctx::eval()))?);
            Ok(())
        })),
        "step" => {
            let sgd = Node::from_json(r#"{"type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}"#)?;
            let mut optimizer = build_optimizer(&sgd, &store)?;
            let target = Tensor::from_vec((0..n as u32).collect::<Vec<_>>(), n, &Device::Cpu)?;
            Ok(whole(move || {
                let y = model.forward(&x, &Ctx::train(Rng::new(0)))?;
                let loss = ops::cross_entropy(&y, &target, None, -100)?.mean_all()?;
                step(&loss, &store, optimizer.as_mut())
            }))
        }
        _ => bail!("mode '{mode}': forward or step"),
    }
}

fn step(loss: &Tensor, store: &ParamStore, optimizer: &mut dyn Optimizer) -> Result<()> {
    let grads = Grads::from_store(&backward(loss)?, store)?;
    optimizer.step(&grads)?;
    Ok(())
}

/// `retinanet_r50 H W infer` (the picture of [`prepare`], from the file to boxes) or `retinanet_r18 N H W step`.
pub fn retinanet(name: &str, sizes: &[usize], mode: &str, folder: &Path) -> Result<Run> {
    let config = config(name)?;
    let model = DetModel::from_config(&config, &Device::Cpu, 0)?;
    mmcv::checkpoint::start_model(&model.store)?;
    match (mode, sizes) {
        ("infer", [_, _]) => {
            let steps = config.require("data.test.pipeline")?.as_list().context("a pipeline")?;
            let (pipeline, path) = (Pipeline::new(steps)?, picture(folder).display().to_string());
            Ok(whole(move || {
                let views = pipeline.samples(Results::from_file(&path), &mut Rng::new(0))?.context("a sample")?;
                black_box(infer_image(model.detector.as_ref().as_ref(), &views)?);
                Ok(())
            }))
        }
        ("step", &[n, h, w]) => {
            let batch = batch(n, h, w, model.detector.num_classes())?;
            let mut optimizer = build_optimizer(config.require("optimizer")?, &model.store)?;
            Ok(whole(move || {
                let losses = model.train_step(&batch, &Ctx::train(Rng::new(0)))?;
                let loss = losses.total()?.context("a loss")?;
                let mut grads = Grads::from_store(&backward(&loss)?, &model.store)?;
                grads.clip_norm(10.0, 2.0)?;
                optimizer.step(&grads)?;
                Ok(())
            }))
        }
        _ => bail!("retinanet H W infer, or N H W step"),
    }
}

/// Noise with 15 boxes of 40 pixels an image, on a grid.
fn batch(n: usize, h: usize, w: usize, classes: usize) -> Result<DetBatch> {
    let meta = ImgMeta {
        filename: String::new(),
        ori_filename: String::new(),
        ori_shape: [h, w, 3],
        img_shape: [h, w, 3],
        pad_shape: [h, w, 3],
        scale_factor: [1.0; 4],
        flip: false,
        flip_direction: None,
        img_norm_cfg: None,
        batch_input_shape: Some([h, w]),
    };
    let boxes: Vec<[f32; 4]> = (0..15)
        .map(|i| [(i % 5 * 60 + 10) as f32, (i / 5 * 70 + 10) as f32])
        .map(|[x, y]| [x, y, x + 40.0, y + 40.0])
        .collect();
    let labels = (0..15).map(|i| i % classes as i64).collect();
    Ok(DetBatch {
        img: random(&[n, 3, h, w])?,
        metas: vec![meta; n],
        gt_bboxes: vec![boxes; n],
        gt_labels: vec![labels; n],
        gt_bboxes_ignore: None,
        gt_masks: None,
        gt_semantic_seg: None,
        proposals: None,
    })
}
