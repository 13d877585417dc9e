//! Focal Loss for Dense Object Detection, Lin et al., ICCV 2017 (<https://arxiv.org/abs/1708.02002>): mmdet's `focal_loss.py`.

use candle_core::{Result, Tensor, bail};
use mmcv::ops::focal_loss;
use schemars::JsonSchema;
use serde::Deserialize;

use super::utils::{Loss, Reduction, one, weight_reduce_loss};

fn yes() -> bool {
    true
}
fn two() -> f64 {
    2.0
}
fn quarter() -> f64 {
    0.25
}

/// `type = "FocalLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FocalLossConfig {
    /// Must be true, as in mmdet; default true.
    #[serde(default = "yes")]
    pub use_sigmoid: bool,
    /// How much easy examples are played down; default 2.
    #[serde(default = "two")]
    pub gamma: f64,
    /// Factor of the positives, 1 less it that of the negatives; default 0.25.
    #[serde(default = "quarter")]
    pub alpha: f64,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
    /// Predictions are probabilities already; default false.
    #[serde(default)]
    pub activated: bool,
}

/// Sigmoid focal loss.
#[derive(Debug, Clone)]
pub struct FocalLoss(FocalLossConfig);

impl FocalLoss {
    /// An error when `use_sigmoid` is false.
    pub fn new(cfg: &FocalLossConfig) -> Result<Self> {
        if !cfg.use_sigmoid {
            bail!("FocalLoss: use_sigmoid is false, only the sigmoid focal loss exists");
        }
        Ok(Self(cfg.clone()))
    }
}

impl Loss for FocalLoss {
    /// `weight` is `[N]`, `[N, C]` or `[N * C]`.
    fn forward(
        &self,
        pred: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
        avg_factor: Option<f64>,
        reduction_override: Option<Reduction>,
    ) -> Result<Tensor> {
        let cfg = &self.0;
        let loss = focal_loss(pred, target, cfg.gamma, cfg.alpha, cfg.activated)?;
        let (n, classes) = loss.dims2()?;
        let weight = match weight {
            Some(w) if w.dims() == loss.dims() => Some(w.clone()),
            Some(w) if w.dim(0)? == n => Some(w.reshape((n, 1))?),
            Some(w) => Some(w.reshape((n, classes))?),
            None => None,
        };
        let reduction = reduction_override.unwrap_or(cfg.reduction);
        weight_reduce_loss(&loss, weight.as_ref(), reduction, avg_factor)? * cfg.loss_weight
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::utils::testing::{close, grad, tensor, var};
    use super::*;

    const X: &[f32] = &[1., -2., 0.5, 3., 0., -1., 0.1, 0.2, 0.3, -4., 5., 20.];
    const PROB: &[f32] = &[0.1, 0.7, 0.5, 0.9, 0.05, 0.3, 0.6, 0.2, 0.99, 0.4, 0.8, 0.01];

    /// (config, scores, whether weighted with avg_factor 3, mmdet's value, mmdet's gradient)
    #[rustfmt::skip]
    const CASES: &[(&str, &[f32], bool, &[f32], &[f32])] = &[
        (r#"{}"#, X, true, &[1.9656949], &[-0.00438176, 0.0012177353, 0.13153796, 0.14084373, 0.03728585, 0.006572642, 0.1697973, -0.037419908, 0.21475324, 4.337638e-06, 0.26154494, 0.0]),
        (r#"{"reduction": "none"}"#, X, false, &[0.005664513, 0.0013526723, 0.2830587, 2.0747104, 0.1299651, 0.016993543, 0.15386854, 0.030303136, 0.2114428, 4.403685e-06, 3.7049413, 0.0], &[-0.013145279, 0.0036532057, 0.39461386, 0.84506243, 0.2237151, 0.03943585, 0.25469595, -0.056129865, 0.32212985, 1.3012915e-05, 0.78463477, 0.0]),
        (r#"{"gamma": 1.5, "alpha": 0.4, "loss_weight": 2.0}"#, X, false, &[0.93679196], &[-0.0056947307, 0.0011807568, 0.0576591, 0.108724825, 0.03605751, 0.008542099, 0.04014432, -0.018997714, 0.04875438, 1.078762e-05, 0.10331118, 0.0]),
        (r#"{"activated": true}"#, PROB, true, &[3.8308382], &[-1.0203878, 0.8297238, 0.2982868, 1.5305812, 0.00097011373, 0.042822056, 0.9997746, -0.96251684, 53.56417, 0.1688318, 1.4437753, -8.927355]),
    ];

    // mmdet.models.losses.FocalLoss of these configs on labels [0, 3, 1, 2] (3 is the background), weights [1, .5, 2, 1].
    #[test]
    fn values_and_gradients_are_mmdets() {
        let y = Tensor::from_slice(&[0u32, 3, 1, 2], 4, &Device::Cpu).unwrap();
        let w = tensor(&[1., 0.5, 2., 1.], &[4]);
        for (json, scores, weighted, value, gradient) in CASES {
            let module = FocalLoss::new(&serde_json::from_str(json).unwrap()).unwrap();
            let x = var(scores, &[4, 3]);
            let (weight, factor) = if *weighted { (Some(&w), Some(3.0)) } else { (None, None) };
            let loss = module.forward(&x, &y, weight, factor, None).unwrap();
            close(&loss, value);
            close(&grad(&loss, &x), gradient);
        }
    }

    #[test]
    fn labels_past_the_background_and_softmax_are_refused_and_no_rows_give_zero() {
        let y = Tensor::from_slice(&[0u32, 4, 1, 2], 4, &Device::Cpu).unwrap();
        assert!(focal_loss(&tensor(X, &[4, 3]), &y, 2.0, 0.25, false).is_err());
        let softmax: FocalLossConfig = serde_json::from_str(r#"{"use_sigmoid": false}"#).unwrap();
        assert!(FocalLoss::new(&softmax).is_err());
        let module = FocalLoss::new(&serde_json::from_str("{}").unwrap()).unwrap();
        let none = Tensor::from_slice(&[0u32; 0], 0, &Device::Cpu).unwrap();
        close(&module.forward(&tensor(&[], &[0, 3]), &none, None, Some(1.0), None).unwrap(), &[0.0]);
    }
}
