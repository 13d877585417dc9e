//! YOLOX's assignment by cost, Ge et al., 2021 (<https://arxiv.org/abs/2107.08430>).

use candle_core::{Result, bail};
use mmcv::register;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{AssignInput, AssignResult, Assigner, BBOX_ASSIGNERS, check_labels, inside_by};
use crate::core::BBox;
use crate::core::bbox::iou_calculators::{OverlapMode, bbox_overlaps};
use crate::core::post_processing::{smallest, sort_descending};

/// `type = "SimOTAAssigner"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimOTAAssignerConfig {
    /// Priors this many strides from a ground truth's centre are preferred; default 2.5.
    #[serde(default = "center_radius")]
    pub center_radius: f64,
    /// Best overlaps whose sum says how many priors a ground truth gets; default 10.
    #[serde(default = "candidate_topk")]
    pub candidate_topk: usize,
    /// Weight of the overlap in the cost; default 3.
    #[serde(default = "iou_weight")]
    pub iou_weight: f64,
    /// Weight of the classification in the cost; default 1.
    #[serde(default = "cls_weight")]
    pub cls_weight: f64,
}

fn center_radius() -> f64 {
    2.5
}
fn candidate_topk() -> usize {
    10
}
fn iou_weight() -> f64 {
    3.0
}
fn cls_weight() -> f64 {
    1.0
}

/// `type = "SimOTAAssigner"`.
#[derive(Debug, Clone)]
pub struct SimOTAAssigner(SimOTAAssignerConfig);

/// mmdet's price of a prior that is not both inside a ground truth and near its centre.
const INF: f32 = 1e5;

/// torch's logarithm within `binary_cross_entropy`.
fn log(p: f32) -> f64 {
    f64::from(p.ln().max(-100.0))
}

impl SimOTAAssigner {
    /// Never an error.
    pub fn new(cfg: &SimOTAAssignerConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }

    /// Whether the point is inside the ground truth, and whether near its centre.
    fn places(&self, p: &BBox, gt: &BBox) -> (bool, bool) {
        let (cx, cy) = ((gt[0] + gt[2]) / 2.0, (gt[1] + gt[3]) / 2.0);
        let (rx, ry) = (self.0.center_radius as f32 * p[2], self.0.center_radius as f32 * p[3]);
        let point = (p[0], p[1]);
        (inside_by(gt, point, 0.0), inside_by(&[cx - rx, cy - ry, cx + rx, cy + ry], point, 0.0))
    }
}

impl Assigner for SimOTAAssigner {
    /// Priors are points `[x, y, stride_w, stride_h]`; needs `pred_scores` (probabilities), `pred_bboxes` and labels.
    /// Priors without ground truth have an overlap of -100000.
    fn assign_input(&self, input: &AssignInput) -> Result<AssignResult> {
        check_labels(input)?;
        let (n, k) = (input.bboxes.len(), input.gt_bboxes.len());
        let near = |p: &BBox| input.gt_bboxes.iter().any(|gt| matches!(self.places(p, gt), (true, _) | (_, true)));
        let valid: Vec<usize> = (0..n).into_par_iter().filter(|i| near(&input.bboxes[*i])).collect();
        if valid.is_empty() {
            return Ok(AssignResult::new(k, vec![0; n], vec![0.0; n], input.gt_labels));
        }
        let (Some(scores), Some(preds), Some(labels)) = (input.pred_scores, input.pred_bboxes, input.gt_labels) else {
            bail!("SimOTAAssigner: needs predicted scores and boxes and labels");
        };
        let classes = scores.len() / n;
        if preds.len() != n || classes * n != scores.len() || labels.iter().any(|l| *l < 0 || *l as usize >= classes) {
            bail!("SimOTAAssigner: {} boxes, {} scores for {n} priors, labels {labels:?}", preds.len(), scores.len());
        }
        let boxes: Vec<BBox> = valid.iter().map(|i| preds[*i]).collect();
        let ious = bbox_overlaps(&boxes, input.gt_bboxes, OverlapMode::Iou);
        let row = |(j, i): (usize, &usize)| {
            let roots: Vec<f32> = scores[i * classes..(i + 1) * classes].iter().map(|s| s.sqrt()).collect();
            // The cost where no class is right; each ground truth exchanges one class's part.
            let none: f64 = roots.iter().map(|p| -log(1.0 - p)).sum();
            let price = |gt: usize| {
                let p = roots[labels[gt] as usize];
                let class = (none + log(1.0 - p) - log(p)) as f32;
                let iou = -(ious[j * k + gt] + 1e-7).ln();
                let outside =
                    if self.places(&input.bboxes[*i], &input.gt_bboxes[gt]) == (true, true) { 0.0 } else { INF };
                class * self.0.cls_weight as f32 + iou * self.0.iou_weight as f32 + outside
            };
            (0..k).map(price).collect::<Vec<f32>>()
        };
        let cost: Vec<f32> = valid.par_iter().enumerate().flat_map_iter(row).collect();

        let m = valid.len();
        let mut matches: Vec<Vec<usize>> = vec![Vec::new(); m];
        for gt in 0..k {
            let column = |v: &[f32]| (0..m).map(|j| v[j * k + gt]).collect::<Vec<f32>>();
            let iou = column(&ious);
            let best = sort_descending(&iou).into_iter().take(self.0.candidate_topk);
            let wanted = (best.fold(0f32, |s, j| s + iou[j]) as usize).max(1);
            smallest(&column(&cost), wanted).into_iter().for_each(|j| matches[j].push(gt));
        }
        let (mut gt_inds, mut max_overlaps) = (vec![0; n], vec![-INF; n]);
        for (j, matched) in matches.iter().enumerate() {
            let gt = match matched.as_slice() {
                [] => continue,
                [one] => *one,
                // Several want it: the cheapest of all ground truths has it.
                _ => (1..k).fold(0, |best, gt| if cost[j * k + gt] < cost[j * k + best] { gt } else { best }),
            };
            gt_inds[valid[j]] = gt as i64 + 1;
            max_overlaps[valid[j]] = ious[j * k + gt];
        }
        Ok(AssignResult::new(k, gt_inds, max_overlaps, Some(labels)))
    }
}

register!(BBOX_ASSIGNERS: dyn Assigner, "SimOTAAssigner" => SimOTAAssigner(SimOTAAssignerConfig));
