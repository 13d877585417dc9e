//! Costs of classes.

use candle_core::{Result, bail};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::mask_cost::binary;
use super::{MATCH_COST, MatchCost, MatchInput, counted, one, rows};

/// `type = "ClassificationCost"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassificationCostConfig {
    /// Factor; default 1.
    #[serde(default = "one")]
    pub weight: f64,
}

/// Minus the softmax probability of the ground truth's class.
#[derive(Debug, Clone)]
pub struct ClassificationCost(ClassificationCostConfig);

impl ClassificationCost {
    /// Never an error.
    pub fn new(cfg: &ClassificationCostConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

/// The costs of each query's classes by `of`, picked for each ground truth.
fn by_class(input: &MatchInput, of: impl Fn(&[f32]) -> Vec<f32>) -> Result<Vec<f32>> {
    counted("match cost: gt_labels", input.gt_labels, input.gts)?;
    let (classes, queries) = rows("match cost: cls_pred", input.cls_pred, input.queries)?;
    if !queries.is_empty() && input.gt_labels.iter().any(|l| *l < 0 || *l as usize >= classes) {
        bail!("match cost: labels {:?}, but {classes} classes", input.gt_labels);
    }
    let row = |q: &[f32]| {
        let costs = of(q);
        input.gt_labels.iter().map(move |l| costs[*l as usize])
    };
    Ok(queries.into_iter().flat_map(row).collect())
}

impl MatchCost for ClassificationCost {
    /// Needs `cls_pred` and `gt_labels`.
    fn cost(&self, input: &MatchInput) -> Result<Vec<f32>> {
        by_class(input, |logits| {
            let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f32> = logits.iter().map(|v| (v - max).exp()).collect();
            let sum: f32 = powers.iter().sum();
            powers.into_iter().map(|p| -(p / sum) * self.0.weight as f32).collect()
        })
    }
}

/// `type = "FocalLossCost"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FocalLossCostConfig {
    /// Factor; default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// Factor of the right answer, 1 less it that of the wrong; default 0.25.
    #[serde(default = "quarter")]
    pub alpha: f64,
    /// How much easy answers are played down; default 2.
    #[serde(default = "two")]
    pub gamma: f64,
    /// Added within the logarithm; default 1e-12.
    #[serde(default = "tiny")]
    pub eps: f64,
    /// Compares masks instead of classes; default false.
    #[serde(default)]
    pub binary_input: bool,
}

fn quarter() -> f64 {
    0.25
}
fn two() -> f64 {
    2.0
}
fn tiny() -> f64 {
    1e-12
}

/// The focal loss's price of the right answer less that of the wrong one.
#[derive(Debug, Clone)]
pub struct FocalLossCost(FocalLossCostConfig);

impl FocalLossCost {
    /// Never an error.
    pub fn new(cfg: &FocalLossCostConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }

    /// Prices of a logit where the answer is yes and where it is no.
    fn prices(&self, logit: f32) -> (f32, f32) {
        let cfg = &self.0;
        let (p, eps, gamma) = (1.0 / (1.0 + (-logit).exp()), cfg.eps as f32, cfg.gamma as f32);
        let no = -(1.0 - p + eps).ln() * (1.0 - cfg.alpha) as f32 * p.powf(gamma);
        let yes = -(p + eps).ln() * cfg.alpha as f32 * (1.0 - p).powf(gamma);
        (yes, no)
    }
}

impl MatchCost for FocalLossCost {
    /// Needs `cls_pred` and `gt_labels`, or with `binary_input` `mask_pred` (logits) and `gt_masks`.
    fn cost(&self, input: &MatchInput) -> Result<Vec<f32>> {
        let weight = self.0.weight as f32;
        if self.0.binary_input {
            return binary(input, weight, |v| self.prices(v));
        }
        let one = |v: &f32| {
            let (yes, no) = self.prices(*v);
            (yes - no) * weight
        };
        by_class(input, |logits| logits.iter().map(one).collect())
    }
}

register!(MATCH_COST: dyn MatchCost, "ClassificationCost" => ClassificationCost(ClassificationCostConfig));
register!(MATCH_COST: dyn MatchCost, "FocalLossCost" => FocalLossCost(FocalLossCostConfig));
