//! What it costs to match a prediction with a ground truth (DETR and its kin).

mod bbox_cost;
mod class_cost;
mod mask_cost;
#[cfg(test)]
mod tests;

use candle_core::{Result, bail};
use mmcv::registry::registry;

pub use bbox_cost::{BBoxL1Cost, BBoxL1CostConfig, BoxFormat, IoUCost, IoUCostConfig};
pub use class_cost::{ClassificationCost, ClassificationCostConfig, FocalLossCost, FocalLossCostConfig};
pub use mask_cost::{CrossEntropyLossCost, CrossEntropyLossCostConfig, DiceCost, DiceCostConfig};

use crate::core::BBox;

registry!(
    /// Costs of matching; mmdet's `MATCH_COST`.
    pub MATCH_COST: dyn MatchCost, ()
);

/// What a cost may look at; each looks at its part.
#[derive(Debug, Clone, Copy, Default)]
pub struct MatchInput<'a> {
    /// Number of predictions.
    pub queries: usize,
    /// Number of ground truths.
    pub gts: usize,
    /// Class logits, row-major `[queries, classes]`.
    pub cls_pred: &'a [f32],
    /// Classes of the ground truth.
    pub gt_labels: &'a [i64],
    /// Predicted boxes `[cx, cy, w, h]` in parts of the image.
    pub bbox_pred: &'a [BBox],
    /// Ground truth `[x1, y1, x2, y2]` in parts of the image.
    pub gt_bboxes_normalized: &'a [BBox],
    /// Predicted boxes in pixels.
    pub bboxes: &'a [BBox],
    /// Ground truth in pixels.
    pub gt_bboxes: &'a [BBox],
    /// Predicted masks, row-major `[queries, pixels]`: logits, or probabilities where a cost says so.
    pub mask_pred: &'a [f32],
    /// Masks of the ground truth, 0 or 1, `[gts, pixels]`.
    pub gt_masks: &'a [f32],
}

/// A cost.
pub trait MatchCost: Send + Sync {
    /// Weighted costs, row-major `[queries, gts]`.
    fn cost(&self, input: &MatchInput) -> Result<Vec<f32>>;
}

fn one() -> f64 {
    1.0
}

/// Rows of `values` for each of `n`, which must be whole and as long as one another.
fn rows<'v>(what: &str, values: &'v [f32], n: usize) -> Result<(usize, Vec<&'v [f32]>)> {
    match values.len().checked_div(n) {
        _ if n == 0 => Ok((0, Vec::new())),
        Some(width) if width > 0 && width * n == values.len() => Ok((width, values.chunks(width).collect())),
        _ => bail!("{what}: {} values for {n}", values.len()),
    }
}

/// An error unless there are as many items as said.
fn counted<T>(what: &str, items: &[T], n: usize) -> Result<()> {
    if items.len() != n {
        bail!("{what}: {} items, expected {n}", items.len());
    }
    Ok(())
}
