//! Nothing mixed: labels become rows all the same; mmcls's `Identity`.

use candle_core::{Result, Tensor};
use mmcv::{Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{AUGMENT, Augment, checked, one, one_hot};

/// `type = "Identity"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// Classes.
    pub num_classes: usize,
    /// Probability; default 1.
    #[serde(default = "one")]
    pub prob: f64,
}

/// Leaves images as they are.
pub struct Identity(IdentityConfig);

impl Identity {
    /// An error without classes, or for a probability that is none.
    pub fn new(cfg: &IdentityConfig) -> mmcv::Result<Self> {
        checked(cfg.num_classes, cfg.prob, None)?;
        Ok(Self(cfg.clone()))
    }
}

impl Augment for Identity {
    fn prob(&self) -> f64 {
        self.0.prob
    }
    fn num_classes(&self) -> usize {
        self.0.num_classes
    }
    fn apply(&self, img: &Tensor, label: &Tensor, _: &mut Rng) -> Result<(Tensor, Tensor)> {
        Ok((img.clone(), one_hot(label, self.0.num_classes)?))
    }
}

register!(AUGMENT: dyn Augment, "Identity" => Identity(IdentityConfig));
