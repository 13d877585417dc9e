//! Searching for MobileNetV3, Howard et al., ICCV 2019 (<https://arxiv.org/abs/1905.02244>).

use std::sync::Arc;

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::bricks::{ConvModule, ConvSpec, Kinds, SeLayer, make_divisible};
use super::resnet::{self, typed};
use super::stages::{Stages, check_stages};
use super::{Backbone, bricks};
use crate::config::{Node, Value};
use crate::error::Result as CoreResult;
use crate::nn::{Ctx, Recomputable, VarBuilder};

/// `type = "MobileNetV3"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MobileNetV3Config {
    /// `small` or `large`; default `small`.
    #[serde(default)]
    pub arch: MobileNetV3Arch,
    /// Kind of convolution; default `Conv2d`.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default `BN` with `eps` 0.001 and `momentum` 0.01.
    #[serde(default = "norm")]
    pub norm_cfg: Node,
    /// Layers whose output is handed on; default the last, 12 (`small`) or 16 (`large`).
    #[serde(default)]
    pub out_indices: Option<Vec<usize>>,
    /// Layers up to this one are not trained; default -1, none.
    #[serde(default = "resnet::minus_one")]
    pub frozen_stages: i64,
    /// Whether batch norms use and keep their running statistics in training; default false.
    #[serde(default)]
    pub norm_eval: bool,
    /// Run blocks again in the backward pass to save memory.
    #[serde(default)]
    pub with_cp: bool,
    /// How weights start; default Kaiming, 1 for norms.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

/// Which of the two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MobileNetV3Arch {
    /// 11 blocks.
    #[default]
    Small,
    /// 15 blocks.
    Large,
}

fn norm() -> Node {
    typed("BN", &[("eps", Value::from(0.001)), ("momentum", Value::from(0.01))])
}

fn default_init() -> Node {
    Node::from(Value::List(vec![
        typed("Kaiming", &[("layer", Value::from("Conv2d")), ("nonlinearity", Value::from("leaky_relu"))]),
        typed("Normal", &[("layer", Value::from("Linear")), ("std", Value::from(0.01))]),
        typed("Constant", &[("layer", Value::from("BatchNorm2d")), ("val", Value::from(1))]),
    ]))
}

/// Kernel, inner channels, channels, squeeze-and-excitation, hard swish in place of ReLU, stride.
type Row = (usize, usize, usize, bool, bool, usize);

const SMALL: [Row; 11] = [
    (3, 16, 16, true, false, 2),
    (3, 72, 24, false, false, 2),
    (3, 88, 24, false, false, 1),
    (5, 96, 40, true, true, 2),
    (5, 240, 40, true, true, 1),
    (5, 240, 40, true, true, 1),
    (5, 120, 48, true, true, 1),
    (5, 144, 48, true, true, 1),
    (5, 288, 96, true, true, 2),
    (5, 576, 96, true, true, 1),
    (5, 576, 96, true, true, 1),
];

const LARGE: [Row; 15] = [
    (3, 16, 16, false, false, 1),
    (3, 64, 24, false, false, 2),
    (3, 72, 24, false, false, 1),
    (5, 72, 40, true, false, 2),
    (5, 120, 40, true, false, 1),
    (5, 120, 40, true, false, 1),
    (3, 240, 80, false, true, 2),
    (3, 200, 80, false, true, 1),
    (3, 184, 80, false, true, 1),
    (3, 184, 80, false, true, 1),
    (3, 480, 112, true, true, 1),
    (3, 672, 112, true, true, 1),
    (5, 672, 160, true, true, 2),
    (5, 960, 160, true, true, 1),
    (5, 960, 160, true, true, 1),
];

/// Keys: `layer0.*`, `layer{i}.{expand_conv, depthwise_conv, se, linear_conv}.*`, and a last `layer{n}.*` of a 1x1.
pub struct MobileNetV3(Stages);

struct Block {
    expand: Option<ConvModule>,
    depthwise: ConvModule,
    se: Option<SeLayer>,
    linear: ConvModule,
    shortcut: bool,
}

impl Block {
    fn new(row: Row, inputs: usize, kinds: &Kinds, vb: &VarBuilder) -> CoreResult<Self> {
        let (kernel, inner, outputs, squeezed, swish, stride) = row;
        let act = typed(if swish { "HSwish" } else { "ReLU" }, &[]);
        let unit = |spec: ConvSpec, name: &str| kinds.with_act(spec, Some(&act), vb.pp(name));
        let expand = (inner != inputs).then(|| unit(ConvSpec::new(inputs, inner, 1), "expand_conv")).transpose()?;
        let spec = ConvSpec::new(inner, inner, kernel).stride(stride).padding(kernel / 2).groups(inner);
        let depthwise = unit(spec, "depthwise_conv")?;
        let se = if squeezed {
            let relu = typed("ReLU", &[]);
            let numbers = [("bias", 3), ("divisor", 6), ("min_value", 0), ("max_value", 1)];
            let gate = typed("HSigmoid", &numbers.map(|(key, value)| (key, Value::from(value))));
            Some(SeLayer::new(inner, make_divisible(inner / 4, 8), [&relu, &gate], &vb.pp("se"))?)
        } else {
            None
        };
        let linear = kinds.linear(ConvSpec::new(inner, outputs, 1), vb.pp("linear_conv"))?;
        Ok(Self { expand, depthwise, se, linear, shortcut: stride == 1 && inputs == outputs })
    }

    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let mut y = match &self.expand {
            Some(expand) => self.depthwise.forward(&expand.forward(x, ctx)?, ctx)?,
            None => self.depthwise.forward(x, ctx)?,
        };
        if let Some(se) = &self.se {
            y = se.forward(&y, ctx)?;
        }
        self.linear.forward_add(&y, self.shortcut.then_some(x), ctx)
    }
}

impl MobileNetV3 {
    /// The network at `vb`.
    pub fn new(cfg: &MobileNetV3Config, vb: VarBuilder) -> CoreResult<Self> {
        let (rows, outputs): (&[Row], usize) = match cfg.arch {
            MobileNetV3Arch::Small => (&SMALL, 576),
            MobileNetV3Arch::Large => (&LARGE, 960),
        };
        let layers = rows.len() + 2;
        let out_indices = cfg.out_indices.clone().unwrap_or_else(|| vec![layers - 1]);
        check_stages(&out_indices, cfg.frozen_stages, layers)?;
        resnet::start(&vb, cfg.init_cfg.as_ref(), None, default_init)?;
        let swish = typed("HSwish", &[]);
        let kinds = Kinds::new(cfg.conv_cfg.as_ref(), Some(&cfg.norm_cfg), Some(&swish));
        let whole = |conv: ConvModule| vec![Recomputable::new(Arc::new(move |x, ctx| conv.forward(x, ctx)), false)];
        let at = |i: usize| vb.pp(format!("layer{i}"));
        let mut stages = vec![whole(kinds.unit(ConvSpec::new(3, 16, 3).stride(2).padding(1), at(0))?)];
        let mut inputs = 16;
        for (i, row) in rows.iter().enumerate() {
            let vb = at(i + 1);
            let block = Block::new(*row, inputs, &kinds, &vb)?;
            stages.push(vec![Recomputable::new(Arc::new(move |x, ctx| block.forward(x, ctx)), cfg.with_cp)]);
            inputs = row.2;
        }
        let vb_last = at(layers - 1);
        stages.push(whole(kinds.unit(bricks::ConvSpec::new(inputs, outputs, 1), vb_last)?));
        (0..=cfg.frozen_stages).for_each(|i| vb.freeze(&format!("layer{i}")));
        let frozen = usize::try_from(cfg.frozen_stages + 1).unwrap_or(0);
        Ok(Self(Stages { stages, out_indices, frozen, norm_eval: cfg.norm_eval }))
    }
}

impl Backbone for MobileNetV3 {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.0.forward(x.clone(), ctx)
    }
    fn forward_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.0.forward_from(stage + 1, x.clone(), ctx)
    }
}
