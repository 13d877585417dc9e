//! Cross entropy of softmax, of sigmoid and of masks: mmdet's `cross_entropy_loss.py`.

use candle_core::{DType, Result, Tensor, bail};
use mmcv::ops::{self, bce_with_logits};
use schemars::JsonSchema;
use serde::Deserialize;

use super::utils::{Loss, Reduction, one, weight_reduce_loss};

/// torch's default, which is no label.
const IGNORE: i64 = -100;

fn integers(labels: &Tensor) -> Result<Vec<i64>> {
    labels.to_dtype(DType::I64)?.flatten_all()?.to_vec1()
}

/// Softmax cross entropy, unreduced `[N]`; 0 where the label is `ignore_index`.
///
/// # Shapes
/// - `pred`: `[N, C]` logits
/// - `label`: `[N]` integers below `C`, or `ignore_index` (`None` stands for -100)
/// - `class_weight`: `C` factors
pub fn cross_entropy(
    pred: &Tensor,
    label: &Tensor,
    class_weight: Option<&[f32]>,
    ignore_index: Option<i64>,
) -> Result<Tensor> {
    pred.dims2()?;
    ops::cross_entropy(pred, label, class_weight, ignore_index.unwrap_or(IGNORE))
}

/// Sigmoid cross entropy, unreduced in the shape of `pred`, and the element-wise weight (f32) that it is due:
/// `weight` where the label is valid, 0 elsewhere. A label of -1 or `ignore_index` is invalid; one of `C` or more is background.
///
/// # Shapes
/// - `pred`: `[N, C]` logits with `label` `[N]` integers, which are expanded to one-hot rows, or both of one shape
/// - `weight`: `[N]`, or in the second case the shape of `pred`
pub fn binary_cross_entropy(
    pred: &Tensor,
    label: &Tensor,
    weight: Option<&Tensor>,
    class_weight: Option<&[f32]>,
    ignore_index: Option<i64>,
) -> Result<(Tensor, Tensor, f64)> {
    let ignore = ignore_index.unwrap_or(IGNORE);
    let device = pred.device();
    let (target, valid) = if pred.rank() == label.rank() {
        let label = label.to_dtype(DType::F32)?;
        let is_valid = |v: f32| f32::from(u8::from(v >= 0.0 && v != ignore as f32));
        let valid: Vec<f32> = label.flatten_all()?.to_vec1::<f32>()?.into_iter().map(is_valid).collect();
        let valid = Tensor::from_vec(valid, label.dims(), device)?;
        (label, valid)
    } else {
        let (n, classes) = pred.dims2()?;
        if label.dims() != [n] {
            bail!("binary_cross_entropy: pred is [{n}, {classes}] and label {:?}, expected [N]", label.dims());
        }
        let (mut target, mut valid) = (vec![0.0f32; n * classes], vec![0.0f32; n * classes]);
        for (i, label) in integers(label)?.into_iter().enumerate() {
            let Ok(l) = usize::try_from(label) else { continue };
            if label == ignore {
                continue;
            }
            valid[i * classes..(i + 1) * classes].fill(1.0);
            if l < classes {
                target[i * classes + l] = 1.0;
            }
        }
        (Tensor::from_vec(target, (n, classes), device)?, Tensor::from_vec(valid, (n, classes), device)?)
    };
    let count = f64::from(valid.sum_all()?.to_scalar::<f32>()?);
    let weight = match weight {
        None => valid,
        Some(w) if pred.rank() == label.rank() => valid.broadcast_mul(&w.to_dtype(DType::F32)?)?,
        Some(w) => valid.broadcast_mul(&w.to_dtype(DType::F32)?.flatten_all()?.unsqueeze(1)?)?,
    };
    Ok((bce_with_logits(pred, &target, class_weight)?, weight, count))
}

/// Mean sigmoid cross entropy of each object's own mask, `[1]`.
///
/// # Shapes
/// - `pred`: `[N, C, H, W]` logits; `target`: `[N, H, W]` 0 to 1; `label`: `[N]` integers that pick the mask
pub fn mask_cross_entropy(pred: &Tensor, target: &Tensor, label: &Tensor) -> Result<Tensor> {
    let (n, classes, h, w) = pred.dims4()?;
    if target.dims() != [n, h, w] || label.dims() != [n] {
        bail!(
            "mask_cross_entropy: pred is {:?}, target {:?}, label {:?}; expected [N, C, H, W], [N, H, W], [N]",
            pred.dims(),
            target.dims(),
            label.dims()
        );
    }
    let picks = integers(label)?
        .into_iter()
        .enumerate()
        .map(|(i, label)| match usize::try_from(label) {
            Ok(l) if l < classes => Ok((i * classes + l) as u32),
            _ => bail!("mask_cross_entropy: label {label} is not below {classes} classes"),
        })
        .collect::<Result<Vec<u32>>>()?;
    let picks = Tensor::from_vec(picks, n, pred.device())?;
    let pred = pred.reshape((n * classes, h * w))?.index_select(&picks, 0)?.reshape((n, h, w))?;
    let loss = bce_with_logits(&pred, &target.to_dtype(DType::F32)?, None)?;
    weight_reduce_loss(&loss, None, Reduction::Mean, None)?.reshape(1)
}

/// `type = "CrossEntropyLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropyLossConfig {
    /// Sigmoid of each class in place of softmax; default false.
    #[serde(default)]
    pub use_sigmoid: bool,
    /// Mask loss; `weight` is then the label of each mask. Default false.
    #[serde(default)]
    pub use_mask: bool,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of each class; default none.
    #[serde(default)]
    pub class_weight: Option<Vec<f32>>,
    /// Label that counts nothing; default none.
    #[serde(default)]
    pub ignore_index: Option<i64>,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
    /// Average over the labels that are not ignored; default false: over all.
    #[serde(default)]
    pub avg_non_ignore: bool,
}

/// Cross entropy of classes, binary labels or masks.
#[derive(Debug, Clone)]
pub struct CrossEntropyLoss(CrossEntropyLossConfig);

impl CrossEntropyLoss {
    /// An error when `use_mask` meets what the mask loss doesn't have: `use_sigmoid`, `class_weight`, `ignore_index`
    /// or a reduction that is not `mean`.
    pub fn new(cfg: &CrossEntropyLossConfig) -> Result<Self> {
        if cfg.use_mask && cfg.use_sigmoid {
            bail!("CrossEntropyLoss: use_sigmoid and use_mask exclude each other");
        }
        if cfg.use_mask
            && (cfg.class_weight.is_some() || cfg.ignore_index.is_some() || cfg.reduction != Reduction::Mean)
        {
            bail!("CrossEntropyLoss: use_mask takes no class_weight, no ignore_index and only reduction \"mean\"");
        }
        Ok(Self(cfg.clone()))
    }
}

impl Loss for CrossEntropyLoss {
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
        let class_weight = cfg.class_weight.as_deref();
        let average_valid = avg_factor.is_none() && cfg.avg_non_ignore && reduction == Reduction::Mean;
        if cfg.use_mask {
            let Some(label) = weight else { bail!("CrossEntropyLoss: use_mask needs the labels as weight") };
            if reduction != Reduction::Mean || avg_factor.is_some() {
                bail!("CrossEntropyLoss: use_mask takes no avg_factor and only reduction \"mean\"");
            }
            return mask_cross_entropy(pred, target, label)? * cfg.loss_weight;
        }
        if cfg.use_sigmoid {
            let (loss, weight, valid) = binary_cross_entropy(pred, target, weight, class_weight, cfg.ignore_index)?;
            let avg_factor = if average_valid { Some(valid) } else { avg_factor };
            return weight_reduce_loss(&loss, Some(&weight), reduction, avg_factor)? * cfg.loss_weight;
        }
        let loss = cross_entropy(pred, target, class_weight, cfg.ignore_index)?;
        let avg_factor = if average_valid {
            let ignore = cfg.ignore_index.unwrap_or(IGNORE);
            Some(integers(target)?.iter().filter(|l| **l != ignore).count() as f64)
        } else {
            avg_factor
        };
        weight_reduce_loss(&loss, weight, reduction, avg_factor)? * cfg.loss_weight
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::utils::testing::{close, grad, tensor, var};
    use super::*;

    const X: &[f32] = &[1., -2., 0.5, 3., 0., -1., 0.1, 0.2, 0.3, -4., 5., 20.];

    fn config(json: &str) -> CrossEntropyLoss {
        CrossEntropyLoss::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    fn labels(values: &[i64]) -> Tensor {
        Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
    }

    // All values below: mmdet's CrossEntropyLoss of the same config and inputs.

    #[test]
    fn softmax_is_mmdets() {
        let (y, w) = (labels(&[0, 2, 1, 2]), tensor(&[1., 0.5, 2., 1.], &[4]));
        let module = config(r#"{"reduction": "none"}"#);
        let x = var(X, &[4, 3]);
        let loss = module.forward(&x, &y, None, None, None).unwrap();
        close(&loss, &[0.5045969, 4.065884, 1.1019429, 3.576278e-07]);
        #[rustfmt::skip]
        close(&grad(&loss, &x), &[-0.39625108, 0.030058887, 0.36619222, 0.93623954, 0.046612624, -0.98285216, 0.3006096, -0.66777503, 0.3671654, 3.7751344e-11, 3.0590232e-07, -3.5762787e-07]);
        let module = config(
            r#"{"ignore_index": 1, "class_weight": [0.5, 1.0, 3.0], "loss_weight": 2.0, "avg_non_ignore": true}"#,
        );
        let x = var(X, &[4, 3]);
        let loss = module.forward(&x, &y, None, None, None).unwrap();
        close(&loss, &[8.299968]);
        #[rustfmt::skip]
        close(&grad(&loss, &x), &[-0.1320837, 0.010019629, 0.12206408, 1.8724791, 0.09322525, -1.9657043, 0.0, 0.0, 0.0, 7.550269e-11, 6.1180464e-07, -7.1525574e-07]);
        let module = config("{}");
        let x = var(X, &[4, 3]);
        let loss = module.forward(&x, &y, Some(&w), Some(3.0), None).unwrap();
        close(&loss, &[1.580475]);
        #[rustfmt::skip]
        close(&grad(&loss, &x), &[-0.1320837, 0.010019629, 0.12206408, 0.15603992, 0.0077687707, -0.1638087, 0.2004064, -0.44518337, 0.24477693, 1.2583781e-11, 1.01967444e-07, -1.1920929e-07]);
        assert!(module.forward(&x, &labels(&[0, 1, 3, 0]), None, None, None).is_err());
    }

    #[test]
    fn sigmoid_is_mmdets() {
        let (y, w) = (labels(&[0, 3, 1, -1]), tensor(&[1., 0.5, 2., 1.], &[4]));
        let module = config(r#"{"use_sigmoid": true}"#);
        let x = var(X, &[4, 3]);
        let loss = module.forward(&x, &y, Some(&w), Some(3.0), None).unwrap();
        close(&loss, &[2.611849]);
        #[rustfmt::skip]
        close(&grad(&loss, &x), &[-0.08964714, 0.039734308, 0.20748645, 0.15876237, 0.083333336, 0.044823572, 0.34998614, -0.3001107, 0.3829617, 0.0, 0.0, 0.0]);
        let same = tensor(&[0., 1., 1., -100.], &[4]);
        let x = var(&[1., 3., 0.1, -4.], &[4]);
        let loss = module.forward(&x, &same, Some(&w), None, None).unwrap();
        close(&loss, &[0.6565871]);
        #[rustfmt::skip]
        close(&grad(&loss, &x), &[0.18276465, -0.0059282333, -0.23751041, 0.0]);
        let module = config(
            r#"{"use_sigmoid": true, "class_weight": [0.5, 1.0, 3.0], "ignore_index": 1, "avg_non_ignore": true}"#,
        );
        let x = var(X, &[4, 3]);
        let loss = module.forward(&x, &y, None, None, None).unwrap();
        close(&loss, &[0.8854386]);
        #[rustfmt::skip]
        close(&grad(&loss, &x), &[-0.022411784, 0.019867154, 0.103743225, 0.15876237, 0.083333336, 0.044823572, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn masks_are_mmdets() {
        let logits: Vec<f32> = (0..16).map(|i| (i as f32 - 7.0) / 4.0).collect();
        let target = tensor(&[0., 1., 1., 0., 1., 1., 0., 0.], &[2, 2, 2]);
        let module = config(r#"{"use_mask": true}"#);
        let x = var(&logits, &[2, 2, 2, 2]);
        let loss = module.forward(&x, &target, Some(&labels(&[1, 0])), None, None).unwrap();
        close(&loss, &[0.7975229]);
        #[rustfmt::skip]
        close(&grad(&loss, &x), &[0.0, 0.0, 0.0, 0.0, 0.04010266, -0.07780741, -0.07027206, 0.0625, -0.054727934, -0.04719258, 0.08489734, 0.091382325, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_misspelt_key_and_a_bad_combination_are_errors() {
        assert!(serde_json::from_str::<CrossEntropyLossConfig>(r#"{"use_sigmoids": true}"#).is_err());
        let both: CrossEntropyLossConfig = serde_json::from_str(r#"{"use_sigmoid": true, "use_mask": true}"#).unwrap();
        assert!(CrossEntropyLoss::new(&both).is_err());
    }
}
