//! Non-maximum suppression, hard and soft (Bodla et al., ICCV 2017, <https://arxiv.org/abs/1704.04503>): mmcv's `nms.py`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::sort::{descending, order_of};
use crate::{Error, Result};

/// `dict(type='nms', iou_threshold=0.5)`: the fields of both kinds and those that batched suppression takes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NmsConfig {
    /// `nms` or `soft_nms`; default `nms`.
    #[serde(default, rename = "type")]
    pub kind: NmsType,
    /// Boxes that overlap a better one by more are suppressed; needed for `nms`, 0.3 by default for `soft_nms`.
    #[serde(default, alias = "iou_thr")]
    pub iou_threshold: Option<f32>,
    /// 0, or 1 when the far corner is inside the box, so that widths are `x2 - x1 + 1`; default 0.
    #[serde(default)]
    pub offset: u8,
    /// `nms`: only boxes that score higher take part; default 0, no limit.
    #[serde(default)]
    pub score_threshold: Option<f32>,
    /// `nms`: the best so many are kept; default -1, all. With `soft_nms` it counts only when classes are split.
    #[serde(default)]
    pub max_num: Option<i64>,
    /// `soft_nms`: width of the Gaussian; default 0.5.
    #[serde(default)]
    pub sigma: Option<f32>,
    /// `soft_nms`: boxes whose score falls below are dropped; default 0.001.
    #[serde(default)]
    pub min_score: Option<f32>,
    /// `soft_nms`: `linear`, `gaussian` or `naive`; default `linear`.
    #[serde(default)]
    pub method: Option<SoftNmsMethod>,
    /// Boxes of all classes suppress each other. Takes the place of the caller's choice when given.
    #[serde(default)]
    pub class_agnostic: Option<bool>,
    /// From so many boxes on, classes are suppressed one at a time; default 10000.
    #[serde(default = "split_thr")]
    pub split_thr: usize,
}

fn split_thr() -> usize {
    10_000
}

/// Kind of suppression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NmsType {
    /// Overlapping boxes are dropped.
    #[default]
    Nms,
    /// Their scores are lowered.
    SoftNms,
}

/// How soft suppression lowers a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SoftNmsMethod {
    /// To 0 at the threshold.
    Naive,
    /// By the factor 1 - IoU from the threshold on.
    #[default]
    Linear,
    /// By the factor exp(-IoU² / sigma).
    Gaussian,
}

impl NmsConfig {
    /// `dict(type='nms', iou_threshold=...)`.
    pub fn hard(iou_threshold: f32) -> Self {
        Self {
            kind: NmsType::Nms,
            iou_threshold: Some(iou_threshold),
            offset: 0,
            score_threshold: None,
            max_num: None,
            sigma: None,
            min_score: None,
            method: None,
            class_agnostic: None,
            split_thr: split_thr(),
        }
    }

    /// An error for fields that this kind of suppression does not have, as mmcv's call would be.
    pub fn check(&self) -> Result<()> {
        let foreign: &[(&str, bool)] = match self.kind {
            NmsType::Nms => &[
                ("sigma", self.sigma.is_some()),
                ("min_score", self.min_score.is_some()),
                ("method", self.method.is_some()),
            ],
            NmsType::SoftNms => &[("score_threshold", self.score_threshold.is_some())],
        };
        if let Some((name, _)) = foreign.iter().find(|(_, given)| *given) {
            return Err(Error::config(format!("nms: type {:?} has no field '{name}'", self.kind)));
        }
        if self.kind == NmsType::Nms && self.iou_threshold.is_none() {
            return Err(Error::config("nms: iou_threshold is missing"));
        }
        if self.offset > 1 {
            return Err(Error::config(format!("nms: offset is {}, expected 0 or 1", self.offset)));
        }
        Ok(())
    }

    /// Scores of the kept boxes and their places, best first.
    fn run(&self, boxes: &[[f32; 4]], scores: &[f32], max_num: i64) -> Result<(Vec<f32>, Vec<usize>)> {
        let offset = f32::from(self.offset);
        if self.kind == NmsType::SoftNms {
            return soft_nms(
                boxes,
                scores,
                self.iou_threshold.unwrap_or(0.3),
                self.sigma.unwrap_or(0.5),
                self.min_score.unwrap_or(1e-3),
                self.method.unwrap_or_default(),
                offset,
            );
        }
        let threshold = self.iou_threshold.unwrap_or(1.0);
        let mut keep = match self.score_threshold {
            Some(least) if least > 0.0 => {
                let valid: Vec<usize> = (0..scores.len()).filter(|i| scores[*i] > least).collect();
                let boxes: Vec<[f32; 4]> = valid.iter().map(|i| boxes[*i]).collect();
                let scores: Vec<f32> = valid.iter().map(|i| scores[*i]).collect();
                nms(&boxes, &scores, threshold, offset).into_iter().map(|i| valid[i]).collect()
            }
            _ => nms(boxes, scores, threshold, offset),
        };
        if max_num > 0 {
            keep.truncate(max_num as usize);
        }
        Ok((keep.iter().map(|i| scores[*i]).collect(), keep))
    }
}

/// C++'s `std::max` and `std::min`, which differ from Rust's for NaN.
#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    if a < b { b } else { a }
}
#[inline(always)]
fn min(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

/// Boxes as columns, for vector code.
#[derive(Default)]
struct Columns {
    x1: Vec<f32>,
    y1: Vec<f32>,
    x2: Vec<f32>,
    y2: Vec<f32>,
    area: Vec<f32>,
}

impl Columns {
    fn new<'a>(boxes: impl Iterator<Item = &'a [f32; 4]>, offset: f32) -> Self {
        let mut c = Self::default();
        for [x1, y1, x2, y2] in boxes {
            c.x1.push(*x1);
            c.y1.push(*y1);
            c.x2.push(*x2);
            c.y2.push(*y2);
            c.area.push((x2 - x1 + offset) * (y2 - y1 + offset));
        }
        c
    }
}

simd! {
    /// The overlap of box `i` with each box from `from` on.
    fn overlaps(c: &Columns, i: usize, from: usize, offset: f32, out: &mut [f32]) {
        let (x1, y1, x2, y2) = (c.x1[i], c.y1[i], c.x2[i], c.y2[i]);
        let area = c.area[i];
        let n = out.len();
        let (bx1, by1, bx2, by2) = (&c.x1[from..from + n], &c.y1[from..from + n], &c.x2[from..from + n], &c.y2[from..from + n]);
        let areas = &c.area[from..from + n];
        for j in 0..n {
            let w = max(0.0, min(x2, bx2[j]) - max(x1, bx1[j]) + offset);
            let h = max(0.0, min(y2, by2[j]) - max(y1, by1[j]) + offset);
            let inter = w * h;
            out[j] = inter / (area + areas[j] - inter);
        }
    }
}
simd! {
    fn mark(overlap: &[f32], threshold: f32, dropped: &mut [u32]) {
        for (d, o) in dropped.iter_mut().zip(overlap) {
            *d |= u32::from(*o > threshold);
        }
    }
}

/// Places of the boxes that no better box overlaps by more than `iou_threshold`, best first (boxes of equal score in
/// their order).
///
/// `boxes` are (x1, y1, x2, y2); widths are `x2 - x1 + offset`. Of two slices of unequal length the shorter counts.
pub fn nms(boxes: &[[f32; 4]], scores: &[f32], iou_threshold: f32, offset: f32) -> Vec<usize> {
    const STRIP: usize = 512;
    let order = order_of(&scores[..scores.len().min(boxes.len())]);
    let n = order.len();
    let columns = Columns::new(order.iter().map(|i| &boxes[*i]), offset);
    let mut dropped = vec![0u32; n];
    let mut overlap = [0.0f32; STRIP];
    let mut keep = Vec::new();
    for i in 0..n {
        if dropped[i] != 0 {
            continue;
        }
        keep.push(order[i]);
        for from in (i + 1..n).step_by(STRIP) {
            let len = STRIP.min(n - from);
            overlaps(&columns, i, from, offset, &mut overlap[..len]);
            mark(&overlap[..len], iou_threshold, &mut dropped[from..from + len]);
        }
    }
    keep
}

/// Lowers the scores of boxes that overlap a better one, and drops those below `min_score`. Returns the scores and the
/// places of the rest, best first.
///
/// An error when `boxes` and `scores` differ in number.
pub fn soft_nms(
    boxes: &[[f32; 4]],
    scores: &[f32],
    iou_threshold: f32,
    sigma: f32,
    min_score: f32,
    method: SoftNmsMethod,
    offset: f32,
) -> Result<(Vec<f32>, Vec<usize>)> {
    if boxes.len() != scores.len() {
        return Err(Error::Run(format!("soft_nms: {} boxes and {} scores", boxes.len(), scores.len())));
    }
    let mut c = Columns::new(boxes.iter(), offset);
    let mut scores = scores.to_vec();
    let mut places: Vec<usize> = (0..boxes.len()).collect();
    let mut overlap = vec![0.0f32; boxes.len()];
    let mut i = 0;
    while i < scores.len() {
        let mut best = i;
        for j in i + 1..scores.len() {
            if scores[best] < scores[j] {
                best = j;
            }
        }
        for column in [&mut c.x1, &mut c.y1, &mut c.x2, &mut c.y2, &mut c.area, &mut scores] {
            column.swap(i, best);
        }
        places.swap(i, best);
        let rest = scores.len() - i - 1;
        overlaps(&c, i, i + 1, offset, &mut overlap[..rest]);
        let mut j = i + 1;
        while j < scores.len() {
            let iou = overlap[j - i - 1];
            scores[j] *= match method {
                SoftNmsMethod::Naive if iou >= iou_threshold => 0.0,
                SoftNmsMethod::Linear if iou >= iou_threshold => 1.0 - iou,
                SoftNmsMethod::Gaussian => (-(iou * iou) / sigma).exp(),
                _ => 1.0,
            };
            if scores[j] < min_score {
                // The last one takes its place and is looked at next.
                for column in [&mut c.x1, &mut c.y1, &mut c.x2, &mut c.y2, &mut c.area, &mut scores] {
                    column.swap_remove(j);
                }
                places.swap_remove(j);
                overlap[j - i - 1] = overlap[scores.len() - i - 1];
            } else {
                j += 1;
            }
        }
        i += 1;
    }
    Ok((scores, places))
}

/// Suppression among boxes of equal id only. Returns the kept boxes as (x1, y1, x2, y2, score), best first, and their
/// places; without a config, all of them sorted.
///
/// Boxes of different ids are kept apart by moving each by its id times the largest coordinate plus 1, in f32, as mmcv
/// does: with big coordinates or ids that costs precision. `class_agnostic` leaves the ids out.
pub fn batched_nms(
    boxes: &[[f32; 4]],
    scores: &[f32],
    ids: &[usize],
    cfg: Option<&NmsConfig>,
    class_agnostic: bool,
) -> Result<(Vec<[f32; 5]>, Vec<usize>)> {
    let n = boxes.len();
    if scores.len() != n || ids.len() != n {
        return Err(Error::Run(format!("batched_nms: {n} boxes, {} scores and {} ids", scores.len(), ids.len())));
    }
    let scored = |scores: &[f32], keep: &[usize]| {
        keep.iter().zip(scores).map(|(i, s)| [boxes[*i][0], boxes[*i][1], boxes[*i][2], boxes[*i][3], *s]).collect()
    };
    let Some(cfg) = cfg else {
        let keep = order_of(scores);
        let sorted: Vec<f32> = keep.iter().map(|i| scores[*i]).collect();
        return Ok((scored(&sorted, &keep), keep));
    };
    cfg.check()?;
    let moved: Vec<[f32; 4]>;
    let apart = if cfg.class_agnostic.unwrap_or(class_agnostic) {
        boxes
    } else {
        let largest = boxes
            .as_flattened()
            .iter()
            .fold(f32::NEG_INFINITY, |m, v| if m.is_nan() || v.is_nan() { f32::NAN } else { m.max(*v) });
        moved = boxes.iter().zip(ids).map(|(b, id)| b.map(|v| v + *id as f32 * (largest + 1.0))).collect();
        &moved
    };
    let max_num = cfg.max_num.unwrap_or(-1);
    if n < cfg.split_thr {
        if cfg.kind == NmsType::SoftNms && cfg.max_num.is_some() {
            return Err(Error::config("nms: type soft_nms has no field 'max_num'"));
        }
        let (kept, keep) = cfg.run(apart, scores, max_num)?;
        return Ok((scored(&kept, &keep), keep));
    }
    let mut places: Vec<usize> = (0..n).collect();
    places.sort_by_key(|i| ids[*i]);
    // Score after suppression, by place.
    let mut kept: Vec<Option<f32>> = vec![None; n];
    for group in places.chunk_by(|a, b| ids[*a] == ids[*b]) {
        let boxes: Vec<[f32; 4]> = group.iter().map(|i| apart[*i]).collect();
        let scores: Vec<f32> = group.iter().map(|i| scores[*i]).collect();
        let (scores, keep) = cfg.run(&boxes, &scores, -1)?;
        for (score, i) in scores.into_iter().zip(keep) {
            kept[group[i]] = Some(score);
        }
    }
    let mut keep: Vec<(f32, usize)> = kept.into_iter().enumerate().filter_map(|(i, s)| Some((s?, i))).collect();
    keep.sort_by(|a, b| descending(a.0, b.0));
    if max_num > 0 {
        keep.truncate(max_num as usize);
    }
    let (kept, keep): (Vec<f32>, Vec<usize>) = keep.into_iter().unzip();
    Ok((scored(&kept, &keep), keep))
}

/// Groups of boxes: each survivor of suppression at `iou_threshold` and, behind it, those it suppresses, by score. mmcv's
/// `nms_match`; unlike [`nms`] a box that overlaps by just the threshold is suppressed.
pub fn nms_match(boxes: &[[f32; 4]], scores: &[f32], iou_threshold: f32) -> Result<Vec<Vec<usize>>> {
    if boxes.len() != scores.len() {
        return Err(Error::Run(format!("nms_match: scores has {} entries, expected {}", scores.len(), boxes.len())));
    }
    let order = order_of(scores);
    let area = |b: &[f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    let mut taken = vec![false; boxes.len()];
    let mut groups = Vec::new();
    for (rank, &best) in order.iter().enumerate() {
        if taken[best] {
            continue;
        }
        let (a, mut group) = (&boxes[best], vec![best]);
        for &other in &order[rank + 1..] {
            if taken[other] {
                continue;
            }
            let b = &boxes[other];
            let w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]));
            let h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]));
            if w * h / (area(a) + area(b) - w * h) >= iou_threshold {
                taken[other] = true;
                group.push(other);
            }
        }
        groups.push(group);
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 24 boxes about (50, 50), of three classes.
    fn boxes() -> (Vec<[f32; 4]>, Vec<f32>, Vec<usize>) {
        let make = |i: usize| {
            let i = i as f64;
            let (cx, cy) = (50.0 + 40.0 * (1.3 * i).sin(), 50.0 + 40.0 * (2.1 * i).cos());
            let (w, h) = (20.0 + 10.0 * (3.7 * i).sin(), 20.0 + 10.0 * (0.9 * i).cos());
            [cx - w, cy - h, cx + w, cy + h].map(|v| v as f32)
        };
        let scores: Vec<f32> = (0..24).map(|i| (5.3 * f64::from(i)).sin().abs() as f32).collect();
        ((0..24).map(make).collect(), scores, (0..24).map(|i| i % 3).collect())
    }

    // mmcv.ops.batched_nms(boxes, scores, ids, cfg): places and scores
    #[rustfmt::skip]
    const BATCHED: &[(&str, &[usize], &[f32])] = &[
        (r#"{"type": "nms", "iou_threshold": 0.3}"#, &[8, 11, 5, 21, 14, 18, 1, 20, 4, 12, 7, 10, 22, 13], &[0.99993384, 0.9837476, 0.97935766, 0.9744496, 0.931394, 0.9136687, 0.83226746, 0.7271425, 0.7111612, 0.6948037, 0.56390923, 0.39592516, 0.35327715, 0.21338493]),
        (r#"{"type": "nms", "iou_threshold": 0.3, "split_thr": 10}"#, &[8, 11, 5, 21, 14, 18, 1, 20, 4, 12, 7, 10, 22, 13], &[0.99993384, 0.9837476, 0.97935766, 0.9744496, 0.931394, 0.9136687, 0.83226746, 0.7271425, 0.7111612, 0.6948037, 0.56390923, 0.39592516, 0.35327715, 0.21338493]),
        (r#"{"type": "nms", "iou_threshold": 0.3, "split_thr": 10, "max_num": 4}"#, &[8, 11, 5, 21], &[0.99993384, 0.9837476, 0.97935766, 0.9744496]),
        (r#"{"type": "soft_nms", "iou_threshold": 0.3, "min_score": 0.3}"#, &[8, 11, 5, 21, 14, 18, 1, 20, 4, 12, 7, 17, 15, 10, 9, 22, 23], &[0.99993384, 0.9837476, 0.97935766, 0.9744496, 0.931394, 0.9136687, 0.83226746, 0.7271425, 0.7111612, 0.6948037, 0.56390923, 0.55909455, 0.52655566, 0.39592516, 0.37858543, 0.35327715, 0.31658265]),
        (r#"{"type": "soft_nms", "iou_threshold": 0.3, "min_score": 0.3, "split_thr": 10, "max_num": 6}"#, &[8, 11, 5, 21, 14, 18], &[0.99993384, 0.9837476, 0.97935766, 0.9744496, 0.931394, 0.9136687]),
        (r#"{"type": "nms", "iou_threshold": 0.3, "class_agnostic": true}"#, &[8, 11, 5, 21, 14, 18, 20, 4, 12], &[0.99993384, 0.9837476, 0.97935766, 0.9744496, 0.931394, 0.9136687, 0.7271425, 0.7111612, 0.6948037]),
    ];
    // mmcv.ops.soft_nms(boxes, scores, 0.3, 0.5, 0.2, method)
    #[rustfmt::skip]
    const SOFT: &[(SoftNmsMethod, &[usize], &[f32])] = &[
        (SoftNmsMethod::Linear, &[8, 11, 5, 21, 14, 18, 20, 4, 12, 17, 15, 9, 7, 1, 10], &[0.99993384, 0.9837476, 0.97935766, 0.9744496, 0.931394, 0.9136687, 0.7271425, 0.7111612, 0.6948037, 0.55909467, 0.52655566, 0.37858543, 0.35698912, 0.29355335, 0.250345]),
        (SoftNmsMethod::Gaussian, &[8, 11, 21, 5, 18, 14, 1, 12, 17, 15, 4, 9, 20, 7, 10, 23], &[0.99993384, 0.9837476, 0.9744496, 0.96695596, 0.9136687, 0.75899345, 0.6463108, 0.64396137, 0.6316394, 0.56703955, 0.51289773, 0.4142998, 0.40426594, 0.27403536, 0.23877332, 0.2117237]),
        (SoftNmsMethod::Naive, &[8, 11, 5, 21, 14, 18, 20, 4, 12], &[0.99993384, 0.9837476, 0.97935766, 0.9744496, 0.931394, 0.9136687, 0.7271425, 0.7111612, 0.6948037]),
    ];

    #[track_caller]
    fn close(ours: &[f32], theirs: &[f32]) {
        assert_eq!(ours.len(), theirs.len());
        assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-6), "{ours:?}, expected {theirs:?}");
    }

    // mmcv.ops.nms(boxes, scores, 0.5, 0)[1], (..., 0.3, 1)[1], (..., 0.5, 0, 0.4, 5)[1]
    #[test]
    fn hard_suppression_is_mmcvs() {
        let (boxes, scores, _) = boxes();
        assert_eq!(
            nms(&boxes, &scores, 0.5, 0.0),
            [8, 11, 5, 21, 14, 18, 17, 1, 15, 20, 4, 12, 23, 7, 9, 10, 22, 3, 19]
        );
        assert_eq!(nms(&boxes, &scores, 0.3, 1.0), [8, 11, 5, 21, 18, 20, 4, 12, 22]);
        let cfg: NmsConfig =
            serde_json::from_str(r#"{"iou_thr": 0.5, "score_threshold": 0.4, "max_num": 5, "class_agnostic": true}"#)
                .unwrap();
        assert_eq!(batched_nms(&boxes, &scores, &[0; 24], Some(&cfg), false).unwrap().1, [8, 11, 5, 21, 14]);
        // Equals keep their order (torch's is arbitrary).
        let far: Vec<[f32; 4]> = (0..40).map(|i| [i as f32, 0.0, i as f32 + 0.5, 1.0]).collect();
        assert_eq!(nms(&far, &[0.5; 40], 0.5, 0.0), (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn soft_suppression_is_mmcvs() {
        let (boxes, scores, _) = boxes();
        for (method, places, kept) in SOFT {
            let (s, p) = soft_nms(&boxes, &scores, 0.3, 0.5, 0.2, *method, 0.0).unwrap();
            assert_eq!(p, *places);
            close(&s, kept);
        }
    }

    #[test]
    fn batched_suppression_is_mmcvs() {
        let (boxes, scores, ids) = boxes();
        for (json, places, kept) in BATCHED {
            let cfg: NmsConfig = serde_json::from_str(json).unwrap();
            let (dets, keep) = batched_nms(&boxes, &scores, &ids, Some(&cfg), false).unwrap();
            assert_eq!(keep, *places, "{json}");
            close(&dets.iter().map(|d| d[4]).collect::<Vec<_>>(), kept);
            assert!(dets.iter().zip(&keep).all(|(d, i)| d[..4] == boxes[*i]));
        }
        let (dets, keep) = batched_nms(&boxes, &scores, &ids, None, false).unwrap();
        assert_eq!((dets.len(), keep[0]), (24, 8));
        assert!(dets.windows(2).all(|d| d[0][4] >= d[1][4]));
    }

    #[test]
    fn nothing_gives_nothing_and_nan_is_no_panic() {
        let cfg = NmsConfig::hard(0.5);
        assert!(batched_nms(&[], &[], &[], Some(&cfg), false).unwrap().0.is_empty());
        assert!(nms(&[], &[], 0.5, 0.0).is_empty());
        let boxes = [[0.0, 0.0, 1.0, 1.0], [f32::NAN; 4], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]];
        let scores = [0.5, f32::NAN, 0.1, 0.2];
        assert_eq!(nms(&boxes, &scores, 0.5, 0.0), [1, 0, 3, 2]);
        soft_nms(&boxes, &scores, 0.3, 0.5, 1e-3, SoftNmsMethod::Gaussian, 0.0).unwrap();
        batched_nms(&boxes, &scores, &[0, 1, 0, 1], Some(&cfg), false).unwrap();
        assert!(batched_nms(&boxes, &scores, &[0], Some(&cfg), false).is_err());
    }

    #[test]
    fn fields_of_the_other_kind_are_refused() {
        for json in [
            r#"{"type": "nms"}"#,
            r#"{"type": "nms", "iou_threshold": 0.5, "sigma": 0.5}"#,
            r#"{"type": "soft_nms", "score_threshold": 0.1}"#,
            r#"{"type": "soft_nms", "max_num": 3}"#,
            r#"{"iou_threshold": 0.5, "offset": 2}"#,
        ] {
            let cfg: NmsConfig = serde_json::from_str(json).unwrap();
            assert!(batched_nms(&[[0.0; 4]], &[1.0], &[0], Some(&cfg), false).is_err(), "{json}");
        }
        assert!(serde_json::from_str::<NmsConfig>(r#"{"iou_treshold": 0.5}"#).is_err());
    }

    // mmcv.ops.nms_match(torch.tensor(boxes with scores), 0.5)
    #[test]
    fn suppressed_boxes_are_grouped_with_their_survivors() {
        let boxes = [
            [49.1, 32.4, 51.0, 35.9],
            [49.3, 32.9, 51.0, 35.3],
            [35.3, 11.5, 39.9, 14.5],
            [35.2, 11.7, 39.7, 15.7],
            [0.0, 0.0, 2.0, 1.0],
            [0.0, 0.0, 1.0, 1.0],
        ];
        let groups = nms_match(&boxes, &[0.9, 0.95, 0.5, 0.7, 0.2, 0.1], 0.5).unwrap();
        assert_eq!(groups, [[1, 0], [3, 2], [4, 5]]);
        assert!(nms_match(&[], &[], 0.5).unwrap().is_empty());
        assert!(nms_match(&boxes, &[0.9], 0.5).is_err());
    }
}
