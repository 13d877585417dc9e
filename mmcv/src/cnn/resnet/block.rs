//! The two residual blocks and the stage made of them.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::{FALLBACK, default_norm, of_own_ops};
use crate::cnn::bricks::{
    ConvLayer, ConvSpec, NormLayer, PluginLayer, SeLayer, build_conv_layer, build_norm_layer, build_plugin_layer,
    conv_norm_act, make_divisible, norm_name,
};
use crate::cnn::flops;
use crate::config::{Node, Value};
use crate::error::{Error, Result as CoreResult};
use crate::nn::{Block, Ctx, Keep, Recomputable, VarBuilder, region};
use crate::ops::{self, Act, AvgPoolOptions};

/// Where a plugin stands in a bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PluginPosition {
    /// After the first 1x1.
    AfterConv1,
    /// After the 3x3.
    AfterConv2,
    /// After the last 1x1.
    AfterConv3,
}

/// What the blocks of one stage share.
#[derive(Debug, Clone)]
pub struct ResLayerSpec {
    /// Whether blocks are bottlenecks.
    pub bottleneck: bool,
    /// Channels that come in.
    pub inplanes: usize,
    /// Base channels of the stage.
    pub planes: usize,
    /// A block puts out this many times `planes`: 1 for basic blocks and RegNet, else 4.
    pub expansion: usize,
    /// Number of blocks.
    pub num_blocks: usize,
    /// Stride of the first block.
    pub stride: usize,
    /// Dilation of the 3x3s.
    pub dilation: usize,
    /// Groups of a bottleneck's 3x3 (ResNeXt).
    pub groups: usize,
    /// Width of a bottleneck's 3x3 (its channels).
    pub width: usize,
    /// Whether a bottleneck's stride is in its first 1x1 (`style = "caffe"`).
    pub caffe: bool,
    /// Whether the shortcut pools before its 1x1.
    pub avg_down: bool,
    /// Whether a pool of stride 1 has a place in the shortcut's keys all the same (mmdet) or is not there (mmcls).
    pub pool_at_stride_1: bool,
    /// A block's output is weighed by channel, with its channels by this in between (SE-ResNet).
    pub se_ratio: Option<usize>,
    /// Probability that a block is left out in training.
    pub drop_path_rate: f64,
    /// Whether the last norm of each block starts at 0.
    pub zero_init_residual: bool,
    /// Kind of convolution.
    pub conv_cfg: Option<Node>,
    /// Kind of a bottleneck's 3x3, where it isn't that of the others: `DCN` or `DCNv2`.
    pub dcn: Option<Node>,
    /// Kind of norm.
    pub norm_cfg: Node,
    /// Plugins.
    pub plugins: Vec<(PluginPosition, Node)>,
    /// Whether the inside of a block is run again in the backward pass in place of being kept.
    pub with_cp: bool,
}

/// One plain basic block of 64 channels with `BN`.
impl Default for ResLayerSpec {
    fn default() -> Self {
        Self {
            bottleneck: false,
            inplanes: 64,
            planes: 64,
            expansion: 1,
            num_blocks: 1,
            stride: 1,
            dilation: 1,
            groups: 1,
            width: 64,
            caffe: false,
            avg_down: false,
            pool_at_stride_1: true,
            se_ratio: None,
            drop_path_rate: 0.0,
            zero_init_residual: false,
            conv_cfg: None,
            dcn: None,
            norm_cfg: default_norm(),
            plugins: Vec::new(),
            with_cp: false,
        }
    }
}

impl ResLayerSpec {
    /// Channels that go out.
    pub fn out_channels(&self) -> usize {
        self.planes * self.expansion
    }

    /// The deformable convolution of the stage's first block, or of the others.
    pub(super) fn dcn_of(&self, first: bool) -> Option<Node> {
        let dcn = self.dcn.as_ref()?;
        let falls_back = dcn.get(FALLBACK).is_some_and(|n| n.value == Value::Bool(true));
        (!(first && falls_back)).then(|| dcn.without(FALLBACK))
    }
}

struct Unit {
    conv: Box<dyn ConvLayer>,
    norm: Box<dyn NormLayer>,
    plugins: Vec<Box<dyn PluginLayer>>,
}

/// A block: two 3x3s, or 1x1, 3x3, 1x1. Keys: `conv{i}.*`, `bn{i}.*`, `downsample.{j}.*`, `se_layer.*`.
struct Residual {
    units: Vec<Unit>,
    downsample: Option<Downsample>,
    se_layer: Option<SeLayer>,
    drop_path_rate: f64,
}

/// The shortcut of a block that changes its input's shape. Keys: `0.*`, `1.*`, or with a pool in front `1.*`, `2.*`.
pub(super) struct Downsample {
    pool: Option<usize>,
    conv: Box<dyn ConvLayer>,
    norm: Box<dyn NormLayer>,
}

impl Downsample {
    /// That of a stage's first block; none where it would change nothing.
    pub(super) fn new(spec: &ResLayerSpec, vb: &VarBuilder) -> CoreResult<Option<Self>> {
        if spec.stride == 1 && spec.inplanes == spec.out_channels() {
            return Ok(None);
        }
        let pool = spec.avg_down && (spec.stride != 1 || spec.pool_at_stride_1);
        let (at, stride) = if pool { (1, 1) } else { (0, spec.stride) };
        let conv = ConvSpec::new(spec.inplanes, spec.out_channels(), 1).stride(stride);
        Ok(Some(Self {
            pool: pool.then_some(spec.stride),
            conv: build_conv_layer(spec.conv_cfg.as_ref(), conv, vb.pp(at))?,
            norm: build_norm_layer(&spec.norm_cfg, spec.out_channels(), vb.pp(at + 1))?,
        }))
    }

    pub(super) fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let pooled = match self.pool {
            Some(s) if s > 1 => {
                let options = AvgPoolOptions { ceil_mode: true, count_include_pad: false };
                flops::record("downsample", "AvgPool2d", || x.elem_count() as u64);
                Some(ops::avg_pool2d(x, [s, s], [s, s], [0, 0], options)?)
            }
            _ => None,
        };
        let x = pooled.as_ref().unwrap_or(x);
        conv_norm_act(self.conv.as_ref(), Some(self.norm.as_ref()), x, None, Act::None, ctx)
    }
}

impl Residual {
    fn new(spec: &ResLayerSpec, first: bool, vb: &VarBuilder) -> CoreResult<Self> {
        let out = spec.out_channels();
        let (inplanes, stride) = if first { (spec.inplanes, spec.stride) } else { (out, 1) };
        let d = spec.dilation;
        let convs: Vec<ConvSpec> = if spec.bottleneck {
            let (s1, s2) = if spec.caffe { (stride, 1) } else { (1, stride) };
            vec![
                ConvSpec::new(inplanes, spec.width, 1).stride(s1),
                ConvSpec::new(spec.width, spec.width, 3).stride(s2).padding(d).dilation(d).groups(spec.groups),
                ConvSpec::new(spec.width, out, 1),
            ]
        } else {
            vec![
                ConvSpec::new(inplanes, spec.width, 3).stride(stride).padding(d).dilation(d),
                ConvSpec::new(spec.width, out, 3).padding(1),
            ]
        };
        let last = convs.len();
        let dcn = spec.dcn_of(first);
        let mut units = Vec::new();
        for (i, conv) in (1..).zip(convs) {
            let norm_vb = vb.pp(norm_name(&spec.norm_cfg, &i.to_string()));
            if i == last && spec.zero_init_residual {
                norm_vb.init_cfg(&super::typed("Constant", &[("val", Value::from(0))]));
            }
            let dcn = dcn.as_ref().filter(|_| i == 2);
            units.push(Unit {
                conv: build_conv_layer(dcn.or(spec.conv_cfg.as_ref()), conv, vb.pp(format!("conv{i}")))?,
                norm: build_norm_layer(&spec.norm_cfg, conv.out_channels, norm_vb)?,
                plugins: Vec::new(),
            });
        }
        let downsample = if first { Downsample::new(spec, &vb.pp("downsample"))? } else { None };
        for (position, cfg) in &spec.plugins {
            let (unit, channels) = match position {
                PluginPosition::AfterConv1 => (0, spec.width),
                PluginPosition::AfterConv2 => (1, spec.width),
                PluginPosition::AfterConv3 => (2, out),
            };
            match units.get_mut(unit) {
                Some(u) if spec.bottleneck => u.plugins.push(build_plugin_layer(cfg, channels, vb)?),
                _ => return Err(cfg.error("plugins stand in bottlenecks only (depth 50 and more)")),
            }
        }
        let se_layer = match spec.se_ratio {
            Some(ratio) => {
                let squeezed = make_divisible(out / ratio.max(1), 8);
                Some(SeLayer::new(
                    out,
                    squeezed,
                    [&super::typed("ReLU", &[]), &super::typed("Sigmoid", &[])],
                    &vb.pp("se_layer"),
                )?)
            }
            None => None,
        };
        Ok(Self { units, downsample, se_layer, drop_path_rate: spec.drop_path_rate })
    }

    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let short;
        let identity = match &self.downsample {
            Some(down) => {
                short = down.forward(x, ctx)?;
                &short
            }
            None => x,
        };
        let mut y = x.clone();
        let last = self.units.len() - 1;
        let dropped = ctx.drops() && self.drop_path_rate > 0.0;
        for (i, unit) in self.units.iter().enumerate() {
            let conv = unit.conv.as_ref();
            let norm = Some(unit.norm.as_ref());
            let relu = Act::Relu;
            if i == last && unit.plugins.is_empty() && self.se_layer.is_none() && !dropped {
                return conv_norm_act(conv, norm, &y, Some(identity), relu, ctx);
            }
            y = conv_norm_act(conv, norm, &y, None, if i == last { Act::None } else { relu }, ctx)?;
            for plugin in &unit.plugins {
                y = plugin.forward(&y, ctx)?;
            }
        }
        if let Some(se) = &self.se_layer {
            y = se.forward(&y, ctx)?;
        }
        if dropped {
            y = ctx.rng(|rng| ops::drop_path(&y, self.drop_path_rate, rng))?;
        }
        ops::add_relu(&y, identity)
    }
}

/// A stage. Keys: `{block}.*`.
pub struct ResLayer {
    whole: Block,
    /// Whether the stage is one region. Its blocks are regions of their own where they are run again.
    region: bool,
}

impl ResLayer {
    /// A stage of `blocks`, made by the kinds of layers that `spec` names and, but for those, of our own ops or not.
    pub(super) fn of(blocks: Vec<Recomputable>, spec: &ResLayerSpec, own_ops: bool) -> Self {
        let own = own_ops
            && of_own_ops(spec.conv_cfg.as_ref(), &spec.norm_cfg)
            && spec.dcn.is_none()
            && spec.plugins.is_empty();
        let whole = move |x: &Tensor, ctx: &Ctx| blocks.iter().try_fold(x.clone(), |x, block| block.forward(&x, ctx));
        Self { whole: Arc::new(whole), region: own && !spec.with_cp }
    }
}

impl ResLayer {
    /// The stage of `spec` at `vb`.
    pub fn new(spec: &ResLayerSpec, vb: &VarBuilder) -> CoreResult<Self> {
        if spec.dcn.is_some() && !spec.bottleneck {
            return Err(Error::config("only bottlenecks (depth 50 and more) have deformable convolutions").under("dcn"));
        }
        let one = |i: usize| {
            let vb = vb.pp(i);
            let block = Residual::new(spec, i == 0, &vb)?;
            Ok(Recomputable::new(Arc::new(move |x, ctx| block.forward(x, ctx)), spec.with_cp))
        };
        Ok(Self::of((0..spec.num_blocks).map(one).collect::<CoreResult<_>>()?, spec, true))
    }

    /// `[B, inplanes, H, W]` to `[B, out, ceil(H / stride), ceil(W / stride)]`.
    pub fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        if self.region { region(&self.whole, x, ctx, Keep::All) } else { (self.whole)(x, ctx) }
    }
}
