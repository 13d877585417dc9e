//! The outcome of sampling.

use candle_core::{Result, bail};

use crate::core::BBox;
use crate::core::bbox::assigners::AssignResult;

/// The priors that were drawn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SamplingResult {
    /// Positions of the positives among the priors (behind the ground truth, if that was added), ascending.
    pub pos_inds: Vec<usize>,
    /// Positions of the negatives, ascending.
    pub neg_inds: Vec<usize>,
    /// The positives.
    pub pos_bboxes: Vec<BBox>,
    /// The negatives.
    pub neg_bboxes: Vec<BBox>,
    /// Whether a positive is itself ground truth that was added.
    pub pos_is_gt: Vec<bool>,
    /// Number of ground truths.
    pub num_gts: usize,
    /// Ground truth of each positive.
    pub pos_assigned_gt_inds: Vec<usize>,
    /// The boxes of these.
    pub pos_gt_bboxes: Vec<BBox>,
    /// Their classes, when labels were given.
    pub pos_gt_labels: Option<Vec<i64>>,
    /// Weight of each negative in the classification loss, from `ScoreHLRSampler`.
    pub neg_label_weights: Option<Vec<f32>>,
}

impl SamplingResult {
    /// The result for these positions. `gt_flags` says which priors are ground truth, none when empty.
    pub fn new(
        pos_inds: Vec<usize>,
        neg_inds: Vec<usize>,
        bboxes: &[BBox],
        gt_bboxes: &[BBox],
        assigned: &AssignResult,
        gt_flags: &[bool],
    ) -> Result<Self> {
        if assigned.gt_inds.len() != bboxes.len() {
            bail!("{} assignments for {} priors", assigned.gt_inds.len(), bboxes.len());
        }
        let pick = |inds: &[usize]| inds.iter().map(|i| bboxes[*i]).collect::<Vec<BBox>>();
        let mut pos_assigned_gt_inds = Vec::with_capacity(pos_inds.len());
        for i in &pos_inds {
            match usize::try_from(assigned.gt_inds[*i] - 1) {
                Ok(gt) if gt < gt_bboxes.len() => pos_assigned_gt_inds.push(gt),
                _ => bail!("prior {i} is assigned {}, of {} ground truths", assigned.gt_inds[*i], gt_bboxes.len()),
            }
        }
        Ok(Self {
            pos_bboxes: pick(&pos_inds),
            neg_bboxes: pick(&neg_inds),
            pos_is_gt: pos_inds.iter().map(|i| gt_flags.get(*i).copied().unwrap_or(false)).collect(),
            num_gts: gt_bboxes.len(),
            pos_gt_bboxes: pos_assigned_gt_inds.iter().map(|i| gt_bboxes[*i]).collect(),
            pos_gt_labels: assigned.labels.as_ref().map(|l| pos_inds.iter().map(|i| l[*i]).collect()),
            neg_label_weights: None,
            pos_assigned_gt_inds,
            pos_inds,
            neg_inds,
        })
    }

    /// The positives, then the negatives.
    pub fn bboxes(&self) -> Vec<BBox> {
        [self.pos_bboxes.as_slice(), &self.neg_bboxes].concat()
    }
}
