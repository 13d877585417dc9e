//! An element-wise loss of a prediction and a target as one op, given by one function for value and slope.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::element::{GRAIN, values};

/// `(prediction, target)` to the loss and its derivative by the prediction.
pub(in crate::models) trait Pair: Fn(f32, f32) -> (f32, f32) + Clone + Send + Sync + 'static {}
impl<F: Fn(f32, f32) -> (f32, f32) + Clone + Send + Sync + 'static> Pair for F {}

#[derive(Clone)]
struct Op<F> {
    name: &'static str,
    pair: F,
}

impl<F: Pair> Op<F> {
    fn map(
        &self,
        (s1, l1): (&CpuStorage, &Layout),
        (s2, l2): (&CpuStorage, &Layout),
        pick: fn((f32, f32)) -> f32,
    ) -> Result<(CpuStorage, Shape)> {
        let (p, t) = (values(self.name, s1, l1)?, values(self.name, s2, l2)?);
        let out = (p, t).into_par_iter().with_min_len(GRAIN).map(|(p, t)| pick((self.pair)(*p, *t))).collect();
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

impl<F: Pair> CustomOp2 for Op<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.map((s1, l1), (s2, l2), |(value, _)| value)
    }

    fn bwd(&self, p: &Tensor, t: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let slope = p.apply_op2_no_bwd(t, &Slope(self.clone()))?;
        Ok((Some((slope * grad)?), None))
    }
}

/// The derivative of [`Op`].
struct Slope<F>(Op<F>);

impl<F: Pair> CustomOp2 for Slope<F> {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.map((s1, l1), (s2, l2), |(_, slope)| slope)
    }
}

/// Applies `pair` to each element; the shapes must be equal, the prediction f32.
pub(in crate::models) fn pairwise(
    name: &'static str,
    pred: &Tensor,
    target: &Tensor,
    pair: impl Pair,
) -> Result<Tensor> {
    if pred.dims() != target.dims() || pred.dtype() != DType::F32 {
        bail!(
            "{name}: pred is {:?} {:?} and target {:?}, expected f32 of one shape",
            pred.dtype(),
            pred.dims(),
            target.dims()
        );
    }
    let target = target.to_dtype(DType::F32)?.detach().contiguous()?;
    pred.contiguous()?.apply_op2(&target, Op { name, pair })
}

/// Binary cross entropy of a logit and its derivative.
pub(in crate::models) fn entropy(x: f32, t: f32) -> (f32, f32) {
    (x.max(0.0) - x * t + (-x.abs()).exp().ln_1p(), sigmoid(x) - t)
}

/// Binary cross entropy of a probability and its derivative, with torch's bounds.
pub(in crate::models) fn entropy_of_probability(p: f32, t: f32) -> (f32, f32) {
    let log = |v: f32| v.ln().max(-100.0);
    (-(t * log(p) + (1.0 - t) * log(1.0 - p)), (p - t) / (p * (1.0 - p)).max(1e-12))
}

/// The logistic function.
pub(in crate::models) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `|d|^power` and its derivative by `d`; 0 at 0.
pub(super) fn abs_pow(d: f32, power: f32) -> (f32, f32) {
    let slope = if d == 0.0 { 0.0 } else { power * d.abs().powf(power - 1.0) * d.signum() };
    (d.abs().powf(power), slope)
}

/// A component's `forward` of an unreduced loss: weight, reduction, factor.
macro_rules! reduced {
    ($component:ty, |$cfg:ident, $pred:ident, $target:ident| $loss:expr) => {
        impl super::utils::Loss for $component {
            fn forward(
                &self,
                $pred: &candle_core::Tensor,
                $target: &candle_core::Tensor,
                weight: Option<&candle_core::Tensor>,
                avg_factor: Option<f64>,
                reduction_override: Option<super::utils::Reduction>,
            ) -> candle_core::Result<candle_core::Tensor> {
                let $cfg = &self.0;
                let loss = $loss?;
                let reduction = reduction_override.unwrap_or($cfg.reduction);
                super::utils::weight_reduce_loss(&loss, weight, reduction, avg_factor)? * $cfg.loss_weight
            }
        }
    };
}
pub(super) use reduced;
