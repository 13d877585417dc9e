//! Which of the assigned priors are trained on.

mod base_sampler;
mod pseudo_sampler;
mod random_sampler;
mod sampling_result;

use candle_core::Result;
use mmcv::Rng;
use mmcv::registry::registry;

pub use base_sampler::{Balance, Choose, sample_by};
pub use pseudo_sampler::{PseudoSampler, PseudoSamplerConfig};
pub use random_sampler::{RandomSampler, RandomSamplerConfig};
pub use sampling_result::SamplingResult;

use crate::core::BBox;
use crate::core::bbox::assigners::AssignResult;

registry!(
    /// Samplers of assigned priors.
    pub BBOX_SAMPLERS: dyn Sampler, ()
);

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
}
