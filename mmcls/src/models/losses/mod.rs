//! What heads are trained by.

mod cross_entropy_loss;
mod label_smooth_loss;

use candle_core::{DType, Result, Tensor, bail};
use mmcv::ops::LossReduction as Reduction;
use mmcv::registry::registry;

pub use cross_entropy_loss::{CrossEntropyLoss, CrossEntropyLossConfig};
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

/// `[N]` classes as rows `[N, classes]` of 0 and one 1; rows stay.
fn one_hot(label: &Tensor, classes: usize) -> Result<Tensor> {
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
