//! A smooth L1 distance: Two deterministic half-quadratic regularization algorithms, Charbonnier et al., ICIP 1994.

use candle_core::{Result, Tensor};
use mmcv::register;
use mmdet::LOSSES;
use mmdet::models::losses::{Loss, Reduction, weight_reduce_loss};
use schemars::JsonSchema;
use serde::Deserialize;

/// `type = "CharbonnierLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CharbonnierLossConfig {
    /// Width of the round part; default 0.1.
    #[serde(default = "eps")]
    pub eps: f64,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
}

fn eps() -> f64 {
    0.1
}

fn one() -> f64 {
    1.0
}

/// `sqrt((pred - target)² + eps²) - eps`.
pub struct CharbonnierLoss(CharbonnierLossConfig);

impl CharbonnierLoss {
    /// An error unless `eps` is more than 0.
    pub fn new(cfg: &CharbonnierLossConfig) -> mmcv::Result<Self> {
        if !cfg.eps.is_finite() || cfg.eps <= 0.0 {
            return Err(mmcv::Error::config(format!("is {}, expected more than 0", cfg.eps)).under("eps"));
        }
        Ok(Self(cfg.clone()))
    }
}

impl Loss for CharbonnierLoss {
    fn forward(
        &self,
        pred: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
        avg_factor: Option<f64>,
        reduction_override: Option<Reduction>,
    ) -> Result<Tensor> {
        let eps = self.0.eps;
        let loss = (((pred - target)?.sqr()? + eps * eps)?.sqrt()? - eps)?;
        let reduction = reduction_override.unwrap_or(self.0.reduction);
        weight_reduce_loss(&loss, weight, reduction, avg_factor)? * self.0.loss_weight
    }
}

register!(LOSSES: dyn Loss, "CharbonnierLoss" => CharbonnierLoss(CharbonnierLossConfig));

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn value_and_gradient_are_those_of_the_formula() {
        let cfg = CharbonnierLossConfig { eps: 3.0, reduction: Reduction::Sum, loss_weight: 1.0 };
        let loss = CharbonnierLoss::new(&cfg).unwrap();
        let pred = Var::new(&[4.0f32, 1.0], &Device::Cpu).unwrap();
        let target = Tensor::new(&[0.0f32, 1.0], &Device::Cpu).unwrap();
        let value = loss.forward(&pred, &target, None, None, None).unwrap();
        // sqrt(4² + 3²) - 3 = 2; its slope 4 / 5.
        assert_eq!(value.to_scalar::<f32>().unwrap(), 2.0);
        assert_eq!(value.backward().unwrap().get(&pred).unwrap().to_vec1::<f32>().unwrap(), [0.8, 0.0]);
    }
}
