//! Gradient-Based Learning Applied to Document Recognition, LeCun et al., 1998; mmcls's `lenet.py`.

use candle_core::{Result, Tensor};
use mmcv::cnn::{Backbone, Conv2d, ConvLayer as _, ConvSpec, Linear};
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::{ops, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::BACKBONES;

/// `type = "LeNet5"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeNet5Config {
    /// Classes; without (-1) the 120 features are handed on. Default -1.
    #[serde(default = "minus_one")]
    pub num_classes: i64,
}

fn minus_one() -> i64 {
    -1
}

/// Keys: `features.{0, 3, 6}.*`, `classifier.{0, 2}.*`.
pub struct LeNet5 {
    features: [Conv2d; 3],
    classifier: Option<[Linear; 2]>,
}

impl LeNet5 {
    /// The network at `vb`, for grey images of 32 x 32.
    pub fn new(cfg: &LeNet5Config, vb: VarBuilder) -> Result<Self> {
        let conv =
            |from, to, at: usize| Conv2d::from_spec(ConvSpec::new(from, to, 5).bias(true), &vb.pp("features").pp(at));
        let features = [conv(1, 6, 0)?, conv(6, 16, 3)?, conv(16, 120, 6)?];
        let head = vb.pp("classifier");
        let classifier = match usize::try_from(cfg.num_classes) {
            Ok(classes @ 1..) => {
                Some([Linear::new(120, 84, true, &head.pp(0))?, Linear::new(84, classes, true, &head.pp(2))?])
            }
            _ => None,
        };
        Ok(Self { features, classifier })
    }
}

impl Backbone for LeNet5 {
    /// `[B, 1, 32, 32]` to the scores `[B, num_classes]`, or to `[B, 120, 1, 1]` without a classifier.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let [a, b, c] = &self.features;
        let half = |x: Tensor| ops::avg_pool2d(&x, [2, 2], [2, 2], [0, 0], ops::AvgPoolOptions::default());
        let x = half(a.forward(x, ctx)?.tanh()?)?;
        let x = half(b.forward(&x, ctx)?.tanh()?)?;
        let x = c.forward(&x, ctx)?.tanh()?;
        let Some([hidden, out]) = &self.classifier else { return Ok(vec![x]) };
        let x = hidden.forward(&x.flatten_from(1)?)?.tanh()?;
        Ok(vec![out.forward(&x)?])
    }
}

register!(BACKBONES: dyn Backbone, "LeNet5" => LeNet5, LeNet5Config);
