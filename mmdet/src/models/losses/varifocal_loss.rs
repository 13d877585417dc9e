//! VarifocalNet, Zhang et al., CVPR 2021 (<https://arxiv.org/abs/2008.13367>): mmdet's `varifocal_loss.py`.

use candle_core::{Result, Tensor, bail};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::pairwise::{abs_pow, entropy, pairwise, reduced, sigmoid};
use super::utils::{Loss, Reduction, one};
use crate::registry::LOSSES;

/// Varifocal loss, unreduced. `target` is the overlap at the right class and 0 elsewhere.
///
/// # Shapes
/// - `pred` (logits), `target`, output: one shape
pub fn varifocal_loss(pred: &Tensor, target: &Tensor, alpha: f64, gamma: f64, iou_weighted: bool) -> Result<Tensor> {
    let (alpha, gamma) = (alpha as f32, gamma as f32);
    pairwise("varifocal_loss", pred, target, move |x, t| {
        let (value, slope) = entropy(x, t);
        if t > 0.0 {
            let weight = if iou_weighted { t } else { 1.0 };
            return (value * weight, slope * weight);
        }
        let q = sigmoid(x);
        let (focus, by_q) = abs_pow(q - t, gamma);
        (alpha * value * focus, alpha * (slope * focus + value * by_q * q * (1.0 - q)))
    })
}

/// `type = "VarifocalLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VarifocalLossConfig {
    /// Must be true, as in mmdet; default true.
    #[serde(default = "yes")]
    pub use_sigmoid: bool,
    /// Factor of the negatives; default 0.75.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// How much easy negatives are played down; default 2.
    #[serde(default = "two")]
    pub gamma: f64,
    /// Positives are weighted by their overlap; default true.
    #[serde(default = "yes")]
    pub iou_weighted: bool,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
}

fn yes() -> bool {
    true
}
fn alpha() -> f64 {
    0.75
}
fn two() -> f64 {
    2.0
}

/// Varifocal loss.
#[derive(Debug, Clone)]
pub struct VarifocalLoss(VarifocalLossConfig);

impl VarifocalLoss {
    /// An error when `use_sigmoid` is false or `alpha` negative.
    pub fn new(cfg: &VarifocalLossConfig) -> Result<Self> {
        if !cfg.use_sigmoid || cfg.alpha < 0.0 {
            bail!(
                "VarifocalLoss: use_sigmoid {} and alpha {}, expected true and 0 or more",
                cfg.use_sigmoid,
                cfg.alpha
            );
        }
        Ok(Self(cfg.clone()))
    }
}

reduced!(VarifocalLoss, |cfg, pred, target| varifocal_loss(pred, target, cfg.alpha, cfg.gamma, cfg.iou_weighted));

register!(LOSSES: dyn Loss, "VarifocalLoss" => VarifocalLoss(VarifocalLossConfig));
