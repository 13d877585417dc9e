//! ResNet's relatives by name: ResNetV1d, ResNeXt, Res2Net.

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Family, ResNet, ResNetConfig, ResNetSpec, StagePlugin, Style, all, four, minus_one, ones, sixty_four, strides,
    three, yes,
};
use crate::cnn::backbone::Backbone;
use crate::config::Node;
use crate::error::Result as CoreResult;
use crate::nn::{Ctx, VarBuilder};

/// Declares a config with the fields that all have and those of its own.
macro_rules! config {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// 50, 101 or 152 (`ResNetV1d`: 18 and 34 too).
            pub depth: usize,
            $($(#[$field_doc])* pub $field: $ty,)*
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
            /// Stages that are not trained; default -1, none.
            #[serde(default = "minus_one")]
            pub frozen_stages: i64,
            /// Kind of convolution; default `Conv2d`.
            #[serde(default)]
            pub conv_cfg: Option<Node>,
            /// Kind of norm; default `BN`.
            #[serde(default)]
            pub norm_cfg: Option<Node>,
            /// Whether batch norms keep their running statistics in training; default true.
            #[serde(default = "yes")]
            pub norm_eval: bool,
            /// Deformable convolutions in place of the 3x3s.
            #[serde(default)]
            pub dcn: Option<Node>,
            /// Stages with deformable convolutions.
            #[serde(default)]
            pub stage_with_dcn: Option<Vec<bool>>,
            /// Plugins of the blocks.
            #[serde(default)]
            pub plugins: Option<Vec<StagePlugin>>,
            /// As in `ResNet`.
            #[serde(default)]
            pub with_cp: bool,
            /// Whether the last norm of each block starts at 0 (`ResNetV1d` only, as in mmdet); default true.
            #[serde(default = "yes")]
            pub zero_init_residual: bool,
            /// Checkpoint to start from (older spelling).
            #[serde(default)]
            pub pretrained: Option<String>,
            /// How weights start; default Kaiming and 1 for norms.
            #[serde(default)]
            pub init_cfg: Option<Node>,
        }

        impl $name {
            fn base(&self, style: Style, deep_stem: bool, avg_down: bool) -> ResNetConfig {
                ResNetConfig {
                    depth: self.depth,
                    in_channels: self.in_channels,
                    stem_channels: self.stem_channels,
                    base_channels: self.base_channels,
                    num_stages: self.num_stages,
                    strides: self.strides.clone(),
                    dilations: self.dilations.clone(),
                    out_indices: self.out_indices.clone(),
                    style,
                    deep_stem,
                    avg_down,
                    frozen_stages: self.frozen_stages,
                    conv_cfg: self.conv_cfg.clone(),
                    norm_cfg: self.norm_cfg.clone(),
                    norm_eval: self.norm_eval,
                    dcn: self.dcn.clone(),
                    stage_with_dcn: self.stage_with_dcn.clone(),
                    plugins: self.plugins.clone(),
                    with_cp: self.with_cp,
                    zero_init_residual: self.zero_init_residual,
                    pretrained: self.pretrained.clone(),
                    init_cfg: self.init_cfg.clone(),
                }
            }
        }
    };
}

fn one() -> usize {
    1
}
fn twenty_six() -> usize {
    26
}

config! {
    /// `type = "ResNetV1d"`: `ResNet` with a deep stem and average pools before the shortcuts.
    ResNetV1dConfig {
        /// Where a bottleneck's stride is; default `pytorch`.
        #[serde(default)]
        style: Style,
    }
}

config! {
    /// `type = "ResNeXt"`.
    ResNeXtConfig {
        /// Groups of the 3x3s; default 1.
        #[serde(default = "one")]
        groups: usize,
        /// Width of a group in the first stage; default 4.
        #[serde(default = "four")]
        base_width: usize,
        /// Where a bottleneck's stride is; default `pytorch`.
        #[serde(default)]
        style: Style,
        /// Three 3x3s in the stem in place of the 7x7; default false.
        #[serde(default)]
        deep_stem: bool,
        /// Average pool before the shortcut's 1x1; default false.
        #[serde(default)]
        avg_down: bool,
    }
}

config! {
    /// `type = "Res2Net"`. As in mmdet the style is `pytorch`, the stem deep and shortcuts pool, whatever the config says.
    Res2NetConfig {
        /// Slices of the channels; default 4.
        #[serde(default = "four")]
        scales: usize,
        /// Width of a slice in the first stage; default 26.
        #[serde(default = "twenty_six")]
        base_width: usize,
        /// Accepted; `pytorch` is used.
        #[serde(default)]
        style: Style,
        /// Accepted; true is used.
        #[serde(default = "yes")]
        deep_stem: bool,
        /// Accepted; true is used.
        #[serde(default = "yes")]
        avg_down: bool,
    }
}

/// The network of another family than ResNet's.
fn related(cfg: &ResNetConfig, family: Family, vb: VarBuilder) -> CoreResult<ResNet> {
    // mmdet looks for its own block classes when it zeroes the last norms, which these are not.
    ResNet::from_spec(&ResNetSpec { family, zero_init_residual: false, ..cfg.spec()? }, vb)
}

/// Bag of Tricks for Image Classification, He et al., CVPR 2019 (<https://arxiv.org/abs/1812.01187>).
/// Keys: `stem.*`, `layer{1..4}.{block}.*`.
pub struct ResNetV1d(ResNet);

impl ResNetV1d {
    /// The network at `vb`.
    pub fn new(cfg: &ResNetV1dConfig, vb: VarBuilder) -> CoreResult<Self> {
        ResNet::from_spec(&cfg.base(cfg.style, true, true).spec()?, vb).map(Self)
    }
}

/// Aggregated Residual Transformations for Deep Neural Networks, Xie et al., CVPR 2017 (<https://arxiv.org/abs/1611.05431>).
/// Keys as [`ResNet`].
pub struct ResNeXt(ResNet);

impl ResNeXt {
    /// The network at `vb`.
    pub fn new(cfg: &ResNeXtConfig, vb: VarBuilder) -> CoreResult<Self> {
        let family = Family::Next { groups: cfg.groups, base_width: cfg.base_width };
        related(&cfg.base(cfg.style, cfg.deep_stem, cfg.avg_down), family, vb).map(Self)
    }
}

/// Res2Net: A New Multi-scale Backbone Architecture, Gao et al., TPAMI 2021 (<https://arxiv.org/abs/1904.01169>).
/// Keys: `stem.*`, `layer{1..4}.{block}.{conv1, bn1, conv3, bn3, downsample, convs, bns}.*`.
pub struct Res2Net(ResNet);

impl Res2Net {
    /// The network at `vb`.
    pub fn new(cfg: &Res2NetConfig, vb: VarBuilder) -> CoreResult<Self> {
        let family = Family::Res2 { scales: cfg.scales, base_width: cfg.base_width };
        related(&cfg.base(Style::Pytorch, true, true), family, vb).map(Self)
    }
}

impl Backbone for ResNetV1d {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.0.forward(x, ctx)
    }
    fn forward_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.0.forward_behind(stage, x, ctx)
    }
}

impl Backbone for ResNeXt {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.0.forward(x, ctx)
    }
    fn forward_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.0.forward_behind(stage, x, ctx)
    }
}

impl Backbone for Res2Net {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.0.forward(x, ctx)
    }
    fn forward_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.0.forward_behind(stage, x, ctx)
    }
}
