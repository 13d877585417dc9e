//! Negatives evenly over the overlaps they have (Libra R-CNN).

use candle_core::{Result, bail};
use mmcv::{Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::random_sampler::random_choice;
use super::{BBOX_SAMPLERS, Balance, Sampler, SamplingResult, sample_by};
use crate::core::BBox;
use crate::core::bbox::assigners::AssignResult;

/// `type = "IoUBalancedNegSampler"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IoUBalancedNegSamplerConfig {
    /// Positives and negatives together.
    pub num: usize,
    /// At most this part positives.
    pub pos_fraction: f64,
    /// At most so many negatives for each positive (at least for one); default -1: no bound.
    #[serde(default = "minus_one")]
    pub neg_pos_ub: f64,
    /// The ground truth takes part as priors; default true.
    #[serde(default = "yes")]
    pub add_gt_as_proposals: bool,
    /// Overlap from which negatives are balanced; default -1, which is 0 here.
    #[serde(default = "minus_one")]
    pub floor_thr: f64,
    /// Part of the negatives that is drawn below `floor_thr`; default 0.
    #[serde(default)]
    pub floor_fraction: f64,
    /// Ranges of overlap that get as many negatives each; default 3.
    #[serde(default = "three")]
    pub num_bins: usize,
}

fn minus_one() -> f64 {
    -1.0
}
fn yes() -> bool {
    true
}
fn three() -> usize {
    3
}

/// `type = "IoUBalancedNegSampler"`. Positives are drawn at random.
///
/// Differs from mmdet: with `floor_thr = -1` mmdet's first draw takes negatives without overlap into the lowest range, and
/// sets the threshold to 0 for all later ones. Here it is 0 from the start.
#[derive(Debug, Clone)]
pub struct IoUBalancedNegSampler(IoUBalancedNegSamplerConfig);

impl IoUBalancedNegSampler {
    /// An error for a threshold that is negative but not -1, a fraction outside 0 to 1, or no bins.
    pub fn new(cfg: &IoUBalancedNegSamplerConfig) -> Result<Self> {
        let unit = 0.0..=1.0;
        if !(cfg.floor_thr >= 0.0 || cfg.floor_thr == -1.0) || cfg.num_bins == 0 {
            bail!(
                "IoUBalancedNegSampler: floor_thr {}, num_bins {}; 0 or more, or -1, and 1 or more",
                cfg.floor_thr,
                cfg.num_bins
            );
        }
        if !unit.contains(&cfg.floor_fraction) || !unit.contains(&cfg.pos_fraction) {
            bail!("IoUBalancedNegSampler: fractions {} and {}, 0 to 1", cfg.floor_fraction, cfg.pos_fraction);
        }
        Ok(Self(cfg.clone()))
    }

    fn by_range(&self, overlaps: &[f32], from: &[usize], num: usize, rng: &mut Rng) -> Vec<usize> {
        let (bins, floor) = (self.0.num_bins, self.0.floor_thr.max(0.0));
        let most = f64::from(overlaps.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let width = (most - floor) / bins as f64;
        let mut sampled = Vec::with_capacity(num);
        for i in 0..bins {
            let (start, end) = ((floor + i as f64 * width) as f32, (floor + (i + 1) as f64 * width) as f32);
            let within = from.iter().copied().filter(|k| overlaps[*k] >= start && overlaps[*k] < end).collect();
            sampled.extend(random_choice(within, num / bins, rng));
        }
        fill(sampled, from, num, rng)
    }
}

/// `sampled` with others of `from`, up to `num`.
fn fill(mut sampled: Vec<usize>, from: &[usize], num: usize, rng: &mut Rng) -> Vec<usize> {
    if sampled.len() < num {
        let taken: std::collections::HashSet<usize> = sampled.iter().copied().collect();
        let others = from.iter().copied().filter(|i| !taken.contains(i)).collect();
        sampled.extend(random_choice(others, num - sampled.len(), rng));
    }
    sampled
}

impl Sampler for IoUBalancedNegSampler {
    fn sample(
        &self,
        assigned: AssignResult,
        bboxes: &[BBox],
        gt_bboxes: &[BBox],
        gt_labels: Option<&[i64]>,
        rng: &mut Rng,
    ) -> Result<SamplingResult> {
        let cfg = &self.0;
        let balance = Balance {
            num: cfg.num,
            pos_fraction: cfg.pos_fraction,
            neg_pos_ub: cfg.neg_pos_ub,
            add_gt_as_proposals: cfg.add_gt_as_proposals,
        };
        sample_by(
            balance,
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
        Ok(random_choice(assigned.pos_inds(), num, rng))
    }

    fn sample_neg(&self, assigned: &AssignResult, num: usize, rng: &mut Rng) -> Result<Vec<usize>> {
        let negatives = assigned.neg_inds();
        if negatives.len() <= num {
            return Ok(negatives);
        }
        let (overlaps, floor) = (&assigned.max_overlaps, self.0.floor_thr as f32);
        let is_floor =
            |i: &usize| overlaps[*i] >= 0.0 && if floor > 0.0 { overlaps[*i] < floor } else { overlaps[*i] == 0.0 };
        let is_high = |i: &usize| if floor > 0.0 { overlaps[*i] >= floor } else { overlaps[*i] > 0.0 };
        let low: Vec<usize> = negatives.iter().copied().filter(is_floor).collect();
        let high: Vec<usize> = negatives.iter().copied().filter(is_high).collect();
        let wanted = (num as f64 * (1.0 - self.0.floor_fraction)) as usize;
        let from_high = match high.len() {
            n if n <= wanted => high,
            _ if self.0.num_bins >= 2 => self.by_range(overlaps, &high, wanted, rng),
            _ => random_choice(high, wanted, rng),
        };
        let mut sampled = random_choice(low, num - from_high.len(), rng);
        sampled.extend(from_high);
        Ok(fill(sampled, &negatives, num, rng))
    }
}

register!(BBOX_SAMPLERS: dyn Sampler, "IoUBalancedNegSampler" => IoUBalancedNegSampler(IoUBalancedNegSamplerConfig));
