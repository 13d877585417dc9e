//! Focal loss for Dense Object Detection, Lin et al., ICCV 2017 (<https://arxiv.org/abs/1708.02002>); mmcls's `focal_loss.py`.

use candle_core::{Result, Tensor};
use mmcv::ops::{self, LossReduction as Reduction};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{LOSSES, Loss, column, one, one_hot, reduce};

/// `type = "FocalLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FocalLossConfig {
    /// How much easy samples are weighed down; default 2.
    #[serde(default = "two")]
    pub gamma: f64,
    /// Weight of a yes, `1 - alpha` that of a no; default 0.25.
    #[serde(default = "quarter")]
    pub alpha: f64,
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
fn quarter() -> f64 {
    0.25
}

/// The loss.
#[derive(Debug, Clone)]
pub struct FocalLoss(FocalLossConfig);

impl FocalLoss {
    /// From its config.
    pub fn new(cfg: &FocalLossConfig) -> mmcv::Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

impl Loss for FocalLoss {
    fn forward(
        &self,
        score: &Tensor,
        label: &Tensor,
        weight: Option<&Tensor>,
        avg_factor: Option<f64>,
    ) -> Result<Tensor> {
        let target = one_hot(label, score.dims2()?.1)?;
        let loss = ops::sigmoid_focal_loss_of_targets(score, &target, self.0.gamma, self.0.alpha)?;
        reduce(&loss, column(weight)?.as_ref(), self.0.reduction, avg_factor)? * self.0.loss_weight
    }
}

register!(LOSSES: dyn Loss, "FocalLoss" => FocalLoss(FocalLossConfig));
