//! The focal loss of heat maps: CornerNet, Law and Deng, ECCV 2018 (<https://arxiv.org/abs/1808.01244>): mmdet's
//! `gaussian_focal_loss.py`.

use candle_core::{Result, Tensor};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::pairwise::{pairwise, reduced};
use super::utils::{Loss, Reduction, one};
use crate::registry::LOSSES;

/// Gaussian focal loss, unreduced: where the target is 1 a peak is wanted, elsewhere the less the closer the target is to 1.
///
/// # Shapes
/// - `pred` (probabilities), `target`, output: one shape
pub fn gaussian_focal_loss(pred: &Tensor, target: &Tensor, alpha: f64, gamma: f64) -> Result<Tensor> {
    const EPS: f32 = 1e-12;
    let (alpha, gamma) = (alpha as f32, gamma as f32);
    pairwise("gaussian_focal_loss", pred, target, move |p, t| {
        let (mut value, mut slope) = (0.0, 0.0);
        if t == 1.0 {
            let (log, focus) = ((p + EPS).ln(), (1.0 - p).powf(alpha));
            value -= log * focus;
            slope += log * alpha * (1.0 - p).powf(alpha - 1.0) - focus / (p + EPS);
        }
        let weight = (1.0 - t).powf(gamma);
        let (log, focus) = ((1.0 - p + EPS).ln(), p.powf(alpha));
        value -= log * focus * weight;
        slope += (focus / (1.0 - p + EPS) - log * alpha * p.powf(alpha - 1.0)) * weight;
        (value, slope)
    })
}

/// `type = "GaussianFocalLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GaussianFocalLossConfig {
    /// Power of the error; default 2.
    #[serde(default = "two")]
    pub alpha: f64,
    /// Power of the target's distance from 1; default 4.
    #[serde(default = "four")]
    pub gamma: f64,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
}

fn two() -> f64 {
    2.0
}
fn four() -> f64 {
    4.0
}

/// Gaussian focal loss.
#[derive(Debug, Clone)]
pub struct GaussianFocalLoss(GaussianFocalLossConfig);

impl GaussianFocalLoss {
    /// Always succeeds.
    pub fn new(cfg: &GaussianFocalLossConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

reduced!(GaussianFocalLoss, |cfg, pred, target| gaussian_focal_loss(pred, target, cfg.alpha, cfg.gamma));

register!(LOSSES: dyn Loss, "GaussianFocalLoss" => GaussianFocalLoss(GaussianFocalLossConfig));
