//! Focal Loss for Dense Object Detection, Lin et al., ICCV 2017 (<https://arxiv.org/abs/1708.02002>).

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use super::kernel::{CHUNK, build, values, with_values};
use super::math::{exp, ln_1p};
use crate::nn::apply1;

/// The loss of `[N, C]` scores where each row's label makes one positive or, at `C`, none.
#[derive(Debug, Clone)]
struct Op {
    labels: Vec<usize>,
    classes: usize,
    gamma: f32,
    alpha: f32,
    /// Scores are probabilities, not logits.
    activated: bool,
}

/// Loss and slope by `z` of the logit `z` of the wrong answer, whose probability is `q`: `a q^gamma (-ln(1 - q))`.
#[inline(always)]
fn logit(z: f32, alpha: f32, gamma: f32) -> (f32, f32) {
    let e = exp(-z.abs());
    let soft = ln_1p(e);
    let entropy = z.max(0.0) + soft;
    let q = if z >= 0.0 { 1.0 } else { e } / (1.0 + e);
    // -ln(q) is the entropy of -z.
    let focus = alpha * if gamma == 2.0 { q * q } else { exp(-gamma * ((-z).max(0.0) + soft)) };
    let one_less = if z >= 0.0 { e } else { 1.0 } / (1.0 + e);
    (focus * entropy, focus * (gamma * one_less * entropy + q))
}

simd! {
    fn negatives(x: &[f32], alpha: f32, gamma: f32, out: &mut [f32]) {
        for (o, x) in out.iter_mut().zip(x) {
            *o = logit(*x, alpha, gamma).0;
        }
    }
}
simd! {
    fn negative_slopes(x: &[f32], g: &[f32], alpha: f32, gamma: f32, out: &mut [f32]) {
        for ((o, x), g) in out.iter_mut().zip(x).zip(g) {
            *o = g * logit(*x, alpha, gamma).1;
        }
    }
}

impl Op {
    /// Value and derivative by the score.
    fn pair(&self, x: f32, positive: bool) -> (f32, f32) {
        let (alpha, sign) = if positive { (self.alpha, -1.0) } else { (1.0 - self.alpha, 1.0) };
        if !self.activated {
            let (value, slope) = logit(sign * x, alpha, self.gamma);
            return (value, sign * slope);
        }
        let q = if positive { 1.0 - x } else { x };
        let focus = q.powf(self.gamma);
        // torch's bounds of the logarithm and of its derivative.
        let entropy = (-(1.0 - q).ln()).min(100.0);
        let slope = q / (q * (1.0 - q)).max(1e-12);
        let by_focus = if self.gamma == 0.0 { 0.0 } else { self.gamma * q.powf(self.gamma - 1.0) };
        (alpha * focus * entropy, sign * alpha * (by_focus * entropy + focus * slope))
    }

    /// Fills whole rows: all as negatives in one sweep (`dense`, of logits), then the positives alone.
    fn rows(
        &self,
        n: usize,
        dense: impl Fn(usize, &mut [f32]) + Sync,
        one: impl Fn(usize, bool) -> f32 + Sync,
    ) -> Vec<f32> {
        let rows = (CHUNK / self.classes).max(1);
        build(n, rows * self.classes, |start, out: &mut [f32]| {
            if self.activated {
                for (i, o) in out.iter_mut().enumerate() {
                    let at = start + i;
                    *o = one(at, at % self.classes == self.labels[at / self.classes]);
                }
                return;
            }
            dense(start, out);
            let first = start / self.classes;
            for (row, label) in self.labels[first..first + out.len() / self.classes].iter().enumerate() {
                if *label < self.classes {
                    let i = row * self.classes + label;
                    out[i] = one(start + i, true);
                }
            }
        })
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "focal_loss"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("focal_loss", storage, layout)?;
        let dense = |at: usize, out: &mut [f32]| negatives(&x[at..at + out.len()], 1.0 - self.alpha, self.gamma, out);
        let out = self.rows(x.len(), dense, |at, positive| self.pair(x[at], positive).0);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        const OP: &str = "focal_loss_backward";
        let out = with_values(OP, x, |x| {
            with_values(OP, grad, |g| {
                let dense = |at: usize, out: &mut [f32]| {
                    let end = at + out.len();
                    negative_slopes(&x[at..end], &g[at..end], 1.0 - self.alpha, self.gamma, out);
                };
                Ok(self.rows(x.len(), dense, |at, positive| g[at] * self.pair(x[at], positive).1))
            })
        })?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

/// [`sigmoid_focal_loss`], or with `activated` the same of probabilities, as mmdet's `py_focal_loss_with_prob`.
pub fn focal_loss(pred: &Tensor, target: &Tensor, gamma: f64, alpha: f64, activated: bool) -> Result<Tensor> {
    let (n, classes) = pred.dims2()?;
    if target.dims() != [n] || classes == 0 {
        bail!("focal_loss: pred is [{n}, {classes}] and target {:?}, expected [N, C] and [N]", target.dims());
    }
    let labels = target
        .to_dtype(DType::I64)?
        .to_vec1::<i64>()?
        .into_iter()
        .map(|label| match usize::try_from(label) {
            Ok(l) if l <= classes => Ok(l),
            _ => bail!("focal_loss: label {label} is not in 0..={classes}"),
        })
        .collect::<Result<Vec<_>>>()?;
    apply1(pred, Op { labels, classes, gamma: gamma as f32, alpha: alpha as f32, activated })
}

/// Sigmoid focal loss, unreduced: `-alpha (1 - p)^gamma ln p` where a row's label is, `-(1 - alpha) p^gamma ln(1 - p)`
/// elsewhere.
///
/// # Shapes
/// - `pred`: `[N, C]` logits
/// - `target`: `[N]` integers up to `C`, which is the background
/// - output: `[N, C]`
pub fn sigmoid_focal_loss(pred: &Tensor, target: &Tensor, gamma: f64, alpha: f64) -> Result<Tensor> {
    focal_loss(pred, target, gamma, alpha, false)
}
