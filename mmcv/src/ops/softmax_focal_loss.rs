//! Focal loss of a softmax, mmcv's `softmax_focal_loss`. There is no CUDA kernel yet.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use super::check;
use super::kernel::{build, values, with_values};
use crate::nn::apply1;

struct Op {
    /// `None` for rows that are left out.
    labels: Vec<Option<usize>>,
    classes: usize,
    gamma: f32,
    alpha: f32,
    weight: Option<Vec<f32>>,
}

impl Op {
    /// The softmax of a row, and the probability of the label.
    fn softmax(&self, x: &[f32], label: usize, out: &mut [f32]) -> f32 {
        let top = x.iter().fold(f32::NEG_INFINITY, |m, v| if *v > m || v.is_nan() { *v } else { m });
        out.iter_mut().zip(x).for_each(|(o, x)| *o = (x - top).exp());
        let total: f32 = out.iter().sum();
        out.iter_mut().for_each(|o| *o /= total);
        out[label]
    }

    fn weight(&self, label: usize) -> f32 {
        self.weight.as_ref().map_or(1.0, |w| w[label])
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "softmax_focal_loss"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("softmax_focal_loss", s, l)?;
        let out = build(self.labels.len(), 64, |at, out: &mut [f32]| {
            let mut row = vec![0.0; self.classes];
            for (i, o) in out.iter_mut().enumerate() {
                if let Some(label) = self.labels[at + i] {
                    let p = self.softmax(&x[(at + i) * self.classes..][..self.classes], label, &mut row);
                    *o = -self.alpha * (1.0 - p).powf(self.gamma) * p.max(f32::MIN_POSITIVE).ln() * self.weight(label);
                }
            }
        });
        Ok((CpuStorage::F32(out), Shape::from(self.labels.len())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        const OP: &str = "softmax_focal_loss_backward";
        let classes = self.classes;
        let dx = with_values(OP, x, |x| {
            with_values(OP, grad, |g| {
                Ok(build(x.len(), classes, |at, out: &mut [f32]| {
                    let row = at / classes;
                    let Some(label) = self.labels[row] else { return };
                    let p = self.softmax(&x[at..at + classes], label, out);
                    let rest = 1.0 - p;
                    let log = p.max(f32::MIN_POSITIVE).ln();
                    let slope =
                        self.alpha * (self.gamma * rest.powf(self.gamma - 1.0) * p * log - rest.powf(self.gamma));
                    let scale = g[row] * slope * self.weight(label);
                    for (i, o) in out.iter_mut().enumerate() {
                        *o = scale * (f32::from(u8::from(i == label)) - *o);
                    }
                }))
            })
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// `-alpha (1 - p)^gamma ln p` of each row's label, `p` its probability in the row's softmax, times the label's `weight`;
/// 0 for rows whose label is negative. Unreduced.
///
/// # Shapes
/// - `pred`: `[N, C]` scores
/// - `target`: `[N]` integers below `C`
/// - `weight`: `[C]`
/// - output: `[N]`
pub fn softmax_focal_loss(
    pred: &Tensor,
    target: &Tensor,
    gamma: f64,
    alpha: f64,
    weight: Option<&Tensor>,
) -> Result<Tensor> {
    const OP: &str = "softmax_focal_loss";
    check::f32s(OP, "pred", pred)?;
    let [n, classes] = check::dims(OP, "pred", pred, "[N, C]")?;
    check::shape(OP, "target", target, &[n], "[N]")?;
    if classes == 0 || target.dtype().is_float() {
        bail!("{OP}: pred has {classes} classes and target is {:?}, expected some and integers", target.dtype());
    }
    let labels = target.to_dtype(DType::I64)?.to_vec1::<i64>()?.into_iter().map(|l| match usize::try_from(l) {
        Ok(l) if l < classes => Ok(Some(l)),
        Ok(l) => bail!("{OP}: target has label {l}, expected less than {classes}"),
        Err(_) => Ok(None),
    });
    let labels = labels.collect::<Result<Vec<_>>>()?;
    if let Some(w) = weight {
        check::shape(OP, "weight", w, &[classes], "[C]")?;
    }
    let weight = weight.map(super::kernel::to_vec).transpose()?;
    apply1(pred, Op { labels, classes, gamma: gamma as f32, alpha: alpha as f32, weight })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, grad, var, wave};
    use super::*;

    // tests/golden/ops/make.py softmax_focal_loss
    #[test]
    fn values_and_gradients_are_torchs() {
        for case in golden("softmax_focal_loss") {
            let (gamma, alpha) = (case.number("gamma"), case.number("alpha"));
            case.check("y", &["x"], |t| softmax_focal_loss(&t["x"], &t["target"], gamma, alpha, t.get("weight")));
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let x = var(&[], &[0, 3]);
        let none = Tensor::zeros(0, DType::I64, x.device()).unwrap();
        let y = softmax_focal_loss(&x, &none, 2.0, 0.25, None).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0][..], &[0, 3][..]));
        let bad = Tensor::new(&[3i64], x.device()).unwrap();
        let e = softmax_focal_loss(&wave(&[1, 3]), &bad, 2.0, 0.25, None).unwrap_err().to_string();
        assert!(e.contains("target has label 3, expected less than 3"), "{e}");
    }
}
