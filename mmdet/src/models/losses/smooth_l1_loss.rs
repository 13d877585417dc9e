//! L1, smooth L1 and squared error: mmdet's `smooth_l1_loss.py` and `mse_loss.py`.

use candle_core::{Result, Tensor, bail};
use mmcv::ops;
use schemars::JsonSchema;
use serde::Deserialize;

use super::utils::{Loss, Reduction, one, weight_reduce_loss};

/// `|pred - target|`, unreduced, in the shape of both.
pub fn l1_loss(pred: &Tensor, target: &Tensor) -> Result<Tensor> {
    ops::l1_loss(pred, target)
}

/// Quadratic where `|pred - target| < beta`, linear elsewhere; unreduced, in the shape of both.
pub fn smooth_l1_loss(pred: &Tensor, target: &Tensor, beta: f64) -> Result<Tensor> {
    if beta.is_nan() || beta <= 0.0 {
        bail!("smooth_l1_loss: beta is {beta}, expected more than 0");
    }
    ops::smooth_l1_loss(pred, target, beta)
}

/// `(pred - target)²`, unreduced, in the shape of both.
pub fn mse_loss(pred: &Tensor, target: &Tensor) -> Result<Tensor> {
    ops::mse_loss(pred, target)
}

/// `type = "L1Loss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct L1LossConfig {
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
}

/// `type = "MSELoss"`.
pub type MSELossConfig = L1LossConfig;

/// `type = "SmoothL1Loss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmoothL1LossConfig {
    /// Where the quadratic part ends; default 1.
    #[serde(default = "one")]
    pub beta: f64,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
}

/// Mean absolute error.
#[derive(Debug, Clone)]
pub struct L1Loss(L1LossConfig);

/// Smooth L1 (Girshick, Fast R-CNN, ICCV 2015).
#[derive(Debug, Clone)]
pub struct SmoothL1Loss(SmoothL1LossConfig);

/// Mean squared error.
#[derive(Debug, Clone)]
pub struct MSELoss(MSELossConfig);

impl L1Loss {
    /// Always succeeds.
    pub fn new(cfg: &L1LossConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

impl MSELoss {
    /// Always succeeds.
    pub fn new(cfg: &MSELossConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

impl SmoothL1Loss {
    /// An error when `beta` is not more than 0.
    pub fn new(cfg: &SmoothL1LossConfig) -> Result<Self> {
        if cfg.beta.is_nan() || cfg.beta <= 0.0 {
            bail!("SmoothL1Loss: beta is {}, expected more than 0", cfg.beta);
        }
        Ok(Self(cfg.clone()))
    }
}

/// Reduces `loss`; without targets the result is 0 where mmdet's L1 losses return `pred.sum() * 0`.
fn finish(
    loss: &Tensor,
    weight: Option<&Tensor>,
    reduction: Reduction,
    avg_factor: Option<f64>,
    factor: f64,
) -> Result<Tensor> {
    if loss.elem_count() == 0 && reduction != Reduction::None {
        return loss.sum_all();
    }
    weight_reduce_loss(loss, weight, reduction, avg_factor)? * factor
}

macro_rules! element_wise {
    ($component:ty, |$cfg:ident, $pred:ident, $target:ident| $loss:expr) => {
        impl Loss for $component {
            fn forward(
                &self,
                $pred: &Tensor,
                $target: &Tensor,
                weight: Option<&Tensor>,
                avg_factor: Option<f64>,
                reduction_override: Option<Reduction>,
            ) -> Result<Tensor> {
                let $cfg = &self.0;
                let reduction = reduction_override.unwrap_or($cfg.reduction);
                finish(&$loss?, weight, reduction, avg_factor, $cfg.loss_weight)
            }
        }
    };
}

element_wise!(L1Loss, |cfg, pred, target| l1_loss(pred, target));
element_wise!(MSELoss, |cfg, pred, target| mse_loss(pred, target));
element_wise!(SmoothL1Loss, |cfg, pred, target| smooth_l1_loss(pred, target, cfg.beta));

#[cfg(test)]
mod tests {
    use super::super::utils::testing::{close, grad, tensor, var};
    use super::*;

    const P: &[f32] = &[
        10., 10., 30., 40., 0., 0., 10., 10., 5., 5., 20., 25., 50., 50., 60., 80., 3., 4., 13., 9.5, 10.5, 7., 19.,
        30.,
    ];
    const T: &[f32] = &[
        12., 8., 33., 38., 20., 20., 30., 30., 5., 5., 20., 25., 52., 55., 58., 70., 1., 2., 30., 6., 9., 8., 21.5, 27.,
    ];

    // mmdet's L1Loss(), SmoothL1Loss(beta=2.5), MSELoss() with avg_factor=3.0 and weights [1, .5, 0, 2, 1, .25] expanded to [6, 4].
    #[rustfmt::skip]
    const MODULES: &[(&str, &[f32], &[f32])] = &[
        ("L1Loss", &[37.833332], &[-0.33333334, 0.33333334, -0.33333334, 0.33333334, -0.16666667, -0.16666667, -0.16666667, -0.16666667, 0.0, 0.0, 0.0, 0.0, -0.6666667, -0.6666667, 0.6666667, 0.6666667, 0.33333334, 0.33333334, -0.33333334, 0.33333334, 0.083333336, -0.083333336, -0.083333336, 0.083333336]),
        ("SmoothL1Loss", &[30.120834], &[-0.26666668, 0.26666668, -0.33333334, 0.26666668, -0.16666667, -0.16666667, -0.16666667, -0.16666667, 0.0, 0.0, 0.0, 0.0, -0.53333336, -0.6666667, 0.53333336, 0.6666667, 0.26666668, 0.26666668, -0.33333334, 0.33333334, 0.050000004, -0.033333335, -0.083333336, 0.083333336]),
        ("MSELoss", &[466.95834], &[-1.3333334, 1.3333334, -2.0, 1.3333334, -6.666667, -6.666667, -6.666667, -6.666667, 0.0, 0.0, 0.0, 0.0, -2.6666667, -6.666667, 2.6666667, 13.333334, 1.3333334, 1.3333334, -11.333334, 2.3333335, 0.25, -0.16666667, -0.4166667, 0.5]),
    ];

    #[test]
    fn values_and_gradients_are_mmdets() {
        let weight = tensor(&[1., 0.5, 0., 2., 1., 0.25], &[6]).unsqueeze(1).unwrap().broadcast_as((6, 4)).unwrap();
        let cfg = L1LossConfig { reduction: Reduction::Mean, loss_weight: 1.0 };
        for (name, value, gradient) in MODULES {
            let module: Box<dyn Loss> = match *name {
                "L1Loss" => Box::new(L1Loss::new(&cfg).unwrap()),
                "MSELoss" => Box::new(MSELoss::new(&cfg).unwrap()),
                _ => {
                    let cfg = SmoothL1LossConfig { beta: 2.5, reduction: Reduction::Mean, loss_weight: 1.0 };
                    Box::new(SmoothL1Loss::new(&cfg).unwrap())
                }
            };
            let (p, t) = (var(P, &[6, 4]), tensor(T, &[6, 4]));
            let loss = module.forward(&p, &t, Some(&weight), Some(3.0), None).unwrap();
            close(&loss, value);
            close(&grad(&loss, &p), gradient);
        }
    }

    #[test]
    fn no_targets_give_zero_and_a_beta_of_zero_is_refused() {
        let l1 = L1Loss::new(&L1LossConfig { reduction: Reduction::Mean, loss_weight: 1.0 }).unwrap();
        let empty = tensor(&[], &[0, 4]);
        close(&l1.forward(&empty, &empty, None, None, None).unwrap(), &[0.0]);
        assert!(smooth_l1_loss(&empty, &empty, 0.0).is_err());
        assert!(l1_loss(&tensor(P, &[6, 4]), &tensor(P, &[4, 6])).is_err());
    }
}
