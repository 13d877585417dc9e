//! Boxes as what a network predicts, and back.

mod box_map;
mod delta_xywh_bbox_coder;
mod distance_point_bbox_coder;
mod legacy_delta_xywh_bbox_coder;
mod pseudo_bbox_coder;
mod tblr_bbox_coder;
#[cfg(test)]
mod tests;
mod yolo_bbox_coder;

use candle_core::{Result, Tensor};
use mmcv::registry::registry;

pub use delta_xywh_bbox_coder::{DeltaXYWHBBoxCoder, DeltaXYWHBBoxCoderConfig};
pub use distance_point_bbox_coder::{DistancePointBBoxCoder, DistancePointBBoxCoderConfig};
pub use legacy_delta_xywh_bbox_coder::{LegacyDeltaXYWHBBoxCoder, LegacyDeltaXYWHBBoxCoderConfig};
pub use pseudo_bbox_coder::{PseudoBBoxCoder, PseudoBBoxCoderConfig};
pub use tblr_bbox_coder::{Normalizer, TBLRBBoxCoder, TBLRBBoxCoderConfig};
pub use yolo_bbox_coder::{YOLOBBoxCoder, YOLOBBoxCoderConfig};

use crate::core::BBox;

registry!(
    /// Coders of boxes.
    pub BBOX_CODERS: dyn BBoxCoder, ()
);

/// What a coder may be told beside the boxes; each coder looks at what concerns it.
#[derive(Debug, Clone, Copy)]
pub struct CoderArgs<'a> {
    /// Decoded boxes are clipped to `(h, w)`, when the coder clips.
    pub max_shape: Option<(usize, usize)>,
    /// Decoded sides are at most `1 / wh_ratio_clip` times the prior's (delta coders); default 16/1000.
    pub wh_ratio_clip: f64,
    /// Stride of each prior, or one for all (YOLO).
    pub strides: &'a [f32],
    /// Encoded distances are below this (distance coder).
    pub max_dis: Option<f64>,
    /// How far below; default 0.1.
    pub eps: f64,
}

impl Default for CoderArgs<'_> {
    fn default() -> Self {
        Self { max_shape: None, wh_ratio_clip: 16.0 / 1000.0, strides: &[], max_dis: None, eps: 0.1 }
    }
}

/// Codes boxes relative to priors. Priors are boxes, or points `[x, y, ..]` for the distance coder.
pub trait BBoxCoder: Send + Sync {
    /// What the network should predict at each prior for the box at the same position; as many as the shorter list has.
    fn encode_with(&self, priors: &[BBox], gt_bboxes: &[BBox], args: &CoderArgs) -> Result<Vec<[f32; 4]>>;

    /// The boxes that `codes` mean, row-major `[priors, 4]` or `[priors, classes * 4]`; one per four numbers.
    fn decode_with(&self, priors: &[BBox], codes: &[f32], args: &CoderArgs) -> Result<Vec<BBox>>;

    /// [`BBoxCoder::decode_with`] of a tensor, with a gradient for it: `[priors, 4 c]` in and out.
    fn decode_tensor_with(&self, priors: &[BBox], codes: &Tensor, args: &CoderArgs) -> Result<Tensor>;

    /// [`BBoxCoder::encode_with`] by default arguments.
    fn encode(&self, priors: &[BBox], gt_bboxes: &[BBox]) -> Result<Vec<[f32; 4]>> {
        self.encode_with(priors, gt_bboxes, &CoderArgs::default())
    }

    /// [`BBoxCoder::decode_with`], clipped to `(h, w)` where given.
    fn decode(&self, priors: &[BBox], codes: &[f32], max_shape: Option<(usize, usize)>) -> Result<Vec<BBox>> {
        self.decode_with(priors, codes, &CoderArgs { max_shape, ..CoderArgs::default() })
    }

    /// [`BBoxCoder::decode_tensor_with`], clipped to `(h, w)` where given.
    fn decode_tensor(&self, priors: &[BBox], codes: &Tensor, max_shape: Option<(usize, usize)>) -> Result<Tensor> {
        self.decode_tensor_with(priors, codes, &CoderArgs { max_shape, ..CoderArgs::default() })
    }
}
