//! `ACTIVATION_LAYERS`: what `act_cfg` chooses from.

mod parametric;
#[cfg(test)]
#[allow(clippy::excessive_precision)] // printed numbers
mod tests;

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Node;
use crate::nn::{Ctx, VarBuilder};
use crate::ops::{self, Act};
use crate::registry::{self, register, registry};

pub use parametric::{Clamp, ELU, GELU, HSigmoid, LeakyReLU, PReLU, RReLU};

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

/// Declares an activation that is one op without numbers of its own.
macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident: $($registered:literal),+ => $op:expr, $spec:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $name;

            impl $name {
                /// Always succeeds.
                pub fn new(_: &PlainActivationConfig) -> Result<Self> {
                    Ok(Self)
                }
            }

            impl ActivationLayer for $name {
                fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
                    $op(x)
                }

                fn spec(&self) -> Option<Act> {
                    $spec
                }
            }

            $(register!(ACTIVATION_LAYERS: dyn ActivationLayer, $registered => $name(PlainActivationConfig));)+
        )*
    };
}

plain! {
    /// `type = "ReLU"`: `max(x, 0)`.
    ReLU: "ReLU" => ops::relu, Some(Act::Relu);
    /// `type = "ReLU6"`: `min(max(x, 0), 6)`.
    ReLU6: "ReLU6" => ops::relu6, Some(Act::Relu6);
    /// `type = "Sigmoid"`: `1 / (1 + e^-x)`.
    Sigmoid: "Sigmoid" => ops::sigmoid, None;
    /// `type = "Tanh"`.
    Tanh: "Tanh" => ops::tanh, None;
    /// `type = "SiLU"`, in mmcv also `"Swish"`: `x sigmoid(x)`.
    SiLU: "SiLU", "Swish" => ops::silu, Some(Act::Silu);
    /// `type = "HSwish"`: `x min(max(x + 3, 0), 6) / 6`.
    HSwish: "HSwish" => ops::hardswish, None;
    /// `type = "Mish"`: `x tanh(ln(1 + e^x))` (Misra, 2019, <https://arxiv.org/abs/1908.08681>).
    Mish: "Mish" => ops::mish, None;
}
