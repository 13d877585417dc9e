//! Designing Network Design Spaces, Radosavovic et al., CVPR 2020 (<https://arxiv.org/abs/2003.13678>), with mmcls's fields and
//! defaults.

use candle_core::Tensor;
use mmcv::cnn::{Arch, Backbone, Style};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::{Error, Result, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::BACKBONES;

/// `type = "RegNet"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegNetConfig {
    /// A name (`regnetx_800mf`) or figures.
    pub arch: Arch,
    /// Channels of the image; default 3.
    #[serde(default = "three")]
    pub in_channels: usize,
    /// Channels of the stem; default 32.
    #[serde(default = "thirty_two")]
    pub stem_channels: usize,
    /// Accepted; the widths are the arch's.
    #[serde(default = "thirty_two")]
    pub base_channels: usize,
    /// Stride of each stage; default 2.
    #[serde(default = "twos")]
    pub strides: Vec<usize>,
    /// Dilation of each stage; default 1.
    #[serde(default = "ones")]
    pub dilations: Vec<usize>,
    /// Stages whose output is handed on; default the last.
    #[serde(default = "last")]
    pub out_indices: Vec<usize>,
    /// `pytorch` (stride in the 3x3) or `caffe` (in the first 1x1); default `pytorch`.
    #[serde(default)]
    pub style: Style,
    /// Refused, as in mmcls.
    #[serde(default)]
    pub deep_stem: bool,
    /// Average pool before the shortcut's 1x1; default false.
    #[serde(default)]
    pub avg_down: bool,
    /// Stages that are not trained: 0 is the stem; default -1, none.
    #[serde(default = "minus_one")]
    pub frozen_stages: i64,
    /// Kind of convolution; default `Conv2d`.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default `BN`.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// Whether batch norms use and keep their running statistics in training; default false.
    #[serde(default)]
    pub norm_eval: bool,
    /// Run blocks again in the backward pass to save memory.
    #[serde(default)]
    pub with_cp: bool,
    /// Whether the last norm of each block starts at 0; default true.
    #[serde(default = "yes")]
    pub zero_init_residual: bool,
    /// How weights start; default PyTorch's.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

fn three() -> usize {
    3
}
fn thirty_two() -> usize {
    32
}
fn twos() -> Vec<usize> {
    vec![2; 4]
}
fn ones() -> Vec<usize> {
    vec![1; 4]
}
fn last() -> Vec<usize> {
    vec![3]
}
fn minus_one() -> i64 {
    -1
}
fn yes() -> bool {
    true
}

/// Keys: `conv1.*`, `bn1.*`, `layer{1..4}.{block}.*`.
pub struct RegNet(mmcv::cnn::RegNet);

impl RegNet {
    /// The network at `vb`.
    pub fn new(cfg: &RegNetConfig, vb: VarBuilder) -> Result<Self> {
        if cfg.deep_stem {
            return Err(Error::config("RegNet has no deep stem").under("deep_stem"));
        }
        let shared = mmcv::cnn::RegNetConfig {
            arch: cfg.arch.clone(),
            in_channels: cfg.in_channels,
            stem_channels: cfg.stem_channels,
            base_channels: cfg.base_channels,
            strides: cfg.strides.clone(),
            dilations: cfg.dilations.clone(),
            out_indices: cfg.out_indices.clone(),
            style: cfg.style,
            deep_stem: false,
            avg_down: cfg.avg_down,
            frozen_stages: cfg.frozen_stages,
            conv_cfg: cfg.conv_cfg.clone(),
            norm_cfg: cfg.norm_cfg.clone(),
            norm_eval: cfg.norm_eval,
            dcn: None,
            stage_with_dcn: None,
            plugins: None,
            with_cp: cfg.with_cp,
            zero_init_residual: cfg.zero_init_residual,
            pretrained: None,
            init_cfg: cfg.init_cfg.clone(),
        };
        mmcv::cnn::RegNet::with_pool_at_stride_1(&shared, false, vb).map(Self)
    }
}

impl Backbone for RegNet {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> candle_core::Result<Vec<Tensor>> {
        self.0.forward(x, ctx)
    }
    fn forward_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> candle_core::Result<Vec<Tensor>> {
        self.0.forward_behind(stage, x, ctx)
    }
}

register!(BACKBONES: dyn Backbone, "RegNet" => RegNet, RegNetConfig);
