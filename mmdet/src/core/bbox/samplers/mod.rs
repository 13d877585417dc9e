//! Which of the assigned priors are trained on.

mod base_sampler;
mod combined_sampler;
mod instance_balanced_pos_sampler;
mod iou_balanced_neg_sampler;
mod ohem_sampler;
mod pseudo_sampler;
mod random_sampler;
mod sampling_result;
mod score_hlr_sampler;
#[cfg(test)]
mod tests;

use candle_core::{Result, bail};
use mmcv::Rng;
use mmcv::registry::registry;

pub use base_sampler::{Balance, Choose, sample_by};
pub use combined_sampler::{CombinedSampler, CombinedSamplerConfig};
pub use instance_balanced_pos_sampler::InstanceBalancedPosSampler;
pub use iou_balanced_neg_sampler::{IoUBalancedNegSampler, IoUBalancedNegSamplerConfig};
pub use ohem_sampler::{OHEMSampler, OHEMSamplerConfig};
pub use pseudo_sampler::{PseudoSampler, PseudoSamplerConfig};
pub use random_sampler::{RandomSampler, RandomSamplerConfig};
pub use sampling_result::SamplingResult;
pub use score_hlr_sampler::{ScoreHLRSampler, ScoreHLRSamplerConfig};

use crate::core::BBox;
use crate::core::bbox::assigners::AssignResult;

registry!(
    /// Samplers of assigned priors.
    pub BBOX_SAMPLERS: dyn Sampler, ()
);

/// What a sampler may ask the head that it samples for; features are the context's affair.
pub trait SampleContext {
    /// Number of classes; this is also the background's label.
    fn num_classes(&self) -> i64;

    /// The classification loss of each box for its label, unreduced.
    fn loss_cls(&self, bboxes: &[BBox], labels: &[i64]) -> Result<Vec<f32>>;

    /// The best class's softmax score of each box, the background aside, and the box decoded for that class.
    fn best(&self, bboxes: &[BBox]) -> Result<Vec<(f32, BBox)>>;
}

/// Draws priors to train on.
pub trait Sampler: Send + Sync {
    /// `bboxes` are the priors that `assigned` speaks of. Labels are needed where the sampler adds the ground truth to
    /// the priors.
    fn sample(
        &self,
        assigned: AssignResult,
        bboxes: &[BBox],
        gt_bboxes: &[BBox],
        gt_labels: Option<&[i64]>,
        rng: &mut Rng,
    ) -> Result<SamplingResult>;

    /// [`Sampler::sample`] for samplers that ask the head; the others leave it alone.
    fn sample_with(
        &self,
        assigned: AssignResult,
        bboxes: &[BBox],
        gt_bboxes: &[BBox],
        gt_labels: Option<&[i64]>,
        rng: &mut Rng,
        _context: &dyn SampleContext,
    ) -> Result<SamplingResult> {
        self.sample(assigned, bboxes, gt_bboxes, gt_labels, rng)
    }

    /// At most `num` positives, as half of a `CombinedSampler`.
    fn sample_pos(&self, _assigned: &AssignResult, _num: usize, _rng: &mut Rng) -> Result<Vec<usize>> {
        bail!("CombinedSampler: this sampler can't draw positives for another")
    }

    /// At most `num` negatives, as half of a `CombinedSampler`.
    fn sample_neg(&self, _assigned: &AssignResult, _num: usize, _rng: &mut Rng) -> Result<Vec<usize>> {
        bail!("CombinedSampler: this sampler can't draw negatives for another")
    }
}
