//! mmcv's `cnn/bricks`: layers chosen by `conv_cfg`, `norm_cfg`, `act_cfg`, and the module that joins them.

mod activation;
mod conv;
mod conv_module;
mod deform_conv;
mod depthwise_separable_conv_module;
mod norm;
mod padding;
mod plugin;
mod scale;

pub use activation::{ACTIVATION_LAYERS, ActivationLayer, build_activation_layer};
pub use conv::{CONV_LAYERS, Conv2d, ConvArgs, ConvLayer, ConvSpec, build_conv_layer};
pub use conv_module::{Bias, ConvModule, ConvModuleConfig, Order, conv_norm_act};
pub use deform_conv::{Dcn, DcnConfig, DcnV2, DcnV2Config};
pub use depthwise_separable_conv_module::{DepthwiseSeparableConfig, DepthwiseSeparableConvModule};
pub use norm::{BatchNorm2d, NORM_LAYERS, NormArgs, NormLayer, build_norm_layer, norm_name};
pub use padding::{PaddingMode, pad2d};
pub use plugin::{PLUGIN_LAYERS, PluginArgs, PluginLayer, build_plugin_layer, plugin_name};
pub use scale::Scale;
