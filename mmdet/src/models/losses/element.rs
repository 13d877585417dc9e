//! Element-wise losses of a prediction and a target of one shape, as one op each.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Below this many elements a second thread costs more than it saves.
pub(super) const GRAIN: usize = 4096;

/// The f32 values of a contiguous tensor's storage.
pub(super) fn values<'s>(op: &str, storage: &'s CpuStorage, layout: &Layout) -> Result<&'s [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("{op}: the input is not contiguous") };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// An element-wise loss and its derivative by the prediction.
#[derive(Debug, Clone, Copy)]
pub(super) enum Element {
    /// `|p - t|`
    L1,
    /// Quadratic below `beta`, linear from there.
    SmoothL1 { beta: f32 },
    /// `(p - t)²`
    Mse,
    /// Binary cross entropy of logits; `pos_weight` counts the positives' part.
    Bce,
    /// [`Element::Bce`] of rows as long as `C`, with torch's `pos_weight` for each column.
    BceWeighted,
}

impl Element {
    fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1_loss",
            Self::SmoothL1 { .. } => "smooth_l1_loss",
            Self::Mse => "mse_loss",
            Self::Bce | Self::BceWeighted => "bce_with_logits",
        }
    }

    fn value(self, p: f32, t: f32, pos: f32) -> f32 {
        let d = p - t;
        match self {
            Self::L1 => d.abs(),
            Self::SmoothL1 { beta } if d.abs() < beta => 0.5 * d * d / beta,
            Self::SmoothL1 { beta } => d.abs() - 0.5 * beta,
            Self::Mse => d * d,
            Self::Bce | Self::BceWeighted => {
                let weight = 1.0 + (pos - 1.0) * t;
                (1.0 - t) * p + weight * ((-p.abs()).exp().ln_1p() + (-p).max(0.0))
            }
        }
    }

    fn slope(self, p: f32, t: f32, pos: f32) -> f32 {
        let d = p - t;
        // torch's sign: 0 at 0.
        let sign = if d == 0.0 { 0.0 } else { d.signum() };
        match self {
            Self::L1 => sign,
            Self::SmoothL1 { beta } if d.abs() < beta => d / beta,
            Self::SmoothL1 { .. } => sign,
            Self::Mse => 2.0 * d,
            Self::Bce | Self::BceWeighted => {
                let weight = 1.0 + (pos - 1.0) * t;
                (1.0 - t) - weight / (1.0 + p.exp())
            }
        }
    }
}

struct Op {
    element: Element,
    /// One for each column, or empty.
    pos_weight: Vec<f32>,
}

impl Op {
    fn pos(&self, i: usize) -> f32 {
        if self.pos_weight.is_empty() { 1.0 } else { self.pos_weight[i % self.pos_weight.len()] }
    }

    fn map(&self, p: &[f32], t: &[f32], f: impl Fn(f32, f32, f32) -> f32 + Sync) -> Vec<f32> {
        (p, t).into_par_iter().with_min_len(GRAIN).enumerate().map(|(i, (p, t))| f(*p, *t, self.pos(i))).collect()
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        self.element.name()
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (p, t) = (values(self.name(), s1, l1)?, values(self.name(), s2, l2)?);
        let out = self.map(p, t, |p, t, pos| self.element.value(p, t, pos));
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(&self, p: &Tensor, t: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let slope = Slope(Op { element: self.element, pos_weight: self.pos_weight.clone() });
        let slope = p.apply_op2_no_bwd(t, &slope)?;
        Ok((Some((slope * grad)?), None))
    }
}

/// The derivative of [`Op`].
struct Slope(Op);

impl CustomOp2 for Slope {
    fn name(&self) -> &'static str {
        "element_loss_backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (p, t) = (values(self.name(), s1, l1)?, values(self.name(), s2, l2)?);
        let out = self.0.map(p, t, |p, t, pos| self.0.element.slope(p, t, pos));
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

/// Applies `element`; the shapes must be equal.
pub(super) fn apply(element: Element, pred: &Tensor, target: &Tensor, pos_weight: &[f32]) -> Result<Tensor> {
    if pred.dims() != target.dims() {
        bail!("{}: pred is {:?} and target {:?}, expected one shape", element.name(), pred.dims(), target.dims());
    }
    let target = target.detach().contiguous()?;
    pred.contiguous()?.apply_op2(&target, Op { element, pos_weight: pos_weight.to_vec() })
}

/// Binary cross entropy of logits, unreduced, torch's `binary_cross_entropy_with_logits`.
///
/// # Shapes
/// - `pred`, `target` (f32, 0 to 1): `[..., C]`
/// - `pos_weight`: `C` factors of the positives' part
pub fn bce_with_logits(pred: &Tensor, target: &Tensor, pos_weight: Option<&[f32]>) -> Result<Tensor> {
    match pos_weight {
        None => apply(Element::Bce, pred, target, &[]),
        Some(w) if pred.dims().last() == Some(&w.len()) && !w.is_empty() => {
            apply(Element::BceWeighted, pred, target, w)
        }
        Some(w) => bail!("bce_with_logits: {} class weights for a prediction of {:?}", w.len(), pred.dims()),
    }
}
