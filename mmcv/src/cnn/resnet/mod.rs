//! Deep Residual Learning for Image Recognition, He et al., CVPR 2016 (<https://arxiv.org/abs/1512.03385>),
//! with the options of mmdet's `resnet.py`; `deep_stem` and `avg_down` are ResNet-D of Bag of Tricks, He et al., CVPR 2019.

mod block;
mod regnet;
mod relatives;
mod res2net;

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

pub use block::{PluginPosition, ResLayer, ResLayerSpec};
pub use regnet::{Arch, ArchSettings, RegNet, RegNetConfig};
pub use relatives::{Res2Net, Res2NetConfig, ResNeXt, ResNeXtConfig, ResNetV1d, ResNetV1dConfig};

use super::backbone::Backbone;
use super::bricks::{ConvLayer, ConvSpec, NormLayer, build_conv_layer, build_norm_layer};
use super::bricks::{conv_norm_act, norm_name};
use super::flops;
use crate::config::{Node, Value};
use crate::error::{Error, Result as CoreResult};
use crate::nn::{Ctx, VarBuilder};
use crate::ops::{self, Act};

/// `type = "ResNet"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// 18, 34, 50, 101 or 152.
    pub depth: usize,
    /// Channels of the image; default 3.
    #[serde(default = "three")]
    pub in_channels: usize,
    /// Channels of the stem; default `base_channels`.
    #[serde(default)]
    pub stem_channels: Option<usize>,
    /// Base channels of the first stage, doubled in each next one; default 64.
    #[serde(default = "sixty_four")]
    pub base_channels: usize,
    /// Number of stages, 1 to 4; default 4.
    #[serde(default = "four")]
    pub num_stages: usize,
    /// Stride of each stage; default 1, 2, 2, 2.
    #[serde(default = "strides")]
    pub strides: Vec<usize>,
    /// Dilation of each stage; default 1.
    #[serde(default = "ones")]
    pub dilations: Vec<usize>,
    /// Stages whose output is handed on; default all four.
    #[serde(default = "all")]
    pub out_indices: Vec<usize>,
    /// `pytorch` (stride in a bottleneck's 3x3) or `caffe` (in its first 1x1); default `pytorch`.
    #[serde(default)]
    pub style: Style,
    /// Three 3x3s in the stem in place of the 7x7; default false.
    #[serde(default)]
    pub deep_stem: bool,
    /// Average pool before the shortcut's 1x1; default false.
    #[serde(default)]
    pub avg_down: bool,
    /// Stages that are not trained: 0 is the stem, 1 the stem and the first stage; default -1, none.
    #[serde(default = "minus_one")]
    pub frozen_stages: i64,
    /// Kind of convolution; default `Conv2d`.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default `BN`.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// Whether batch norms use and keep their running statistics in training; default true.
    #[serde(default = "yes")]
    pub norm_eval: bool,
    /// Deformable convolutions in place of the 3x3s; not there yet.
    #[serde(default)]
    pub dcn: Option<Node>,
    /// Stages with deformable convolutions.
    #[serde(default)]
    pub stage_with_dcn: Option<Vec<bool>>,
    /// Plugins of the blocks: `cfg`, `position`, `stages`.
    #[serde(default)]
    pub plugins: Option<Vec<StagePlugin>>,
    /// Recompute blocks in the backward pass to save memory. The numbers are the same either way; blocks are kept in memory so far.
    #[serde(default)]
    pub with_cp: bool,
    /// Whether the last norm of each block starts at 0; default true.
    #[serde(default = "yes")]
    pub zero_init_residual: bool,
    /// Checkpoint to start from (older spelling of a `Pretrained` `init_cfg`).
    #[serde(default)]
    pub pretrained: Option<String>,
    /// How weights start; default Kaiming and 1 for norms.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

/// Where a bottleneck's stride is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// In the 3x3.
    #[default]
    Pytorch,
    /// In the first 1x1.
    Caffe,
}

/// A plugin in some of the stages.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StagePlugin {
    /// The plugin.
    pub cfg: Node,
    /// Where in each block.
    pub position: PluginPosition,
    /// For each stage whether it has it; default all.
    #[serde(default)]
    pub stages: Option<Vec<bool>>,
}

fn three() -> usize {
    3
}
fn four() -> usize {
    4
}
fn sixty_four() -> usize {
    64
}
fn strides() -> Vec<usize> {
    vec![1, 2, 2, 2]
}
fn ones() -> Vec<usize> {
    vec![1; 4]
}
fn all() -> Vec<usize> {
    vec![0, 1, 2, 3]
}
fn minus_one() -> i64 {
    -1
}
fn yes() -> bool {
    true
}

/// A node `{type: name}` with more keys.
pub(super) fn typed(name: &str, more: &[(&str, Value)]) -> Node {
    let mut node = Node::from(Value::Dict(Default::default()));
    node.set("type", name);
    for (key, value) in more {
        node.set(key, value.clone());
    }
    node
}

/// mmdet's default: Kaiming for convolutions, 1 for norms.
pub(super) fn default_init() -> Node {
    let layers = Value::List(vec![Node::from("_BatchNorm"), Node::from("GroupNorm")]);
    Node::from(Value::List(vec![
        typed("Kaiming", &[("layer", Value::from("Conv2d"))]),
        typed("Constant", &[("val", Value::from(1)), ("layer", layers)]),
    ]))
}

/// The plugins of stage `stage`.
fn stage_plugins(
    plugins: Option<&[StagePlugin]>,
    stage: usize,
    stages: usize,
) -> CoreResult<Vec<(PluginPosition, Node)>> {
    let mut here = Vec::new();
    for plugin in plugins.into_iter().flatten() {
        if let Some(on) = plugin.stages.as_ref().filter(|on| on.len() != stages) {
            return Err(Error::config(format!("stages has {} values for {stages} stages", on.len())).under("plugins"));
        }
        if plugin.stages.as_ref().is_none_or(|on| on[stage]) {
            here.push((plugin.position, plugin.cfg.clone()));
        }
    }
    Ok(here)
}

enum Stem {
    /// `conv1`, `bn1`.
    Plain(Box<dyn ConvLayer>, Box<dyn NormLayer>),
    /// `stem.{0, 3, 6}`, `stem.{1, 4, 7}`.
    Deep(Vec<(Box<dyn ConvLayer>, Box<dyn NormLayer>)>),
}

/// What the stages of ResNet and its relatives are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Plain blocks.
    Plain,
    /// Bottlenecks with a grouped 3x3.
    Next { groups: usize, base_width: usize },
    /// Bottlenecks with a chain of narrow 3x3s.
    Res2 { scales: usize, base_width: usize },
}

/// One stage.
trait Stage: Send + Sync {
    /// `[B, inplanes, H, W]` to `[B, out, ceil(H / stride), ceil(W / stride)]`.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor>;
}

impl Stage for ResLayer {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        self.forward(x, ctx)
    }
}

/// Keys: `conv1.*`, `bn1.*` (or `stem.*`), `layer{1..4}.{block}.*`.
pub struct ResNet {
    stem: Stem,
    layers: Vec<Box<dyn Stage>>,
    out_indices: Vec<usize>,
    frozen_stages: i64,
    norm_eval: bool,
    /// Whether the stem ends in a 3x3 max pool of stride 2.
    pool: bool,
}

impl ResNet {
    /// The network at `vb`.
    pub fn new(cfg: &ResNetConfig, vb: VarBuilder) -> CoreResult<Self> {
        Self::build(cfg, Family::Plain, &vb)
    }

    fn build(cfg: &ResNetConfig, family: Family, vb: &VarBuilder) -> CoreResult<Self> {
        let (bottleneck, depths) = match cfg.depth {
            18 if family == Family::Plain => (false, [2, 2, 2, 2]),
            34 if family == Family::Plain => (false, [3, 4, 6, 3]),
            50 => (true, [3, 4, 6, 3]),
            101 => (true, [3, 4, 23, 3]),
            152 => (true, [3, 8, 36, 3]),
            other => {
                let plain = if family == Family::Plain { "18, 34, " } else { "" };
                return Err(Error::config(format!("is {other}, expected {plain}50, 101 or 152")).under("depth"));
            }
        };
        let stages = cfg.num_stages;
        let check = |ok: bool, key: &str, message: String| {
            if ok { Ok(()) } else { Err(Error::config(message).under(key)) }
        };
        check((1..=4).contains(&stages), "num_stages", format!("is {stages}, expected 1 to 4"))?;
        for (key, list) in [("strides", &cfg.strides), ("dilations", &cfg.dilations)] {
            check(list.len() == stages, key, format!("has {} values for {stages} stages", list.len()))?;
            check(!list.contains(&0), key, "a value is 0".into())?;
        }
        check(
            cfg.out_indices.iter().all(|i| *i < stages),
            "out_indices",
            format!("{:?} names stages past the last, {}", cfg.out_indices, stages - 1),
        )?;
        check(cfg.frozen_stages <= stages as i64, "frozen_stages", format!("more than the {stages} stages"))?;
        check(cfg.dcn.as_ref().is_none_or(Node::is_null), "dcn", "deformable convolutions are not there yet".into())?;
        if cfg.init_cfg.as_ref().is_some_and(|i| !i.is_null()) && cfg.pretrained.is_some() {
            return Err(Error::config("init_cfg and pretrained can't both be set").under("pretrained"));
        }
        let own_init = match (&cfg.init_cfg, &cfg.pretrained) {
            (_, Some(file)) => typed("Pretrained", &[("checkpoint", Value::from(file.as_str()))]),
            (Some(init), None) if !init.is_null() => init.clone(),
            _ => default_init(),
        };
        let given = cfg.pretrained.is_some() || cfg.init_cfg.as_ref().is_some_and(|i| !i.is_null());
        vb.init_cfg(&own_init);

        let norm_cfg = match &cfg.norm_cfg {
            Some(norm) if !norm.is_null() => norm.clone(),
            _ => typed("BN", &[("requires_grad", Value::from(true))]),
        };
        let conv_cfg = cfg.conv_cfg.clone().filter(|c| !c.is_null());
        let stem_channels = cfg.stem_channels.unwrap_or(cfg.base_channels);
        let conv_norm = |spec: ConvSpec, conv: VarBuilder, norm: VarBuilder| -> CoreResult<_> {
            Ok((
                build_conv_layer(conv_cfg.as_ref(), spec, conv)?,
                build_norm_layer(&norm_cfg, spec.out_channels, norm)?,
            ))
        };
        let stem = if cfg.deep_stem {
            let half = stem_channels / 2;
            let plan = [(cfg.in_channels, half, 2), (half, half, 1), (half, stem_channels, 1)];
            let stem = vb.pp("stem");
            let mut units = Vec::new();
            for (i, (from, to, stride)) in plan.into_iter().enumerate() {
                let spec = ConvSpec::new(from, to, 3).stride(stride).padding(1);
                units.push(conv_norm(spec, stem.pp(3 * i), stem.pp(3 * i + 1))?);
            }
            Stem::Deep(units)
        } else {
            let spec = ConvSpec::new(cfg.in_channels, stem_channels, 7).stride(2).padding(3);
            let (conv, norm) = conv_norm(spec, vb.pp("conv1"), vb.pp(norm_name(&norm_cfg, "1")))?;
            Stem::Plain(conv, norm)
        };

        let mut inplanes = stem_channels;
        let mut layers = Vec::new();
        for i in 0..stages {
            let plugins = stage_plugins(cfg.plugins.as_deref(), i, stages)?;
            let planes = cfg.base_channels << i;
            let scaled = |base_width: usize| {
                (planes as f64 * (base_width as f64 / cfg.base_channels.max(1) as f64)).floor() as usize
            };
            let (groups, width) = match family {
                Family::Next { groups, base_width } if groups > 1 => (groups, scaled(base_width) * groups),
                Family::Res2 { base_width, .. } => (1, scaled(base_width)),
                _ => (1, planes),
            };
            let spec = ResLayerSpec {
                bottleneck,
                inplanes,
                planes,
                expansion: if bottleneck { 4 } else { 1 },
                num_blocks: depths[i],
                stride: cfg.strides[i],
                dilation: cfg.dilations[i],
                groups,
                width,
                caffe: cfg.style == Style::Caffe,
                avg_down: cfg.avg_down,
                // mmdet looks for its own block class, which its relatives' are not.
                zero_init_residual: cfg.zero_init_residual && !given && family == Family::Plain,
                conv_cfg: conv_cfg.clone(),
                norm_cfg: norm_cfg.clone(),
                plugins,
            };
            inplanes = spec.out_channels();
            let vb = vb.pp(format!("layer{}", i + 1));
            layers.push(match family {
                Family::Res2 { scales, .. } => Box::new(res2net::Res2Layer::new(&spec, scales, &vb)?) as Box<dyn Stage>,
                _ => Box::new(ResLayer::new(&spec, &vb)?),
            });
        }
        let model = Self {
            stem,
            layers,
            out_indices: cfg.out_indices.clone(),
            frozen_stages: cfg.frozen_stages,
            norm_eval: cfg.norm_eval,
            pool: true,
        };
        model.freeze(vb);
        Ok(model)
    }

    fn freeze(&self, vb: &VarBuilder) {
        let frozen: Vec<String> = (0..=self.frozen_stages)
            .flat_map(|i| match i {
                0 => vec![vb.key("conv1."), vb.key("bn1."), vb.key("gn1."), vb.key("stem.")],
                i => vec![vb.key(&format!("layer{i}."))],
            })
            .collect();
        for param in vb.store().all() {
            if frozen.iter().any(|f| param.name().starts_with(f.as_str())) {
                param.set_trainable(false);
            }
        }
    }
}

impl Backbone for ResNet {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let still = Ctx::eval();
        let ctx_of = |stage: i64| if self.norm_eval || stage <= self.frozen_stages { &still } else { ctx };
        let stem = |conv: &dyn ConvLayer, norm: &dyn NormLayer, x: &Tensor| {
            conv_norm_act(conv, Some(norm), x, None, Act::Relu, ctx_of(0))
        };
        let mut x = match &self.stem {
            Stem::Plain(conv, norm) => stem(conv.as_ref(), norm.as_ref(), x)?,
            Stem::Deep(units) => {
                units.iter().try_fold(x.clone(), |x, (conv, norm)| stem(conv.as_ref(), norm.as_ref(), &x))?
            }
        };
        if self.pool {
            flops::record("maxpool", "MaxPool2d", || x.elem_count() as u64);
            x = ops::max_pool2d(&x, [3, 3], [2, 2], [1, 1], false)?;
        }
        let mut outs = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, ctx_of(i as i64 + 1))?;
            if self.out_indices.contains(&i) {
                outs.push(x.clone());
            }
        }
        Ok(outs)
    }
}
