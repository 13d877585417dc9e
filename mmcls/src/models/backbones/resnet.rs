//! ResNet with mmcls's fields and defaults, over `mmcv::cnn`'s network; mmcls's `resnet.py`.

use candle_core::Tensor;
use mmcv::cnn::Backbone;
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::{Error, Result, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::BACKBONES;

/// `type = "ResNet"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// 18, 34, 50, 101 or 152.
    pub depth: usize,
    /// Channels of the image; default 3.
    #[serde(default = "three")]
    pub in_channels: usize,
    /// Channels of the stem; default 64.
    #[serde(default = "sixty_four")]
    pub stem_channels: usize,
    /// Base channels of the first stage, doubled in each next one; default 64.
    #[serde(default = "sixty_four")]
    pub base_channels: usize,
    /// A block puts out this many times its base channels; default 4 for bottlenecks, 1 for basic blocks. Others
    /// are not there yet.
    #[serde(default)]
    pub expansion: Option<usize>,
    /// Number of stages, 1 to 4; default 4.
    #[serde(default = "four")]
    pub num_stages: usize,
    /// Stride of each stage; default 1, 2, 2, 2.
    #[serde(default = "strides")]
    pub strides: Vec<usize>,
    /// Dilation of each stage; default 1.
    #[serde(default = "ones")]
    pub dilations: Vec<usize>,
    /// Stages whose output is handed on; default the last.
    #[serde(default = "last")]
    pub out_indices: Vec<usize>,
    /// `pytorch` (stride in a bottleneck's 3x3) or `caffe` (in its first 1x1); default `pytorch`.
    #[serde(default)]
    pub style: mmcv::cnn::Style,
    /// Three 3x3s in the stem in place of the 7x7; default false. Not there yet.
    #[serde(default)]
    pub deep_stem: bool,
    /// Average pool before the shortcut's 1x1; default false. Not there yet.
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
    /// Whether batch norms keep their running statistics in training; default false.
    #[serde(default)]
    pub norm_eval: bool,
    /// Accepted: blocks are kept in memory.
    #[serde(default)]
    pub with_cp: bool,
    /// Whether the last norm of each block starts at 0; default true.
    #[serde(default = "yes")]
    pub zero_init_residual: bool,
    /// Greatest probability that a block is left out in training; default 0. Not there yet.
    #[serde(default)]
    pub drop_path_rate: f64,
    /// How weights start; default Kaiming and 1 for norms.
    #[serde(default)]
    pub init_cfg: Option<Node>,
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
fn last() -> Vec<usize> {
    vec![3]
}
fn minus_one() -> i64 {
    -1
}
fn yes() -> bool {
    true
}

/// Deep Residual Learning. Keys: `conv1.*`, `bn1.*`, `layer{1..4}.{block}.*`.
pub struct ResNet(mmcv::cnn::ResNet);

impl ResNet {
    /// The network at `vb`. An error for a deep stem or pooled shortcuts, whose keys differ from those of mmdet's network.
    pub fn new(cfg: &ResNetConfig, vb: VarBuilder) -> Result<Self> {
        let absent = |there: bool, key: &str| {
            if there { Err(Error::config("is not there yet").under(key)) } else { Ok(()) }
        };
        absent(cfg.deep_stem, "deep_stem")?;
        absent(cfg.avg_down, "avg_down")?;
        absent(cfg.drop_path_rate != 0.0, "drop_path_rate")?;
        let natural = if cfg.depth < 50 { 1 } else { 4 };
        absent(cfg.expansion.is_some_and(|e| e != natural), "expansion")?;
        let network = mmcv::cnn::ResNetConfig {
            depth: cfg.depth,
            in_channels: cfg.in_channels,
            stem_channels: Some(cfg.stem_channels),
            base_channels: cfg.base_channels,
            num_stages: cfg.num_stages,
            strides: cfg.strides.clone(),
            dilations: cfg.dilations.clone(),
            out_indices: cfg.out_indices.clone(),
            style: cfg.style,
            deep_stem: false,
            avg_down: false,
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
        mmcv::cnn::ResNet::new(&network, vb).map(Self)
    }
}

impl Backbone for ResNet {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> candle_core::Result<Vec<Tensor>> {
        self.0.forward(x, ctx)
    }
}

register!(BACKBONES: dyn Backbone, "ResNet" => ResNet, ResNetConfig);
