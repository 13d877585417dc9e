//! Asymmetric Loss For Multi-Label Classification, Ridnik et al., ICCV 2021 (<https://arxiv.org/abs/2009.14119>); mmcls's
//! `asymmetric_loss.py`.

use candle_core::{Result, Tensor};
use mmcv::ops::{self, LossReduction as Reduction};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{LOSSES, Loss, column, one, one_hot, reduce};

/// `type = "AsymmetricLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AsymmetricLossConfig {
    /// How much easy positives are weighed down; default 0.
    #[serde(default)]
    pub gamma_pos: f64,
    /// How much easy negatives are weighed down; default 4.
    #[serde(default = "four")]
    pub gamma_neg: f64,
    /// A negative with a probability below this counts as right; default 0.05, none is 0.
    #[serde(default = "clip")]
    pub clip: Option<f64>,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
    /// A sigmoid for each class, or one softmax; default true.
    #[serde(default = "yes")]
    pub use_sigmoid: bool,
    /// Least argument of the logarithm; default 1e-8.
    #[serde(default = "eps")]
    pub eps: f64,
}

fn four() -> f64 {
    4.0
}
fn clip() -> Option<f64> {
    Some(0.05)
}
fn yes() -> bool {
    true
}
fn eps() -> f64 {
    1e-8
}

/// The loss.
#[derive(Debug, Clone)]
pub struct AsymmetricLoss(AsymmetricLossConfig);

impl AsymmetricLoss {
    /// From its config.
    pub fn new(cfg: &AsymmetricLossConfig) -> mmcv::Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

impl Loss for AsymmetricLoss {
    fn forward(
        &self,
        score: &Tensor,
        label: &Tensor,
        weight: Option<&Tensor>,
        avg_factor: Option<f64>,
    ) -> Result<Tensor> {
        let cfg = &self.0;
        let target = one_hot(label, score.dims2()?.1)?;
        let probability = if cfg.use_sigmoid { ops::sigmoid(score)? } else { ops::softmax(score, 1)? };
        let gammas = [cfg.gamma_pos, cfg.gamma_neg];
        let loss = ops::asymmetric_loss(&probability, &target, gammas, cfg.clip.unwrap_or(0.0), cfg.eps)?;
        reduce(&loss, column(weight)?.as_ref(), cfg.reduction, avg_factor)? * cfg.loss_weight
    }
}

register!(LOSSES: dyn Loss, "AsymmetricLoss" => AsymmetricLoss(AsymmetricLossConfig));
