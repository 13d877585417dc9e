//! ReLU, alone and fused with a sum; the other activations are in `unary.rs`.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::kernel::{build_elements, values, with_values};
use crate::nn::{apply1, apply2};

simd! {
    fn relu_into(x: &[f32], out: &mut [f32]) {
        // `x <= 0` is false for NaN, which passes on as in torch.
        for (o, x) in out.iter_mut().zip(x) {
            *o = if *x <= 0.0 { 0.0 } else { *x };
        }
    }
}
simd! {
    fn add_relu_into(x: &[f32], y: &[f32], out: &mut [f32]) {
        for ((o, x), y) in out.iter_mut().zip(x).zip(y) {
            let s = x + y;
            *o = if s <= 0.0 { 0.0 } else { s };
        }
    }
}
simd! {
    /// The gradient where the result was not clipped.
    pub(super) fn relu_grad_into(y: &[f32], grad: &[f32], out: &mut [f32]) {
        for ((o, y), g) in out.iter_mut().zip(y).zip(grad) {
            *o = if *y <= 0.0 { 0.0 } else { *g };
        }
    }
}

fn relu_grad(op: &str, res: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let out = with_values(op, res, |y| {
        with_values(op, grad, |g| {
            Ok(build_elements(y.len(), y.len(), |at, out| {
                let end = at + out.len();
                relu_grad_into(&y[at..end], &g[at..end], out);
            }))
        })
    })?;
    Tensor::from_vec(out, res.shape(), res.device())
}

struct Relu;

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("relu", s, l)?;
        let out = build_elements(x.len(), x.len(), |at, out| relu_into(&x[at..at + out.len()], out));
        Ok((CpuStorage::F32(out), l.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        relu_grad("relu_backward", res, grad).map(Some)
    }
}

/// `max(x, 0)` of any shape; the gradient at 0 is 0, as torch's.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    apply1(x, Relu)
}

struct AddRelu;

impl CustomOp2 for AddRelu {
    fn name(&self) -> &'static str {
        "add_relu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, y) = (values("add_relu", s1, l1)?, values("add_relu", s2, l2)?);
        let out = build_elements(x.len(), x.len(), |at, out| {
            let end = at + out.len();
            add_relu_into(&x[at..end], &y[at..end], out);
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, res: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = relu_grad("add_relu_backward", res, grad)?;
        Ok((Some(grad.clone()), Some(grad)))
    }
}

/// `relu(x + y)` of two tensors of one shape in one pass: the end of a residual block.
pub fn add_relu(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if x.dims() != y.dims() {
        bail!("add_relu: the inputs are {:?} and {:?}, expected one shape", x.dims(), y.dims());
    }
    apply2(x, y, AddRelu)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, grad, tensor, var};
    use super::*;

    const X: &[f32] = &[-1.0, 0.0, 2.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

    // x = torch.tensor([-1., 0, 2, nan, inf, -inf], requires_grad=True); y = x.relu(); y.sum().backward()
    #[test]
    fn relu_is_torchs_at_zero_nan_and_infinity() {
        let x = var(X, &[2, 3]);
        let y = relu(&x).unwrap();
        close(&y, &[0.0, 0.0, 2.0, f32::NAN, f32::INFINITY, 0.0]);
        close(&grad(&y, &x), &[0.0, 0.0, 1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn add_relu_is_relu_of_the_sum_and_two_uses_of_one_input_add_up() {
        let x = var(&[-1.0, 0.5, 2.0, -3.0], &[2, 2]);
        let t = x.t().unwrap();
        let y = (add_relu(&x, &t).unwrap() + relu(&t).unwrap()).unwrap();
        // x + t = [-2, 2.5, 2.5, -6]
        close(&y, &[0.0, 4.5, 3.0, 0.0]);
        // x01 and x10 are in both sums, once as x and once as t, and in relu once.
        close(&grad(&y, &x), &[0.0, 3.0, 3.0, 0.0]);
        assert!(add_relu(&x, &tensor(&[0.0; 2], &[2])).is_err());
    }

    #[test]
    fn empty_tensors_pass() {
        let x = var(&[], &[0, 3]);
        let y = add_relu(&relu(&x).unwrap(), &x).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 3][..], &[0, 3][..]));
    }
}
