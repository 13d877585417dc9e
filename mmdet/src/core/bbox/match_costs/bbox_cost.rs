//! Costs of boxes.

use candle_core::Result;
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{MATCH_COST, MatchCost, MatchInput, counted, one};
use crate::core::BBox;
use crate::core::bbox::iou_calculators::{OverlapMode, bbox_overlaps};
use crate::core::bbox::{bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh};

/// What coordinates are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BoxFormat {
    /// Corners (DETR).
    #[default]
    Xyxy,
    /// Centre and sides (Sparse R-CNN).
    Xywh,
}

/// `type = "BBoxL1Cost"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BBoxL1CostConfig {
    /// Factor; default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// `xyxy` or `xywh`; default `xyxy`.
    #[serde(default)]
    pub box_format: BoxFormat,
}

/// Sum of the absolute differences of the coordinates, in parts of the image.
#[derive(Debug, Clone)]
pub struct BBoxL1Cost(BBoxL1CostConfig);

impl BBoxL1Cost {
    /// Never an error.
    pub fn new(cfg: &BBoxL1CostConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

impl MatchCost for BBoxL1Cost {
    /// Needs `bbox_pred` and `gt_bboxes_normalized`.
    fn cost(&self, input: &MatchInput) -> Result<Vec<f32>> {
        counted("BBoxL1Cost: bbox_pred", input.bbox_pred, input.queries)?;
        counted("BBoxL1Cost: gt_bboxes_normalized", input.gt_bboxes_normalized, input.gts)?;
        let corners = self.0.box_format == BoxFormat::Xyxy;
        let pred = |b: &BBox| if corners { bbox_cxcywh_to_xyxy(b) } else { *b };
        let gt = |b: &BBox| if corners { *b } else { bbox_xyxy_to_cxcywh(b) };
        let gts: Vec<BBox> = input.gt_bboxes_normalized.iter().map(gt).collect();
        let weight = self.0.weight as f32;
        let distance = |a: &BBox, b: &BBox| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() * weight;
        let row = |b: &BBox| {
            let b = pred(b);
            gts.iter().map(move |g| distance(&b, g))
        };
        Ok(input.bbox_pred.iter().flat_map(row).collect())
    }
}

/// `type = "IoUCost"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IoUCostConfig {
    /// `iou`, `iof` or `giou`; default `giou`.
    #[serde(default = "giou")]
    pub iou_mode: OverlapMode,
    /// Factor; default 1.
    #[serde(default = "one")]
    pub weight: f64,
}

fn giou() -> OverlapMode {
    OverlapMode::Giou
}

/// Minus the overlap.
#[derive(Debug, Clone)]
pub struct IoUCost(IoUCostConfig);

impl IoUCost {
    /// Never an error.
    pub fn new(cfg: &IoUCostConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

impl MatchCost for IoUCost {
    /// Needs `bboxes` and `gt_bboxes`.
    fn cost(&self, input: &MatchInput) -> Result<Vec<f32>> {
        counted("IoUCost: bboxes", input.bboxes, input.queries)?;
        counted("IoUCost: gt_bboxes", input.gt_bboxes, input.gts)?;
        let overlaps = bbox_overlaps(input.bboxes, input.gt_bboxes, self.0.iou_mode);
        Ok(overlaps.into_iter().map(|v| -v * self.0.weight as f32).collect())
    }
}

register!(MATCH_COST: dyn MatchCost, "BBoxL1Cost" => BBoxL1Cost(BBoxL1CostConfig));
register!(MATCH_COST: dyn MatchCost, "IoUCost" => IoUCost(IoUCostConfig));
