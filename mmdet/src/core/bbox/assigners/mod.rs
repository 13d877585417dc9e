//! Which ground truth each prior learns.

mod assign_result;
mod max_iou_assigner;

use candle_core::{Result, bail};
use mmcv::registry::registry;

pub use assign_result::AssignResult;
pub use max_iou_assigner::{MaxIoUAssigner, MaxIoUAssignerConfig, NegThreshold};

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
