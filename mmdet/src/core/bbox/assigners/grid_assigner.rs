//! MaxIoU assignment within the cell that holds a ground truth's centre (YOLOv3).

use candle_core::{Result, bail};
use mmcv::config::Node;
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::max_iou_assigner::NegThreshold;
use super::{AssignInput, AssignResult, Assigner, BBOX_ASSIGNERS, check_labels};
use crate::core::bbox::iou_calculators::{IouCalculator, OverlapMode, build_iou_calculator};

/// `type = "GridAssigner"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GridAssignerConfig {
    /// Overlap above which a prior in the cell takes the ground truth it overlaps most.
    pub pos_iou_thr: f64,
    /// Overlap up to which a prior is background, or the range of it.
    pub neg_iou_thr: NegThreshold,
    /// Overlap above which a ground truth's best prior is given to it; default 0.
    #[serde(default)]
    pub min_pos_iou: f64,
    /// All priors that overlap a ground truth as much as its best one are given to it, else the first; default true.
    #[serde(default = "yes")]
    pub gt_max_assign_all: bool,
    /// A component of `IOU_CALCULATORS`; default `BboxOverlaps2D`.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    pub iou_calculator: Node,
}

fn yes() -> bool {
    true
}

/// `type = "GridAssigner"`.
pub struct GridAssigner {
    cfg: GridAssignerConfig,
    iou_calculator: Box<dyn IouCalculator>,
}

impl GridAssigner {
    /// An error for an unknown overlap calculator.
    pub fn new(cfg: &GridAssignerConfig) -> mmcv::Result<Self> {
        Ok(Self { cfg: cfg.clone(), iou_calculator: build_iou_calculator(&cfg.iou_calculator)? })
    }
}

impl Assigner for GridAssigner {
    /// Needs `box_responsible_flags`. The result's overlaps are those of responsible priors, -1 for the others.
    fn assign_input(&self, input: &AssignInput) -> Result<AssignResult> {
        check_labels(input)?;
        let (n, k, flags, cfg) = (input.bboxes.len(), input.gt_bboxes.len(), input.box_responsible_flags, &self.cfg);
        if flags.len() != n {
            bail!("GridAssigner: {} responsible flags for {n} priors", flags.len());
        }
        if n == 0 || k == 0 {
            return Ok(AssignResult::empty(k, n, input.gt_labels));
        }
        let overlaps = self.iou_calculator.overlaps(input.gt_bboxes, input.bboxes, OverlapMode::Iou);
        let (mut gt_inds, mut max_overlaps) = (vec![-1; n], vec![-1f32; n]);
        for i in 0..n {
            let (mut max, mut best) = (f32::NEG_INFINITY, 0);
            for gt in 0..k {
                if overlaps[gt * n + i] > max {
                    (max, best) = (overlaps[gt * n + i], gt);
                }
            }
            let negative = match cfg.neg_iou_thr {
                NegThreshold::Below(high) => max >= 0.0 && max <= high as f32,
                NegThreshold::Within([low, high]) => max > low as f32 && max <= high as f32,
            };
            if negative {
                gt_inds[i] = 0;
            }
            if flags[i] {
                max_overlaps[i] = max;
                if max > cfg.pos_iou_thr as f32 {
                    gt_inds[i] = best as i64 + 1;
                }
            }
        }
        for gt in 0..k {
            let row = &overlaps[gt * n..(gt + 1) * n];
            let responsible = || (0..n).filter(|i| flags[*i]);
            let best = responsible().fold(-1f32, |m, i| m.max(row[i]));
            if best > cfg.min_pos_iou as f32 {
                let take = if cfg.gt_max_assign_all { n } else { 1 };
                responsible().filter(|i| row[*i] == best).take(take).for_each(|i| gt_inds[i] = gt as i64 + 1);
            }
        }
        Ok(AssignResult::new(k, gt_inds, max_overlaps, input.gt_labels))
    }
}

register!(BBOX_ASSIGNERS: dyn Assigner, "GridAssigner" => GridAssigner(GridAssignerConfig));
