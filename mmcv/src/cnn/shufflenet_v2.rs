//! ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, Ma et al., ECCV 2018
//! (<https://arxiv.org/abs/1807.11164>).

use std::sync::Arc;

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Backbone;
use super::bricks::{ConvModule, ConvSpec, Kinds};
use super::resnet::{self, default_norm};
use super::shufflenet_v1::{Units, freeze, relu, stem_and_pool};
use super::stages::{Stages, check_stages};
use crate::config::Node;
use crate::error::{Error, Result as CoreResult};
use crate::nn::{Ctx, Recomputable, VarBuilder};
use crate::ops;

/// `type = "ShuffleNetV2"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShuffleNetV2Config {
    /// 0.5, 1, 1.5 or 2; default 1.
    #[serde(default = "one")]
    pub widen_factor: f64,
    /// Stages whose output is handed on, 0 to 3; 3 is the last 1x1. Default 3.
    #[serde(default = "three")]
    pub out_indices: Vec<usize>,
    /// Stages that are not trained: 0 is the stem, 1 the stem and the first stage; default -1, none.
    #[serde(default = "resnet::minus_one")]
    pub frozen_stages: i64,
    /// Kind of convolution; default `Conv2d`.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default `BN`.
    #[serde(default = "default_norm")]
    pub norm_cfg: Node,
    /// Kind of activation; default `ReLU`.
    #[serde(default = "relu")]
    pub act_cfg: Node,
    /// Whether batch norms use and keep their running statistics in training; default false.
    #[serde(default)]
    pub norm_eval: bool,
    /// Run blocks again in the backward pass to save memory.
    #[serde(default)]
    pub with_cp: bool,
    /// How weights start; default normal.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

fn one() -> f64 {
    1.0
}
fn three() -> Vec<usize> {
    vec![3]
}

/// Keys: `conv1.*`, `layers.{0..2}.{block}.{branch1, branch2}.{i}.*`, `layers.3.*`.
pub struct ShuffleNetV2 {
    conv1: ConvModule,
    layers: Stages,
}

struct Block {
    /// Of the first block of a stage: the whole input goes through both branches.
    branch1: Option<[ConvModule; 2]>,
    branch2: [ConvModule; 3],
}

impl Block {
    fn new(inputs: usize, outputs: usize, first: bool, units: &Units, vb: &VarBuilder) -> CoreResult<Self> {
        let half = outputs / 2;
        let (stride, from) = if first { (2, inputs) } else { (1, half) };
        let depthwise =
            |channels: usize| ConvSpec::new(channels, channels, 3).stride(stride).padding(1).groups(channels);
        let branch1 = if first {
            let vb = vb.pp("branch1");
            let narrow = units.unit(depthwise(inputs), false, vb.pp(0))?;
            Some([narrow, units.unit(ConvSpec::new(inputs, half, 1), true, vb.pp(1))?])
        } else {
            None
        };
        let vb = vb.pp("branch2");
        let branch2 = [
            units.unit(ConvSpec::new(from, half, 1), true, vb.pp(0))?,
            units.unit(depthwise(half), false, vb.pp(1))?,
            units.unit(ConvSpec::new(half, half, 1), true, vb.pp(2))?,
        ];
        Ok(Self { branch1, branch2 })
    }

    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let row = |convs: &[ConvModule], x: Tensor| convs.iter().try_fold(x, |x, conv| conv.forward(&x, ctx));
        let (a, b) = match &self.branch1 {
            Some(branch1) => (row(branch1, x.clone())?, row(&self.branch2, x.clone())?),
            None => {
                let channels = x.dim(1)?;
                let kept = channels.div_ceil(2);
                (x.narrow(1, 0, kept)?, row(&self.branch2, x.narrow(1, kept, channels - kept)?.contiguous()?)?)
            }
        };
        ops::channel_shuffle(&Tensor::cat(&[a, b], 1)?, 2)
    }
}

impl ShuffleNetV2 {
    /// The network at `vb`.
    pub fn new(cfg: &ShuffleNetV2Config, vb: VarBuilder) -> CoreResult<Self> {
        check_stages(&cfg.out_indices, cfg.frozen_stages, 4)?;
        let (channels, last) = match cfg.widen_factor {
            0.5 => ([48, 96, 192], 1024),
            1.0 => ([116, 232, 464], 1024),
            1.5 => ([176, 352, 704], 1024),
            2.0 => ([244, 488, 976], 2048),
            other => return Err(Error::config(format!("is {other}, expected 0.5, 1, 1.5 or 2")).under("widen_factor")),
        };
        let kinds = Kinds::new(cfg.conv_cfg.as_ref(), Some(&cfg.norm_cfg), Some(&cfg.act_cfg));
        // The original means 0.0001 for the shifts, and passes the weight in place of the norm: they stay at 0.
        let units = Units::new(kinds, cfg.init_cfg.as_ref(), 0.0, &vb);
        let mut inputs = 24;
        let conv1 = units.stem(inputs, vb.pp("conv1"))?;
        let mut stages = Vec::new();
        for (i, (outputs, blocks)) in channels.into_iter().zip([4, 8, 4]).enumerate() {
            let mut stage = Vec::new();
            for j in 0..blocks {
                let vb = vb.pp("layers").pp(i).pp(j);
                let block = Block::new(inputs, outputs, j == 0, &units, &vb)?;
                stage.push(Recomputable::new(Arc::new(move |x, ctx| block.forward(x, ctx)), cfg.with_cp));
                inputs = outputs;
            }
            stages.push(stage);
        }
        let vb_last = vb.pp("layers").pp(3);
        let conv = units.unit(ConvSpec::new(inputs, last, 1), true, vb_last.clone())?;
        stages.push(vec![Recomputable::new(Arc::new(move |x, ctx| conv.forward(x, ctx)), false)]);
        let frozen = freeze(&vb, cfg.frozen_stages);
        let layers = Stages { stages, out_indices: cfg.out_indices.clone(), frozen, norm_eval: cfg.norm_eval };
        Ok(Self { conv1, layers })
    }
}

impl Backbone for ShuffleNetV2 {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.layers.forward(stem_and_pool(&self.conv1, x, self.layers.norm_eval, ctx)?, ctx)
    }
    fn forward_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.layers.forward_from(stage + 1, x.clone(), ctx)
    }
}
