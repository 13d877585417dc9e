//! What a pipeline's steps hand on: mmdet's dictionary of results, typed.

use std::sync::Arc;

use candle_core::Tensor;
use mmcv::image::{FlipDirection, Image};
use mmcv::{Error, Result};

use super::{InstanceMasks, Picture};
use crate::core::{AnnInfo, BBox, DetSample, ImgNormCfg, Padding};

/// What a data set knows of an image before it is read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImgInfo {
    /// The annotation's name for it (COCO's numeric id as text).
    pub id: String,
    /// As the annotation spells it, relative to `img_prefix`.
    pub filename: String,
    /// Columns, 0 when unknown.
    pub width: usize,
    /// Rows, 0 when unknown.
    pub height: usize,
}

/// How much the image was, or shall be, scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScaleFactor {
    /// Asked for by test-time augmentation.
    Wanted(f64),
    /// `[w, h, w, h]`, what `Resize` did.
    Done([f32; 4]),
}

/// The state of one sample on its way through a pipeline. A field is `None` until a step sets it.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// From the data set.
    pub img_info: ImgInfo,
    /// The annotation, when training.
    pub ann_info: Option<Arc<AnnInfo>>,
    /// Folder of the images.
    pub img_prefix: Option<String>,
    /// Folder of the semantic maps.
    pub seg_prefix: Option<String>,
    /// Full path.
    pub filename: Option<String>,
    /// As the annotation spells it.
    pub ori_filename: Option<String>,
    /// The image.
    pub img: Option<Picture>,
    /// `[h, w, c]` after resizing and cropping.
    pub img_shape: Option<[usize; 3]>,
    /// `[h, w, c]` of the file.
    pub ori_shape: Option<[usize; 3]>,
    /// `[h, w, c]` after padding.
    pub pad_shape: Option<[usize; 3]>,
    /// `(w, h)` to resize to.
    pub scale: Option<[f64; 2]>,
    /// Which of several scales was drawn.
    pub scale_idx: Option<usize>,
    /// Wanted or done.
    pub scale_factor: Option<ScaleFactor>,
    /// Whether `Resize` kept the aspect ratio.
    pub keep_ratio: Option<bool>,
    /// Whether the image is mirrored.
    pub flip: Option<bool>,
    /// How (`Some(None)`: decided, not at all).
    pub flip_direction: Option<Option<FlipDirection>>,
    /// How it was normalised.
    pub img_norm_cfg: Option<ImgNormCfg>,
    /// Ground-truth boxes in the frame of `img`.
    pub gt_bboxes: Option<Vec<BBox>>,
    /// Their classes.
    pub gt_labels: Option<Vec<i64>>,
    /// Boxes to ignore.
    pub gt_bboxes_ignore: Option<Vec<BBox>>,
    /// Masks of `gt_bboxes`.
    pub gt_masks: Option<InstanceMasks>,
    /// Semantic map, one channel.
    pub gt_semantic_seg: Option<Image>,
    /// Proposed boxes, as the data set gives them (4 or 5 numbers each) until `LoadProposals`.
    pub raw_proposals: Option<Arc<Vec<Vec<f32>>>>,
    /// Proposed boxes in the frame of `img`.
    pub proposals: Option<Vec<BBox>>,
    /// Other samples to mix in.
    pub mix_results: Vec<Results>,
    /// The image as the network takes it, `[C, H, W]` f32.
    pub tensor: Option<Tensor>,
    /// Fill values for batching.
    pub padding: Padding,
    /// What `Collect` made: one sample, or one per test-time augmentation.
    pub samples: Vec<DetSample>,
}

/// The kinds of boxes a sample holds, in the order in which mmdet's `bbox_fields` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BoxField {
    /// `gt_bboxes_ignore`
    Ignore,
    /// `gt_bboxes`, with which labels and masks are aligned.
    Gt,
    /// `proposals`
    Proposals,
}

impl BoxField {
    pub(super) const ALL: [Self; 3] = [Self::Ignore, Self::Gt, Self::Proposals];
}

impl Results {
    /// The start of a pipeline for one image file.
    pub fn from_file(path: &str) -> Self {
        Self { img_info: ImgInfo { filename: path.to_owned(), ..ImgInfo::default() }, ..Self::default() }
    }

    /// The start of a pipeline for an image in memory, as `LoadImageFromWebcam` takes it.
    pub fn from_image(img: Image) -> Self {
        Self { img: Some(Picture::new(img)), ..Self::default() }
    }

    /// How messages name the sample.
    pub fn name(&self) -> &str {
        self.filename.as_deref().unwrap_or(&self.img_info.filename)
    }

    /// An error about this sample.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::data(self.name(), message)
    }

    /// An error that says that `step` needs `key`, which no earlier step has set.
    pub(super) fn missing(&self, step: &str, key: &str) -> Error {
        Error::config(format!("{step}: '{key}' is not in the results: no step of the pipeline before it sets it"))
    }

    /// The image, to read.
    pub(super) fn picture(&self, step: &str) -> Result<&Picture> {
        self.img.as_ref().ok_or_else(|| self.missing(step, "img"))
    }

    /// The image, taken out.
    pub(super) fn take_image(&mut self, step: &str) -> Result<Image> {
        match self.img.take() {
            Some(picture) => picture.into_image(),
            None => Err(self.missing(step, "img")),
        }
    }

    /// Puts an image back.
    pub(super) fn set_image(&mut self, image: Image) {
        self.img = Some(Picture::new(image));
    }

    /// `img_shape`.
    pub(super) fn shape(&self, step: &str) -> Result<[usize; 3]> {
        self.img_shape.ok_or_else(|| self.missing(step, "img_shape"))
    }

    /// The boxes of `field`, if there are any.
    pub(super) fn boxes_mut(&mut self, field: BoxField) -> Option<&mut Vec<BBox>> {
        match field {
            BoxField::Ignore => self.gt_bboxes_ignore.as_mut(),
            BoxField::Gt => self.gt_bboxes.as_mut(),
            BoxField::Proposals => self.proposals.as_mut(),
        }
    }

    /// Changes every box.
    pub(super) fn map_boxes(&mut self, f: impl Fn(&mut BBox)) {
        for field in BoxField::ALL {
            self.boxes_mut(field).into_iter().flatten().for_each(&f);
        }
    }

    /// Keeps the boxes of `field` that `keep` marks, with their labels and masks when it is the ground truth.
    pub(super) fn keep_boxes(&mut self, field: BoxField, keep: &[bool]) {
        if let Some(boxes) = self.boxes_mut(field) {
            retain(boxes, keep);
        }
        if field == BoxField::Gt {
            if let Some(labels) = self.gt_labels.as_mut() {
                retain(labels, keep);
            }
            if let Some(masks) = self.gt_masks.as_mut() {
                masks.retain(keep);
            }
        }
    }
}

/// Keeps the items that `keep` marks; items past its end stay.
pub(super) fn retain<T>(items: &mut Vec<T>, keep: &[bool]) {
    let mut marks = keep.iter();
    items.retain(|_| *marks.next().unwrap_or(&true));
}

/// Clips a box to an image of `width` x `height`.
pub(super) fn clip(b: &mut BBox, width: usize, height: usize) {
    let (w, h) = (width as f32, height as f32);
    *b = [b[0].max(0.0).min(w), b[1].max(0.0).min(h), b[2].max(0.0).min(w), b[3].max(0.0).min(h)];
}
