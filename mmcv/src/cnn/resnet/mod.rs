//! Deep Residual Learning for Image Recognition, He et al., CVPR 2016 (<https://arxiv.org/abs/1512.03385>),
//! with the options of mmdet's `resnet.py`; `deep_stem` and `avg_down` are ResNet-D of Bag of Tricks, He et al., CVPR 2019.

mod block;
mod regnet;
mod relatives;
mod res2net;
mod spec;

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

pub use block::{PluginPosition, ResLayer, ResLayerSpec};
pub use regnet::{Arch, ArchSettings, RegNet, RegNetConfig};
pub use relatives::{Res2Net, Res2NetConfig, ResNeXt, ResNeXtConfig, ResNetV1d, ResNetV1dConfig};
pub use spec::{Family, ResNetSpec, Stem};

use super::backbone::Backbone;
use super::bricks::{ConvLayer, NormLayer, conv_norm_act};
use super::flops;
use crate::config::{Node, Value};
use crate::error::{Error, Result as CoreResult};
use crate::nn::{self, Ctx, Keep, VarBuilder};
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
    /// Deformable convolutions in place of a bottleneck's 3x3s: `dict(type='DCN', deform_groups=1)`.
    #[serde(default)]
    pub dcn: Option<Node>,
    /// Stages with deformable convolutions.
    #[serde(default)]
    pub stage_with_dcn: Option<Vec<bool>>,
    /// Plugins of the blocks: `cfg`, `position`, `stages`.
    #[serde(default)]
    pub plugins: Option<Vec<StagePlugin>>,
    /// Run blocks again in the backward pass to save memory: their insides are not kept.
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
pub(super) fn minus_one() -> i64 {
    -1
}
pub(super) fn yes() -> bool {
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

/// A config's own `init_cfg`, or the `Pretrained` one that its older `pretrained` means.
fn own_init(init_cfg: Option<&Node>, pretrained: Option<&str>) -> CoreResult<Option<Node>> {
    match (init_cfg.filter(|i| !i.is_null()), pretrained) {
        (Some(_), Some(_)) => Err(Error::config("init_cfg and pretrained can't both be set").under("pretrained")),
        (init, None) => Ok(init.cloned()),
        (None, Some(file)) => Ok(Some(typed("Pretrained", &[("checkpoint", Value::from(file))]))),
    }
}

/// Starts the network at `vb` by its config's `init_cfg` or `pretrained`, else by `default`.
pub(super) fn start(
    vb: &VarBuilder,
    init_cfg: Option<&Node>,
    pretrained: Option<&str>,
    default: impl FnOnce() -> Node,
) -> CoreResult<()> {
    vb.init_cfg(&own_init(init_cfg, pretrained)?.unwrap_or_else(default));
    Ok(())
}

/// `BN`, trained.
pub(super) fn default_norm() -> Node {
    typed("BN", &[("requires_grad", Value::from(true))])
}

/// The kind of 3x3 of stage `stage`, where it is deformable. Without `with` none is, as in mmdet.
fn stage_dcn(dcn: Option<&Node>, with: Option<&[bool]>, stage: usize, stages: usize) -> CoreResult<Option<Node>> {
    let (Some(dcn), Some(on)) = (dcn.filter(|d| !d.is_null()), with) else { return Ok(None) };
    if on.len() != stages {
        let message = format!("has {} values for {stages} stages", on.len());
        return Err(Error::config(message).under("stage_with_dcn"));
    }
    let mut dcn = dcn.clone();
    // The original's first block with `fallback_on_stride` is a plain one and takes the key out of the dict that all share.
    if on[..stage].contains(&true) {
        dcn = dcn.without(FALLBACK);
    }
    Ok(on[stage].then_some(dcn))
}

/// The key that makes the first block of a network with deformable convolutions a plain one.
const FALLBACK: &str = "fallback_on_stride";

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

/// What comes before the stages: convolutions with norms, and a 3x3 max pool of stride 2 where there is one.
struct StemLayers {
    /// `conv1`, `bn1`; or `stem.{0, 3, 6}`, `stem.{1, 4, 7}`; or `stem.{0, 1, 2}.{conv, bn}`.
    units: Vec<(Box<dyn ConvLayer>, Box<dyn NormLayer>)>,
    pool: bool,
}

impl StemLayers {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let x = self.units.iter().try_fold(x.clone(), |x, (conv, norm)| {
            conv_norm_act(conv.as_ref(), Some(norm.as_ref()), &x, None, Act::Relu, ctx)
        })?;
        if !self.pool {
            return Ok(x);
        }
        flops::record("maxpool", "MaxPool2d", || x.elem_count() as u64);
        ops::max_pool2d(&x, [3, 3], [2, 2], [1, 1], false)
    }
}

/// Whether layers of these kinds are made of our own ops alone, so that a stage of them can be a region.
fn of_own_ops(conv_cfg: Option<&Node>, norm_cfg: &Node) -> bool {
    let plain = conv_cfg.is_none_or(|c| matches!(c.type_name(), Some("Conv2d" | "Conv")));
    plain && matches!(norm_cfg.type_name(), Some("BN" | "BN2d" | "SyncBN" | "MMSyncBN" | "GN"))
}

/// Keys: `conv1.*`, `bn1.*` (or `stem.*`), `layer{1..4}.{block}.*`.
pub struct ResNet {
    stem: nn::Block,
    /// Whether the stem is a region.
    stem_region: bool,
    layers: Vec<ResLayer>,
    out_indices: Vec<usize>,
    frozen_stages: i64,
    norm_eval: bool,
}

impl ResNetConfig {
    /// The network that it asks for.
    fn spec(&self) -> CoreResult<ResNetSpec> {
        let init_cfg = own_init(self.init_cfg.as_ref(), self.pretrained.as_deref())?;
        Ok(ResNetSpec {
            depth: self.depth,
            in_channels: self.in_channels,
            stem_channels: self.stem_channels.unwrap_or(self.base_channels),
            base_channels: self.base_channels,
            num_stages: self.num_stages,
            strides: self.strides.clone(),
            dilations: self.dilations.clone(),
            out_indices: self.out_indices.clone(),
            style: self.style,
            stem: if self.deep_stem { Stem::Deep } else { Stem::Plain },
            avg_down: self.avg_down,
            pool_at_stride_1: true,
            frozen_stages: self.frozen_stages,
            conv_cfg: self.conv_cfg.clone(),
            norm_cfg: self.norm_cfg.clone(),
            norm_eval: self.norm_eval,
            zero_init_residual: self.zero_init_residual && init_cfg.is_none(),
            dcn: self.dcn.clone(),
            stage_with_dcn: self.stage_with_dcn.clone(),
            plugins: self.plugins.clone(),
            with_cp: self.with_cp,
            init_cfg,
            ..ResNetSpec::default()
        })
    }
}

impl ResNet {
    /// The network at `vb`.
    pub fn new(cfg: &ResNetConfig, vb: VarBuilder) -> CoreResult<Self> {
        Self::from_spec(&cfg.spec()?, vb)
    }

    fn freeze(&self, vb: &VarBuilder) {
        for stage in 0..=self.frozen_stages {
            match stage {
                0 => ["conv1", "bn1", "gn1", "stem"].iter().for_each(|part| vb.freeze(part)),
                _ => vb.freeze(&format!("layer{stage}")),
            }
        }
    }
}

impl ResNet {
    /// The context of a stage; 0 is the stem.
    fn ctx_of<'a>(&self, stage: i64, ctx: &'a Ctx, still: &'a Ctx) -> &'a Ctx {
        if self.norm_eval || stage <= self.frozen_stages { still } else { ctx }
    }

    /// What stage `first` and those behind it put out, from what comes in to stage `first`.
    fn forward_from(&self, first: usize, mut x: Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let still = ctx.still();
        let mut outs = Vec::new();
        for (i, layer) in self.layers.iter().enumerate().skip(first) {
            x = layer.forward(&x, self.ctx_of(i as i64 + 1, ctx, &still))?;
            if self.out_indices.contains(&i) {
                outs.push(x.clone());
            }
        }
        Ok(outs)
    }
}

impl Backbone for ResNet {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let still = ctx.still();
        let stem_ctx = self.ctx_of(0, ctx, &still);
        let x =
            if self.stem_region { nn::region(&self.stem, x, stem_ctx, Keep::All)? } else { (self.stem)(x, stem_ctx)? };
        self.forward_from(0, x, ctx)
    }

    fn forward_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.forward_from(stage + 1, x.clone(), ctx)
    }
}
