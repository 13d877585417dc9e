//! Backbones. Those that other frameworks use too have their code in `mmcv::cnn`.

use mmcv::cnn::{Backbone, RegNet, RegNetConfig, ResNet, ResNetConfig};
use mmcv::nn::VarBuilder;
use mmcv::register;
use mmcv::registry::registry;

registry!(
    /// Networks that turn an image into feature maps.
    pub BACKBONES: dyn Backbone, VarBuilder
);

register!(BACKBONES: dyn Backbone, "RegNet" => RegNet, RegNetConfig);
register!(BACKBONES: dyn Backbone, "ResNet" => ResNet, ResNetConfig);
