//! Backbones. Those that other frameworks use too have their code in `mmcv::cnn`.

mod lenet;
mod resnet;

use mmcv::cnn::Backbone;
use mmcv::nn::VarBuilder;
use mmcv::registry::registry;

pub use lenet::{LeNet5, LeNet5Config};
pub use resnet::{ResNet, ResNetConfig};

registry!(
    /// Networks that turn an image into features, or into scores where they have a classifier of their own.
    pub BACKBONES: dyn Backbone, VarBuilder
);
