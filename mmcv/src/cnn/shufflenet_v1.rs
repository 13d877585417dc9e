//! ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices, Zhang et al., CVPR 2018
//! (<https://arxiv.org/abs/1707.01083>).

use std::sync::Arc;

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Backbone;
use super::bricks::{ActivationLayer, ConvModule, ConvSpec, Kinds, build_activation_layer, make_divisible};
use super::resnet::{self, default_norm, typed};
use super::stages::{Stages, check_stages};
use crate::config::{Node, Value};
use crate::error::{Error, Result as CoreResult};
use crate::nn::{Ctx, Recomputable, VarBuilder};
use crate::ops;

/// `type = "ShuffleNetV1"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShuffleNetV1Config {
    /// Groups of the 1x1s: 1, 2, 3, 4 or 8; default 3.
    #[serde(default = "three")]
    pub groups: usize,
    /// All channels are multiplied by this; default 1.
    #[serde(default = "one")]
    pub widen_factor: f64,
    /// Stages whose output is handed on, 0 to 2; default 2.
    #[serde(default = "two")]
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

fn three() -> usize {
    3
}
fn one() -> f64 {
    1.0
}
fn two() -> Vec<usize> {
    vec![2]
}
pub(super) fn relu() -> Node {
    typed("ReLU", &[])
}

/// Convolutions that start as both ShuffleNets' do.
pub(super) struct Units {
    kinds: Kinds,
    /// Start of the norms' shift; none: weights start by the config's own `init_cfg` alone.
    shift: Option<f64>,
}

impl Units {
    /// A convolution; its weights start normal with `std`.
    fn made(&self, spec: ConvSpec, act: bool, std: f64, vb: VarBuilder) -> CoreResult<ConvModule> {
        if let Some(shift) = self.shift {
            vb.init_cfg(&Node::from(Value::List(vec![
                typed("Normal", &[("layer", Value::from("Conv2d")), ("std", Value::from(std))]),
                typed(
                    "Constant",
                    &[
                        ("layer", Value::List(vec![Node::from("_BatchNorm"), Node::from("GroupNorm")])),
                        ("val", Value::from(1)),
                        ("bias", Value::from(shift)),
                    ],
                ),
            ])));
        }
        self.kinds.with_act(spec, self.kinds.act.as_ref().filter(|_| act), vb)
    }

    /// With the activation, or without.
    pub(super) fn unit(&self, spec: ConvSpec, act: bool, vb: VarBuilder) -> CoreResult<ConvModule> {
        let inputs = (spec.in_channels / spec.groups.max(1)).max(1);
        self.made(spec, act, 1.0 / inputs as f64, vb)
    }

    /// The first 3x3.
    pub(super) fn stem(&self, outputs: usize, vb: VarBuilder) -> CoreResult<ConvModule> {
        self.made(ConvSpec::new(3, outputs, 3).stride(2).padding(1), true, 0.01, vb)
    }

    /// Of a network with this `init_cfg`.
    pub(super) fn new(kinds: Kinds, init_cfg: Option<&Node>, shift: f64, vb: &VarBuilder) -> Self {
        let own = init_cfg.filter(|i| !i.is_null());
        if let Some(own) = own {
            vb.init_cfg(own);
        }
        let pretrained = own.is_some_and(|i| i.type_name() == Some("Pretrained"));
        Self { kinds, shift: (!pretrained).then_some(shift) }
    }
}

/// The stem and its pool: `[B, 3, H, W]` to a quarter of the size.
pub(super) fn stem_and_pool(conv: &ConvModule, x: &Tensor, norm_eval: bool, ctx: &Ctx) -> Result<Tensor> {
    let still = ctx.still();
    let x = conv.forward(x, if norm_eval { &still } else { ctx })?;
    ops::max_pool2d(&x, [3, 3], [2, 2], [1, 1], false)
}

/// Keys: `conv1.*`, `layers.{stage}.{block}.{g_conv_1x1_compress, depthwise_conv3x3_bn, g_conv_1x1_expand}.*`.
pub struct ShuffleNetV1 {
    conv1: ConvModule,
    layers: Stages,
}

struct Unit {
    compress: ConvModule,
    depthwise: ConvModule,
    expand: ConvModule,
    act: Box<dyn ActivationLayer>,
    groups: usize,
    /// The first of a stage: its input is pooled and put beside the output, not added.
    concat: bool,
}

impl Unit {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let mut y = self.depthwise.forward(&self.compress.forward(x, ctx)?, ctx)?;
        if self.groups > 1 {
            y = ops::channel_shuffle(&y, self.groups)?;
        }
        if self.concat {
            let y = self.act.forward(&self.expand.forward(&y, ctx)?, ctx)?;
            let options = ops::AvgPoolOptions { ceil_mode: false, count_include_pad: true };
            return Tensor::cat(&[ops::avg_pool2d(x, [3, 3], [2, 2], [1, 1], options)?, y], 1);
        }
        self.act.forward(&self.expand.forward_add(&y, Some(x), ctx)?, ctx)
    }
}

impl ShuffleNetV1 {
    /// The network at `vb`.
    pub fn new(cfg: &ShuffleNetV1Config, vb: VarBuilder) -> CoreResult<Self> {
        check_stages(&cfg.out_indices, cfg.frozen_stages, 3)?;
        let channels = match cfg.groups {
            1 => 144,
            2 => 200,
            3 => 240,
            4 => 272,
            8 => 384,
            other => return Err(Error::config(format!("is {other}, expected 1, 2, 3, 4 or 8")).under("groups")),
        };
        let kinds = Kinds::new(cfg.conv_cfg.as_ref(), Some(&cfg.norm_cfg), Some(&cfg.act_cfg));
        let units = Units::new(kinds, cfg.init_cfg.as_ref(), 0.0001, &vb);
        let mut inputs = (24.0 * cfg.widen_factor) as usize;
        let conv1 = units.stem(inputs, vb.pp("conv1"))?;
        let mut stages = Vec::new();
        for (i, blocks) in [4, 8, 4].into_iter().enumerate() {
            let outputs = make_divisible(((channels << i) as f64 * cfg.widen_factor) as usize, 8);
            let mut stage = Vec::new();
            for j in 0..blocks {
                let vb = vb.pp("layers").pp(i).pp(j);
                let (concat, inner) = (j == 0, outputs / 4);
                let first = if i == 0 && j == 0 { 1 } else { cfg.groups };
                let out = if concat { outputs - inputs.min(outputs) } else { outputs };
                let stride = if concat { 2 } else { 1 };
                let depthwise = ConvSpec::new(inner, inner, 3).stride(stride).padding(1).groups(inner);
                let unit = Unit {
                    compress: units.unit(
                        ConvSpec::new(inputs, inner, 1).groups(first),
                        true,
                        vb.pp("g_conv_1x1_compress"),
                    )?,
                    depthwise: units.unit(depthwise, false, vb.pp("depthwise_conv3x3_bn"))?,
                    expand: units.unit(
                        ConvSpec::new(inner, out, 1).groups(cfg.groups),
                        false,
                        vb.pp("g_conv_1x1_expand"),
                    )?,
                    act: build_activation_layer(&cfg.act_cfg, vb.pp("act"))?,
                    groups: cfg.groups,
                    concat,
                };
                stage.push(Recomputable::new(Arc::new(move |x, ctx| unit.forward(x, ctx)), cfg.with_cp));
                inputs = outputs;
            }
            stages.push(stage);
        }
        let frozen = freeze(&vb, cfg.frozen_stages);
        let layers = Stages { stages, out_indices: cfg.out_indices.clone(), frozen, norm_eval: cfg.norm_eval };
        Ok(Self { conv1, layers })
    }
}

/// Takes the stem and the first stages out of training; how many stages.
pub(super) fn freeze(vb: &VarBuilder, frozen_stages: i64) -> usize {
    if frozen_stages >= 0 {
        vb.freeze("conv1");
    }
    (0..frozen_stages).for_each(|i| vb.freeze(&format!("layers.{i}")));
    usize::try_from(frozen_stages).unwrap_or(0)
}

impl Backbone for ShuffleNetV1 {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.layers.forward(stem_and_pool(&self.conv1, x, self.layers.norm_eval, ctx)?, ctx)
    }
    fn forward_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.layers.forward_from(stage + 1, x.clone(), ctx)
    }
}
