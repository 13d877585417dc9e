//! Building blocks of convolutional networks, and backbones that several frameworks use.
//!
//! A backbone's code stands here once; each framework registers it in its own `BACKBONES`.

mod backbone;
pub mod bricks;
pub mod flops;
pub mod fuse_conv_bn;
mod hrnet;
mod resnet;

pub use backbone::Backbone;
pub use bricks::{
    ActivationLayer, BatchNorm2d, Conv2d, ConvLayer, ConvModule, ConvModuleConfig, ConvSpec, Linear, NormLayer,
    build_activation_layer, build_conv_layer, build_norm_layer, conv_norm_act, norm_name,
};
pub use fuse_conv_bn::{fuse_conv_bn, fused_state_dict};
pub use hrnet::{HrBlock, HrExtra, HrNet, HrNetConfig, HrStage};
pub use resnet::{
    Arch, ArchSettings, PluginPosition, RegNet, RegNetConfig, Res2Net, Res2NetConfig, ResLayer, ResLayerSpec, ResNeXt,
    ResNeXtConfig, ResNet, ResNetConfig, ResNetV1d, ResNetV1dConfig, Style,
};
