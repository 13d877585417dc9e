//! Adaptive Training Sample Selection, Zhang et al., CVPR 2020 (<https://arxiv.org/abs/1912.02424>).

use candle_core::{Result, bail};
use mmcv::config::Node;
use mmcv::register;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{AssignInput, AssignResult, Assigner, BBOX_ASSIGNERS, best_pairs, check_labels, inside_by};
use crate::core::BBox;
use crate::core::bbox::iou_calculators::{IouCalculator, OverlapMode, build_iou_calculator};
use crate::core::post_processing::smallest;

/// `type = "ATSSAssigner"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ATSSAssignerConfig {
    /// Candidates of each level for each ground truth.
    pub topk: usize,
    /// Weighs overlap against score (DDOD, which also gives predictions); by default only anchors' overlaps count.
    #[serde(default)]
    pub alpha: Option<f64>,
    /// A component of `IOU_CALCULATORS`; default `BboxOverlaps2D`.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    pub iou_calculator: Node,
    /// Part of a prior inside an ignored box from which it is ignored; off unless positive, default -1.
    #[serde(default = "minus_one")]
    pub ignore_iof_thr: f64,
}

fn minus_one() -> f64 {
    -1.0
}

/// `type = "ATSSAssigner"`: the priors nearest to a ground truth's centre whose overlap is above mean plus deviation.
pub struct ATSSAssigner {
    cfg: ATSSAssignerConfig,
    iou_calculator: Box<dyn IouCalculator>,
}

/// mmdet's "infinite" distance.
const INF: f32 = 1e8;

impl ATSSAssigner {
    /// An error for an unknown overlap calculator.
    pub fn new(cfg: &ATSSAssignerConfig) -> mmcv::Result<Self> {
        Ok(Self { cfg: cfg.clone(), iou_calculator: build_iou_calculator(&cfg.iou_calculator)? })
    }

    /// Overlap, or score and overlap, of each candidate with its ground truth.
    fn overlaps(&self, input: &AssignInput, gt: usize, candidates: &[usize]) -> Result<Vec<f32>> {
        let gts = vec![input.gt_bboxes[gt]; candidates.len()];
        let of = |b: &[BBox]| candidates.iter().map(|i| b[*i]).collect::<Vec<_>>();
        let Some(alpha) = self.cfg.alpha else {
            return Ok(self.iou_calculator.aligned(&of(input.bboxes), &gts, OverlapMode::Iou));
        };
        let n = input.bboxes.len();
        let (Some(scores), Some(preds), Some(labels)) = (input.pred_scores, input.pred_bboxes, input.gt_labels) else {
            bail!("ATSSAssigner: alpha is set, which needs predicted scores and boxes and labels");
        };
        let (classes, class) = (scores.len() / n, labels[gt] as usize);
        if preds.len() != n || classes * n != scores.len() || class >= classes {
            bail!("ATSSAssigner: {} boxes and {} scores predicted for {n} priors", preds.len(), scores.len());
        }
        let iou = self.iou_calculator.aligned(&of(preds), &gts, OverlapMode::Iou);
        let cost = |(i, iou): (&usize, f32)| {
            let score = 1.0 / (1.0 + (-scores[i * classes + class]).exp());
            score.powf((1.0 - alpha) as f32) * iou.powf(alpha as f32)
        };
        Ok(candidates.iter().zip(iou).map(cost).collect())
    }

    /// The priors a ground truth may have, with their overlaps.
    fn positives(&self, input: &AssignInput, gt: usize, ignored: &[bool]) -> Result<Vec<(usize, f32)>> {
        let center = |b: &BBox| ((b[0] + b[2]) / 2.0, (b[1] + b[3]) / 2.0);
        let (gx, gy) = center(&input.gt_bboxes[gt]);
        let distance = |i: usize| {
            if ignored.get(i).is_some_and(|v| *v) {
                return INF;
            }
            let (x, y) = center(&input.bboxes[i]);
            ((x - gx) * (x - gx) + (y - gy) * (y - gy)).sqrt()
        };
        let (mut candidates, mut start) = (Vec::new(), 0);
        for n in input.num_level_bboxes {
            let level: Vec<f32> = (start..start + n).map(distance).collect();
            candidates.extend(smallest(&level, self.cfg.topk).into_iter().map(|i| start + i));
            start += n;
        }
        let overlaps = self.overlaps(input, gt, &candidates)?;
        let threshold = mean(&overlaps) + std(&overlaps);
        let inside = |i: usize| inside_by(&input.gt_bboxes[gt], center(&input.bboxes[i]), 0.01);
        Ok(candidates.into_iter().zip(overlaps).filter(|(i, v)| *v >= threshold && inside(*i)).collect())
    }
}

/// The mean as torch sums a column in f32: sixteen at a time.
fn mean(v: &[f32]) -> f32 {
    let whole = v.len() / 16 * 16;
    let blocks = v[..whole].chunks(16).map(|c| c.iter().sum::<f32>()).fold(0f32, |a, b| a + b);
    (v[whole..].iter().sum::<f32>() + blocks) / v.len() as f32
}

/// The unbiased deviation; not a number for a single value, as in torch.
fn std(v: &[f32]) -> f32 {
    let n = v.len() as f64;
    let mean = v.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    (v.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt() as f32
}

impl Assigner for ATSSAssigner {
    /// Needs `num_level_bboxes`.
    fn assign_input(&self, input: &AssignInput) -> Result<AssignResult> {
        check_labels(input)?;
        let (n, k) = (input.bboxes.len(), input.gt_bboxes.len());
        if input.num_level_bboxes.iter().sum::<usize>() != n {
            bail!("ATSSAssigner: levels of {:?} priors, but {n} priors", input.num_level_bboxes);
        }
        if n == 0 || k == 0 {
            return Ok(AssignResult::new(k, vec![0; n], vec![0.0; n], input.gt_labels));
        }
        let mut gt_inds = vec![0; n];
        let mut ignored = Vec::new();
        if self.cfg.ignore_iof_thr > 0.0 && !input.gt_bboxes_ignore.is_empty() {
            let iof = self.iou_calculator.overlaps(input.bboxes, input.gt_bboxes_ignore, OverlapMode::Iof);
            let thr = self.cfg.ignore_iof_thr as f32;
            ignored = iof.chunks(input.gt_bboxes_ignore.len()).map(|row| row.iter().any(|v| *v > thr)).collect();
            gt_inds.iter_mut().zip(&ignored).filter(|(_, i)| **i).for_each(|(v, _)| *v = -1);
        }
        let positives: Vec<Vec<(usize, f32)>> =
            (0..k).into_par_iter().map(|gt| self.positives(input, gt, &ignored)).collect::<Result<_>>()?;
        let max_overlaps = best_pairs(&positives, &mut gt_inds, -INF);
        Ok(AssignResult::new(k, gt_inds, max_overlaps, input.gt_labels))
    }
}

register!(BBOX_ASSIGNERS: dyn Assigner, "ATSSAssigner" => ATSSAssigner(ATSSAssignerConfig));
