//! No sampling: every positive and every negative.

use candle_core::Result;
use mmcv::{Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{BBOX_SAMPLERS, Sampler, SamplingResult};
use crate::core::BBox;
use crate::core::bbox::assigners::AssignResult;

/// `type = "PseudoSampler"`: no fields.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PseudoSamplerConfig {}

/// `type = "PseudoSampler"`.
#[derive(Debug, Clone, Default)]
pub struct PseudoSampler;

impl PseudoSampler {
    /// Never an error.
    pub fn new(_: &PseudoSamplerConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Sampler for PseudoSampler {
    fn sample(
        &self,
        assigned: AssignResult,
        bboxes: &[BBox],
        gt_bboxes: &[BBox],
        _: Option<&[i64]>,
        _: &mut Rng,
    ) -> Result<SamplingResult> {
        SamplingResult::new(assigned.pos_inds(), assigned.neg_inds(), bboxes, gt_bboxes, &assigned, &[])
    }
}

register!(BBOX_SAMPLERS: dyn Sampler, "PseudoSampler" => PseudoSampler(PseudoSamplerConfig));
