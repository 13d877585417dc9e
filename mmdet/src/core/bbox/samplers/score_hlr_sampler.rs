//! Prime Sample Attention in Object Detection, Cao et al., CVPR 2020 (<https://arxiv.org/abs/1904.04821>).

use candle_core::{Result, bail};
use mmcv::{Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::base_sampler::with_gts;
use super::ohem_sampler::{minus_one, yes};
use super::random_sampler::random_choice;
use super::{BBOX_SAMPLERS, Balance, SampleContext, Sampler, SamplingResult};
use crate::core::BBox;
use crate::core::bbox::assigners::AssignResult;
use crate::core::bbox::iou_calculators::{OverlapMode, bbox_overlaps};
use crate::core::post_processing::sort_descending;

/// `type = "ScoreHLRSampler"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreHLRSamplerConfig {
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
    /// Power of the weights; default 0.5.
    #[serde(default = "half")]
    pub k: f64,
    /// What a weight is at least, before the power; default 0.
    #[serde(default)]
    pub bias: f64,
    /// Score above which a negative is ranked; default 0.05.
    #[serde(default = "score_thr")]
    pub score_thr: f64,
    /// Overlap from which predictions belong together; default 0.5.
    #[serde(default = "half")]
    pub iou_thr: f64,
}

fn half() -> f64 {
    0.5
}
fn score_thr() -> f64 {
    0.05
}

/// `type = "ScoreHLRSampler"`: the negatives that matter most, with weights by their rank. Needs the head as context.
/// Negatives stand in the order of their rank.
#[derive(Debug, Clone)]
pub struct ScoreHLRSampler(ScoreHLRSamplerConfig);

/// Groups of overlapping boxes, best first, each in the order of scores; mmcv's `nms_match`.
fn nms_match(bboxes: &[BBox], scores: &[f32], iou_thr: f32) -> Vec<Vec<usize>> {
    let order = sort_descending(scores);
    let mut taken = vec![false; bboxes.len()];
    let mut groups = Vec::new();
    for (place, &i) in order.iter().enumerate() {
        if taken[i] {
            continue;
        }
        let rest: Vec<usize> = order[place + 1..].iter().copied().filter(|j| !taken[*j]).collect();
        let boxes: Vec<BBox> = rest.iter().map(|j| bboxes[*j]).collect();
        let iou = bbox_overlaps(&bboxes[i..=i], &boxes, OverlapMode::Iou);
        let mut group = vec![i];
        group.extend(rest.into_iter().zip(iou).filter(|(_, iou)| *iou >= iou_thr).map(|(j, _)| j));
        group.iter().for_each(|j| taken[*j] = true);
        groups.push(group);
    }
    groups
}

impl ScoreHLRSampler {
    /// Always succeeds.
    pub fn new(cfg: &ScoreHLRSamplerConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }

    /// Negatives and their weights.
    fn negatives(
        &self,
        assigned: &AssignResult,
        bboxes: &[BBox],
        num: usize,
        rng: &mut Rng,
        context: &dyn SampleContext,
    ) -> Result<(Vec<usize>, Vec<f32>)> {
        let cfg = &self.0;
        let inds = assigned.neg_inds();
        if inds.is_empty() {
            return Ok((inds, Vec::new()));
        }
        let boxes: Vec<BBox> = inds.iter().map(|i| bboxes[*i]).collect();
        let losses = context.loss_cls(&boxes, &vec![context.num_classes(); boxes.len()])?;
        let best = context.best(&boxes)?;
        if losses.len() != inds.len() || best.len() != inds.len() {
            bail!("ScoreHLRSampler: {} losses and {} scores for {} boxes", losses.len(), best.len(), inds.len());
        }
        let (valid, invalid): (Vec<usize>, Vec<usize>) =
            (0..inds.len()).partition(|i| best[*i].0 > cfg.score_thr as f32);
        let num = num.min(inds.len());
        if valid.is_empty() {
            let picked = rng.choose(inds.len(), num);
            return Ok((picked.into_iter().map(|i| inds[i]).collect(), vec![1.0; num]));
        }
        // The rank within the group of overlapping predictions counts first, then the score.
        let scores: Vec<f32> = valid.iter().map(|i| best[*i].0).collect();
        let decoded: Vec<BBox> = valid.iter().map(|i| best[*i].1).collect();
        let mut importance = vec![0f32; valid.len()];
        for group in nms_match(&decoded, &scores, cfg.iou_thr as f32) {
            for (rank, i) in group.into_iter().enumerate() {
                importance[i] = valid.len() as f32 - rank as f32 + scores[i];
            }
        }
        let ranked: Vec<usize> = sort_descending(&importance).into_iter().take(num).collect();
        let mut picked: Vec<usize> = ranked.iter().map(|i| valid[*i]).collect();
        let by_rank = picked.len();
        picked.extend(random_choice(invalid, num - by_rank, rng));
        let bound = num.max(valid.len()) as f32;
        let mut weights: Vec<f32> = (0..by_rank).map(|rank| (bound - rank as f32) / bound).collect();
        weights.resize(picked.len(), weights.last().copied().unwrap_or(1.0));
        let bias = cfg.bias as f32;
        weights.iter_mut().for_each(|w| *w = (bias + (1.0 - bias) * *w).powf(cfg.k as f32));
        // The weights leave the sum of the losses as it was.
        let before: f32 = picked.iter().map(|i| losses[*i]).sum();
        let after: f32 = picked.iter().zip(&weights).map(|(i, w)| losses[*i] * w).sum();
        weights.iter_mut().for_each(|w| *w *= before / after);
        Ok((picked.into_iter().map(|i| inds[i]).collect(), weights))
    }
}

impl Sampler for ScoreHLRSampler {
    fn sample(
        &self,
        _: AssignResult,
        _: &[BBox],
        _: &[BBox],
        _: Option<&[i64]>,
        _: &mut Rng,
    ) -> Result<SamplingResult> {
        bail!("ScoreHLRSampler: needs a head to ask for scores")
    }

    fn sample_with(
        &self,
        mut assigned: AssignResult,
        bboxes: &[BBox],
        gt_bboxes: &[BBox],
        gt_labels: Option<&[i64]>,
        rng: &mut Rng,
        context: &dyn SampleContext,
    ) -> Result<SamplingResult> {
        let cfg = &self.0;
        let balance = Balance {
            num: cfg.num,
            pos_fraction: cfg.pos_fraction,
            neg_pos_ub: cfg.neg_pos_ub,
            add_gt_as_proposals: cfg.add_gt_as_proposals,
        };
        let (all, gt_flags) = with_gts(balance, &mut assigned, bboxes, gt_bboxes, gt_labels)?;
        let pos_inds = random_choice(assigned.pos_inds(), balance.positives(), rng);
        let wanted = balance.negatives(pos_inds.len());
        let (neg_inds, weights) = self.negatives(&assigned, &all, wanted, rng, context)?;
        let mut result = SamplingResult::new(pos_inds, neg_inds, &all, gt_bboxes, &assigned, &gt_flags)?;
        result.neg_label_weights = Some(weights);
        Ok(result)
    }
}

register!(BBOX_SAMPLERS: dyn Sampler, "ScoreHLRSampler" => ScoreHLRSampler(ScoreHLRSamplerConfig));
