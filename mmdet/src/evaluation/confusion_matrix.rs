//! Which class is taken for which; mmdet's `tools/analysis_tools/confusion_matrix.py`.

use mmcv::ops::nms;
use mmcv::{Error, Result};

use super::bbox_overlaps::{OverlapMode, bbox_overlaps};
use super::tpfp::corners;
use crate::core::{AnnInfo, BBox, DetResult, ScoredBox};

/// Options of [`confusion_matrix`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfusionOptions {
    /// Detections with a lower score don't count.
    pub score_thr: f64,
    /// IoU from which on a detection finds an object.
    pub tp_iou_thr: f64,
    /// Suppresses detections of a class once more, with this IoU.
    pub nms_iou_thr: Option<f64>,
}

impl Default for ConfusionOptions {
    fn default() -> Self {
        Self { score_thr: 0.0, tp_iou_thr: 0.5, nms_iou_thr: None }
    }
}

/// Counts `[true class][class found]`; the last row is background taken for an object, the last column are objects not
/// found as what they are. A detection counts for every object that it overlaps.
///
/// # Errors
/// When the numbers of images differ, or a result or label is of a class past `num_classes`.
pub fn confusion_matrix(
    results: &[DetResult],
    annotations: &[&AnnInfo],
    num_classes: usize,
    opts: ConfusionOptions,
) -> Result<Vec<Vec<f64>>> {
    if results.len() != annotations.len() {
        let message = format!("{} images have results, {} have annotations", results.len(), annotations.len());
        return Err(Error::Run(format!("confusion matrix: {message}")));
    }
    let mut matrix = vec![vec![0.0; num_classes + 1]; num_classes + 1];
    for (i, (found, ann)) in results.iter().zip(annotations).enumerate() {
        let labels: Option<Vec<usize>> =
            ann.labels.iter().map(|l| usize::try_from(*l).ok().filter(|l| *l < num_classes)).collect();
        let Some(labels) = labels.filter(|_| found.bboxes.len() <= num_classes) else {
            return Err(Error::Run(format!("confusion matrix: image {i} has a class past the {num_classes}")));
        };
        count(&mut matrix, found, &ann.bboxes, &labels, opts);
    }
    Ok(matrix)
}

fn count(matrix: &mut [Vec<f64>], found: &DetResult, gts: &[BBox], labels: &[usize], opts: ConfusionOptions) {
    let background = matrix.len() - 1;
    let mut right = vec![false; labels.len()];
    for (class, dets) in found.bboxes.iter().enumerate() {
        let dets = suppress(dets, opts);
        let boxes: Vec<BBox> = dets.iter().map(corners).collect();
        let ious = bbox_overlaps(&boxes, gts, OverlapMode::Iou, false);
        for (i, det) in dets.iter().enumerate() {
            if f64::from(det[4]) < opts.score_thr {
                continue;
            }
            let mut matched = false;
            for (j, &label) in labels.iter().enumerate() {
                if f64::from(ious[i * gts.len() + j]) >= opts.tp_iou_thr {
                    matched = true;
                    right[j] |= label == class;
                    matrix[label][class] += 1.0;
                }
            }
            if !matched {
                matrix[background][class] += 1.0;
            }
        }
    }
    for (&label, right) in labels.iter().zip(right) {
        if !right {
            matrix[label][background] += 1.0;
        }
    }
}

fn suppress(dets: &[ScoredBox], opts: ConfusionOptions) -> Vec<ScoredBox> {
    // As in Python, 0 stands for none.
    let Some(thr) = opts.nms_iou_thr.filter(|t| *t != 0.0) else { return dets.to_vec() };
    // mmcv's nms takes a score threshold of 0 or less for none.
    let counts = |d: &&ScoredBox| opts.score_thr <= 0.0 || f64::from(d[4]) > opts.score_thr;
    let dets: Vec<ScoredBox> = dets.iter().filter(counts).copied().collect();
    let boxes: Vec<BBox> = dets.iter().map(corners).collect();
    let scores: Vec<f32> = dets.iter().map(|d| d[4]).collect();
    nms(&boxes, &scores, thr as f32, 0.0).into_iter().map(|i| dets[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::map_golden::data;

    #[test]
    fn confusions_are_those_of_mmdet() {
        // With `res, ann = data(5)` of `map_golden.rs`:
        // m = np.zeros((6, 6))
        // for r, a in zip(res, ann): analyze_per_img_dets(m, a["bboxes"], a["labels"], r, **options)
        let base = ConfusionOptions::default();
        let cases: [(ConfusionOptions, [[f64; 6]; 6]); 4] = [
            (
                base,
                [
                    [27.0, 0.0, 1.0, 0.0, 1.0, 8.0],
                    [0.0, 27.0, 0.0, 0.0, 1.0, 7.0],
                    [1.0, 0.0, 37.0, 2.0, 0.0, 7.0],
                    [0.0, 1.0, 0.0, 29.0, 0.0, 9.0],
                    [0.0, 0.0, 1.0, 2.0, 12.0, 11.0],
                    [37.0, 50.0, 39.0, 31.0, 37.0, 0.0],
                ],
            ),
            (
                ConfusionOptions { score_thr: 0.3, tp_iou_thr: 0.3, ..base },
                [
                    [18.0, 0.0, 1.0, 0.0, 0.0, 12.0],
                    [0.0, 17.0, 0.0, 0.0, 0.0, 14.0],
                    [0.0, 0.0, 27.0, 0.0, 0.0, 11.0],
                    [0.0, 1.0, 0.0, 21.0, 0.0, 12.0],
                    [0.0, 0.0, 1.0, 2.0, 7.0, 15.0],
                    [25.0, 31.0, 25.0, 25.0, 22.0, 0.0],
                ],
            ),
            (
                ConfusionOptions { score_thr: 0.2, nms_iou_thr: Some(0.1), ..base },
                [
                    [16.0, 0.0, 1.0, 0.0, 0.0, 11.0],
                    [0.0, 16.0, 0.0, 0.0, 1.0, 13.0],
                    [1.0, 0.0, 22.0, 0.0, 0.0, 10.0],
                    [0.0, 1.0, 0.0, 17.0, 0.0, 11.0],
                    [0.0, 0.0, 1.0, 2.0, 8.0, 13.0],
                    [28.0, 37.0, 28.0, 27.0, 27.0, 0.0],
                ],
            ),
            (
                ConfusionOptions { nms_iou_thr: Some(0.05), ..base },
                [
                    [17.0, 0.0, 1.0, 0.0, 1.0, 10.0],
                    [0.0, 20.0, 0.0, 0.0, 1.0, 9.0],
                    [1.0, 0.0, 25.0, 2.0, 0.0, 7.0],
                    [0.0, 1.0, 0.0, 19.0, 0.0, 9.0],
                    [0.0, 0.0, 1.0, 2.0, 10.0, 11.0],
                    [36.0, 47.0, 35.0, 30.0, 35.0, 0.0],
                ],
            ),
        ];
        let (dets, ann) = data(5);
        let ann: Vec<&AnnInfo> = ann.iter().collect();
        for (opts, expected) in cases {
            assert_eq!(confusion_matrix(&dets, &ann, 5, opts).unwrap(), expected, "{opts:?}");
        }
        let error = |d: &[DetResult], n| confusion_matrix(d, &ann, n, base).unwrap_err().to_string();
        assert_eq!(error(&dets, 4), "confusion matrix: image 0 has a class past the 4");
        assert_eq!(error(&dets[1..], 5), "confusion matrix: 39 images have results, 40 have annotations");
    }
}
