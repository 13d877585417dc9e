//! Suppression by class: mmdet's `bbox_nms.py`.

use mmcv::ops::{NmsConfig, batched_nms};
use mmcv::{Error, Result};

use super::sort_descending;
use crate::core::bbox::iou_calculators::{OverlapMode, bbox_overlaps};
use crate::core::{BBox, ScoredBox};

/// What is left after suppression, best first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Detections {
    /// Boxes with scores.
    pub dets: Vec<ScoredBox>,
    /// Their classes.
    pub labels: Vec<i64>,
    /// Their places among the input's scores without the background: `row * classes + class`.
    pub inds: Vec<usize>,
}

/// Suppresses within each class.
///
/// - `boxes`: `[n]`, or row-major `[n, classes]`
/// - `scores`: row-major `[n, classes + 1]`; the last column, the background's, is left out
/// - `score_thr`: lower scores are dropped; `score_factors` (one per row) are multiplied in after that
/// - `max_num`: the best so many are kept, all when it isn't positive
pub fn multiclass_nms(
    boxes: &[BBox],
    scores: &[f32],
    num_classes: usize,
    score_thr: f64,
    nms: &NmsConfig,
    max_num: i64,
    score_factors: Option<&[f32]>,
) -> Result<Detections> {
    let n = scores.len() / (num_classes + 1);
    let per_class = boxes.len() != n;
    let factors_fit = score_factors.is_none_or(|f| f.len() == n);
    if n * (num_classes + 1) != scores.len() || (per_class && boxes.len() != n * num_classes) || !factors_fit {
        return Err(Error::Run(format!(
            "multiclass_nms: {} boxes, {} scores and {:?} factors for {num_classes} classes and background",
            boxes.len(),
            scores.len(),
            score_factors.map(<[f32]>::len)
        )));
    }
    let (mut kept, mut kept_scores, mut ids, mut inds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (row, row_scores) in scores.chunks_exact(num_classes + 1).enumerate() {
        for (class, score) in row_scores[..num_classes].iter().enumerate().filter(|(_, s)| **s > score_thr as f32) {
            kept.push(boxes[if per_class { row * num_classes + class } else { row }]);
            kept_scores.push(score * score_factors.map_or(1.0, |f| f[row]));
            ids.push(class);
            inds.push(row * num_classes + class);
        }
    }
    if kept.is_empty() {
        return Ok(Detections::default());
    }
    let (mut dets, mut keep) = batched_nms(&kept, &kept_scores, &ids, Some(nms), false)?;
    if max_num > 0 {
        dets.truncate(max_num as usize);
        keep.truncate(max_num as usize);
    }
    let labels = keep.iter().map(|k| ids[*k] as i64).collect();
    Ok(Detections { dets, labels, inds: keep.into_iter().map(|k| inds[k]).collect() })
}

/// Bounds of [`fast_nms`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FastNms {
    /// Scores must be higher.
    pub score_thr: f64,
    /// A box overlapping a better one of its class by more is dropped.
    pub iou_thr: f64,
    /// The best so many of each class take part.
    pub top_k: usize,
    /// The best so many are kept, all when it isn't positive.
    pub max_num: i64,
}

/// YOLACT's suppression, where a dropped box still drops others. `boxes` are `[n]`, `scores` row-major `[n, classes + 1]`
/// with the background last. `inds` of the result are rows: there lie the mask coefficients.
pub fn fast_nms(boxes: &[BBox], scores: &[f32], num_classes: usize, cfg: &FastNms) -> Result<Detections> {
    let n = boxes.len();
    if scores.len() != n * (num_classes + 1) {
        return Err(Error::Run(format!("fast_nms: {n} boxes and {} scores for {num_classes} classes", scores.len())));
    }
    let mut found: Vec<(f32, i64, usize)> = Vec::new();
    for class in 0..num_classes {
        let column: Vec<f32> = (0..n).map(|i| scores[i * (num_classes + 1) + class]).collect();
        let mut order = sort_descending(&column);
        order.truncate(cfg.top_k);
        let sorted: Vec<BBox> = order.iter().map(|i| boxes[*i]).collect();
        let iou = bbox_overlaps(&sorted, &sorted, OverlapMode::Iou);
        let k = sorted.len();
        for (j, row) in order.iter().enumerate() {
            let most = (0..j).fold(0f32, |m, i| m.max(iou[i * k + j]));
            if most <= cfg.iou_thr as f32 && column[*row] > cfg.score_thr as f32 {
                found.push((column[*row], class as i64, *row));
            }
        }
    }
    let by_score: Vec<f32> = found.iter().map(|f| f.0).collect();
    let mut order = sort_descending(&by_score);
    if cfg.max_num > 0 {
        order.truncate(cfg.max_num as usize);
    }
    let det = |i: &usize| {
        let (score, _, row) = found[*i];
        let [x1, y1, x2, y2] = boxes[row];
        [x1, y1, x2, y2, score]
    };
    Ok(Detections {
        dets: order.iter().map(det).collect(),
        labels: order.iter().map(|i| found[*i].1).collect(),
        inds: order.iter().map(|i| found[*i].2).collect(),
    })
}
