//! MobileNetV2: Inverted Residuals and Linear Bottlenecks, Sandler et al., CVPR 2018 (<https://arxiv.org/abs/1801.04381>).

use std::sync::Arc;

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::bricks::{ConvModule, ConvSpec, Kinds, make_divisible};
use super::resnet::{default_init, default_norm, typed};
use super::stages::{Stages, check_stages};
use super::{Backbone, resnet};
use crate::config::Node;
use crate::error::Result as CoreResult;
use crate::nn::{Ctx, Recomputable, VarBuilder};

/// `type = "MobileNetV2"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MobileNetV2Config {
    /// All channels are multiplied by this; default 1.
    #[serde(default = "one")]
    pub widen_factor: f64,
    /// Stages whose output is handed on, 0 to 7; 7 is the last 1x1. Default 7.
    #[serde(default = "last")]
    pub out_indices: Vec<usize>,
    /// Stages that are not trained: 0 is the stem; default -1, none.
    #[serde(default = "resnet::minus_one")]
    pub frozen_stages: i64,
    /// Kind of convolution; default `Conv2d`.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default `BN`.
    #[serde(default = "default_norm")]
    pub norm_cfg: Node,
    /// Kind of activation; default `ReLU6`.
    #[serde(default = "relu6")]
    pub act_cfg: Node,
    /// Whether batch norms use and keep their running statistics in training; default false.
    #[serde(default)]
    pub norm_eval: bool,
    /// Run blocks again in the backward pass to save memory.
    #[serde(default)]
    pub with_cp: bool,
    /// Checkpoint to start from (older spelling of a `Pretrained` `init_cfg`).
    #[serde(default)]
    pub pretrained: Option<String>,
    /// How weights start; default Kaiming and 1 for norms.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

fn one() -> f64 {
    1.0
}
fn last() -> Vec<usize> {
    vec![7]
}
fn relu6() -> Node {
    typed("ReLU6", &[])
}

/// Expansion, channels, blocks and stride of each stage.
const PLAN: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

/// Keys: `conv1.*`, `layer{1..7}.{block}.conv.{0, 1, 2}.*`, `conv2.*`.
pub struct MobileNetV2 {
    conv1: ConvModule,
    layers: Stages,
}

/// A block: 1x1 to the inner width (where it is wider), depthwise 3x3, 1x1; added to its input where the shape stays.
struct Block {
    convs: Vec<ConvModule>,
    shortcut: bool,
}

impl Block {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let Some((last, first)) = self.convs.split_last() else { return Ok(x.clone()) };
        let y = first.iter().try_fold(x.clone(), |y, conv| conv.forward(&y, ctx))?;
        last.forward_add(&y, self.shortcut.then_some(x), ctx)
    }
}

impl MobileNetV2 {
    /// The network at `vb`.
    pub fn new(cfg: &MobileNetV2Config, vb: VarBuilder) -> CoreResult<Self> {
        check_stages(&cfg.out_indices, cfg.frozen_stages, PLAN.len() + 1)?;
        resnet::start(&vb, cfg.init_cfg.as_ref(), cfg.pretrained.as_deref(), default_init)?;
        let kinds = Kinds::new(cfg.conv_cfg.as_ref(), Some(&cfg.norm_cfg), Some(&cfg.act_cfg));
        let width = |channels: usize| make_divisible((channels as f64 * cfg.widen_factor) as usize, 8);
        let mut inputs = width(32);
        let conv1 = kinds.unit(ConvSpec::new(3, inputs, 3).stride(2).padding(1), vb.pp("conv1"))?;
        let mut stages = Vec::new();
        for (i, (expand, channels, blocks, stride)) in PLAN.into_iter().enumerate() {
            let (vb, outputs) = (vb.pp(format!("layer{}", i + 1)), width(channels));
            let mut stage = Vec::new();
            for j in 0..blocks {
                let stride = if j == 0 { stride } else { 1 };
                let (vb, inner) = (vb.pp(j), inputs * expand);
                let mut specs = vec![ConvSpec::new(inner, inner, 3).stride(stride).padding(1).groups(inner)];
                if expand != 1 {
                    specs.insert(0, ConvSpec::new(inputs, inner, 1));
                }
                let mut convs = Vec::new();
                for spec in specs {
                    convs.push(kinds.unit(spec, vb.pp("conv").pp(convs.len()))?);
                }
                convs.push(kinds.linear(ConvSpec::new(inner, outputs, 1), vb.pp("conv").pp(convs.len()))?);
                let block = Block { convs, shortcut: stride == 1 && inputs == outputs };
                stage.push(Recomputable::new(Arc::new(move |x, ctx| block.forward(x, ctx)), cfg.with_cp));
                inputs = outputs;
            }
            stages.push(stage);
        }
        let outputs = if cfg.widen_factor > 1.0 { (1280.0 * cfg.widen_factor) as usize } else { 1280 };
        let conv2 = kinds.unit(ConvSpec::new(inputs, outputs, 1), vb.pp("conv2"))?;
        stages.push(vec![Recomputable::new(Arc::new(move |x, ctx| conv2.forward(x, ctx)), false)]);
        if cfg.frozen_stages >= 0 {
            vb.freeze("conv1");
        }
        (1..=cfg.frozen_stages).for_each(|i| vb.freeze(&format!("layer{i}")));
        let layers = Stages {
            stages,
            out_indices: cfg.out_indices.clone(),
            frozen: usize::try_from(cfg.frozen_stages).unwrap_or(0),
            norm_eval: cfg.norm_eval,
        };
        Ok(Self { conv1, layers })
    }
}

impl Backbone for MobileNetV2 {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let still = ctx.still();
        let x = self.conv1.forward(x, if self.layers.norm_eval { &still } else { ctx })?;
        self.layers.forward(x, ctx)
    }
    fn forward_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.layers.forward_from(stage + 1, x.clone(), ctx)
    }
}
