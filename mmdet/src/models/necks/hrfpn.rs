//! High-Resolution Representations for Labeling Pixels and Regions, Sun et al., 2019 (<https://arxiv.org/abs/1904.04514>):
//! all levels at the finest size as one map, pooled into levels again.

use candle_core::{Result, Tensor, bail};
use mmcv::cnn::{ConvModule, ConvModuleConfig, ConvSpec};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::ops::{self, AvgPoolOptions};
use mmcv::{Error, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{NECKS, Neck};

/// How the joined map becomes a coarse level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(from = "String")]
pub enum HrPooling {
    /// Averages: `AVG`, and whatever isn't `MAX`, as in the original.
    #[default]
    Avg,
    /// Maxima: `MAX`.
    Max,
}

impl From<String> for HrPooling {
    fn from(text: String) -> Self {
        if text == "MAX" { Self::Max } else { Self::Avg }
    }
}

/// `type = "HRFPN"`. Fields and defaults are OpenMMLab's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HrFpnConfig {
    /// Channels of each branch, fine to coarse.
    pub in_channels: Vec<usize>,
    /// Channels of every output level.
    pub out_channels: usize,
    /// Number of output levels; default 5.
    #[serde(default = "five")]
    pub num_outs: usize,
    /// `AVG` or `MAX`; default `AVG`.
    #[serde(default)]
    pub pooling_type: HrPooling,
    /// Kind of convolution.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Accepted; the original doesn't use it either.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// Recompute in the backward pass to save memory. The numbers are the same; values are kept in memory so far.
    #[serde(default)]
    pub with_cp: bool,
    /// Stride of the output convolutions; default 1.
    #[serde(default = "one")]
    pub stride: usize,
    /// How weights start; default Caffe2's Xavier for convolutions.
    #[serde(default = "init_cfg")]
    pub init_cfg: Node,
}

fn five() -> usize {
    5
}
fn one() -> usize {
    1
}
fn init_cfg() -> Node {
    Node::from_json(r#"{"type": "Caffe2Xavier", "layer": "Conv2d"}"#).expect("the default is JSON")
}

/// Keys: `reduction_conv.conv.*`, `fpn_convs.{i}.conv.*`.
pub struct HrFpn {
    reduction_conv: ConvModule,
    fpn_convs: Vec<ConvModule>,
    num_ins: usize,
    pooling: HrPooling,
}

impl HrFpn {
    /// The neck at `vb`.
    pub fn new(cfg: &HrFpnConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        if cfg.in_channels.is_empty() || cfg.num_outs == 0 || cfg.stride == 0 {
            return Err(Error::config("in_channels, num_outs and stride must not be empty or 0"));
        }
        vb.init_cfg(&cfg.init_cfg);
        let module = |spec: ConvSpec, vb: VarBuilder| {
            ConvModule::new(ConvModuleConfig::new(spec).conv(cfg.conv_cfg.as_ref()).act(None), vb)
        };
        let out = cfg.out_channels;
        let reduction_conv = module(ConvSpec::new(cfg.in_channels.iter().sum(), out, 1), vb.pp("reduction_conv"))?;
        let level = |i| module(ConvSpec::new(out, out, 3).padding(1).stride(cfg.stride), vb.pp("fpn_convs").pp(i));
        Ok(Self {
            reduction_conv,
            fpn_convs: (0..cfg.num_outs).map(level).collect::<mmcv::Result<_>>()?,
            num_ins: cfg.in_channels.len(),
            pooling: cfg.pooling_type,
        })
    }
}

impl Neck for HrFpn {
    /// # Shapes
    /// - `feats[l]`: `[B, in_channels[l], H / 2^l, W / 2^l]`
    /// - output `l` of `num_outs`: `[B, out_channels, H / 2^l, W / 2^l]`, over `stride`
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Tensor>> {
        if feats.len() != self.num_ins {
            bail!("HRFPN: {} levels came in, in_channels names {}", feats.len(), self.num_ins);
        }
        let mut maps = vec![feats[0].clone()];
        for (i, x) in feats.iter().enumerate().skip(1) {
            let (_, _, h, w) = x.dims4()?;
            maps.push(ops::interpolate_bilinear(x, (h << i, w << i), false)?);
        }
        let joined = self.reduction_conv.forward(&Tensor::cat(&maps, 1)?, ctx)?;
        let mut outs = Vec::new();
        for (i, conv) in self.fpn_convs.iter().enumerate() {
            let k = [1usize << i; 2];
            let level = match self.pooling {
                _ if i == 0 => joined.clone(),
                HrPooling::Max => ops::max_pool2d(&joined, k, k, [0, 0], false)?,
                HrPooling::Avg => ops::avg_pool2d(&joined, k, k, [0, 0], AvgPoolOptions::default())?,
            };
            outs.push(conv.forward(&level, ctx)?);
        }
        Ok(outs)
    }
}

register!(NECKS: dyn Neck, "HRFPN" => HrFpn, HrFpnConfig);
