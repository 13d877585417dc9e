//! The outcome of an assignment.

use candle_core::{Result, bail};

/// What some assigners tell beside the assignment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AssignExtras {
    /// TaskAligned: score and overlap as one number per prior, 0 without ground truth.
    pub assign_metrics: Vec<f32>,
    /// CenterRegion: (prior, class) pairs that the loss leaves out; when labels were given.
    pub shadowed_labels: Option<Vec<(usize, i64)>>,
    /// Uniform: for each matched pair whether its anchor overlaps enough.
    pub pos_idx: Vec<bool>,
    /// Uniform: the prior of each matched pair.
    pub pos_priors: Vec<usize>,
    /// Uniform: the ground truth of each matched pair.
    pub target_gts: Vec<usize>,
}

/// What each prior was assigned.
#[derive(Debug, Clone, PartialEq)]
pub struct AssignResult {
    /// Number of ground-truth boxes.
    pub num_gts: usize,
    /// Per prior: -1 ignored, 0 background, `k + 1` for ground truth `k`.
    pub gt_inds: Vec<i64>,
    /// Per prior its largest overlap with a ground truth (some assigners: a cost, or 0).
    pub max_overlaps: Vec<f32>,
    /// Per prior the class of its ground truth, -1 without one; when labels were given.
    pub labels: Option<Vec<i64>>,
    /// More, from some assigners.
    pub extras: AssignExtras,
}

impl AssignResult {
    /// The result for these indices; labels follow from `gt_labels`.
    pub fn new(num_gts: usize, gt_inds: Vec<i64>, max_overlaps: Vec<f32>, gt_labels: Option<&[i64]>) -> Self {
        let labels = gt_labels
            .map(|l| gt_inds.iter().map(|i| if *i > 0 { l.get(*i as usize - 1).copied().unwrap_or(-1) } else { -1 }))
            .map(Iterator::collect);
        Self { num_gts, gt_inds, max_overlaps, labels, extras: AssignExtras::default() }
    }

    /// The result without ground truth or without priors: all background or, when there is ground truth, nothing.
    pub(crate) fn empty(num_gts: usize, num_bboxes: usize, gt_labels: Option<&[i64]>) -> Self {
        let inds = vec![if num_gts == 0 { 0 } else { -1 }; num_bboxes];
        Self::new(num_gts, inds, vec![0.0; num_bboxes], gt_labels)
    }

    /// Puts the ground truth in front as priors that are assigned to themselves; mmdet's `add_gt_`.
    pub fn add_gt(&mut self, gt_labels: &[i64]) -> Result<()> {
        let n = gt_labels.len();
        if n != self.num_gts {
            bail!("{n} labels for {} assigned ground-truth boxes", self.num_gts);
        }
        self.gt_inds.splice(0..0, 1..=n as i64);
        self.max_overlaps.splice(0..0, std::iter::repeat_n(1.0, n));
        if let Some(labels) = &mut self.labels {
            labels.splice(0..0, gt_labels.iter().copied());
        }
        Ok(())
    }

    /// Priors with ground truth.
    pub fn pos_inds(&self) -> Vec<usize> {
        self.inds(|i| i > 0)
    }

    /// Priors on the background.
    pub fn neg_inds(&self) -> Vec<usize> {
        self.inds(|i| i == 0)
    }

    fn inds(&self, keep: impl Fn(i64) -> bool) -> Vec<usize> {
        self.gt_inds.iter().enumerate().filter(|(_, i)| keep(**i)).map(|(k, _)| k).collect()
    }
}
