//! Positives and negatives at random.

use candle_core::{Result, bail};
use mmcv::{Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{BBOX_SAMPLERS, Balance, Sampler, SamplingResult, sample_by};
use crate::core::BBox;
use crate::core::bbox::assigners::AssignResult;

/// `type = "RandomSampler"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomSamplerConfig {
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
    /// Takes the first ones instead of drawing; default false. Not in mmdet: for comparing two programs step by step.
    #[serde(default)]
    pub take_first: bool,
}

fn minus_one() -> f64 {
    -1.0
}
fn yes() -> bool {
    true
}

/// `type = "RandomSampler"`.
#[derive(Debug, Clone)]
pub struct RandomSampler(RandomSamplerConfig);

impl RandomSampler {
    /// An error for a fraction outside 0 to 1.
    pub fn new(cfg: &RandomSamplerConfig) -> Result<Self> {
        if !(0.0..=1.0).contains(&cfg.pos_fraction) {
            bail!("RandomSampler: pos_fraction {} is not within 0 to 1", cfg.pos_fraction);
        }
        Ok(Self(cfg.clone()))
    }

    pub(super) fn balance(&self) -> Balance {
        let cfg = &self.0;
        Balance {
            num: cfg.num,
            pos_fraction: cfg.pos_fraction,
            neg_pos_ub: cfg.neg_pos_ub,
            add_gt_as_proposals: cfg.add_gt_as_proposals,
        }
    }

    /// `num` of `gallery`; all of them, in order, when there are no more.
    pub(super) fn choose(&self, mut gallery: Vec<usize>, num: usize, rng: &mut Rng) -> Vec<usize> {
        if self.0.take_first {
            gallery.truncate(num);
            return gallery;
        }
        random_choice(gallery, num, rng)
    }
}

/// `num` of `gallery` at random; all of them, in order, when there are no more.
pub(super) fn random_choice(gallery: Vec<usize>, num: usize, rng: &mut Rng) -> Vec<usize> {
    if gallery.len() <= num {
        return gallery;
    }
    rng.choose(gallery.len(), num).into_iter().map(|i| gallery[i]).collect()
}

impl Sampler for RandomSampler {
    fn sample(
        &self,
        assigned: AssignResult,
        bboxes: &[BBox],
        gt_bboxes: &[BBox],
        gt_labels: Option<&[i64]>,
        rng: &mut Rng,
    ) -> Result<SamplingResult> {
        sample_by(
            self.balance(),
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
        Ok(self.choose(assigned.pos_inds(), num, rng))
    }

    fn sample_neg(&self, assigned: &AssignResult, num: usize, rng: &mut Rng) -> Result<Vec<usize>> {
        Ok(self.choose(assigned.neg_inds(), num, rng))
    }
}

register!(BBOX_SAMPLERS: dyn Sampler, "RandomSampler" => RandomSampler(RandomSamplerConfig));

#[cfg(test)]
mod tests {
    use mmcv::Rng;
    use proptest::prelude::*;

    use super::*;
    use crate::core::bbox::samplers::PseudoSampler;
    use crate::core::testing::boxes;

    fn make(json: &str) -> RandomSampler {
        RandomSampler::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    /// Ten priors: ground truth 1 three times, 2 once, two ignored, four background.
    fn assigned() -> AssignResult {
        AssignResult::new(2, vec![1, 0, -1, 2, 0, 1, 0, -1, 0, 1], vec![0.5; 10], Some(&[7, 8]))
    }

    // RandomSampler(num=6, pos_fraction=0.5) with random_choice = lambda self, g, n: g[:n], on the assignment above:
    // s = ...sample(assign_result, boxes(10, 1), boxes(2, 2), torch.tensor([7, 8]))
    // s.pos_inds, s.neg_inds, s.pos_is_gt, s.pos_assigned_gt_inds, s.pos_gt_labels
    #[test]
    fn the_first_ones_are_mmdets_with_its_choice_patched() {
        let s = make(r#"{"num": 6, "pos_fraction": 0.5, "take_first": true}"#);
        let (priors, gts) = (boxes(10, 1), boxes(2, 2));
        let r = s.sample(assigned(), &priors, &gts, Some(&[7, 8]), &mut Rng::new(0)).unwrap();
        assert_eq!((r.pos_inds.as_slice(), r.neg_inds.as_slice()), (&[0, 1, 2][..], &[3, 6, 8][..]));
        assert_eq!(r.pos_is_gt, [true, true, false]);
        assert_eq!(r.pos_assigned_gt_inds, [0, 1, 0]);
        assert_eq!(r.pos_gt_labels.as_deref(), Some(&[7, 8, 7][..]));
        assert_eq!(r.bboxes(), [gts[0], gts[1], priors[0], priors[1], priors[4], priors[6]]);
        assert_eq!(r.pos_gt_bboxes, [gts[0], gts[1], gts[0]]);
    }

    #[test]
    fn negatives_are_bounded_and_the_ground_truth_needs_labels() {
        let s = make(r#"{"num": 9, "pos_fraction": 0.1, "neg_pos_ub": 2, "add_gt_as_proposals": false}"#);
        let (priors, gts) = (boxes(10, 1), boxes(2, 2));
        let r = s.sample(assigned(), &priors, &gts, None, &mut Rng::new(0)).unwrap();
        assert_eq!((r.pos_inds.len(), r.neg_inds.len()), (0, 2));
        let s = make(r#"{"num": 9, "pos_fraction": 0.5}"#);
        assert!(s.sample(assigned(), &priors, &gts, None, &mut Rng::new(0)).is_err());
        let none = AssignResult::new(0, vec![0; 10], vec![0.0; 10], Some(&[]));
        let r = s.sample(none, &priors, &[], Some(&[]), &mut Rng::new(0)).unwrap();
        assert_eq!((r.pos_inds.len(), r.neg_inds.len(), r.pos_gt_bboxes.len()), (0, 9, 0));
        assert!(RandomSampler::new(&serde_json::from_str(r#"{"num": 1, "pos_fraction": 1.5}"#).unwrap()).is_err());
    }

    #[test]
    fn without_sampling_all_take_part() {
        let r = PseudoSampler.sample(assigned(), &boxes(10, 1), &boxes(2, 2), None, &mut Rng::new(0)).unwrap();
        assert_eq!((r.pos_inds.as_slice(), r.neg_inds.as_slice()), (&[0, 3, 5, 9][..], &[1, 4, 6, 8][..]));
        assert_eq!(r.pos_is_gt, [false; 4]);
    }

    #[test]
    fn every_positive_has_the_same_chance() {
        let s = make(r#"{"num": 4, "pos_fraction": 0.5, "add_gt_as_proposals": false}"#);
        let (priors, gts, mut rng, mut hits) = (boxes(10, 1), boxes(2, 2), Rng::new(5), [0u32; 10]);
        for _ in 0..4000 {
            let r = s.sample(assigned(), &priors, &gts, None, &mut rng).unwrap();
            r.pos_inds.iter().chain(&r.neg_inds).for_each(|i| hits[*i] += 1);
        }
        // Two of four each time: 2000 expected, standard deviation 32.
        assert!(
            (0..10).all(|i| if [2, 7].contains(&i) { hits[i] == 0 } else { hits[i].abs_diff(2000) < 160 }),
            "{hits:?}"
        );
    }

    proptest! {
        #[test]
        fn as_many_as_asked_for_and_of_the_right_kind(inds in prop::collection::vec(-1i64..3, 0..60), num in 1usize..40, seed: u64) {
            let s = make(&format!(r#"{{"num": {num}, "pos_fraction": 0.25, "add_gt_as_proposals": false}}"#));
            let a = AssignResult::new(2, inds.clone(), vec![0.0; inds.len()], None);
            let (pos, neg) = (a.pos_inds().len(), a.neg_inds().len());
            let r = s.sample(a, &boxes(inds.len(), 1), &boxes(2, 2), None, &mut Rng::new(seed)).unwrap();
            prop_assert_eq!(r.pos_inds.len(), pos.min(num / 4));
            prop_assert_eq!(r.neg_inds.len(), neg.min(num - r.pos_inds.len()));
            prop_assert!(r.pos_inds.iter().all(|i| inds[*i] > 0) && r.neg_inds.iter().all(|i| inds[*i] == 0));
        }
    }
}
