//! Detections as files.

use std::path::Path;

use mmcv::Result;

use crate::core::DetResult;
use crate::datasets::{DetDataset, Source};
use crate::evaluation::TestResults;
use crate::evaluation::coco::{IouType, coco_records, has_masks, write_records};

/// The ids of images and classes in result files: COCO's own, in another format their places in the data set.
pub(crate) fn result_ids(dataset: &dyn DetDataset) -> (Vec<i64>, Vec<i64>) {
    let places = |n: usize| (0..n as i64).collect();
    match dataset.source() {
        Source::Coco(coco) => (coco.img_ids().to_vec(), coco.cat_id_of_label().to_vec()),
        _ => (places(dataset.len()), places(dataset.classes().len())),
    }
}

/// Writes detections as COCO's list of records (`image_id`, `bbox` as `[x, y, w, h]`, `score`, `category_id`, and
/// `segmentation` where there are masks). A data set of another format has images and classes numbered by their place.
pub fn write_results(dataset: &dyn DetDataset, results: &[DetResult], out: &Path) -> Result<()> {
    let (img_ids, cat_ids) = result_ids(dataset);
    let kind = if has_masks(results) { IouType::Segm } else { IouType::Bbox };
    write_records(out, &coco_records(TestResults::Detections(results), &img_ids, &cat_ids, kind)?)
}
