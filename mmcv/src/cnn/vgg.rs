//! Very Deep Convolutional Networks for Large-Scale Image Recognition, Simonyan and Zisserman, ICLR 2015
//! (<https://arxiv.org/abs/1409.1556>).

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Backbone;
use super::bricks::{Bias, ConvModule, ConvModuleConfig, ConvSpec, Linear};
use super::resnet::{self, typed};
use crate::config::{Node, Value};
use crate::error::{Error, Result as CoreResult};
use crate::nn::{Ctx, VarBuilder};
use crate::ops;

/// `type = "VGG"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VggConfig {
    /// 11, 13, 16 or 19.
    pub depth: usize,
    /// Classes; without (-1) the maps are handed on alone. Default -1.
    #[serde(default = "resnet::minus_one")]
    pub num_classes: i64,
    /// Number of stages, 1 to 5; default 5.
    #[serde(default = "five")]
    pub num_stages: usize,
    /// Dilation of each stage; default 1.
    #[serde(default = "ones")]
    pub dilations: Vec<usize>,
    /// Stages whose output is handed on; default 4, with `num_classes` none but the scores.
    #[serde(default)]
    pub out_indices: Option<Vec<usize>>,
    /// Number of first stages that are not trained; default -1, none.
    #[serde(default = "resnet::minus_one")]
    pub frozen_stages: i64,
    /// Kind of convolution; default `Conv2d`.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default none.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// Kind of activation; default `ReLU`.
    #[serde(default = "super::shufflenet_v1::relu")]
    pub act_cfg: Node,
    /// Whether batch norms use and keep their running statistics in training; default false.
    #[serde(default)]
    pub norm_eval: bool,
    /// Whether pools round sizes up; default false.
    #[serde(default)]
    pub ceil_mode: bool,
    /// Whether the last pool is kept; default true.
    #[serde(default = "resnet::yes")]
    pub with_last_pool: bool,
    /// How weights start; default Kaiming for convolutions, 1 for norms, normal for linear layers.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

fn five() -> usize {
    5
}
fn ones() -> Vec<usize> {
    vec![1; 5]
}

fn default_init() -> Node {
    Node::from(Value::List(vec![
        typed("Kaiming", &[("layer", Value::from("Conv2d"))]),
        typed("Constant", &[("layer", Value::from("_BatchNorm")), ("val", Value::from(1))]),
        typed("Normal", &[("layer", Value::from("Linear")), ("std", Value::from(0.01))]),
    ]))
}

/// Convolutions in each stage.
pub fn vgg_stages(depth: usize) -> CoreResult<[usize; 5]> {
    Ok(match depth {
        11 => [1, 1, 2, 2, 2],
        13 => [2, 2, 2, 2, 2],
        16 => [2, 2, 3, 3, 3],
        19 => [2, 2, 4, 4, 4],
        other => return Err(Error::config(format!("is {other}, expected 11, 13, 16 or 19")).under("depth")),
    })
}

/// Keys: `features.{i}.{conv, bn}.*`, `classifier.{0, 3, 6}.*`.
pub struct Vgg {
    stages: Vec<Vec<ConvModule>>,
    classifier: Option<[Linear; 3]>,
    out_indices: Vec<usize>,
    frozen: usize,
    norm_eval: bool,
    ceil_mode: bool,
    last_pool: bool,
}

impl Vgg {
    /// The network at `vb`.
    pub fn new(cfg: &VggConfig, vb: VarBuilder) -> CoreResult<Self> {
        let blocks = vgg_stages(cfg.depth)?;
        let stages = cfg.num_stages;
        if !(1..=5).contains(&stages) || cfg.dilations.len() != stages || cfg.dilations.contains(&0) {
            let message = format!("is {stages} with dilations {:?}, expected 1 to 5 and one for each", cfg.dilations);
            return Err(Error::config(message).under("num_stages"));
        }
        let classes = usize::try_from(cfg.num_classes).ok().filter(|n| *n > 0);
        let out_indices = cfg.out_indices.clone().unwrap_or_else(|| vec![if classes.is_some() { 5 } else { 4 }]);
        if out_indices.iter().any(|i| *i > stages) || cfg.frozen_stages > stages as i64 {
            let message = format!("{out_indices:?} or frozen_stages {} is past the {stages} stages", cfg.frozen_stages);
            return Err(Error::config(message).under("out_indices"));
        }
        resnet::start(&vb, cfg.init_cfg.as_ref(), None, default_init)?;
        let (mut at, mut inputs, mut made) = (0, 3, Vec::new());
        for (i, dilation) in cfg.dilations.iter().enumerate() {
            let outputs = if i < 4 { 64 << i } else { 512 };
            let mut stage = Vec::new();
            for _ in 0..blocks[i] {
                let spec = ConvSpec::new(inputs, outputs, 3).padding(*dilation).dilation(*dilation);
                let unit = ConvModuleConfig::new(spec).conv(cfg.conv_cfg.as_ref()).norm(cfg.norm_cfg.as_ref());
                let name = format!("features.{at}");
                stage.push(ConvModule::new(unit.act(Some(&cfg.act_cfg)).bias(Bias::True), vb.pp(&name))?);
                if (i as i64) < cfg.frozen_stages {
                    vb.freeze(&name);
                }
                (at, inputs) = (at + 1, outputs);
            }
            at += 1; // the pool
            made.push(stage);
        }
        let classifier = match classes {
            Some(classes) => {
                let vb = vb.pp("classifier");
                Some([
                    Linear::new(512 * 7 * 7, 4096, true, &vb.pp(0))?,
                    Linear::new(4096, 4096, true, &vb.pp(3))?,
                    Linear::new(4096, classes, true, &vb.pp(6))?,
                ])
            }
            None => None,
        };
        Ok(Self {
            stages: made,
            classifier,
            out_indices,
            frozen: usize::try_from(cfg.frozen_stages).unwrap_or(0),
            norm_eval: cfg.norm_eval,
            ceil_mode: cfg.ceil_mode,
            last_pool: cfg.with_last_pool,
        })
    }
}

/// Half of the values set to zero in training, the others doubled.
pub(super) fn drop_half(x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
    if ctx.drops() { ctx.rng(|rng| ops::dropout(x, 0.5, rng)) } else { Ok(x.clone()) }
}

impl Backbone for Vgg {
    /// The maps of `out_indices`, and with `num_classes` the scores of images of 224 x 224 as the last.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let still = ctx.still();
        let (mut x, mut outs) = (x.clone(), Vec::new());
        for (i, stage) in self.stages.iter().enumerate() {
            let ctx = if self.norm_eval || i < self.frozen { &still } else { ctx };
            x = stage.iter().try_fold(x, |x, conv| conv.forward(&x, ctx))?;
            if self.last_pool || i + 1 < self.stages.len() {
                x = ops::max_pool2d(&x, [2, 2], [2, 2], [0, 0], self.ceil_mode)?;
            }
            if self.out_indices.contains(&i) {
                outs.push(x.clone());
            }
        }
        if let Some([a, b, c]) = &self.classifier {
            let x = drop_half(&ops::relu(&a.forward(&x.flatten_from(1)?)?)?, ctx)?;
            let x = drop_half(&ops::relu(&b.forward(&x)?)?, ctx)?;
            outs.push(c.forward(&x)?);
        }
        Ok(outs)
    }
}
