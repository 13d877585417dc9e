//! Cross entropy of class scores and integer labels.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use super::kernel::{CHUNK, build, values, with_values};
use super::math::exp;
use crate::nn::apply1;

/// Positions that are worked on together.
const STRIP: usize = 64;

/// The loss of `[N, C, inner]` scores.
#[derive(Clone)]
struct CrossEntropy {
    /// One for each of `N * inner` positions; -1 is ignored.
    labels: Vec<i32>,
    /// One for each class, or empty.
    weight: Vec<f32>,
    classes: usize,
    inner: usize,
}

simd! {
    /// Logarithm of the sum of exponentials of each column, rows `step` apart.
    fn log_sum_exp(x: &[f32], classes: usize, step: usize, out: &mut [f32]) {
        let width = out.len();
        let (mut m, mut s) = ([f32::NEG_INFINITY; STRIP], [0.0f32; STRIP]);
        let (m, s) = (&mut m[..width], &mut s[..width]);
        for c in 0..classes {
            for (m, x) in m.iter_mut().zip(&x[c * step..c * step + width]) {
                *m = if *x > *m || x.is_nan() { *x } else { *m };
            }
        }
        for c in 0..classes {
            for ((s, m), x) in s.iter_mut().zip(m.iter()).zip(&x[c * step..c * step + width]) {
                *s += exp(x - m);
            }
        }
        for ((o, s), m) in out.iter_mut().zip(s.iter()).zip(m.iter()) {
            *o = m + s.ln();
        }
    }
}
simd! {
    fn row_log_sum_exp(x: &[f32]) -> f32 {
        let mut m = f32::NEG_INFINITY;
        for v in x {
            m = if *v > m || v.is_nan() { *v } else { m };
        }
        let mut acc = [0.0f32; 16];
        let whole = x.len() / 16 * 16;
        for c in x[..whole].chunks_exact(16) {
            for l in 0..16 {
                acc[l] += exp(c[l] - m);
            }
        }
        let rest: f32 = x[whole..].iter().map(|v| exp(v - m)).sum();
        m + (acc.iter().sum::<f32>() + rest).ln()
    }
}
simd! {
    /// `out = g softmax`, row by row; `g` is 0 where ignored.
    fn spread(x: &[f32], lse: &[f32], g: &[f32], out: &mut [f32]) {
        for (((o, x), l), g) in out.iter_mut().zip(x).zip(lse).zip(g) {
            // 0 times a NaN or infinity of an ignored position is to be 0.
            *o = if *g == 0.0 { 0.0 } else { g * exp(x - l) };
        }
    }
}
simd! {
    fn spread_row(x: &[f32], lse: f32, g: f32, out: &mut [f32]) {
        for (o, x) in out.iter_mut().zip(x) {
            *o = g * exp(x - lse);
        }
    }
}

impl CrossEntropy {
    fn factor(&self, label: i32) -> f32 {
        if label < 0 {
            return 0.0;
        }
        self.weight.get(label as usize).copied().unwrap_or(1.0)
    }

    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let (classes, inner) = (self.classes, self.inner);
        if inner == 1 {
            return build(self.labels.len(), (CHUNK / classes).max(1), |at, out: &mut [f32]| {
                for (i, o) in out.iter_mut().enumerate() {
                    let (row, label) = (&x[(at + i) * classes..][..classes], self.labels[at + i]);
                    if label >= 0 {
                        *o = self.factor(label) * (row_log_sum_exp(row) - row[label as usize]);
                    }
                }
            });
        }
        build(self.labels.len(), inner, |at, out: &mut [f32]| {
            let x = &x[at * classes..][..classes * inner];
            let labels = &self.labels[at..at + inner];
            for j in (0..inner).step_by(STRIP) {
                let width = STRIP.min(inner - j);
                let out = &mut out[j..j + width];
                log_sum_exp(&x[j..], classes, inner, out);
                for (i, o) in out.iter_mut().enumerate() {
                    let label = labels[j + i];
                    *o = if label < 0 { 0.0 } else { self.factor(label) * (*o - x[label as usize * inner + j + i]) };
                }
            }
        })
    }

    fn backward(&self, x: &[f32], g: &[f32]) -> Vec<f32> {
        let (classes, inner) = (self.classes, self.inner);
        if inner == 1 {
            return build(x.len(), (CHUNK / classes).max(1) * classes, |at, out: &mut [f32]| {
                for (i, out) in out.chunks_exact_mut(classes).enumerate() {
                    let n = at / classes + i;
                    let label = self.labels[n];
                    if label >= 0 {
                        let (row, g) = (&x[n * classes..][..classes], g[n] * self.factor(label));
                        spread_row(row, row_log_sum_exp(row), g, out);
                        out[label as usize] -= g;
                    }
                }
            });
        }
        build(x.len(), classes * inner, |at, out: &mut [f32]| {
            let x = &x[at..at + classes * inner];
            let first = at / classes;
            let labels = &self.labels[first..first + inner];
            let (mut lse, mut scaled) = ([0.0f32; STRIP], [0.0f32; STRIP]);
            for j in (0..inner).step_by(STRIP) {
                let width = STRIP.min(inner - j);
                let (lse, scaled) = (&mut lse[..width], &mut scaled[..width]);
                log_sum_exp(&x[j..], classes, inner, lse);
                for (i, s) in scaled.iter_mut().enumerate() {
                    *s = g[first + j + i] * self.factor(labels[j + i]);
                }
                for c in 0..classes {
                    let at = c * inner + j;
                    spread(&x[at..at + width], lse, scaled, &mut out[at..at + width]);
                }
                for (i, s) in scaled.iter().enumerate() {
                    if labels[j + i] >= 0 {
                        out[labels[j + i] as usize * inner + j + i] -= s;
                    }
                }
            }
        })
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = self.forward(values("cross_entropy", s, l)?);
        let dims: Vec<usize> = l.dims()[..1].iter().chain(&l.dims()[2..]).copied().collect();
        Ok((CpuStorage::F32(out), Shape::from(dims)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        const OP: &str = "cross_entropy_backward";
        let out = with_values(OP, x, |x| with_values(OP, grad, |g| Ok(self.backward(x, g))))?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

/// `weight[label] (ln(sum(e^x)) - x[label])`, unreduced: torch's `cross_entropy(reduction='none')`. Positions labelled
/// `ignore_index` have loss and gradient 0; any other label outside the classes is an error.
///
/// # Shapes
/// - `pred`: `[N, C, ...]` scores
/// - `target`: `[N, ...]` integers
/// - `class_weight`: `C` factors
/// - output: `[N, ...]`
pub fn cross_entropy(
    pred: &Tensor,
    target: &Tensor,
    class_weight: Option<&[f32]>,
    ignore_index: i64,
) -> Result<Tensor> {
    let (n, classes, inner) = super::kernel::planes("cross_entropy", pred)?;
    let wanted: Vec<usize> = [n].into_iter().chain(pred.dims()[2..].iter().copied()).collect();
    if target.dims() != wanted || classes == 0 {
        bail!("cross_entropy: pred is {:?} and target {:?}, expected {wanted:?}", pred.dims(), target.dims());
    }
    if class_weight.is_some_and(|w| w.len() != classes) {
        bail!("cross_entropy: {} class weights for {classes} classes", class_weight.map_or(0, <[f32]>::len));
    }
    let labels = target
        .to_dtype(DType::I64)?
        .flatten_all()?
        .to_vec1::<i64>()?
        .into_iter()
        .map(|label| match i32::try_from(label) {
            _ if label == ignore_index => Ok(-1),
            Ok(l) if l >= 0 && (l as usize) < classes => Ok(l),
            _ => bail!("cross_entropy: label {label} is not in 0..{classes} and is not ignore_index {ignore_index}"),
        })
        .collect::<Result<Vec<_>>>()?;
    let weight = class_weight.unwrap_or_default().to_vec();
    apply1(pred, CrossEntropy { labels, weight, classes, inner })
}

#[cfg(test)]
#[allow(clippy::approx_constant)] // printed numbers
mod tests {
    use candle_core::Device;

    use super::super::testing::{check_gradient, close, grad, var, wave, weighted_grad};
    use super::*;

    type Case = (&'static [usize], &'static [i64], Option<&'static [f32]>, &'static [f32], &'static [f32]);

    fn labels(values: &[i64], shape: &[usize]) -> Tensor {
        let dims: Vec<usize> = shape[..1].iter().chain(&shape[2..]).copied().collect();
        Tensor::from_slice(values, dims, &Device::Cpu).unwrap()
    }

    // F.cross_entropy(wave(*shape) * 3, labels, weight, ignore_index=255, reduction='none')
    #[test]
    fn values_and_gradients_are_torchs() {
        #[rustfmt::skip]
        let cases: &[Case] = &[
            (&[4, 3], &[0, 255, 2, 1], None, &[2.9298992, 0.0, 0.56267345, 1.1624511], &[-0.9465976, 0.32137215, 0.6252254, 0.0, 0.0, 0.0, -0.13949543, -0.11374601, 0.25324142, -0.044101626, 0.67867637, -0.63457465]),
            (&[4, 3], &[0, 255, 2, 1], Some(&[0.5, 2.0, 1.0]), &[1.4649496, 0.0, 0.56267345, 2.3249023], &[-0.4732988, 0.16068608, 0.3126127, 0.0, 0.0, 0.0, -0.13949543, -0.11374601, 0.25324142, -0.08820325, 1.3573527, -1.2691493]),
            (&[2, 4, 3, 2], &[0, 255, 2, 1, 3, 3, 1, 2, 0, 255, 1, 1], Some(&[0.5, 2.0, 1.0, 0.25]), &[1.3254795, 0.0, 4.493891, 5.9286265, 0.37156808, 1.0109072, 0.19956988, 0.27965897, 2.6066391, 0.0, 11.098615, 10.292099], &[-0.46470827, 0.0, -0.28164333, -0.7780816, -0.010690402, 0.004134928, 0.001841412, 0.0, -0.0030166374, 1.8730597, -0.04848891, 0.16806729, 0.4408876, 0.0, 0.58192337, -0.006120543, -0.0002731346, 0.0018588203, 0.02197926, 0.0, -0.2972634, -1.0888575, 0.059452444, -0.17406105, 0.008317773, 0.00046110072, 0.4033388, 0.0, 0.0038411582, 1.0715585, -0.1804833, 0.036353204, -0.007131746, 0.0, -0.008816963, -1.7760111, 0.16303805, -0.037416853, -0.39238277, 0.0, 0.00088830374, 0.0099113835, 0.009127409, 0.0006025452, -0.0038242904, 0.0, 0.0040875, 0.6945413]),
        ];
        for (shape, target, weight, y, dx) in cases {
            let x = (wave(shape) * 3.0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let x = var(&x, shape);
            let ours = cross_entropy(&x, &labels(target, shape), *weight, 255).unwrap();
            close(&ours, y);
            close(&weighted_grad(&ours, &x), dx);
        }
    }

    #[test]
    fn two_uses_add_up_and_wide_and_strided_inputs_agree() {
        let t = labels(&[3, 20, -100], &[3, 1]);
        check_gradient(&wave(&[3, 40]), 1e-2, |x| {
            cross_entropy(x, &t, None, -100)? + cross_entropy(&(x * 2.0)?, &t, None, -100)?
        });
        let rows = cross_entropy(&wave(&[3, 40]), &t, None, -100).unwrap().to_vec1::<f32>().unwrap();
        let columns = wave(&[3, 40]).t().unwrap().unsqueeze(0).unwrap();
        close(&cross_entropy(&columns, &t.unsqueeze(0).unwrap(), None, -100).unwrap(), &rows);
    }

    #[test]
    fn empty_batches_pass_and_bad_labels_are_refused() {
        let x = var(&[], &[0, 3]);
        let y = cross_entropy(&x, &labels(&[], &[0, 3]), None, -100).unwrap();
        assert_eq!(grad(&y, &x).dims(), &[0, 3]);
        for bad in [3i64, -1] {
            assert!(cross_entropy(&wave(&[1, 3]), &labels(&[bad], &[1, 3]), None, -100).is_err());
        }
        assert!(cross_entropy(&wave(&[1, 3]), &labels(&[0], &[1, 3]), Some(&[1.0]), -100).is_err());
        assert!(cross_entropy(&wave(&[2, 3]), &labels(&[0], &[1, 3]), None, -100).is_err());
    }
}
