//! mmcv's `cnn/bricks`: layers chosen by `conv_cfg`, `norm_cfg`, `act_cfg`, and the module that joins them.

mod activation;
mod context_block;
mod conv;
mod conv_module;
mod conv_variants;
mod deconv;
mod deform_conv;
mod depthwise_separable_conv_module;
mod linear;
mod merge_cells;
mod non_local;
mod norm;
mod norm_groups;
mod padding;
mod pair;
mod plugin;
mod scale;
mod upsample;

pub use activation::{
    ACTIVATION_LAYERS, ActivationLayer, Clamp, ELU, GELU, HSigmoid, HSwish, LeakyReLU, Mish, PReLU, RReLU, ReLU, ReLU6,
    SiLU, Sigmoid, Tanh, build_activation_layer,
};
pub use context_block::{ContextBlock, ContextBlockConfig, ContextFusion, ContextPooling};
pub use conv::{CONV_LAYERS, Conv2d, ConvArgs, ConvLayer, ConvSpec, build_conv_layer};
pub use conv_module::{Bias, ConvModule, ConvModuleConfig, Order, conv_norm_act};
pub use conv_variants::{Conv1d, Conv2dAdaptivePadding, ConvAWS2d, ConvWS2d, ConvWSConfig};
pub use deconv::{ConvTranspose2d, DeconvConvConfig, DeconvUpsample, DeconvUpsampleConfig};
pub use deform_conv::{Dcn, DcnConfig, DcnV2, DcnV2Config};
pub use depthwise_separable_conv_module::{DepthwiseSeparableConfig, DepthwiseSeparableConvModule};
pub use linear::Linear;
pub use merge_cells::{MergeCell, MergeOp};
pub use non_local::{NonLocal2d, NonLocal2dConfig, NonLocalMode};
pub use norm::{BatchNorm2d, NORM_LAYERS, NormArgs, NormLayer, build_norm_layer, norm_name};
pub use norm_groups::{GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig, LayerNorm, LayerNormConfig};
pub use padding::{PADDING_LAYERS, PaddingLayer, PaddingMode, build_padding_layer, pad2d, pad2d_sides};
pub use pair::Pair;
pub use plugin::{
    ConvPlugin, ConvPluginConfig, PLUGIN_LAYERS, PluginArgs, PluginLayer, build_plugin_layer, plugin_name,
};
pub use scale::Scale;
pub use upsample::{
    BilinearUpsample, Factor, InterpolateConfig, NearestUpsample, PixelShufflePack, PixelShufflePackConfig,
    UPSAMPLE_LAYERS, UpsampleLayer, build_upsample_layer,
};
