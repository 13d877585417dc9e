//! Backbones. Those that other frameworks use too have their code in `mmcv::cnn`.

mod lenet;
mod regnet;
mod residual;

use mmcv::cnn::{
    AlexNet, AlexNetConfig, Backbone, MobileNetV2, MobileNetV2Config, MobileNetV3, MobileNetV3Config, ShuffleNetV1,
    ShuffleNetV1Config, ShuffleNetV2, ShuffleNetV2Config, Vgg, VggConfig,
};
use mmcv::nn::VarBuilder;
use mmcv::register;
use mmcv::registry::registry;

pub use lenet::{LeNet5, LeNet5Config};
pub use regnet::{RegNet, RegNetConfig};
pub use residual::{
    ResNeXt, ResNeXtConfig, ResNet, ResNetCifar, ResNetCifarConfig, ResNetConfig, ResNetV1c, ResNetV1cConfig,
    ResNetV1d, ResNetV1dConfig, SEResNeXt, SEResNeXtConfig, SEResNet, SEResNetConfig,
};

registry!(
    /// Networks that turn an image into features, or into scores where they have a classifier of their own.
    pub BACKBONES: dyn Backbone, VarBuilder
);

register!(BACKBONES: dyn Backbone, "AlexNet" => AlexNet, AlexNetConfig);
register!(BACKBONES: dyn Backbone, "VGG" => Vgg, VggConfig);
register!(BACKBONES: dyn Backbone, "MobileNetV2" => MobileNetV2, MobileNetV2Config);
register!(BACKBONES: dyn Backbone, "MobileNetV3" => MobileNetV3, MobileNetV3Config);
register!(BACKBONES: dyn Backbone, "ShuffleNetV1" => ShuffleNetV1, ShuffleNetV1Config);
register!(BACKBONES: dyn Backbone, "ShuffleNetV2" => ShuffleNetV2, ShuffleNetV2Config);
