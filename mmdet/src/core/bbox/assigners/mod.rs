//! Which ground truth each prior learns.

mod approx_max_iou_assigner;
mod assign_result;
mod atss_assigner;
mod center_region_assigner;
mod grid_assigner;
mod hungarian_assigner;
mod linear_sum_assignment;
mod max_iou_assigner;
mod point_assigner;
mod sim_ota_assigner;
mod task_aligned_assigner;
#[cfg(test)]
mod tests;
mod uniform_assigner;

use candle_core::{Result, bail};
use mmcv::registry::registry;

pub use approx_max_iou_assigner::ApproxMaxIoUAssigner;
pub use assign_result::{AssignExtras, AssignResult};
pub use atss_assigner::{ATSSAssigner, ATSSAssignerConfig};
pub use center_region_assigner::{CenterRegionAssigner, CenterRegionAssignerConfig};
pub use grid_assigner::{GridAssigner, GridAssignerConfig};
pub use hungarian_assigner::{HungarianAssigner, HungarianAssignerConfig};
pub use linear_sum_assignment::linear_sum_assignment;
pub use max_iou_assigner::{MaxIoUAssigner, MaxIoUAssignerConfig, NegThreshold};
pub use point_assigner::{PointAssigner, PointAssignerConfig};
pub use sim_ota_assigner::{SimOTAAssigner, SimOTAAssignerConfig};
pub use task_aligned_assigner::{TaskAlignedAssigner, TaskAlignedAssignerConfig};
pub use uniform_assigner::{UniformAssigner, UniformAssignerConfig};

use crate::core::BBox;

registry!(
    /// Assigners of ground truth to priors.
    pub BBOX_ASSIGNERS: dyn Assigner, ()
);

/// What an assigner may look at. Most need the first four fields only.
#[derive(Debug, Clone, Copy, Default)]
pub struct AssignInput<'a> {
    /// The priors: boxes, or points `[x, y, stride_w, stride_h]`.
    pub bboxes: &'a [BBox],
    /// Ground truth.
    pub gt_bboxes: &'a [BBox],
    /// Boxes that priors inside them should not learn from.
    pub gt_bboxes_ignore: &'a [BBox],
    /// Classes of the ground truth.
    pub gt_labels: Option<&'a [i64]>,
    /// How many of the priors each level has (ATSS).
    pub num_level_bboxes: &'a [usize],
    /// The boxes that are predicted now, one per prior (SimOTA, TOOD, DETR, YOLOF).
    pub pred_bboxes: Option<&'a [BBox]>,
    /// The scores that are predicted now, row-major `[priors, classes]` (SimOTA, TOOD, DETR).
    pub pred_scores: Option<&'a [f32]>,
    /// Candidates around each position, `[positions, approxs_per_octave]` (ApproxMaxIoU).
    pub approxs: &'a [BBox],
    /// Candidates per position.
    pub approxs_per_octave: usize,
    /// Which priors sit in a cell with the centre of a ground truth (Grid).
    pub box_responsible_flags: &'a [bool],
    /// `(h, w)` of the image (DETR).
    pub img_shape: (usize, usize),
    /// Power of the score (TOOD).
    pub alpha: f64,
    /// Power of the overlap (TOOD).
    pub beta: f64,
}

/// Assigns ground truth to priors.
pub trait Assigner: Send + Sync {
    /// With everything an assigner may want.
    fn assign_input(&self, input: &AssignInput) -> Result<AssignResult>;

    /// With what most want: `gt_labels` gives the result its labels.
    fn assign(
        &self,
        bboxes: &[BBox],
        gt_bboxes: &[BBox],
        gt_bboxes_ignore: &[BBox],
        gt_labels: Option<&[i64]>,
    ) -> Result<AssignResult> {
        self.assign_input(&AssignInput { bboxes, gt_bboxes, gt_bboxes_ignore, gt_labels, ..Default::default() })
    }
}

/// An error unless each ground truth has a label, when there are any labels.
pub(crate) fn check_labels(input: &AssignInput) -> Result<()> {
    match input.gt_labels {
        Some(labels) if labels.len() != input.gt_bboxes.len() => {
            bail!("{} labels for {} ground-truth boxes", labels.len(), input.gt_bboxes.len())
        }
        _ => Ok(()),
    }
}

/// Whether a point is inside a box by more than `margin` pixels.
fn inside_by(b: &BBox, (x, y): (f32, f32), margin: f32) -> bool {
    x - b[0] > margin && y - b[1] > margin && b[2] - x > margin && b[3] - y > margin
}

/// Gives each prior the ground truth it overlaps most among those that may have it: `pairs[gt]` are priors with overlaps.
/// Returns the overlaps, `none` for priors without.
fn best_pairs(pairs: &[Vec<(usize, f32)>], gt_inds: &mut [i64], none: f32) -> Vec<f32> {
    let mut max_overlaps = vec![none; gt_inds.len()];
    for (gt, pairs) in pairs.iter().enumerate() {
        for (prior, overlap) in pairs {
            if *overlap > max_overlaps[*prior] {
                max_overlaps[*prior] = *overlap;
                gt_inds[*prior] = gt as i64 + 1;
            }
        }
    }
    max_overlaps
}
