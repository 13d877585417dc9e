//! What the losses share: mmdet's `losses/utils.py`.

use candle_core::{Result, Tensor, bail};
use mmcv::config::Node;
use mmcv::nn::VarBuilder;
pub use mmcv::ops::LossReduction as Reduction;
use mmcv::registry::build_at;

use crate::registry::LOSSES;

/// A loss component.
pub trait Loss: Send + Sync {
    /// # Shapes
    /// - `pred`, `target`: as the loss says, `[N, 4]` boxes or `[N, C]` logits and `[N]` labels
    /// - `weight`: broadcasts to the element-wise loss
    /// - output: a scalar, or the element-wise loss when the reduction is `none`
    ///
    /// `reduction_override` takes the place of the configured reduction.
    fn forward(
        &self,
        pred: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
        avg_factor: Option<f64>,
        reduction_override: Option<Reduction>,
    ) -> Result<Tensor>;

    /// Enters what the loss remembers between passes into the `state_dict` at `vb`; most remember nothing.
    fn register(&mut self, _: &VarBuilder) -> Result<()> {
        Ok(())
    }
}

/// The loss that `cfg` names, with what it remembers under `vb`'s child `key`.
pub fn build_loss(key: &str, cfg: &Node, vb: &VarBuilder) -> mmcv::Result<Box<dyn Loss>> {
    let mut loss = build_at(&LOSSES, key, cfg, ())?;
    loss.register(&vb.pp(key))?;
    Ok(loss)
}

/// Weights an element-wise loss and reduces it; mmdet's `weight_reduce_loss`.
///
/// With `avg_factor` and [`Reduction::Mean`] the divisor is `avg_factor` plus f32's epsilon, so a factor of 0 is no division by 0.
pub fn weight_reduce_loss(
    loss: &Tensor,
    weight: Option<&Tensor>,
    reduction: Reduction,
    avg_factor: Option<f64>,
) -> Result<Tensor> {
    let loss = match weight {
        Some(w) => loss.broadcast_mul(&w.to_dtype(loss.dtype())?)?,
        None => loss.clone(),
    };
    match (reduction, avg_factor) {
        (Reduction::None, _) => Ok(loss),
        (Reduction::Sum, None) => loss.sum_all(),
        (Reduction::Sum, Some(_)) => bail!("avg_factor can not be used with reduction=\"sum\""),
        (Reduction::Mean, None) => loss.sum_all()? / loss.elem_count() as f64,
        (Reduction::Mean, Some(factor)) => loss.sum_all()? / (factor + f64::from(f32::EPSILON)),
    }
}

/// 0 that `x` is part of: a branch without targets keeps its gradients, which are zeros then.
///
/// (candle takes a product with the number 0 out of the graph, so this multiplies by a tensor.)
pub fn zero_loss(x: &Tensor) -> Result<Tensor> {
    x.sum_all()? * Tensor::zeros((), x.dtype(), x.device())?
}

pub(super) fn one() -> f64 {
    1.0
}

#[cfg(test)]
pub(super) mod testing {
    use candle_core::{Device, Tensor, Var};

    pub fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    pub fn var(values: &[f32], shape: &[usize]) -> Var {
        Var::from_tensor(&tensor(values, shape)).unwrap()
    }

    /// Compares with values that mmdet printed; f32 on both sides, so a few units in the last place apart.
    #[track_caller]
    pub fn close(ours: &Tensor, theirs: &[f32]) {
        let ours = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
            if b.is_nan() {
                assert!(a.abs() < 1e-6, "element {i}: {a}, expected 0 in place of mmdet's NaN");
                continue;
            }
            assert!((a - b).abs() <= 2e-6 + 2e-5 * b.abs(), "element {i}: {a}, expected {b}\n{ours:?}");
        }
    }

    /// The gradient of `loss`'s sum by `x`.
    pub fn grad(loss: &Tensor, x: &Var) -> Tensor {
        loss.sum_all().unwrap().backward().unwrap().get(x).unwrap().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{close, tensor};
    use super::*;

    // mmdet.models.losses.utils.weight_reduce_loss(tensor([1., 0, 2]), weight, reduction, avg_factor)
    #[test]
    fn weights_and_reductions_are_mmdets() {
        let (loss, weight) = (tensor(&[1., 0., 2.], &[3]), tensor(&[1., 0., 0.5], &[3]));
        let reduce = |w, r, f| weight_reduce_loss(&loss, w, r, f);
        close(&reduce(None, Reduction::Mean, None).unwrap(), &[1.0]);
        close(&reduce(Some(&weight), Reduction::Mean, None).unwrap(), &[2.0 / 3.0]);
        close(&reduce(Some(&weight), Reduction::Sum, None).unwrap(), &[2.0]);
        close(&reduce(Some(&weight), Reduction::None, Some(9.0)).unwrap(), &[1.0, 0.0, 1.0]);
        close(&reduce(Some(&weight), Reduction::Mean, Some(4.0)).unwrap(), &[0.5]);
        assert!(reduce(None, Reduction::Sum, Some(4.0)).is_err());
    }

    #[test]
    fn an_avg_factor_of_zero_is_no_division_by_zero() {
        let none = tensor(&[0., 0.], &[2]);
        close(&weight_reduce_loss(&none, None, Reduction::Mean, Some(0.0)).unwrap(), &[0.0]);
        let some = tensor(&[1., 0.], &[2]);
        let value = weight_reduce_loss(&some, None, Reduction::Mean, Some(0.0)).unwrap().to_scalar::<f32>().unwrap();
        assert!((value - 8_388_608.0).abs() < 1.0, "{value}");
    }
}
