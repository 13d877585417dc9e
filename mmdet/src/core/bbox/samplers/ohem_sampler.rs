//! Training Region-based Object Detectors with Online Hard Example Mining, Shrivastava et al., CVPR 2016
//! (<https://arxiv.org/abs/1604.03540>).

use candle_core::{Result, bail};
use mmcv::{Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{BBOX_SAMPLERS, Balance, SampleContext, Sampler, SamplingResult, sample_by};
use crate::core::BBox;
use crate::core::bbox::assigners::AssignResult;
use crate::core::post_processing::sort_descending;

/// `type = "OHEMSampler"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OHEMSamplerConfig {
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
    /// The loss that says what is hard; only `loss_cls`, the default.
    #[serde(default = "loss_cls")]
    pub loss_key: String,
}

pub(super) fn minus_one() -> f64 {
    -1.0
}
pub(super) fn yes() -> bool {
    true
}
fn loss_cls() -> String {
    "loss_cls".into()
}

/// `type = "OHEMSampler"`: those with the largest classification loss. Needs the head as context.
#[derive(Debug, Clone)]
pub struct OHEMSampler(OHEMSamplerConfig);

impl OHEMSampler {
    /// An error for another `loss_key`.
    pub fn new(cfg: &OHEMSamplerConfig) -> Result<Self> {
        if cfg.loss_key != "loss_cls" {
            bail!("OHEMSampler: loss_key '{}', only 'loss_cls' is computed for a box without a target", cfg.loss_key);
        }
        Ok(Self(cfg.clone()))
    }
}

/// The `num` of `inds` whose loss is largest; all when there are no more.
fn hardest(
    inds: Vec<usize>,
    num: usize,
    bboxes: &[BBox],
    label: impl Fn(usize) -> i64,
    context: &dyn SampleContext,
) -> Result<Vec<usize>> {
    if inds.len() <= num {
        return Ok(inds);
    }
    let boxes: Vec<BBox> = inds.iter().map(|i| bboxes[*i]).collect();
    let labels: Vec<i64> = inds.iter().map(|i| label(*i)).collect();
    let losses = context.loss_cls(&boxes, &labels)?;
    if losses.len() != inds.len() {
        bail!("OHEMSampler: {} losses for {} boxes", losses.len(), inds.len());
    }
    Ok(sort_descending(&losses).into_iter().take(num).map(|k| inds[k]).collect())
}

impl Sampler for OHEMSampler {
    fn sample(
        &self,
        _: AssignResult,
        _: &[BBox],
        _: &[BBox],
        _: Option<&[i64]>,
        _: &mut Rng,
    ) -> Result<SamplingResult> {
        bail!("OHEMSampler: needs a head to ask for losses")
    }

    fn sample_with(
        &self,
        assigned: AssignResult,
        bboxes: &[BBox],
        gt_bboxes: &[BBox],
        gt_labels: Option<&[i64]>,
        rng: &mut Rng,
        context: &dyn SampleContext,
    ) -> Result<SamplingResult> {
        let cfg = &self.0;
        let Some(labels) = assigned.labels.clone() else { bail!("OHEMSampler: needs an assignment with labels") };
        let balance = Balance {
            num: cfg.num,
            pos_fraction: cfg.pos_fraction,
            neg_pos_ub: cfg.neg_pos_ub,
            add_gt_as_proposals: cfg.add_gt_as_proposals,
        };
        let label = |a: &AssignResult, i: usize| a.labels.as_ref().unwrap_or(&labels)[i];
        sample_by(
            balance,
            assigned,
            bboxes,
            gt_bboxes,
            gt_labels,
            rng,
            &mut |a, all, num, _| hardest(a.pos_inds(), num, all, |i| label(a, i), context),
            &mut |a, all, num, _| hardest(a.neg_inds(), num, all, |_| context.num_classes(), context),
        )
    }
}

register!(BBOX_SAMPLERS: dyn Sampler, "OHEMSampler" => OHEMSampler(OHEMSamplerConfig));
