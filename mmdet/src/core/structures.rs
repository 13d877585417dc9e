//! What flows between datasets, pipelines, detectors and evaluation.

use candle_core::Tensor;
use mmcv::image::FlipDirection;
use serde::{Deserialize, Serialize};

use crate::core::mask::Rle;

/// A box `[x1, y1, x2, y2]`, pixels, 0-based, `x2`, `y2` exclusive (mmdet 2.x: width is `x2 - x1`).
pub type BBox = [f32; 4];

/// A detected box `[x1, y1, x2, y2, score]`.
pub type ScoredBox = [f32; 5];

/// An instance's mask in an annotation, in image coordinates.
#[derive(Debug, Clone, PartialEq)]
pub enum AnnMask {
    /// Polygons `[x0, y0, x1, y1, ...]`, pixels.
    Polygons(Vec<Vec<f64>>),
    /// Run lengths.
    Rle(Rle),
}

/// The annotation of one image; mmdet's `ann_info`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AnnInfo {
    /// Ground-truth boxes.
    pub bboxes: Vec<BBox>,
    /// Their classes, `0..num_classes`.
    pub labels: Vec<i64>,
    /// Boxes that neither count for nor against a detection (crowds, difficult).
    pub bboxes_ignore: Vec<BBox>,
    /// Classes of the ignored boxes where the format gives them (VOC does, COCO doesn't).
    pub labels_ignore: Vec<i64>,
    /// One mask per box of `bboxes`, empty when the format has none.
    pub masks: Vec<AnnMask>,
    /// File of the semantic map, relative to `seg_prefix`.
    pub seg_map: Option<String>,
}

/// How an image was normalised, needed to show it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImgNormCfg {
    /// Subtracted, per channel.
    pub mean: Vec<f32>,
    /// Divided by, per channel.
    pub std: Vec<f32>,
    /// Whether BGR became RGB.
    pub to_rgb: bool,
}

/// What the pipeline did to one image; mmdet's `img_metas`.
#[derive(Debug, Clone, PartialEq)]
pub struct ImgMeta {
    /// Full path.
    pub filename: String,
    /// As the annotation spells it.
    pub ori_filename: String,
    /// `[h, w, c]` of the file.
    pub ori_shape: [usize; 3],
    /// `[h, w, c]` after resizing and cropping, before padding.
    pub img_shape: [usize; 3],
    /// `[h, w, c]` after padding.
    pub pad_shape: [usize; 3],
    /// `[w, h, w, h]` scale from the file to `img_shape`.
    pub scale_factor: [f32; 4],
    /// Whether the image was mirrored.
    pub flip: bool,
    /// How it was mirrored.
    pub flip_direction: Option<FlipDirection>,
    /// How it was normalised.
    pub img_norm_cfg: Option<ImgNormCfg>,
    /// `[h, w]` that the batch was padded to, when it was.
    pub batch_input_shape: Option<[usize; 2]>,
}

/// One image ready for the network, with its ground truth when training.
#[derive(Debug, Clone)]
pub struct DetSample {
    /// `[C, H, W]` f32.
    pub img: Tensor,
    /// What was done to it.
    pub meta: ImgMeta,
    /// Boxes in the frame of `img`; empty when testing.
    pub gt_bboxes: Vec<BBox>,
    /// Their classes.
    pub gt_labels: Vec<i64>,
    /// Boxes to ignore, when the config collects `gt_bboxes_ignore`.
    pub gt_bboxes_ignore: Option<Vec<BBox>>,
    /// Masks of the boxes in the frame of `img`, when the config collects `gt_masks`.
    pub gt_masks: Option<Vec<AnnMask>>,
    /// Semantic map `[1, H, W]` u8 in the frame of `img`, when the config collects `gt_semantic_seg`.
    pub gt_semantic_seg: Option<Tensor>,
    /// Boxes proposed from outside, when the config collects `proposals`.
    pub proposals: Option<Vec<BBox>>,
    /// What a batch's smaller images and semantic maps are filled up with.
    pub padding: Padding,
}

/// Fill values of a batch's padding: `pad_val` of `DefaultFormatBundle`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Padding {
    /// Of images.
    pub img: f32,
    /// Of semantic maps.
    pub seg: u8,
}

impl Default for Padding {
    fn default() -> Self {
        Self { img: 0.0, seg: 255 }
    }
}

/// A batch for training; images are padded at the right and bottom to one size.
#[derive(Debug, Clone)]
pub struct DetBatch {
    /// `[B, C, H, W]` f32.
    pub img: Tensor,
    /// One per image.
    pub metas: Vec<ImgMeta>,
    /// One list per image.
    pub gt_bboxes: Vec<Vec<BBox>>,
    /// One list per image.
    pub gt_labels: Vec<Vec<i64>>,
    /// One list per image, when collected.
    pub gt_bboxes_ignore: Option<Vec<Vec<BBox>>>,
    /// One list per image, when collected.
    pub gt_masks: Option<Vec<Vec<AnnMask>>>,
    /// `[B, 1, H, W]` u8, when collected.
    pub gt_semantic_seg: Option<Tensor>,
    /// One list per image, when collected.
    pub proposals: Option<Vec<Vec<BBox>>>,
}

/// What a detector finds in one image.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DetResult {
    /// For each class its boxes in the file's frame, best first.
    pub bboxes: Vec<Vec<ScoredBox>>,
    /// For each class a mask per box, when the detector makes masks.
    pub masks: Option<Vec<Vec<Rle>>>,
}
