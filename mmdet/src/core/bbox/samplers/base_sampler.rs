//! What the samplers of a fixed number share: mmdet's `base_sampler.py`.

use candle_core::{Result, bail};
use mmcv::Rng;

use super::SamplingResult;
use crate::core::BBox;
use crate::core::bbox::assigners::AssignResult;

/// How many are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Balance {
    /// Positives and negatives together.
    pub num: usize,
    /// At most this part positives.
    pub pos_fraction: f64,
    /// At most so many negatives for each positive (at least for one); negative: no bound.
    pub neg_pos_ub: f64,
    /// The ground truth takes part as priors.
    pub add_gt_as_proposals: bool,
}

/// Draws at most `usize` of the positives or negatives; positions may come in any order, doubled ones count once.
/// The boxes are the priors with the ground truth that was added.
pub type Choose<'a> = &'a mut dyn FnMut(&AssignResult, &[BBox], usize, &mut Rng) -> Result<Vec<usize>>;

/// Draws with `pos` and `neg`.
pub fn sample_by(
    balance: Balance,
    mut assigned: AssignResult,
    bboxes: &[BBox],
    gt_bboxes: &[BBox],
    gt_labels: Option<&[i64]>,
    rng: &mut Rng,
    pos: Choose,
    neg: Choose,
) -> Result<SamplingResult> {
    let mut gt_flags = Vec::new();
    let mut all = bboxes.to_vec();
    if balance.add_gt_as_proposals && !gt_bboxes.is_empty() {
        let Some(labels) = gt_labels else { bail!("gt_labels must be given when add_gt_as_proposals is true") };
        assigned.add_gt(labels)?;
        all = [gt_bboxes, bboxes].concat();
        gt_flags = vec![true; gt_bboxes.len()];
    }
    let expected_pos = (balance.num as f64 * balance.pos_fraction) as usize;
    let pos_inds = unique(pos(&assigned, &all, expected_pos, rng)?);
    let mut expected_neg = balance.num.saturating_sub(pos_inds.len());
    if balance.neg_pos_ub >= 0.0 {
        expected_neg = expected_neg.min((balance.neg_pos_ub * pos_inds.len().max(1) as f64) as usize);
    }
    let neg_inds = unique(neg(&assigned, &all, expected_neg, rng)?);
    SamplingResult::new(pos_inds, neg_inds, &all, gt_bboxes, &assigned, &gt_flags)
}

fn unique(mut inds: Vec<usize>) -> Vec<usize> {
    inds.sort_unstable();
    inds.dedup();
    inds
}
