//! Which detections of an image are true and which are false; mmdet's `tpfp_default` and `tpfp_imagenet`.

use super::bbox_overlaps::{OverlapMode, area, bbox_overlaps, extra_length};
use super::numeric::argsort_desc;
use crate::core::{BBox, ScoredBox};

/// Detections and objects of one class in one image.
pub(super) struct ClassInImage<'a> {
    pub dets: &'a [ScoredBox],
    /// Objects that count, then those to ignore.
    pub gts: Vec<BBox>,
    /// How many of `gts` count.
    pub num_counted: usize,
}

/// What is asked of a detection.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub iou_thr: f64,
    /// Areas `[min, max)`, square pixels; one range of everything when `None`.
    pub areas: Option<&'a [(f64, f64)]>,
    pub legacy: bool,
}

impl Rules<'_> {
    pub(super) fn num_scales(&self) -> usize {
        self.areas.map_or(1, <[_]>::len)
    }

    /// Whether an area computed in an array counts in a scale; NumPy compares it in `f32`.
    pub(super) fn counts(&self, scale: usize, area: f32) -> bool {
        self.areas.is_none_or(|a| area >= a[scale].0 as f32 && area < a[scale].1 as f32)
    }

    /// Whether a detection counts as false in a scale. NumPy computes a single box's area in `f64`.
    pub(super) fn is_false(&self, scale: usize, d: &ScoredBox) -> bool {
        let extra = f64::from(extra_length(self.legacy));
        let area = (f64::from(d[2] - d[0]) + extra) * (f64::from(d[3] - d[1]) + extra);
        self.areas.is_none_or(|a| area >= a[scale].0 && area < a[scale].1)
    }

    /// Whether each object is ignored in a scale.
    pub(super) fn ignored(&self, scale: usize, image: &ClassInImage) -> Vec<bool> {
        let extra = extra_length(self.legacy);
        let gts = image.gts.iter().enumerate();
        gts.map(|(i, g)| i >= image.num_counted || !self.counts(scale, area(g, extra))).collect()
    }

    /// Every detection false, in the scales that it belongs to.
    pub(super) fn all_false(&self, dets: &[ScoredBox]) -> Vec<Vec<Verdict>> {
        let extra = extra_length(self.legacy);
        let verdict = |scale, d: &ScoredBox| {
            let counts = self.counts(scale, area(&corners(d), extra));
            if counts { Verdict::False } else { Verdict::Neither }
        };
        (0..self.num_scales()).map(|scale| dets.iter().map(|d| verdict(scale, d)).collect()).collect()
    }
}

/// What a detection counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    True,
    False,
    Neither,
}

pub(super) fn corners(d: &ScoredBox) -> BBox {
    [d[0], d[1], d[2], d[3]]
}

pub(super) fn by_score(dets: &[ScoredBox]) -> Vec<usize> {
    argsort_desc(&dets.iter().map(|d| d[4]).collect::<Vec<_>>())
}

/// The largest of a row and where it first is; a row has at least one value.
pub(super) fn row_max(row: &[f32]) -> (usize, f32) {
    row.iter().enumerate().fold((0, row[0]), |best, (i, &v)| if v > best.1 { (i, v) } else { best })
}

/// PASCAL VOC's rule: a detection is true when the object it overlaps most is not taken yet. `[scale][detection]`.
pub(super) fn tpfp_default(image: &ClassInImage, rules: Rules) -> Vec<Vec<Verdict>> {
    if image.gts.is_empty() {
        return rules.all_false(image.dets);
    }
    let boxes: Vec<BBox> = image.dets.iter().map(corners).collect();
    let ious = bbox_overlaps(&boxes, &image.gts, OverlapMode::Iou, rules.legacy);
    let best: Vec<(usize, f32)> = ious.chunks(image.gts.len()).map(row_max).collect();
    match_best(image, rules, &best, image.gts.len())
}

/// The best object of each detection, in the order of scores: taken, taken already, or not good enough.
pub(super) fn match_best(image: &ClassInImage, rules: Rules, best: &[(usize, f32)], gts: usize) -> Vec<Vec<Verdict>> {
    let order = by_score(image.dets);
    (0..rules.num_scales())
        .map(|scale| {
            let ignored = rules.ignored(scale, image);
            let mut covered = vec![false; gts];
            let mut verdicts = vec![Verdict::Neither; image.dets.len()];
            for &i in &order {
                let (gt, iou) = best[i];
                if f64::from(iou) >= rules.iou_thr {
                    if !ignored[gt] {
                        verdicts[i] = if covered[gt] { Verdict::False } else { Verdict::True };
                        covered[gt] = true;
                    }
                } else if rules.is_false(scale, &image.dets[i]) {
                    verdicts[i] = Verdict::False;
                }
            }
            verdicts
        })
        .collect()
}

/// ImageNet's rule: a detection takes the object it overlaps most of those not taken, and small objects have a lower
/// threshold. `[scale][detection]`.
pub(super) fn tpfp_imagenet(image: &ClassInImage, rules: Rules) -> Vec<Vec<Verdict>> {
    if image.gts.is_empty() {
        return rules.all_false(image.dets);
    }
    let extra = extra_length(rules.legacy);
    let boxes: Vec<BBox> = image.dets.iter().map(corners).collect();
    let shifted: Vec<BBox> = image.gts.iter().map(|g| g.map(|v| v - 1.0)).collect();
    let ious = bbox_overlaps(&boxes, &shifted, OverlapMode::Iou, rules.legacy);
    let threshold = |g: &BBox| {
        let (w, h) = (g[2] - g[0] + extra, g[3] - g[1] + extra);
        (w * h / ((w + 10.0) * (h + 10.0))).min(rules.iou_thr as f32)
    };
    let thresholds: Vec<f32> = image.gts.iter().map(threshold).collect();
    let order = by_score(image.dets);
    (0..rules.num_scales())
        .map(|scale| {
            let ignored = rules.ignored(scale, image);
            let mut covered = vec![false; image.gts.len()];
            let mut verdicts = vec![Verdict::Neither; image.dets.len()];
            for &i in &order {
                let row = &ious[i * image.gts.len()..(i + 1) * image.gts.len()];
                let mut found: Option<usize> = None;
                for (j, &iou) in row.iter().enumerate() {
                    if !covered[j] && iou >= thresholds[j] && found.is_none_or(|f| iou > row[f]) {
                        found = Some(j);
                    }
                }
                if let Some(gt) = found {
                    covered[gt] = true;
                    if !ignored[gt] {
                        verdicts[i] = Verdict::True;
                    }
                } else if rules.is_false(scale, &image.dets[i]) {
                    verdicts[i] = Verdict::False;
                }
            }
            verdicts
        })
        .collect()
}
