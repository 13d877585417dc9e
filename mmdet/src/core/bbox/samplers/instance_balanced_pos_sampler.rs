//! As many positives for each ground truth (Libra R-CNN).

use candle_core::Result;
use mmcv::{Rng, register};

use super::random_sampler::random_choice;
use super::{BBOX_SAMPLERS, RandomSampler, RandomSamplerConfig, Sampler, SamplingResult, sample_by};
use crate::core::BBox;
use crate::core::bbox::assigners::AssignResult;

/// `type = "InstanceBalancedPosSampler"`: fields of `RandomSampler`. Negatives are drawn at random.
#[derive(Debug, Clone)]
pub struct InstanceBalancedPosSampler(RandomSampler);

impl InstanceBalancedPosSampler {
    /// An error for a fraction outside 0 to 1.
    pub fn new(cfg: &RandomSamplerConfig) -> Result<Self> {
        Ok(Self(RandomSampler::new(cfg)?))
    }
}

impl Sampler for InstanceBalancedPosSampler {
    fn sample(
        &self,
        assigned: AssignResult,
        bboxes: &[BBox],
        gt_bboxes: &[BBox],
        gt_labels: Option<&[i64]>,
        rng: &mut Rng,
    ) -> Result<SamplingResult> {
        sample_by(
            self.0.balance(),
            assigned,
            bboxes,
            gt_bboxes,
            gt_labels,
            rng,
            &mut |a, _, num, rng| self.sample_pos(a, num, rng),
            &mut |a, _, num, rng| self.sample_neg(a, num, rng),
        )
    }

    fn sample_pos(&self, assigned: &AssignResult, num: usize, rng: &mut Rng) -> Result<Vec<usize>> {
        let positives = assigned.pos_inds();
        if positives.len() <= num {
            return Ok(positives);
        }
        let mut of_gt = vec![Vec::new(); assigned.gt_inds.iter().copied().max().unwrap_or(0).max(0) as usize + 1];
        positives.iter().for_each(|i| of_gt[assigned.gt_inds[*i] as usize].push(*i));
        of_gt.retain(|inds| !inds.is_empty());
        let each = (num as f64 / of_gt.len() as f64).round_ties_even() as usize + 1;
        let mut sampled: Vec<usize> = of_gt.into_iter().flat_map(|inds| random_choice(inds, each, rng)).collect();
        if sampled.len() > num {
            return Ok(random_choice(sampled, num, rng));
        }
        // As in mmdet the rest is drawn from all positives, those already drawn too: these then count once.
        let missing = num - sampled.len();
        if missing > 0 {
            sampled.extend(random_choice(positives, missing, rng));
        }
        Ok(sampled)
    }

    fn sample_neg(&self, assigned: &AssignResult, num: usize, rng: &mut Rng) -> Result<Vec<usize>> {
        self.0.sample_neg(assigned, num, rng)
    }
}

register!(BBOX_SAMPLERS: dyn Sampler, "InstanceBalancedPosSampler" => InstanceBalancedPosSampler(RandomSamplerConfig));
