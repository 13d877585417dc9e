//! MaxIoU assignment where a position's overlap is the best of several boxes around it (Guided Anchoring, SABL).

use candle_core::{Result, bail};
use mmcv::register;

use super::{AssignInput, AssignResult, Assigner, BBOX_ASSIGNERS, MaxIoUAssigner, MaxIoUAssignerConfig, check_labels};

/// `type = "ApproxMaxIoUAssigner"`: fields of `MaxIoUAssigner`.
pub struct ApproxMaxIoUAssigner(MaxIoUAssigner);

impl ApproxMaxIoUAssigner {
    /// An error for an unknown overlap calculator.
    pub fn new(cfg: &MaxIoUAssignerConfig) -> mmcv::Result<Self> {
        Ok(Self(MaxIoUAssigner::new(cfg)?))
    }
}

impl Assigner for ApproxMaxIoUAssigner {
    /// `bboxes` are the squares, one per position; needs `approxs` and `approxs_per_octave`.
    fn assign_input(&self, input: &AssignInput) -> Result<AssignResult> {
        check_labels(input)?;
        let (n, k, per) = (input.bboxes.len(), input.gt_bboxes.len(), input.approxs_per_octave);
        if n == 0 || k == 0 {
            return Ok(AssignResult::empty(k, n, input.gt_labels));
        }
        if per == 0 || input.approxs.len() != n * per {
            bail!("ApproxMaxIoUAssigner: {} approxs, {per} each, for {n} positions", input.approxs.len());
        }
        let mut overlaps = Vec::with_capacity(k * n);
        for gt in input.gt_bboxes {
            let row = self.0.overlaps(std::slice::from_ref(gt), input.approxs);
            overlaps.extend(row.chunks(per).map(|c| c.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b))));
        }
        self.0.forget_ignored(&mut overlaps, input);
        Ok(self.0.assign_wrt_overlaps(&overlaps, k, input.gt_labels))
    }
}

register!(BBOX_ASSIGNERS: dyn Assigner, "ApproxMaxIoUAssigner" => ApproxMaxIoUAssigner(MaxIoUAssignerConfig));
