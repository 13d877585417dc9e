//! Detections as files.

use std::path::Path;

use mmcv::{Error, Result};
use serde_json::json;

use crate::core::DetResult;
use crate::datasets::{DetDataset, Source};

/// Writes detections as COCO's list of records (`image_id`, `bbox` as `[x, y, w, h]`, `score`, `category_id`). A data set of
/// another format has images and classes numbered by their place.
pub fn write_results(dataset: &dyn DetDataset, results: &[DetResult], out: &Path) -> Result<()> {
    let (img_ids, cat_ids) = match dataset.source() {
        Source::Coco(coco) => (coco.img_ids().to_vec(), coco.cat_id_of_label().to_vec()),
        _ => ((0..results.len() as i64).collect(), (0..dataset.classes().len() as i64).collect()),
    };
    if img_ids.len() != results.len() {
        return Err(Error::Run(format!("{} results for {} images", results.len(), img_ids.len())));
    }
    let mut records = Vec::new();
    for (image_id, found) in img_ids.iter().zip(results) {
        for (category_id, boxes) in cat_ids.iter().zip(&found.bboxes) {
            for [x1, y1, x2, y2, score] in boxes {
                let bbox = [*x1, *y1, x2 - x1, y2 - y1];
                records.push(json!({"image_id": image_id, "bbox": bbox, "score": score, "category_id": category_id}));
            }
        }
    }
    let text = serde_json::to_string(&records).map_err(|e| Error::Run(e.to_string()))?;
    mmcv::fileio::write_atomic(out, |file| file.write_all(text.as_bytes()))
}
