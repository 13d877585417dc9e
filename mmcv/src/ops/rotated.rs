//! Rotated boxes `(cx, cy, w, h, angle)` in pixels and radians: overlaps and non-maximum suppression, mmcv's
//! `box_iou_rotated` and `nms_rotated`. Intersections are clipped in f64. There is no CUDA kernel yet.

use rayon::prelude::*;

use super::sort::order_of;
use crate::{Error, Result};

/// A box.
pub type RotatedBox = [f32; 5];

/// What the intersection's area is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotatedOverlap {
    /// The union.
    Iou,
    /// The first box.
    Iof,
}

type Point = [f64; 2];

fn corners(b: &RotatedBox, shift: Point, clockwise: bool) -> [Point; 4] {
    let angle = f64::from(b[4]) * if clockwise { 1.0 } else { -1.0 };
    let ((sin, cos), w, h) = (angle.sin_cos(), f64::from(b[2]) / 2.0, f64::from(b[3]) / 2.0);
    [[-w, -h], [w, -h], [w, h], [-w, h]]
        .map(|[x, y]| [f64::from(b[0]) - shift[0] + x * cos - y * sin, f64::from(b[1]) - shift[1] + x * sin + y * cos])
}

/// Which side of the line from `a` to `b` a point is on: not negative inside.
fn side(a: Point, b: Point, p: Point) -> f64 {
    (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
}

/// The area that two convex outlines, both turning the same way as [`corners`], share.
fn shared_area(subject: &[Point; 4], clip: &[Point; 4]) -> f64 {
    let mut outline = subject.to_vec();
    for i in 0..4 {
        let (a, b) = (clip[i], clip[(i + 1) % 4]);
        let all = std::mem::take(&mut outline);
        for (j, &p) in all.iter().enumerate() {
            let q = all[(j + 1) % all.len()];
            let (sp, sq) = (side(a, b, p), side(a, b, q));
            if sp >= 0.0 {
                outline.push(p);
            }
            if (sp > 0.0 && sq < 0.0) || (sp < 0.0 && sq > 0.0) {
                let t = sp / (sp - sq);
                outline.push([p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])]);
            }
        }
        if outline.is_empty() {
            return 0.0;
        }
    }
    let twice = |i: usize| {
        let (p, q) = (outline[i], outline[(i + 1) % outline.len()]);
        p[0] * q[1] - p[1] * q[0]
    };
    (0..outline.len()).map(twice).sum::<f64>().abs() / 2.0
}

/// The area that two boxes share.
pub(super) fn rotated_intersection(a: &RotatedBox, b: &RotatedBox, clockwise: bool) -> f64 {
    // Around the middle, where numbers are small.
    let shift = [(f64::from(a[0]) + f64::from(b[0])) / 2.0, (f64::from(a[1]) + f64::from(b[1])) / 2.0];
    let apart = (f64::from(a[0]) - f64::from(b[0])).hypot(f64::from(a[1]) - f64::from(b[1]));
    let reach = |b: &RotatedBox| f64::from(b[2]).hypot(f64::from(b[3])) / 2.0;
    if apart > reach(a) + reach(b) {
        return 0.0;
    }
    // Two negative sides have a positive area, and their outline turns the same way.
    shared_area(&corners(a, shift, clockwise), &corners(b, shift, clockwise))
}

/// The overlap of two boxes; 0 where one has no area.
pub fn rotated_overlap(a: &RotatedBox, b: &RotatedBox, mode: RotatedOverlap, clockwise: bool) -> f32 {
    let (area_a, area_b) = (f64::from(a[2] * a[3]), f64::from(b[2] * b[3]));
    // mmcv's bounds, also of NaN.
    if !(area_a >= 1e-14 && area_b >= 1e-14) {
        return 0.0;
    }
    let shared = rotated_intersection(a, b, clockwise);
    let base = match mode {
        RotatedOverlap::Iou => area_a + area_b - shared,
        RotatedOverlap::Iof => area_a,
    };
    (shared / base) as f32
}

/// Overlaps of each of `a` with each of `b`, row by row. `clockwise` says which way angles turn.
pub fn box_iou_rotated(a: &[RotatedBox], b: &[RotatedBox], mode: RotatedOverlap, clockwise: bool) -> Vec<f32> {
    a.par_iter().flat_map_iter(|a| b.iter().map(move |b| rotated_overlap(a, b, mode, clockwise))).collect()
}

/// Overlaps of pairs; an error unless there are as many of both.
pub fn box_iou_rotated_aligned(
    a: &[RotatedBox],
    b: &[RotatedBox],
    mode: RotatedOverlap,
    clockwise: bool,
) -> Result<Vec<f32>> {
    if a.len() != b.len() {
        return Err(Error::Run(format!("box_iou_rotated: b has {} boxes, expected a's {}", b.len(), a.len())));
    }
    Ok(a.iter().zip(b).map(|(a, b)| rotated_overlap(a, b, mode, clockwise)).collect())
}

/// Places of the boxes that no better one of their label overlaps by `iou_threshold` or more, best first. Without labels all
/// suppress each other.
pub fn nms_rotated(
    boxes: &[RotatedBox],
    scores: &[f32],
    iou_threshold: f32,
    labels: Option<&[usize]>,
    clockwise: bool,
) -> Result<Vec<usize>> {
    if scores.len() != boxes.len() || labels.is_some_and(|l| l.len() != boxes.len()) {
        return Err(Error::Run(format!(
            "nms_rotated: scores has {} and labels {:?} entries, expected {} as boxes",
            scores.len(),
            labels.map(<[usize]>::len),
            boxes.len()
        )));
    }
    let order = order_of(scores);
    let mut suppressed = vec![false; boxes.len()];
    let mut keep = Vec::new();
    for (i, &best) in order.iter().enumerate() {
        if suppressed[best] {
            continue;
        }
        keep.push(best);
        let rest: Vec<usize> = order[i + 1..]
            .par_iter()
            .with_min_len(256)
            .filter(|j| !suppressed[**j] && labels.is_none_or(|l| l[best] == l[**j]))
            .filter(|j| rotated_overlap(&boxes[best], &boxes[**j], RotatedOverlap::Iou, clockwise) >= iou_threshold)
            .copied()
            .collect();
        rest.into_iter().for_each(|j| suppressed[j] = true);
    }
    Ok(keep)
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::super::testing::golden;
    use super::*;

    fn boxes(t: &Tensor) -> Vec<RotatedBox> {
        t.flatten_all().unwrap().to_vec1::<f32>().unwrap().as_chunks::<5>().0.to_vec()
    }

    // tests/golden/ops/make.py rotated
    #[test]
    fn overlaps_and_survivors_are_mmcvs() {
        for case in golden("rotated") {
            let (a, clockwise) = (boxes(case.tensor("a")), case.size("clockwise") == 1);
            if case.text("op") == "nms" {
                let scores = case.tensor("scores").to_vec1::<f32>().unwrap();
                let kept = nms_rotated(&a, &scores, case.number("thr") as f32, None, clockwise).unwrap();
                let wanted = case.tensor("y").to_vec1::<i64>().unwrap();
                assert_eq!(kept.iter().map(|k| *k as i64).collect::<Vec<_>>(), wanted);
                continue;
            }
            let b = boxes(case.tensor("b"));
            let mode = if case.text("mode") == "iou" { RotatedOverlap::Iou } else { RotatedOverlap::Iof };
            let ours = box_iou_rotated(&a, &b, mode, clockwise);
            let theirs = case.tensor("y").flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (i, (x, y)) in ours.iter().zip(&theirs).enumerate() {
                // mmcv clips in f32.
                assert!((x - y).abs() <= 2e-4, "{i}: {x}, expected {y}: {:?} {:?}", a[i / b.len()], b[i % b.len()]);
            }
        }
    }

    #[test]
    fn labels_part_boxes_and_empty_lists_are_fine() {
        let b = [[5.0, 5.0, 4.0, 2.0, 0.3]; 2];
        assert_eq!(nms_rotated(&b, &[0.1, 0.9], 0.5, Some(&[0, 1]), true).unwrap(), [1, 0]);
        assert_eq!(nms_rotated(&b, &[0.1, 0.9], 0.5, Some(&[1, 1]), true).unwrap(), [1]);
        assert!(nms_rotated(&[], &[], 0.5, None, true).unwrap().is_empty());
        assert!(nms_rotated(&b, &[0.1], 0.5, None, true).is_err());
        assert_eq!(rotated_overlap(&[0.0, 0.0, 0.0, 3.0, 0.0], &b[0], RotatedOverlap::Iou, true), 0.0);
        assert!(box_iou_rotated_aligned(&b, &b[..1], RotatedOverlap::Iou, true).is_err());
    }
}
