//! Activations with numbers of their own.

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{ACTIVATION_LAYERS, ActivationLayer};
use crate::error::Error;
use crate::nn::{Ctx, Init, Param, VarBuilder};
use crate::ops::{self, Act};
use crate::registry::register;

/// `type = "LeakyReLU"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeakyReLUConfig {
    /// Factor below 0; default 0.01.
    #[serde(default = "hundredth")]
    pub negative_slope: f64,
    /// Accepted for configs of the original.
    #[serde(default, rename = "inplace")]
    pub _inplace: bool,
}

fn hundredth() -> f64 {
    0.01
}

/// `x` above 0, `negative_slope x` below.
#[derive(Debug)]
pub struct LeakyReLU(f64);

impl LeakyReLU {
    /// Always succeeds.
    pub fn new(cfg: &LeakyReLUConfig) -> Result<Self> {
        Ok(Self(cfg.negative_slope))
    }
}

impl ActivationLayer for LeakyReLU {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        ops::leaky_relu(x, self.0)
    }

    fn spec(&self) -> Option<Act> {
        Some(Act::LeakyRelu(self.0 as f32))
    }
}

register!(ACTIVATION_LAYERS: dyn ActivationLayer, "LeakyReLU" => LeakyReLU(LeakyReLUConfig));

/// `type = "PReLU"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PReLUConfig {
    /// 1, or one factor for each channel; default 1.
    #[serde(default = "one")]
    pub num_parameters: usize,
    /// Where the factors start; default 0.25.
    #[serde(default = "quarter")]
    pub init: f64,
}

fn one() -> usize {
    1
}
fn quarter() -> f64 {
    0.25
}

/// A learnt slope below 0 (He et al., ICCV 2015, <https://arxiv.org/abs/1502.01852>). Key: `weight` `[num_parameters]`.
#[derive(Debug)]
pub struct PReLU(Param);

impl PReLU {
    /// The layer at `vb`.
    pub fn new(cfg: &PReLUConfig, vb: VarBuilder) -> Result<Self> {
        Ok(Self(vb.layer("PReLU").param("weight", cfg.num_parameters, Init::Const(cfg.init))?))
    }
}

impl ActivationLayer for PReLU {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        ops::prelu(x, &self.0.get())
    }
}

register!(ACTIVATION_LAYERS: dyn ActivationLayer, "PReLU" => PReLU, PReLUConfig);

/// `type = "RReLU"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RReLUConfig {
    /// Least factor below 0; default 1/8.
    #[serde(default = "eighth")]
    pub lower: f64,
    /// Greatest factor below 0; default 1/3.
    #[serde(default = "third")]
    pub upper: f64,
    /// Accepted for configs of the original.
    #[serde(default, rename = "inplace")]
    pub _inplace: bool,
}

fn eighth() -> f64 {
    1.0 / 8.0
}
fn third() -> f64 {
    1.0 / 3.0
}

/// A slope below 0 that is drawn for each value in training and is the range's middle in evaluation
/// (Xu et al., 2015, <https://arxiv.org/abs/1505.00853>).
#[derive(Debug)]
pub struct RReLU(f64, f64);

impl RReLU {
    /// Refuses a range that is upside down.
    pub fn new(cfg: &RReLUConfig) -> crate::Result<Self> {
        if cfg.lower > cfg.upper {
            return Err(Error::config(format!("is {}, above upper, {}", cfg.lower, cfg.upper)).under("lower"));
        }
        Ok(Self(cfg.lower, cfg.upper))
    }
}

impl ActivationLayer for RReLU {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        if !ctx.train {
            return ops::leaky_relu(x, f64::midpoint(self.0, self.1));
        }
        let values = x.detach().flatten_all()?.to_vec1::<f32>()?;
        let factors: Vec<f32> = ctx.rng(|rng| {
            values.iter().map(|v| if *v <= 0.0 { rng.uniform(self.0, self.1) as f32 } else { 1.0 }).collect()
        });
        x * Tensor::from_vec(factors, x.shape(), x.device())?
    }
}

register!(ACTIVATION_LAYERS: dyn ActivationLayer, "RReLU" => RReLU(RReLUConfig));

/// `type = "ELU"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ELUConfig {
    /// The value far below 0 is `-alpha`; default 1.
    #[serde(default = "unit")]
    pub alpha: f64,
    /// Accepted for configs of the original.
    #[serde(default, rename = "inplace")]
    pub _inplace: bool,
}

fn unit() -> f64 {
    1.0
}

/// `x` above 0, `alpha (e^x - 1)` below.
#[derive(Debug)]
pub struct ELU(f64);

impl ELU {
    /// Always succeeds.
    pub fn new(cfg: &ELUConfig) -> Result<Self> {
        Ok(Self(cfg.alpha))
    }
}

impl ActivationLayer for ELU {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        ops::elu(x, self.0)
    }
}

register!(ACTIVATION_LAYERS: dyn ActivationLayer, "ELU" => ELU(ELUConfig));

/// `type = "GELU"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GELUConfig {
    /// `none` (default) or `tanh`.
    #[serde(default)]
    pub approximate: GeluForm,
}

/// How GELU is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GeluForm {
    /// By the error function.
    #[default]
    None,
    /// By a tanh.
    Tanh,
}

/// `x Φ(x)` (Hendrycks and Gimpel, 2016, <https://arxiv.org/abs/1606.08415>).
#[derive(Debug)]
pub struct GELU(GeluForm);

impl GELU {
    /// Always succeeds.
    pub fn new(cfg: &GELUConfig) -> Result<Self> {
        Ok(Self(cfg.approximate))
    }
}

impl ActivationLayer for GELU {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        if self.0 == GeluForm::Tanh { ops::gelu_tanh(x) } else { ops::gelu(x) }
    }
}

register!(ACTIVATION_LAYERS: dyn ActivationLayer, "GELU" => GELU(GELUConfig));

/// `type = "Clamp"`, also `"Clip"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClampConfig {
    /// Least value; default -1.
    #[serde(default = "minus_unit")]
    pub min: f64,
    /// Greatest value; default 1.
    #[serde(default = "unit")]
    pub max: f64,
}

fn minus_unit() -> f64 {
    -1.0
}

/// `min(max(x, min), max)`.
#[derive(Debug)]
pub struct Clamp(f64, f64);

impl Clamp {
    /// Always succeeds.
    pub fn new(cfg: &ClampConfig) -> Result<Self> {
        Ok(Self(cfg.min, cfg.max))
    }
}

impl ActivationLayer for Clamp {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        ops::clamp(x, self.0, self.1)
    }
}

register!(ACTIVATION_LAYERS: dyn ActivationLayer, "Clamp" => Clamp(ClampConfig));
register!(ACTIVATION_LAYERS: dyn ActivationLayer, "Clip" => Clamp(ClampConfig));

/// `type = "HSigmoid"`. The defaults are those since mmcv 1.4.4, PyTorch's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HSigmoidConfig {
    /// Added first; default 3.
    #[serde(default = "three")]
    pub bias: f64,
    /// Divided by then; default 6.
    #[serde(default = "six")]
    pub divisor: f64,
    /// Least value; default 0.
    #[serde(default)]
    pub min_value: f64,
    /// Greatest value; default 1.
    #[serde(default = "unit")]
    pub max_value: f64,
}

fn three() -> f64 {
    3.0
}
fn six() -> f64 {
    6.0
}

/// `min(max((x + bias) / divisor, min_value), max_value)`.
#[derive(Debug)]
pub struct HSigmoid(HSigmoidConfig);

impl HSigmoid {
    /// Warns, as mmcv does, that the defaults were others before 1.4.4.
    pub fn new(cfg: &HSigmoidConfig) -> crate::Result<Self> {
        static WARNED: std::sync::Once = std::sync::Once::new();
        WARNED.call_once(|| {
            tracing::warn!(
                "HSigmoid is min(max((x + 3) / 6, 0), 1); before mmcv 1.4.4 it was min(max((x + 1) / 2, 0), 1)"
            );
        });
        if cfg.divisor == 0.0 {
            return Err(Error::config("is 0").under("divisor"));
        }
        Ok(Self(cfg.clone()))
    }
}

impl ActivationLayer for HSigmoid {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        let cfg = &self.0;
        ops::clamp(&((x + cfg.bias)? / cfg.divisor)?, cfg.min_value, cfg.max_value)
    }
}

register!(ACTIVATION_LAYERS: dyn ActivationLayer, "HSigmoid" => HSigmoid(HSigmoidConfig));
