//! Backbones. Those that other frameworks use too have their code in `mmcv::cnn`.

mod ssd_vgg;

use mmcv::cnn::{
    Backbone, HrNet, HrNetConfig, RegNet, RegNetConfig, Res2Net, Res2NetConfig, ResNeXt, ResNeXtConfig, ResNet,
    ResNetConfig, ResNetV1d, ResNetV1dConfig,
};
use mmcv::nn::VarBuilder;
use mmcv::register;
use mmcv::registry::registry;

pub use ssd_vgg::{SsdVgg, SsdVggConfig};

registry!(
    /// Networks that turn an image into feature maps.
    pub BACKBONES: dyn Backbone, VarBuilder
);

register!(BACKBONES: dyn Backbone, "HRNet" => HrNet, HrNetConfig);
register!(BACKBONES: dyn Backbone, "RegNet" => RegNet, RegNetConfig);
register!(BACKBONES: dyn Backbone, "ResNet" => ResNet, ResNetConfig);
register!(BACKBONES: dyn Backbone, "ResNetV1d" => ResNetV1d, ResNetV1dConfig);
register!(BACKBONES: dyn Backbone, "ResNeXt" => ResNeXt, ResNeXtConfig);
register!(BACKBONES: dyn Backbone, "Res2Net" => Res2Net, Res2NetConfig);
