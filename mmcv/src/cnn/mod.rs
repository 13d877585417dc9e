//! Building blocks of convolutional networks, and backbones that several frameworks use.
//!
//! A backbone's code stands here once; each framework registers it in its own `BACKBONES`.

mod alexnet;
mod backbone;
pub mod bricks;
pub mod flops;
pub mod fuse_conv_bn;
mod hrnet;
mod mobilenet_v2;
mod mobilenet_v3;
mod resnet;
mod shufflenet_v1;
mod shufflenet_v2;
mod stages;
mod vgg;

pub use alexnet::{AlexNet, AlexNetConfig};
pub use backbone::Backbone;
pub use bricks::{
    ActivationLayer, BatchNorm2d, Conv2d, ConvLayer, ConvModule, ConvModuleConfig, ConvSpec, Linear, NormLayer,
    SeLayer, build_activation_layer, build_conv_layer, build_norm_layer, conv_norm_act, make_divisible, norm_name,
};
pub use fuse_conv_bn::{fuse_conv_bn, fused_state_dict};
pub use hrnet::{HrBlock, HrExtra, HrNet, HrNetConfig, HrStage};
pub use mobilenet_v2::{MobileNetV2, MobileNetV2Config};
pub use mobilenet_v3::{MobileNetV3, MobileNetV3Arch, MobileNetV3Config};
pub use resnet::{
    Arch, ArchSettings, Family, PluginPosition, RegNet, RegNetConfig, Res2Net, Res2NetConfig, ResLayer, ResLayerSpec,
    ResNeXt, ResNeXtConfig, ResNet, ResNetConfig, ResNetSpec, ResNetV1d, ResNetV1dConfig, Stem, Style,
};
pub use shufflenet_v1::{ShuffleNetV1, ShuffleNetV1Config};
pub use shufflenet_v2::{ShuffleNetV2, ShuffleNetV2Config};
pub use vgg::{Vgg, VggConfig, vgg_stages};
