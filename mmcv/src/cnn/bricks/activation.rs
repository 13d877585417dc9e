//! `ACTIVATION_LAYERS`: what `act_cfg` chooses from.

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Node;
use crate::nn::{Ctx, VarBuilder};
use crate::ops::{self, Act};
use crate::registry::{self, register, registry};

/// An activation layer.
pub trait ActivationLayer: Send + Sync {
    /// Any shape to the same shape.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor>;

    /// What it is for a fused convolution, if that knows it.
    fn spec(&self) -> Option<Act> {
        None
    }
}

registry!(
    /// Activation layers (`act_cfg`).
    pub ACTIVATION_LAYERS: dyn ActivationLayer, VarBuilder
);

/// The activation that `act_cfg` names.
pub fn build_activation_layer(cfg: &Node, vb: VarBuilder) -> crate::Result<Box<dyn ActivationLayer>> {
    registry::build_at(&ACTIVATION_LAYERS, "act_cfg", cfg, vb)
}

/// An activation without fields of its own but PyTorch's `inplace`, which changes no number and is not needed here.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlainActivationConfig {
    /// Accepted for configs of the original.
    #[serde(default, rename = "inplace")]
    pub _inplace: bool,
}

/// `type = "ReLU"`: `max(x, 0)`.
#[derive(Debug)]
pub struct ReLU;

impl ReLU {
    /// Always succeeds.
    pub fn new(_: &PlainActivationConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl ActivationLayer for ReLU {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        ops::relu(x)
    }

    fn spec(&self) -> Option<Act> {
        Some(Act::Relu)
    }
}

register!(ACTIVATION_LAYERS: dyn ActivationLayer, "ReLU" => ReLU(PlainActivationConfig));
