//! Generalized Focal Loss, Li et al., NeurIPS 2020 (<https://arxiv.org/abs/2006.04388>): mmdet's `gfocal_loss.py`.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use mmcv::register;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::element::values;
use super::pairwise::{abs_pow, entropy, entropy_of_probability, pairwise, reduced, sigmoid};
use super::utils::{Loss, Reduction, one};
use crate::registry::LOSSES;

/// Quality focal loss, unreduced `[N]`: the right class learns the quality, the others 0.
///
/// # Shapes
/// - `pred`: `[N, C]` logits, probabilities when `activated`
/// - `target`: `[N, 2]`, label (`C` or any other number: background) and quality
pub fn quality_focal_loss(pred: &Tensor, target: &Tensor, beta: f64, activated: bool) -> Result<Tensor> {
    let (n, classes) = pred.dims2()?;
    if target.dims() != [n, 2] {
        bail!("quality_focal_loss: target is {:?}, expected [{n}, 2]: label and quality", target.dims());
    }
    let mut wanted = vec![0f32; n * classes];
    for (row, pair) in target.to_dtype(DType::F32)?.to_vec2::<f32>()?.iter().enumerate() {
        if pair[0] >= 0.0 && (pair[0] as usize) < classes {
            wanted[row * classes + pair[0] as usize] = pair[1];
        }
    }
    let wanted = Tensor::from_vec(wanted, (n, classes), pred.device())?;
    let beta = beta as f32;
    let loss = pairwise("quality_focal_loss", pred, &wanted, move |x, t| {
        let (q, by_x) = if activated {
            (x, 1.0)
        } else {
            let q = sigmoid(x);
            (q, q * (1.0 - q))
        };
        let (value, slope) = if activated { entropy_of_probability(x, t) } else { entropy(x, t) };
        let (focus, by_q) = abs_pow(q - t, beta);
        (value * focus, slope * focus + value * by_q * by_x)
    })?;
    loss.sum(1)
}

/// The cross entropy of two neighbouring bins of each row.
#[derive(Debug, Clone)]
struct TwoBins {
    /// Left bin and the part of the right one.
    bins: Vec<(usize, f32)>,
    width: usize,
}

impl TwoBins {
    /// The largest of a row and the sum of the exponentials over it.
    fn softmax(row: &[f32]) -> (f32, f32) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (max, row.iter().map(|v| (v - max).exp()).sum())
    }
}

impl CustomOp1 for TwoBins {
    fn name(&self) -> &'static str {
        "distribution_focal_loss"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(self.name(), storage, layout)?;
        let one = |(row, (left, part)): (&[f32], &(usize, f32))| {
            let (max, sum) = Self::softmax(row);
            let log = max + sum.ln();
            (log - row[*left]) * (1.0 - part) + (log - row[left + 1]) * part
        };
        let out: Vec<f32> = x.par_chunks_exact(self.width).zip(&self.bins).with_min_len(256).map(one).collect();
        let shape = Shape::from(out.len());
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(x.apply_op2_no_bwd(&grad.contiguous()?, &TwoBinsBackward(self.clone()))?))
    }
}

struct TwoBinsBackward(TwoBins);

impl CustomOp2 for TwoBinsBackward {
    fn name(&self) -> &'static str {
        "distribution_focal_loss_backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, grad) = (values(self.name(), s1, l1)?, values(self.name(), s2, l2)?);
        let (width, mut out) = (self.0.width, vec![0f32; x.len()]);
        let rows = out.par_chunks_exact_mut(width).zip(x.par_chunks_exact(width));
        rows.zip(&self.0.bins).zip(grad).with_min_len(256).for_each(|(((out, x), (left, part)), grad)| {
            let (max, sum) = TwoBins::softmax(x);
            out.iter_mut().zip(x).for_each(|(o, v)| *o = (v - max).exp() / sum * grad);
            out[*left] -= (1.0 - part) * grad;
            out[left + 1] -= part * grad;
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

/// Distribution focal loss, unreduced `[N]`.
///
/// # Shapes
/// - `pred`: `[N, n + 1]` logits of the distances 0 to `n`
/// - `label`: `[N]` distances from 0 up to, not including, `n`
pub fn distribution_focal_loss(pred: &Tensor, label: &Tensor) -> Result<Tensor> {
    let (n, width) = pred.dims2()?;
    if label.dims() != [n] {
        bail!("distribution_focal_loss: pred is [{n}, {width}], label {:?}; expected [{n}]", label.dims());
    }
    let bin = |v: f32| {
        if !(v > -1.0 && (v as usize) + 1 < width) {
            bail!("distribution_focal_loss: label {v} is not within 0 and {}", width as i64 - 1);
        }
        let left = v.trunc();
        Ok((left as usize, v - left))
    };
    let bins = label.to_dtype(DType::F32)?.to_vec1::<f32>()?.into_iter().map(bin).collect::<Result<_>>()?;
    pred.contiguous()?.apply_op1(TwoBins { bins, width })
}

/// `type = "QualityFocalLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualityFocalLossConfig {
    /// Must be true, as in mmdet; default true.
    #[serde(default = "yes")]
    pub use_sigmoid: bool,
    /// Power of the distance from the quality; default 2.
    #[serde(default = "two")]
    pub beta: f64,
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

fn yes() -> bool {
    true
}
fn two() -> f64 {
    2.0
}

/// `type = "DistributionFocalLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DistributionFocalLossConfig {
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
}

/// Quality focal loss; its target is `[N, 2]`: label and quality.
#[derive(Debug, Clone)]
pub struct QualityFocalLoss(QualityFocalLossConfig);

/// Distribution focal loss.
#[derive(Debug, Clone)]
pub struct DistributionFocalLoss(DistributionFocalLossConfig);

impl QualityFocalLoss {
    /// An error when `use_sigmoid` is false.
    pub fn new(cfg: &QualityFocalLossConfig) -> Result<Self> {
        if !cfg.use_sigmoid {
            bail!("QualityFocalLoss: use_sigmoid is false, only the sigmoid loss exists");
        }
        Ok(Self(cfg.clone()))
    }
}

impl DistributionFocalLoss {
    /// Always succeeds.
    pub fn new(cfg: &DistributionFocalLossConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

reduced!(QualityFocalLoss, |cfg, pred, target| quality_focal_loss(pred, target, cfg.beta, cfg.activated));
reduced!(DistributionFocalLoss, |cfg, pred, target| distribution_focal_loss(pred, target));

register!(LOSSES: dyn Loss, "QualityFocalLoss" => QualityFocalLoss(QualityFocalLossConfig));
register!(LOSSES: dyn Loss, "DistributionFocalLoss" => DistributionFocalLoss(DistributionFocalLossConfig));
