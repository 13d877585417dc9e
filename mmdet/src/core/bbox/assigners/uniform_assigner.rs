//! The nearest predictions and the nearest anchors of each ground truth (YOLOF).

use candle_core::{Result, bail};
use mmcv::config::Node;
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{AssignInput, AssignResult, Assigner, BBOX_ASSIGNERS, check_labels};
use crate::core::BBox;
use crate::core::bbox::bbox_xyxy_to_cxcywh;
use crate::core::bbox::iou_calculators::{IouCalculator, OverlapMode, build_iou_calculator};
use crate::core::post_processing::smallest;

/// `type = "UniformAssigner"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UniformAssignerConfig {
    /// Matched anchors that overlap less are ignored.
    pub pos_ignore_thr: f64,
    /// Unmatched predictions that overlap a ground truth more are ignored.
    pub neg_ignore_thr: f64,
    /// Predictions, and anchors, for each ground truth; default 4.
    #[serde(default = "four")]
    pub match_times: usize,
    /// A component of `IOU_CALCULATORS`; default `BboxOverlaps2D`.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    pub iou_calculator: Node,
}

fn four() -> usize {
    4
}

/// `type = "UniformAssigner"`: matched pairs are in `extras`. As in mmdet, a result with ground truth holds each ground
/// truth's best overlap with an anchor in `max_overlaps`, not each prior's.
pub struct UniformAssigner {
    cfg: UniformAssignerConfig,
    iou_calculator: Box<dyn IouCalculator>,
}

impl UniformAssigner {
    /// An error for an unknown overlap calculator.
    pub fn new(cfg: &UniformAssignerConfig) -> mmcv::Result<Self> {
        Ok(Self { cfg: cfg.clone(), iou_calculator: build_iou_calculator(&cfg.iou_calculator)? })
    }
}

impl Assigner for UniformAssigner {
    /// `bboxes` are the anchors; needs `pred_bboxes`.
    fn assign_input(&self, input: &AssignInput) -> Result<AssignResult> {
        check_labels(input)?;
        let (n, k, times) = (input.bboxes.len(), input.gt_bboxes.len(), self.cfg.match_times);
        let mut gt_inds = vec![0i64; n];
        if n == 0 || k == 0 {
            return Ok(AssignResult::new(k, gt_inds, vec![0.0; n], input.gt_labels));
        }
        let Some(preds) = input.pred_bboxes.filter(|p| p.len() == n) else {
            bail!("UniformAssigner: needs a predicted box for each of the {n} anchors");
        };
        if times > n {
            bail!("UniformAssigner: match_times is {times}, but there are {n} anchors");
        }
        let nearest = |boxes: &[BBox], gt: &BBox| {
            let gt = bbox_xyxy_to_cxcywh(gt);
            let distance = |b: &BBox| bbox_xyxy_to_cxcywh(b).iter().zip(&gt).map(|(a, b)| (a - b).abs()).sum();
            smallest(&boxes.iter().map(distance).collect::<Vec<f32>>(), times)
        };
        let by_pred: Vec<Vec<usize>> = input.gt_bboxes.iter().map(|gt| nearest(preds, gt)).collect();
        let by_anchor: Vec<Vec<usize>> = input.gt_bboxes.iter().map(|gt| nearest(input.bboxes, gt)).collect();
        let pred_overlaps = self.iou_calculator.overlaps(preds, input.gt_bboxes, OverlapMode::Iou);
        let anchor_overlaps = self.iou_calculator.overlaps(input.bboxes, input.gt_bboxes, OverlapMode::Iou);
        for (i, row) in pred_overlaps.chunks(k).enumerate() {
            if row.iter().any(|v| *v > self.cfg.neg_ignore_thr as f32) {
                gt_inds[i] = -1;
            }
        }
        // First the nearest of every ground truth, by prediction and by anchor, then the second, ...: the last one stays.
        let order = (0..times).flat_map(|t| by_pred.iter().chain(&by_anchor).map(move |m| m[t]));
        let (mut pos_idx, mut pos_priors, mut target_gts) = (Vec::new(), Vec::new(), Vec::new());
        for (pair, prior) in order.enumerate() {
            let gt = pair % k;
            let enough = anchor_overlaps[prior * k + gt] >= self.cfg.pos_ignore_thr as f32;
            gt_inds[prior] = if enough { gt as i64 + 1 } else { -1 };
            pos_idx.push(enough);
            pos_priors.push(prior);
            target_gts.push(gt);
        }
        let best = |gt: usize| (0..n).fold(f32::NEG_INFINITY, |m, i| m.max(anchor_overlaps[i * k + gt]));
        let mut result = AssignResult::new(k, gt_inds, (0..k).map(best).collect(), input.gt_labels);
        (result.extras.pos_idx, result.extras.pos_priors, result.extras.target_gts) = (pos_idx, pos_priors, target_gts);
        Ok(result)
    }
}

register!(BBOX_ASSIGNERS: dyn Assigner, "UniformAssigner" => UniformAssigner(UniformAssignerConfig));
