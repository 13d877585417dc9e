//! Positives by one sampler, negatives by another.

use candle_core::Result;
use mmcv::config::Node;
use mmcv::registry::build_at;
use mmcv::{Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{BBOX_SAMPLERS, Balance, Sampler, SamplingResult, sample_by};
use crate::core::BBox;
use crate::core::bbox::assigners::AssignResult;

/// `type = "CombinedSampler"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CombinedSamplerConfig {
    /// A component of `BBOX_SAMPLERS`; fields it lacks are those given here.
    #[schemars(with = "serde_json::Value")]
    pub pos_sampler: Node,
    /// A component of `BBOX_SAMPLERS`; fields it lacks are those given here.
    #[schemars(with = "serde_json::Value")]
    pub neg_sampler: Node,
    /// Positives and negatives together.
    pub num: usize,
    /// At most this part positives.
    pub pos_fraction: f64,
    /// At most so many negatives for each positive (at least for one); default -1: no bound.
    #[serde(default)]
    pub neg_pos_ub: Option<f64>,
    /// The ground truth takes part as priors; default true.
    #[serde(default)]
    pub add_gt_as_proposals: Option<bool>,
}

/// `type = "CombinedSampler"`.
pub struct CombinedSampler {
    balance: Balance,
    pos_sampler: Box<dyn Sampler>,
    neg_sampler: Box<dyn Sampler>,
}

impl CombinedSampler {
    /// An error for an unknown sampler.
    pub fn new(cfg: &CombinedSamplerConfig) -> mmcv::Result<Self> {
        let build = |key: &str, node: &Node| {
            let mut node = node.clone();
            let mut default = |field: &str, value: Option<Node>| {
                if let Some(value) = value.filter(|_| node.get(field).is_none()) {
                    node.set(field, value);
                }
            };
            default("num", Some(Node::from(cfg.num as i64)));
            default("pos_fraction", Some(Node::from(cfg.pos_fraction)));
            default("neg_pos_ub", cfg.neg_pos_ub.map(Node::from));
            default("add_gt_as_proposals", cfg.add_gt_as_proposals.map(Node::from));
            build_at(&BBOX_SAMPLERS, key, &node, ())
        };
        Ok(Self {
            balance: Balance {
                num: cfg.num,
                pos_fraction: cfg.pos_fraction,
                neg_pos_ub: cfg.neg_pos_ub.unwrap_or(-1.0),
                add_gt_as_proposals: cfg.add_gt_as_proposals.unwrap_or(true),
            },
            pos_sampler: build("pos_sampler", &cfg.pos_sampler)?,
            neg_sampler: build("neg_sampler", &cfg.neg_sampler)?,
        })
    }
}

impl Sampler for CombinedSampler {
    fn sample(
        &self,
        assigned: AssignResult,
        bboxes: &[BBox],
        gt_bboxes: &[BBox],
        gt_labels: Option<&[i64]>,
        rng: &mut Rng,
    ) -> Result<SamplingResult> {
        sample_by(
            self.balance,
            assigned,
            bboxes,
            gt_bboxes,
            gt_labels,
            rng,
            &mut |a, _, num, rng| self.pos_sampler.sample_pos(a, num, rng),
            &mut |a, _, num, rng| self.neg_sampler.sample_neg(a, num, rng),
        )
    }
}

register!(BBOX_SAMPLERS: dyn Sampler, "CombinedSampler" => CombinedSampler(CombinedSamplerConfig));
