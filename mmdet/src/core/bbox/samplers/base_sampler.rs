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

/// The priors with the ground truth in front when it takes part, and flags that say which are ground truth.
pub(super) fn with_gts(
    balance: Balance,
    assigned: &mut AssignResult,
    bboxes: &[BBox],
    gt_bboxes: &[BBox],
    gt_labels: Option<&[i64]>,
) -> Result<(Vec<BBox>, Vec<bool>)> {
    if !balance.add_gt_as_proposals || gt_bboxes.is_empty() {
        return Ok((bboxes.to_vec(), Vec::new()));
    }
    let Some(labels) = gt_labels else { bail!("gt_labels must be given when add_gt_as_proposals is true") };
    assigned.add_gt(labels)?;
    Ok(([gt_bboxes, bboxes].concat(), vec![true; gt_bboxes.len()]))
}

impl Balance {
    /// How many positives are wanted.
    pub(super) fn positives(&self) -> usize {
        (self.num as f64 * self.pos_fraction) as usize
    }

    /// How many negatives are wanted beside `positives`.
    pub(super) fn negatives(&self, positives: usize) -> usize {
        let rest = self.num.saturating_sub(positives);
        if self.neg_pos_ub < 0.0 {
            return rest;
        }
        rest.min((self.neg_pos_ub * positives.max(1) as f64) as usize)
    }
}

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
    let (all, gt_flags) = with_gts(balance, &mut assigned, bboxes, gt_bboxes, gt_labels)?;
    let pos_inds = unique(pos(&assigned, &all, balance.positives(), rng)?);
    let neg_inds = unique(neg(&assigned, &all, balance.negatives(pos_inds.len()), rng)?);
    SamplingResult::new(pos_inds, neg_inds, &all, gt_bboxes, &assigned, &gt_flags)
}

fn unique(mut inds: Vec<usize>) -> Vec<usize> {
    inds.sort_unstable();
    inds.dedup();
    inds
}
