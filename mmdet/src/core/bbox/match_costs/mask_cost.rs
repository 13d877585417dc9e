//! Costs of masks.

use candle_core::{Result, bail};
use mmcv::register;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{MATCH_COST, MatchCost, MatchInput, one, rows};

/// The rows of predicted and true masks, of one length.
fn masks<'v>(input: &MatchInput<'v>) -> Result<(Vec<&'v [f32]>, Vec<&'v [f32]>)> {
    let (a, preds) = rows("match cost: mask_pred", input.mask_pred, input.queries)?;
    let (b, gts) = rows("match cost: gt_masks", input.gt_masks, input.gts)?;
    if a != b && !preds.is_empty() && !gts.is_empty() {
        bail!("match cost: predicted masks of {a} pixels, true ones of {b}");
    }
    Ok((preds, gts))
}

/// The mean price of a mask's pixels, where `prices` gives that of a logit whose pixel is on and whose is off.
pub(super) fn binary(input: &MatchInput, weight: f32, prices: impl Fn(f32) -> (f32, f32) + Sync) -> Result<Vec<f32>> {
    let (preds, gts) = masks(input)?;
    let row = |pred: &&[f32]| {
        let (on, off): (Vec<f32>, Vec<f32>) = pred.iter().map(|v| prices(*v)).unzip();
        let of = |gt: &&[f32]| {
            let sums = (0..gt.len()).fold((0f32, 0f32), |s, i| (s.0 + on[i] * gt[i], s.1 + off[i] * (1.0 - gt[i])));
            (sums.0 + sums.1) / gt.len() as f32 * weight
        };
        gts.iter().map(of).collect::<Vec<f32>>()
    };
    Ok(preds.par_iter().flat_map_iter(row).collect())
}

/// `type = "CrossEntropyLossCost"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropyLossCostConfig {
    /// Factor; default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// Must be true, as in mmdet; default true.
    #[serde(default = "yes")]
    pub use_sigmoid: bool,
}

fn yes() -> bool {
    true
}

/// Mean binary cross entropy of the pixels.
#[derive(Debug, Clone)]
pub struct CrossEntropyLossCost(CrossEntropyLossCostConfig);

impl CrossEntropyLossCost {
    /// An error when `use_sigmoid` is false.
    pub fn new(cfg: &CrossEntropyLossCostConfig) -> Result<Self> {
        if !cfg.use_sigmoid {
            bail!("CrossEntropyLossCost: use_sigmoid is false, only the sigmoid cost exists");
        }
        Ok(Self(cfg.clone()))
    }
}

impl MatchCost for CrossEntropyLossCost {
    /// Needs `mask_pred` (logits) and `gt_masks`.
    fn cost(&self, input: &MatchInput) -> Result<Vec<f32>> {
        let prices = |v: f32| {
            let rest = (-v.abs()).exp().ln_1p();
            ((-v).max(0.0) + rest, v.max(0.0) + rest)
        };
        binary(input, self.0.weight as f32, prices)
    }
}

/// `type = "DiceCost"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiceCostConfig {
    /// Factor; default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// Masks are logits; default false: they are probabilities.
    #[serde(default)]
    pub pred_act: bool,
    /// Added above and below; default 1e-3.
    #[serde(default = "milli")]
    pub eps: f64,
    /// Divides by the sums rather than by the sums of squares; default true.
    #[serde(default = "yes")]
    pub naive_dice: bool,
}

fn milli() -> f64 {
    1e-3
}

/// 1 less the dice coefficient.
#[derive(Debug, Clone)]
pub struct DiceCost(DiceCostConfig);

impl DiceCost {
    /// Never an error.
    pub fn new(cfg: &DiceCostConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

impl MatchCost for DiceCost {
    /// Needs `mask_pred` and `gt_masks`.
    fn cost(&self, input: &MatchInput) -> Result<Vec<f32>> {
        let (preds, gts) = masks(input)?;
        let cfg = &self.0;
        let size = |m: &[f32]| m.iter().map(|v| if cfg.naive_dice { *v } else { v * v }).sum::<f32>();
        let gt_sizes: Vec<f32> = gts.iter().map(|g| size(g)).collect();
        let row = |pred: &&[f32]| {
            let act = |v: &f32| if cfg.pred_act { 1.0 / (1.0 + (-v).exp()) } else { *v };
            let pred: Vec<f32> = pred.iter().map(act).collect();
            let (own, eps) = (size(&pred), cfg.eps as f32);
            let of = |(gt, gt_size): (&&[f32], &f32)| {
                let both: f32 = pred.iter().zip(*gt).map(|(a, b)| a * b).sum();
                (1.0 - (2.0 * both + eps) / (own + gt_size + eps)) * cfg.weight as f32
            };
            gts.iter().zip(&gt_sizes).map(of).collect::<Vec<f32>>()
        };
        Ok(preds.par_iter().flat_map_iter(row).collect())
    }
}

register!(MATCH_COST: dyn MatchCost, "CrossEntropyLossCost" => CrossEntropyLossCost(CrossEntropyLossCostConfig));
register!(MATCH_COST: dyn MatchCost, "DiceCost" => DiceCost(DiceCostConfig));
