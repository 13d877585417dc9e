//! How much boxes overlap.

mod half;
mod iou2d_calculator;

use mmcv::registry::registry;
use schemars::JsonSchema;
use serde::Deserialize;

pub use iou2d_calculator::{BboxOverlaps2D, BboxOverlaps2DConfig, bbox_overlaps, bbox_overlaps_aligned};
pub(crate) use iou2d_calculator::{Columns, iou_row};

use crate::core::BBox;

registry!(
    /// Overlaps of two sets of boxes.
    pub IOU_CALCULATORS: dyn IouCalculator, ()
);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OverlapMode {
    /// Intersection over union.
    #[default]
    Iou,
    /// Intersection over the area of the first box.
    Iof,
    /// IoU less the share of the enclosing box that neither covers.
    Giou,
}

/// Measures overlaps.
pub trait IouCalculator: Send + Sync {
    /// Row-major `[bboxes1.len(), bboxes2.len()]`.
    fn overlaps(&self, bboxes1: &[BBox], bboxes2: &[BBox], mode: OverlapMode) -> Vec<f32>;

    /// One for each pair of boxes at the same position; as many as the shorter list has.
    fn aligned(&self, bboxes1: &[BBox], bboxes2: &[BBox], mode: OverlapMode) -> Vec<f32>;

    /// Whether `overlaps` is plain [`bbox_overlaps`]: then an assigner may compute them itself, as it goes.
    fn is_plain(&self) -> bool {
        false
    }
}

/// The calculator of `cfg`; `BboxOverlaps2D` for `None`.
pub fn build_iou_calculator(cfg: &mmcv::config::Node) -> mmcv::Result<Box<dyn IouCalculator>> {
    if cfg.is_null() {
        return Ok(Box::new(BboxOverlaps2D::default()));
    }
    mmcv::registry::build_at(&IOU_CALCULATORS, "iou_calculator", cfg, ())
}
