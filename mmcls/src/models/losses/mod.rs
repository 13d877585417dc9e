//! What heads are trained by.

mod asymmetric_loss;
mod cross_entropy_loss;
mod focal_loss;
mod label_smooth_loss;

use candle_core::{DType, Result, Tensor, bail};
use mmcv::ops::LossReduction as Reduction;
use mmcv::registry::registry;

pub use asymmetric_loss::{AsymmetricLoss, AsymmetricLossConfig};
pub use cross_entropy_loss::{CrossEntropyLoss, CrossEntropyLossConfig};
pub use focal_loss::{FocalLoss, FocalLossConfig};
pub use label_smooth_loss::{LabelSmoothLoss, LabelSmoothLossConfig};

/// A loss of class scores.
pub trait Loss: Send + Sync {
    /// # Shapes
    /// - `score`: `[N, C]` logits
    /// - `label`: `[N]` i64 classes, or `[N, C]` f32, one row of probabilities (or of yes and no) for each sample
    /// - `weight`: `[N]`
    /// - output: a scalar, or `[N]` (`[N, C]` of sigmoids) where the reduction is `none`
    ///
    /// With `avg_factor` a mean is the sum by it.
    fn forward(
        &self,
        score: &Tensor,
        label: &Tensor,
        weight: Option<&Tensor>,
        avg_factor: Option<f64>,
    ) -> Result<Tensor>;
}

registry!(
    /// What a head is trained by.
    pub LOSSES: dyn Loss, ()
);

/// mmcls's `weight_reduce_loss`: unlike mmdet's, an `avg_factor` of 0 is a division by 0.
fn reduce(loss: &Tensor, weight: Option<&Tensor>, reduction: Reduction, avg_factor: Option<f64>) -> Result<Tensor> {
    let loss = match weight {
        Some(w) => loss.broadcast_mul(&w.to_dtype(loss.dtype())?)?,
        None => loss.clone(),
    };
    match (reduction, avg_factor) {
        (Reduction::None, _) => Ok(loss),
        (Reduction::Sum, None) => loss.sum_all(),
        (Reduction::Sum, Some(_)) => bail!("avg_factor can't be used with reduction=\"sum\""),
        (Reduction::Mean, None) => loss.mean_all(),
        (Reduction::Mean, Some(factor)) => loss.sum_all()? / factor,
    }
}

/// A weight of `[N]` samples as `[N, 1]`, for losses of `[N, C]`.
fn column(weight: Option<&Tensor>) -> Result<Option<Tensor>> {
    weight.map(|w| w.reshape((w.elem_count(), 1))).transpose()
}

/// `[N]` classes as rows `[N, classes]` of 0 and one 1; rows stay.
pub(super) fn one_hot(label: &Tensor, classes: usize) -> Result<Tensor> {
    if label.rank() == 2 {
        return label.to_dtype(DType::F32);
    }
    let labels: Vec<i64> = label.to_dtype(DType::I64)?.to_vec1()?;
    let mut rows = vec![0f32; labels.len() * classes];
    for (row, label) in rows.chunks_exact_mut(classes.max(1)).zip(&labels) {
        match usize::try_from(*label).ok().and_then(|l| row.get_mut(l)) {
            Some(cell) => *cell = 1.0,
            None => bail!("label {label} is not one of {classes} classes"),
        }
    }
    Tensor::from_vec(rows, (labels.len(), classes), label.device())
}

fn one() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use mmcv::config::Node;
    use mmcv::registry::build;

    use super::*;

    // x = tensor([[1., -2, .5], [.1, .2, 3]]); v = L(...)(x, label, weight, avg_factor); v.backward(); v, x.grad of mmcls 0.25
    #[test]
    fn focal_and_asymmetric_losses_are_mmcls() -> Result<()> {
        let hard = Tensor::new(&[0i64, 1], &Device::Cpu)?;
        let soft = Tensor::new(&[[0.9f32, 0., 0.1], [0., 1., 0.]], &Device::Cpu)?;
        let weight = Tensor::new(&[1f32, 0.5], &Device::Cpu)?;
        let cases = [
            (
                r#"{"type": "FocalLoss"}"#,
                (&soft, None, None),
                (0.417307, [-0.002888, 0.000609, 0.046035, 0.042449, -0.009355, 0.140844]),
            ),
            (
                r#"{"type": "FocalLoss", "gamma": 1.5, "alpha": 0.4, "loss_weight": 2}"#,
                (&hard, Some(&weight), Some(3.0)),
                (0.852666, [-0.022779, 0.004723, 0.230636, 0.080289, -0.037995, 0.217450]),
            ),
            (
                r#"{"type": "AsymmetricLoss"}"#,
                (&hard, None, None),
                (0.430140, [-0.044824, 0.000002, 0.034812, 0.015508, -0.075028, 0.102856]),
            ),
            (
                r#"{"type": "AsymmetricLoss", "gamma_pos": 1, "gamma_neg": 2, "clip": null}"#,
                (&soft, Some(&weight), Some(2.0)),
                (1.035731, [-0.061422, 0.002435, 0.190468, 0.084899, -0.087675, 0.281687]),
            ),
            (
                r#"{"type": "AsymmetricLoss", "use_sigmoid": false, "clip": 0.3, "reduction": "sum"}"#,
                (&hard, None, None),
                (3.528767, [-0.396273, 0.030058, 0.366215, 0.001516, -0.998325, 0.996809]),
            ),
        ];
        for (cfg, (label, weight, avg_factor), (value, slopes)) in cases {
            let x = Var::new(&[[1f32, -2., 0.5], [0.1, 0.2, 3.]], &Device::Cpu)?;
            let loss = build(&LOSSES, &Node::from_json(cfg).unwrap(), ()).unwrap();
            let loss = loss.forward(&x, label, weight, avg_factor)?;
            assert!((loss.to_scalar::<f32>()? - value).abs() < 3e-6, "{cfg}: {loss}");
            let grads: Vec<f32> = loss.backward()?.get(&x).unwrap().flatten_all()?.to_vec1()?;
            let near = grads.iter().zip(slopes).all(|(a, b): (&f32, f32)| (a - b).abs() < 2e-6);
            assert!(near, "{cfg}: {grads:?}");
        }
        Ok(())
    }
}
