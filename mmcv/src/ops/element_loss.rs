//! Element-wise losses of a prediction and a target of one shape. The target is a constant.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::kernel::{CHUNK, build, build_elements, values, with_values};
use super::math::{exp, ln_1p, sigmoid};

/// A loss and its derivative by the prediction.
pub(super) trait Pointwise: Copy + Send + Sync + 'static {
    const NAME: &'static str;
    fn value(self, p: f32, t: f32) -> f32;
    fn slope(self, p: f32, t: f32) -> f32;
}

simd! {
    fn map<F: Pointwise>(f: F, p: &[f32], t: &[f32], out: &mut [f32]) {
        for ((o, p), t) in out.iter_mut().zip(p).zip(t) {
            *o = f.value(*p, *t);
        }
    }
}
simd! {
    fn map_slope<F: Pointwise>(f: F, p: &[f32], t: &[f32], g: &[f32], out: &mut [f32]) {
        for (((o, p), t), g) in out.iter_mut().zip(p).zip(t).zip(g) {
            *o = g * f.slope(*p, *t);
        }
    }
}

/// torch's sign: 0 at 0.
#[inline(always)]
fn sign(d: f32) -> f32 {
    (if d > 0.0 { 1.0 } else { 0.0 }) - (if d < 0.0 { 1.0 } else { 0.0 })
}

#[derive(Clone, Copy)]
struct L1;

impl Pointwise for L1 {
    const NAME: &'static str = "l1_loss";
    #[inline(always)]
    fn value(self, p: f32, t: f32) -> f32 {
        (p - t).abs()
    }
    #[inline(always)]
    fn slope(self, p: f32, t: f32) -> f32 {
        sign(p - t)
    }
}

#[derive(Clone, Copy)]
struct Mse;

impl Pointwise for Mse {
    const NAME: &'static str = "mse_loss";
    #[inline(always)]
    fn value(self, p: f32, t: f32) -> f32 {
        (p - t) * (p - t)
    }
    #[inline(always)]
    fn slope(self, p: f32, t: f32) -> f32 {
        2.0 * (p - t)
    }
}

#[derive(Clone, Copy)]
struct SmoothL1 {
    beta: f32,
}

impl Pointwise for SmoothL1 {
    const NAME: &'static str = "smooth_l1_loss";
    #[inline(always)]
    fn value(self, p: f32, t: f32) -> f32 {
        let d = (p - t).abs();
        if d < self.beta { 0.5 * d * d / self.beta } else { d - 0.5 * self.beta }
    }
    #[inline(always)]
    fn slope(self, p: f32, t: f32) -> f32 {
        let d = p - t;
        if d.abs() < self.beta { d / self.beta } else { sign(d) }
    }
}

/// Binary cross entropy of a logit.
#[inline(always)]
pub(super) fn bce_value(x: f32, t: f32) -> f32 {
    Bce { positive: 1.0 }.value(x, t)
}

/// Binary cross entropy; `positive` counts the positives' part.
#[derive(Clone, Copy)]
struct Bce {
    positive: f32,
}

impl Pointwise for Bce {
    const NAME: &'static str = "bce_with_logits";
    #[inline(always)]
    fn value(self, p: f32, t: f32) -> f32 {
        let weight = 1.0 + (self.positive - 1.0) * t;
        let below = if p < 0.0 { -p } else { 0.0 };
        (1.0 - t) * p + weight * (ln_1p(exp(-p.abs())) + below)
    }
    #[inline(always)]
    fn slope(self, p: f32, t: f32) -> f32 {
        let weight = 1.0 + (self.positive - 1.0) * t;
        (1.0 - t) - weight * sigmoid(-p)
    }
}

/// One function for all elements, or one for each column of the last axis.
struct Map<F>(Vec<F>);

impl<F: Pointwise> Map<F> {
    fn run(&self, n: usize, f: impl Fn(F, std::ops::Range<usize>, &mut [f32]) + Sync) -> Vec<f32> {
        let columns = self.0.len();
        if columns == 1 {
            return build_elements(n, n, |at, out| f(self.0[0], at..at + out.len(), out));
        }
        build(n, (CHUNK / columns).max(1) * columns, |at, out: &mut [f32]| {
            for (i, o) in out.iter_mut().enumerate() {
                f(self.0[(at + i) % columns], at + i..at + i + 1, std::slice::from_mut(o));
            }
        })
    }
}

impl<F: Pointwise> CustomOp2 for Map<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (p, t) = (values(F::NAME, s1, l1)?, values(F::NAME, s2, l2)?);
        let out = self.run(p.len(), |f, range, out| map(f, &p[range.clone()], &t[range], out));
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(&self, p: &Tensor, t: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let out = with_values(F::NAME, p, |p| {
            with_values(F::NAME, t, |t| {
                with_values(F::NAME, grad, |g| {
                    Ok(self.run(p.len(), |f, r, out| map_slope(f, &p[r.clone()], &t[r.clone()], &g[r], out)))
                })
            })
        })?;
        Ok((Some(Tensor::from_vec(out, p.shape(), p.device())?), None))
    }
}

pub(super) fn apply<F: Pointwise>(functions: Vec<F>, pred: &Tensor, target: &Tensor) -> Result<Tensor> {
    if pred.dims() != target.dims() {
        bail!("{}: pred is {:?} and target {:?}, expected one shape", F::NAME, pred.dims(), target.dims());
    }
    pred.contiguous()?.apply_op2(&target.detach().contiguous()?, Map(functions))
}

/// `|pred - target|`, unreduced.
pub fn l1_loss(pred: &Tensor, target: &Tensor) -> Result<Tensor> {
    apply(vec![L1], pred, target)
}

/// `(pred - target)²`, unreduced.
pub fn mse_loss(pred: &Tensor, target: &Tensor) -> Result<Tensor> {
    apply(vec![Mse], pred, target)
}

/// `d² / (2 beta)` where the distance `d` is below `beta`, `d - beta / 2` from there; unreduced.
pub fn smooth_l1_loss(pred: &Tensor, target: &Tensor, beta: f64) -> Result<Tensor> {
    apply(vec![SmoothL1 { beta: beta as f32 }], pred, target)
}

/// Binary cross entropy of logits, unreduced: torch's `binary_cross_entropy_with_logits`.
///
/// # Shapes
/// - `pred`, `target` (f32, 0 to 1): `[..., C]`
/// - `pos_weight`: `C` factors of the positives' part
pub fn bce_with_logits(pred: &Tensor, target: &Tensor, pos_weight: Option<&[f32]>) -> Result<Tensor> {
    match pos_weight {
        None => apply(vec![Bce { positive: 1.0 }], pred, target),
        Some(w) if pred.dims().last() == Some(&w.len()) && !w.is_empty() => {
            apply(w.iter().map(|positive| Bce { positive: *positive }).collect(), pred, target)
        }
        Some(w) => bail!("bce_with_logits: {} class weights for a prediction of {:?}", w.len(), pred.dims()),
    }
}

#[cfg(test)]
#[allow(clippy::approx_constant)] // printed numbers
mod tests {
    use super::super::testing::{check_gradient, close, grad, tensor, var, wave, weighted_grad, weights};
    use super::*;

    type Case = (&'static str, fn(&Tensor, &Tensor) -> Result<Tensor>, &'static [f32], &'static [f32]);

    // torch's functions of (wave(3, 4) * 3, weights(3, 4).abs()), reduction='none'
    #[test]
    fn values_and_gradients_are_torchs() {
        #[rustfmt::skip]
        let cases: &[Case] = &[
            ("l1_loss(p, t)", |p, t| l1_loss(p, t), &[0.7, 1.6411476, 2.1717548, 1.3288093, 0.41033375, 1.4636586, 3.6033487, 3.010554, 2.5873358, 0.60574365, 2.2252297, 2.0566995], &[-1.0, 0.45359612, -0.5885011, -0.98747975, -0.30733287, -0.7086698, -0.95023257, -0.15337387, 0.81109303, 0.88919115, 0.004425698, 0.8932061]),
            ("mse_loss(p, t)", |p, t| mse_loss(p, t), &[0.48999998, 2.6933656, 4.716519, 1.7657341, 0.1683738, 2.1422963, 12.984122, 9.063436, 6.694307, 0.36692536, 4.9516473, 4.230013], &[-1.4, 1.4888364, -2.5561602, -2.6243443, -0.2522181, -2.0745013, -6.8480387, -0.92348063, 4.19714, 1.0772438, 0.01969639, 3.6741133]),
            ("smooth_l1_loss(p, t, 0.7)", |p, t| smooth_l1_loss(p, t, 0.7), &[0.35, 1.2911476, 1.8217548, 0.97880924, 0.120267, 1.1136585, 3.2533488, 2.6605542, 2.237336, 0.26208955, 1.8752297, 1.7066995], &[-1.0, 0.45359612, -0.5885011, -0.98747975, -0.18015578, -0.7086698, -0.95023257, -0.15337387, 0.81109303, 0.76945984, 0.004425698, 0.8932061]),
            ("bce_with_logits(p, t, None)", |p, t| bce_with_logits(p, t, None), &[0.55435526, 1.2606704, 1.1971966, 0.12307267, 0.8944626, 0.920311, 2.589139, 0.4940586, 1.5970802, 0.59284127, 2.3219519, 0.36605257], &[-0.4255575, 0.19812857, -0.20714583, 0.076295294, -0.11210279, -0.27562615, -0.8404193, -0.015193601, 0.5404518, 0.28347406, 0.0039762924, 0.050959956]),
            ("bce_with_logits(p, t, Some(&[0.5, 1.0, 2.0, 3.0]))", |p, t| bce_with_logits(p, t, Some(&[0.5, 1.0, 2.0, 3.0])), &[0.27717763, 1.2606704, 1.2333037, 0.30886135, 0.8334019, 0.920311, 5.174891, 1.3876214, 0.81331086, 0.59284127, 2.3224041, 0.4571966], &[-0.21277875, 0.19812857, -0.1865355, 0.25139284, -0.12758878, -0.27562615, -1.6839502, -0.0596855, 0.2591352, 0.28347406, 0.0039743907, -0.028408455]),
        ];
        let t = weights(&[3, 4]).abs().unwrap();
        let p = (wave(&[3, 4]) * 3.0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (name, f, y, dx) in cases {
            println!("{name}");
            let p = var(&p, &[3, 4]);
            let ours = f(&p, &t).unwrap();
            close(&ours, y);
            close(&weighted_grad(&ours, &p), dx);
        }
    }

    #[test]
    fn corners_two_uses_and_shapes() {
        let p = var(&[1.0, f32::NAN, -1.0], &[3]);
        let t = tensor(&[1.0, 0.0, 0.0], &[3]);
        close(&grad(&l1_loss(&p, &t).unwrap(), &p), &[0.0, 0.0, -1.0]);
        assert!(l1_loss(&p, &t).unwrap().to_vec1::<f32>().unwrap()[1].is_nan());
        check_gradient(&wave(&[2, 3]), 1e-2, |x| {
            bce_with_logits(x, &weights(&[2, 3]).abs()?, None)? + mse_loss(&x.t()?, &weights(&[3, 2]))?.t()
        });
        assert!(mse_loss(&p, &tensor(&[0.0; 2], &[2])).is_err());
        assert!(bce_with_logits(&p, &t, Some(&[1.0])).is_err());
        let none = var(&[], &[0, 4]);
        assert_eq!(grad(&smooth_l1_loss(&none, &none, 1.0).unwrap(), &none).dims(), &[0, 4]);
    }
}
