//! One weird trick for parallelizing convolutional neural networks, Krizhevsky, 2014 (<https://arxiv.org/abs/1404.5997>):
//! the AlexNet of torchvision and mmcls.

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::bricks::{Conv2d, ConvSpec, Linear, conv_norm_act};
use super::vgg::drop_half;
use super::{Backbone, resnet};
use crate::error::Result as CoreResult;
use crate::nn::{Ctx, VarBuilder};
use crate::ops::{self, Act};

/// `type = "AlexNet"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlexNetConfig {
    /// Classes; without (-1) the map is handed on. Default -1.
    #[serde(default = "resnet::minus_one")]
    pub num_classes: i64,
}

/// Keys: `features.{0, 3, 6, 8, 10}.*`, `classifier.{1, 4, 6}.*`.
pub struct AlexNet {
    features: [Conv2d; 5],
    classifier: Option<[Linear; 3]>,
}

impl AlexNet {
    /// The network at `vb`, for images of 224 x 224.
    pub fn new(cfg: &AlexNetConfig, vb: VarBuilder) -> CoreResult<Self> {
        let at = vb.pp("features");
        let conv = |spec: ConvSpec, i: usize| Conv2d::from_spec(spec.bias(true), &at.pp(i));
        let features = [
            conv(ConvSpec::new(3, 64, 11).stride(4).padding(2), 0)?,
            conv(ConvSpec::new(64, 192, 5).padding(2), 3)?,
            conv(ConvSpec::new(192, 384, 3).padding(1), 6)?,
            conv(ConvSpec::new(384, 256, 3).padding(1), 8)?,
            conv(ConvSpec::new(256, 256, 3).padding(1), 10)?,
        ];
        let classifier = match usize::try_from(cfg.num_classes) {
            Ok(classes @ 1..) => {
                let vb = vb.pp("classifier");
                Some([
                    Linear::new(256 * 6 * 6, 4096, true, &vb.pp(1))?,
                    Linear::new(4096, 4096, true, &vb.pp(4))?,
                    Linear::new(4096, classes, true, &vb.pp(6))?,
                ])
            }
            _ => None,
        };
        Ok(Self { features, classifier })
    }
}

impl Backbone for AlexNet {
    /// The scores `[B, num_classes]`, or the last map without a classifier.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let mut x = x.clone();
        for (i, conv) in self.features.iter().enumerate() {
            x = conv_norm_act(conv, None, &x, None, Act::Relu, ctx)?;
            if matches!(i, 0 | 1 | 4) {
                x = ops::max_pool2d(&x, [3, 3], [2, 2], [0, 0], false)?;
            }
        }
        let Some([a, b, c]) = &self.classifier else { return Ok(vec![x]) };
        let x = ops::relu(&a.forward(&drop_half(&x.flatten_from(1)?, ctx)?)?)?;
        let x = ops::relu(&b.forward(&drop_half(&x, ctx)?)?)?;
        Ok(vec![c.forward(&x)?])
    }
}
