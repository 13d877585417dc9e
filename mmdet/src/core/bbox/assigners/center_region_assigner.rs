//! Positives in the middle of a ground truth, nothing around it (FSAF).

use candle_core::{Result, bail};
use mmcv::config::Node;
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{AssignInput, AssignResult, Assigner, BBOX_ASSIGNERS, check_labels, inside_by};
use crate::core::BBox;
use crate::core::bbox::iou_calculators::{IouCalculator, OverlapMode, build_iou_calculator};
use crate::core::post_processing::sort_descending;

/// `type = "CenterRegionAssigner"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CenterRegionAssignerConfig {
    /// Part of a ground truth's sides that is its core, where priors are positive.
    pub pos_scale: f64,
    /// Part up to which priors outside the core are in its shadow, left out of the loss.
    pub neg_scale: f64,
    /// Part of a prior that must lie in a region; default 0.01.
    #[serde(default = "min_pos_iof")]
    pub min_pos_iof: f64,
    /// Part of an ignored box in which priors are ignored; default 0.5.
    #[serde(default = "half")]
    pub ignore_gt_scale: f64,
    /// A prior in the core of one and the shadow of another ground truth of its class is positive; default false.
    #[serde(default)]
    pub foreground_dominate: bool,
    /// A component of `IOU_CALCULATORS`; default `BboxOverlaps2D`.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    pub iou_calculator: Node,
}

fn min_pos_iof() -> f64 {
    0.01
}
fn half() -> f64 {
    0.5
}

/// `type = "CenterRegionAssigner"`: `extras.shadowed_labels` tells what the loss should leave out.
pub struct CenterRegionAssigner {
    cfg: CenterRegionAssignerConfig,
    iou_calculator: Box<dyn IouCalculator>,
}

/// Boxes with their sides scaled around their centres.
fn scaled(bboxes: &[BBox], scale: f64) -> Vec<BBox> {
    let one = |b: &BBox| {
        let (w, h) = ((b[2] - b[0]) * 0.5 * scale as f32, (b[3] - b[1]) * 0.5 * scale as f32);
        let (x, y) = ((b[2] + b[0]) * 0.5, (b[3] + b[1]) * 0.5);
        [x - w, y - h, x + w, y + h]
    };
    bboxes.iter().map(one).collect()
}

impl CenterRegionAssigner {
    /// An error for an unknown overlap calculator.
    pub fn new(cfg: &CenterRegionAssignerConfig) -> mmcv::Result<Self> {
        Ok(Self { cfg: cfg.clone(), iou_calculator: build_iou_calculator(&cfg.iou_calculator)? })
    }
}

impl Assigner for CenterRegionAssigner {
    fn assign_input(&self, input: &AssignInput) -> Result<AssignResult> {
        check_labels(input)?;
        let (n, k, cfg) = (input.bboxes.len(), input.gt_bboxes.len(), &self.cfg);
        let center = |b: &BBox| ((b[2] + b[0]) / 2.0, (b[3] + b[1]) / 2.0);
        let enough = |regions: &[BBox]| {
            let iof = self.iou_calculator.overlaps(input.bboxes, regions, OverlapMode::Iof);
            iof.into_iter().map(|v| v > cfg.min_pos_iof as f32).collect::<Vec<bool>>()
        };
        let mut core = enough(&scaled(input.gt_bboxes, cfg.pos_scale));
        let mut shadow = enough(&scaled(input.gt_bboxes, cfg.neg_scale));
        for (i, b) in input.bboxes.iter().enumerate() {
            for (gt, g) in input.gt_bboxes.iter().enumerate() {
                core[i * k + gt] &= inside_by(g, center(b), 0.0);
                shadow[i * k + gt] &= !core[i * k + gt];
            }
        }
        // The smaller a ground truth, the higher its rank.
        let areas: Vec<f32> = input.gt_bboxes.iter().map(|b| (b[2] - b[0]) * (b[3] - b[1])).collect();
        let mut rank = vec![0; k];
        sort_descending(&areas).into_iter().enumerate().for_each(|(place, gt)| rank[gt] = place);

        let mut gt_inds = vec![0i64; n];
        let pairs = |flags: &[bool]| -> Vec<(usize, usize)> {
            (0..n * k).filter(|p| flags[*p]).map(|p| (p / k, p % k)).collect()
        };
        let mut shadowed = pairs(&shadow);
        for i in 0..n {
            if let Some(gt) = (0..k).filter(|gt| core[i * k + gt]).max_by_key(|gt| rank[*gt]) {
                gt_inds[i] = gt as i64 + 1;
                core[i * k + gt] = false;
            }
        }
        shadowed.extend(pairs(&core));
        if !input.gt_bboxes_ignore.is_empty() {
            let ignore = scaled(input.gt_bboxes_ignore, cfg.ignore_gt_scale);
            for (i, b) in input.bboxes.iter().enumerate() {
                if ignore.iter().any(|g| inside_by(g, center(b), 0.0)) {
                    gt_inds[i] = -1;
                }
            }
        }
        let mut result = AssignResult::new(k, gt_inds, vec![0.0; n], input.gt_labels);
        if let (Some(gt_labels), Some(labels)) = (input.gt_labels, &mut result.labels) {
            if shadowed.iter().any(|(i, gt)| result.gt_inds[*i] == *gt as i64 + 1) {
                bail!("CenterRegionAssigner: a prior is both assigned to and in the shadow of one ground truth");
            }
            let shadowed: Vec<(usize, i64)> = shadowed.into_iter().map(|(i, gt)| (i, gt_labels[gt])).collect();
            let (both, apart): (Vec<_>, Vec<_>) = shadowed.iter().partition(|(i, label)| labels[*i] == *label);
            if !cfg.foreground_dominate {
                for (i, _) in both {
                    (labels[i], result.gt_inds[i]) = (-1, 0);
                }
            }
            result.extras.shadowed_labels = Some(if cfg.foreground_dominate { apart } else { shadowed });
        }
        Ok(result)
    }
}

register!(BBOX_ASSIGNERS: dyn Assigner, "CenterRegionAssigner" => CenterRegionAssigner(CenterRegionAssignerConfig));
