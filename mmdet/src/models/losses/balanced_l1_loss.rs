//! Libra R-CNN, Pang et al., CVPR 2019 (<https://arxiv.org/abs/1904.02701>): mmdet's `balanced_l1_loss.py`.

use candle_core::{Result, Tensor, bail};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::pairwise::pairwise;
use super::utils::{Loss, Reduction, one, weight_reduce_loss};
use crate::registry::LOSSES;

/// Balanced L1, unreduced, in the shape of both. `beta` is where the linear part begins, `gamma` its slope; the smaller
/// `alpha`, the more small errors count.
pub fn balanced_l1_loss(pred: &Tensor, target: &Tensor, beta: f64, alpha: f64, gamma: f64) -> Result<Tensor> {
    if beta.is_nan() || beta <= 0.0 {
        bail!("balanced_l1_loss: beta is {beta}, expected more than 0");
    }
    let b = (gamma / alpha).exp() - 1.0;
    let [scale, rest] = [alpha / b, gamma / b - alpha * beta].map(|v| v as f32);
    let [b, beta, alpha, gamma] = [b, beta, alpha, gamma].map(|v| v as f32);
    pairwise("balanced_l1_loss", pred, target, move |p, t| {
        let d = (p - t).abs();
        let sign = if p == t { 0.0 } else { (p - t).signum() };
        if d < beta {
            let log = (b * d / beta + 1.0).ln();
            let slope = scale * (b * log + (b * d + 1.0) * (b / beta) / (b * d / beta + 1.0)) - alpha;
            (scale * (b * d + 1.0) * log - alpha * d, sign * slope)
        } else {
            (gamma * d + rest, sign * gamma)
        }
    })
}

/// `type = "BalancedL1Loss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BalancedL1LossConfig {
    /// How little small errors count; default 0.5.
    #[serde(default = "half")]
    pub alpha: f64,
    /// Slope of the linear part; default 1.5.
    #[serde(default = "gamma")]
    pub gamma: f64,
    /// Where it begins; default 1.
    #[serde(default = "one")]
    pub beta: f64,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
}

fn half() -> f64 {
    0.5
}
fn gamma() -> f64 {
    1.5
}

/// Balanced L1.
#[derive(Debug, Clone)]
pub struct BalancedL1Loss(BalancedL1LossConfig);

impl BalancedL1Loss {
    /// An error when `beta` is not more than 0.
    pub fn new(cfg: &BalancedL1LossConfig) -> Result<Self> {
        if cfg.beta.is_nan() || cfg.beta <= 0.0 {
            bail!("BalancedL1Loss: beta is {}, expected more than 0", cfg.beta);
        }
        Ok(Self(cfg.clone()))
    }
}

impl Loss for BalancedL1Loss {
    fn forward(
        &self,
        pred: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
        avg_factor: Option<f64>,
        reduction_override: Option<Reduction>,
    ) -> Result<Tensor> {
        let cfg = &self.0;
        let reduction = reduction_override.unwrap_or(cfg.reduction);
        let loss = balanced_l1_loss(pred, target, cfg.beta, cfg.alpha, cfg.gamma)?;
        if loss.elem_count() == 0 && reduction != Reduction::None {
            return loss.sum_all();
        }
        weight_reduce_loss(&loss, weight, reduction, avg_factor)? * cfg.loss_weight
    }
}

register!(LOSSES: dyn Loss, "BalancedL1Loss" => BalancedL1Loss(BalancedL1LossConfig));
