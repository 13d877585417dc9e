//! What the COCO evaluation is asked to do.

use crate::evaluation::numeric::{coco_iou_thrs, linspace};

/// What overlap is measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IouType {
    /// Boxes.
    Bbox,
    /// Masks.
    Segm,
}

/// pycocotools' `Params`.
#[derive(Debug, Clone, PartialEq)]
pub struct CocoEvalParams {
    /// Boxes or masks.
    pub iou_type: IouType,
    /// Images to evaluate; evaluated in ascending order, once each.
    pub img_ids: Vec<i64>,
    /// Categories to evaluate; evaluated in ascending order, once each.
    pub cat_ids: Vec<i64>,
    /// IoU thresholds.
    pub iou_thrs: Vec<f64>,
    /// Recalls at which precision is read, ascending.
    pub rec_thrs: Vec<f64>,
    /// Numbers of best detections per image (and category) to look at; used in ascending order.
    pub max_dets: Vec<usize>,
    /// Areas of the objects looked at, both ends included, square pixels.
    pub area_rng: Vec<[f64; 2]>,
    /// A name for each area range.
    pub area_rng_lbl: Vec<String>,
    /// Whether a detection must have the object's category.
    pub use_cats: bool,
    /// Whether the summary finds the thresholds 0.5 and 0.75 among `iou_thrs`. pycocotools doesn't where those are a
    /// Python list rather than an array, and gives -1.
    pub named_thrs: bool,
}

impl CocoEvalParams {
    /// COCO's own settings for these images and categories.
    pub fn new(iou_type: IouType, img_ids: Vec<i64>, cat_ids: Vec<i64>) -> Self {
        let (small, medium, large) = (32.0 * 32.0, 96.0 * 96.0, 1e5 * 1e5);
        Self {
            iou_type,
            img_ids,
            cat_ids,
            iou_thrs: coco_iou_thrs(),
            rec_thrs: linspace(0.0, 1.0, 101),
            max_dets: vec![1, 10, 100],
            area_rng: vec![[0.0, large], [0.0, small], [small, medium], [medium, large]],
            area_rng_lbl: ["all", "small", "medium", "large"].map(str::to_owned).to_vec(),
            use_cats: true,
            named_thrs: true,
        }
    }

    /// Sorts what pycocotools sorts.
    pub(super) fn normalise(&mut self) {
        for ids in [&mut self.img_ids, &mut self.cat_ids] {
            ids.sort_unstable();
            ids.dedup();
        }
        self.max_dets.sort_unstable();
    }
}
