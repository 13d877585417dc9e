//! ResNet and its relatives with mmcls's fields and defaults, over `mmcv::cnn`'s residual network.
//!
//! Deep Residual Learning, He et al., CVPR 2016 (<https://arxiv.org/abs/1512.03385>); Bag of Tricks, He et al., CVPR 2019
//! (<https://arxiv.org/abs/1812.01187>); Aggregated Residual Transformations, Xie et al., CVPR 2017
//! (<https://arxiv.org/abs/1611.05431>); Squeeze-and-Excitation Networks, Hu et al., CVPR 2018
//! (<https://arxiv.org/abs/1709.01507>).

use candle_core::Tensor;
use mmcv::cnn::{Backbone, Family, ResNetSpec, Stem, Style};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::{Error, Result, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::BACKBONES;

fn three() -> usize {
    3
}
fn four() -> usize {
    4
}
fn sixteen() -> usize {
    16
}
fn thirty_two() -> usize {
    32
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

/// Declares a backbone: its config with the fields that all have and those of its own, and the network that it asks for.
macro_rules! residual {
    (
        $(#[$doc:meta])* $name:ident as $text:literal, $config:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* },
        |$cfg:ident, $shared:ident| $spec:expr
    ) => {
        #[doc = concat!("`type = \"", $text, "\"`.")]
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $config {
            /// 18, 34, 50, 101 or 152; with groups or squeezing 50, 101 or 152.
            pub depth: usize,
            $($(#[$field_doc])* pub $field: $ty,)*
            /// Channels of the image; default 3.
            #[serde(default = "three")]
            pub in_channels: usize,
            /// Channels of the stem; default 64.
            #[serde(default = "sixty_four")]
            pub stem_channels: usize,
            /// Base channels of the first stage, doubled in each next one; default 64.
            #[serde(default = "sixty_four")]
            pub base_channels: usize,
            /// A block puts out this many times its base channels; default 4 for bottlenecks, 1 for basic blocks.
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
            pub style: Style,
            /// Three 3x3s in the stem in place of the 7x7; default false (`ResNetV1c` and `ResNetV1d` always have them).
            #[serde(default)]
            pub deep_stem: bool,
            /// Average pool before the shortcut's 1x1; default false (`ResNetV1d` always has it).
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
            /// Probability that a block is left out in training; default 0. Squeezed blocks are never left out, as in mmcls.
            #[serde(default)]
            pub drop_path_rate: f64,
            /// How weights start; default Kaiming and 1 for norms.
            #[serde(default)]
            pub init_cfg: Option<Node>,
        }

        $(#[$doc])*
        pub struct $name(mmcv::cnn::ResNet);

        impl $name {
            /// The network at `vb`.
            pub fn new($cfg: &$config, vb: VarBuilder) -> Result<Self> {
                let $shared = ResNetSpec {
                    depth: $cfg.depth,
                    in_channels: $cfg.in_channels,
                    stem_channels: $cfg.stem_channels,
                    base_channels: $cfg.base_channels,
                    expansion: $cfg.expansion,
                    num_stages: $cfg.num_stages,
                    strides: $cfg.strides.clone(),
                    dilations: $cfg.dilations.clone(),
                    out_indices: $cfg.out_indices.clone(),
                    style: $cfg.style,
                    stem: if $cfg.deep_stem { Stem::DeepModules } else { Stem::Plain },
                    avg_down: $cfg.avg_down,
                    pool_at_stride_1: false,
                    frozen_stages: $cfg.frozen_stages,
                    conv_cfg: $cfg.conv_cfg.clone(),
                    norm_cfg: $cfg.norm_cfg.clone(),
                    norm_eval: $cfg.norm_eval,
                    zero_init_residual: $cfg.zero_init_residual,
                    drop_path_rate: $cfg.drop_path_rate,
                    with_cp: $cfg.with_cp,
                    init_cfg: $cfg.init_cfg.clone(),
                    ..ResNetSpec::default()
                };
                mmcv::cnn::ResNet::from_spec(&$spec, vb).map(Self)
            }
        }

        impl Backbone for $name {
            fn forward(&self, x: &Tensor, ctx: &Ctx) -> candle_core::Result<Vec<Tensor>> {
                self.0.forward(x, ctx)
            }
            fn forward_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> candle_core::Result<Vec<Tensor>> {
                self.0.forward_behind(stage, x, ctx)
            }
        }

        register!(BACKBONES: dyn Backbone, $text => $name, $config);
    };
}

residual!(
    /// Keys: `conv1.*`, `bn1.*` (or `stem.{0, 1, 2}.*`), `layer{1..4}.{block}.*`.
    ResNet as "ResNet", ResNetConfig {},
    |cfg, shared| shared
);

residual!(
    /// ResNet with a deep stem. Keys: `stem.{0, 1, 2}.*`, `layer{1..4}.{block}.*`.
    ResNetV1c as "ResNetV1c", ResNetV1cConfig {},
    |cfg, shared| ResNetSpec { stem: Stem::DeepModules, ..shared }
);

residual!(
    /// ResNet with a deep stem and shortcuts that pool. Keys: `stem.{0, 1, 2}.*`, `layer{1..4}.{block}.*`.
    ResNetV1d as "ResNetV1d", ResNetV1dConfig {},
    |cfg, shared| ResNetSpec { stem: Stem::DeepModules, avg_down: true, ..shared }
);

residual!(
    /// ResNet for small images: the stem is one 3x3 of stride 1 and nothing is pooled. Keys: as `ResNet`.
    ResNetCifar as "ResNet_CIFAR", ResNetCifarConfig {},
    |cfg, shared| {
        if cfg.deep_stem {
            return Err(Error::config("ResNet_CIFAR has no deep stem").under("deep_stem"));
        }
        ResNetSpec { stem: Stem::Small, ..shared }
    }
);

residual!(
    /// Bottlenecks with groups. Keys: as `ResNet`.
    ResNeXt as "ResNeXt", ResNeXtConfig {
        /// Groups of a bottleneck's 3x3; default 32.
        #[serde(default = "thirty_two")]
        groups: usize,
        /// Channels of each group in the first stage; default 4.
        #[serde(default = "four")]
        width_per_group: usize,
    },
    |cfg, shared| ResNetSpec { family: Family::Next { groups: cfg.groups, base_width: cfg.width_per_group }, ..shared }
);

residual!(
    /// Blocks whose output is weighed by channel. Keys: as `ResNet`, and `layer{i}.{block}.se_layer.conv{1, 2}.conv.*`.
    SEResNet as "SEResNet", SEResNetConfig {
        /// The squeezed width is the block's output by this; default 16.
        #[serde(default = "sixteen")]
        se_ratio: usize,
    },
    |cfg, shared| ResNetSpec { se_ratio: Some(cfg.se_ratio), drop_path_rate: 0.0, ..shared }
);

residual!(
    /// `ResNeXt` with `SEResNet`'s weights. Keys: as `SEResNet`.
    SEResNeXt as "SEResNeXt", SEResNeXtConfig {
        /// The squeezed width is the block's output by this; default 16.
        #[serde(default = "sixteen")]
        se_ratio: usize,
        /// Groups of a bottleneck's 3x3; default 32.
        #[serde(default = "thirty_two")]
        groups: usize,
        /// Channels of each group in the first stage; default 4.
        #[serde(default = "four")]
        width_per_group: usize,
    },
    |cfg, shared| ResNetSpec {
        se_ratio: Some(cfg.se_ratio),
        family: Family::Next { groups: cfg.groups, base_width: cfg.width_per_group },
        drop_path_rate: 0.0,
        ..shared
    }
);
