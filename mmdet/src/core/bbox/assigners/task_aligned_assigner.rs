//! TOOD: Task-aligned One-stage Object Detection, Feng et al., ICCV 2021 (<https://arxiv.org/abs/2108.07755>).

use candle_core::{Result, bail};
use mmcv::config::Node;
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{AssignInput, AssignResult, Assigner, BBOX_ASSIGNERS, best_pairs, check_labels, inside_by};
use crate::core::bbox::iou_calculators::{IouCalculator, OverlapMode, build_iou_calculator};
use crate::core::post_processing::sort_descending;

/// `type = "TaskAlignedAssigner"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskAlignedAssignerConfig {
    /// Candidates of each ground truth.
    pub topk: usize,
    /// A component of `IOU_CALCULATORS`; default `BboxOverlaps2D`.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    pub iou_calculator: Node,
}

/// `type = "TaskAlignedAssigner"`: the priors whose predictions have the largest `score^alpha * overlap^beta`.
/// The result's `extras.assign_metrics` holds that product.
pub struct TaskAlignedAssigner {
    topk: usize,
    iou_calculator: Box<dyn IouCalculator>,
}

impl TaskAlignedAssigner {
    /// An error for a `topk` of 0 or an unknown overlap calculator.
    pub fn new(cfg: &TaskAlignedAssignerConfig) -> mmcv::Result<Self> {
        if cfg.topk == 0 {
            return Err(mmcv::Error::config("TaskAlignedAssigner: topk is 0"));
        }
        Ok(Self { topk: cfg.topk, iou_calculator: build_iou_calculator(&cfg.iou_calculator)? })
    }
}

impl Assigner for TaskAlignedAssigner {
    /// `pred_scores` are probabilities; needs them, `pred_bboxes`, labels, `alpha` and `beta`.
    fn assign_input(&self, input: &AssignInput) -> Result<AssignResult> {
        check_labels(input)?;
        let (n, k) = (input.bboxes.len(), input.gt_bboxes.len());
        if n == 0 || k == 0 {
            let mut result = AssignResult::new(k, vec![0; n], vec![0.0; n], input.gt_labels);
            result.extras.assign_metrics = vec![0.0; n];
            return Ok(result);
        }
        let (Some(scores), Some(preds), Some(labels)) = (input.pred_scores, input.pred_bboxes, input.gt_labels) else {
            bail!("TaskAlignedAssigner: needs predicted scores and boxes and labels");
        };
        let classes = scores.len() / n;
        if preds.len() != n || classes * n != scores.len() || labels.iter().any(|l| *l < 0 || *l as usize >= classes) {
            bail!(
                "TaskAlignedAssigner: {} boxes, {} scores for {n} priors, labels {labels:?}",
                preds.len(),
                scores.len()
            );
        }
        let overlaps = self.iou_calculator.overlaps(input.gt_bboxes, preds, OverlapMode::Iou);
        let (alpha, beta) = (input.alpha as f32, input.beta as f32);
        let metric = |gt: usize, i: usize| {
            scores[i * classes + labels[gt] as usize].powf(alpha) * overlaps[gt * n + i].powf(beta)
        };
        let positives = |gt: usize| {
            let metrics: Vec<f32> = (0..n).map(|i| metric(gt, i)).collect();
            let inside = |i: usize| {
                let b = input.bboxes[i];
                inside_by(&input.gt_bboxes[gt], ((b[0] + b[2]) / 2.0, (b[1] + b[3]) / 2.0), 0.01)
            };
            let best = sort_descending(&metrics).into_iter().take(self.topk);
            best.filter(|i| metrics[*i] > 0.0 && inside(*i)).map(|i| (i, overlaps[gt * n + i])).collect()
        };
        let positives: Vec<Vec<(usize, f32)>> = (0..k).map(positives).collect();
        let mut gt_inds = vec![0; n];
        let max_overlaps = best_pairs(&positives, &mut gt_inds, -1e8);
        let mut result = AssignResult::new(k, gt_inds, max_overlaps, Some(labels));
        let assigned = |(i, gt): (usize, &i64)| if *gt > 0 { metric(*gt as usize - 1, i) } else { 0.0 };
        result.extras.assign_metrics = result.gt_inds.iter().enumerate().map(assigned).collect();
        Ok(result)
    }
}

register!(BBOX_ASSIGNERS: dyn Assigner, "TaskAlignedAssigner" => TaskAlignedAssigner(TaskAlignedAssignerConfig));
