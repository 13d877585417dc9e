//! Second stages: what is predicted of regions.

mod bbox_head;
mod cascade_roi_head;
mod roi_extractor;
mod stage;
mod standard_roi_head;

use candle_core::{Result, Tensor};
use mmcv::nn::Ctx;
use mmcv::registry::registry;
use mmcv::runner::Losses;

pub use bbox_head::{
    BBOX_HEADS, BBoxHead, BBoxOuts, BBoxTargets, ConvFCBBoxHead, ConvFCBBoxHeadConfig, RcnnTestConfig,
};
pub use cascade_roi_head::{CascadeRoIHead, CascadeRoIHeadConfig};
pub use roi_extractor::{ROI_EXTRACTORS, Roi, RoiExtractor, SingleRoIExtractor, SingleRoIExtractorConfig};
pub use stage::{BBoxStage, RcnnTrainConfig, RcnnTraining};
pub use standard_roi_head::{StandardRoIHead, StandardRoIHeadConfig};

use crate::core::{BBox, DetBatch, DetResult, ImgMeta};
use crate::models::dense_heads::HeadArgs;

/// A second stage.
///
/// `feats` are the neck's levels, proposals are in the frame of the network's input, one list per image.
pub trait RoiHead: Send + Sync {
    /// Training losses.
    fn loss(&self, feats: &[Tensor], proposals: &[Vec<BBox>], batch: &DetBatch, ctx: &Ctx) -> Result<Losses>;

    /// Detections of each image, in the frame of its file when `rescale`.
    fn simple_test(
        &self,
        feats: &[Tensor],
        proposals: &[Vec<BBox>],
        metas: &[ImgMeta],
        rescale: bool,
    ) -> Result<Vec<DetResult>>;

    /// Detections of one image from several views; `proposals` are in the frame of its file.
    fn aug_test(&self, views: &[(Vec<Tensor>, ImgMeta)], proposals: &[BBox], rescale: bool) -> Result<DetResult>;

    /// Raw predictions of the regions `rois` of the first image, by the names that golden files give them.
    fn named_outputs(&self, feats: &[Tensor], rois: &[BBox], ctx: &Ctx) -> Result<Vec<(String, Tensor)>>;

    /// Number of classes.
    fn num_classes(&self) -> usize;
}

registry!(
    /// Second stages (`roi_head`).
    pub ROI_HEADS: dyn RoiHead, HeadArgs
);
