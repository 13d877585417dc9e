//! Gradients of a graph, those of regions included.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

thread_local! {
    /// What regions found for their parameters while the backward pass that runs on this thread was at them.
    static FOUND: RefCell<Vec<(Tensor, Tensor)>> = const { RefCell::new(Vec::new()) };
}

/// Hands the gradient of a variable to the [`backward`] that runs on this thread.
pub(super) fn hand_in(variable: &Tensor, grad: Tensor) {
    FOUND.with_borrow_mut(|found| found.push((variable.clone(), grad)));
}

/// The gradients of a scalar, as `Tensor::backward`, which doesn't know of [`super::region`]s.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    FOUND.with_borrow_mut(Vec::clear);
    let mut grads = loss.backward()?;
    for (variable, grad) in FOUND.take() {
        // A variable may be used by several blocks, and outside of them.
        let sum = match grads.remove(&variable) {
            Some(before) => (before + grad)?,
            None => grad,
        };
        grads.insert(&variable, sum);
    }
    Ok(grads)
}

/// Ends a graph at `y` with `grad` as its gradient.
struct End(Tensor);

impl CustomOp1 for End {
    fn name(&self) -> &'static str {
        "end"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

/// A scalar whose [`backward`] is that of `y` with `grad` as its gradient, torch's `y.backward(grad)`.
pub fn seeded(y: &Tensor, grad: &Tensor) -> Result<Tensor> {
    y.apply_op1(End(grad.clone()))
}
