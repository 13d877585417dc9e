//! Overlaps of boxes in space seen from above, and their suppression: mmcv's `iou3d`. Intersections are clipped in f64.

use rayon::prelude::*;

use crate::ops::rotated::{RotatedBox, rotated_intersection};
use crate::ops::sort::order_of;
use crate::{Error, Result};

/// `(x, y, z, dx, dy, dz, heading)`: centre and sizes in metres, heading in radians.
pub type Box3d = [f32; 7];

/// mmcv's least divisor.
const LEAST: f64 = 1e-8;

fn from_above(b: &Box3d) -> RotatedBox {
    [b[0], b[1], b[3], b[4], b[6]]
}

fn overlap_bev(a: &Box3d, b: &Box3d) -> f64 {
    rotated_intersection(&from_above(a), &from_above(b), true)
}

fn area(b: &Box3d) -> f64 {
    f64::from(b[3]) * f64::from(b[4])
}

fn iou_bev(a: &Box3d, b: &Box3d) -> f32 {
    let shared = overlap_bev(a, b);
    (shared / (area(a) + area(b) - shared).max(LEAST)) as f32
}

/// As if headings were 0.
fn iou_normal(a: &Box3d, b: &Box3d) -> f32 {
    let shared = |axis: usize| {
        let side = |b: &Box3d, sign: f32| b[axis] + sign * b[axis + 3] / 2.0;
        (side(a, 1.0).min(side(b, 1.0)) - side(a, -1.0).max(side(b, -1.0))).max(0.0)
    };
    let (inter, area) = (shared(0) * shared(1), a[3] * a[4] + b[3] * b[4]);
    inter / (area - inter).max(LEAST as f32)
}

fn pairs(a: &[Box3d], b: &[Box3d], f: impl Fn(&Box3d, &Box3d) -> f32 + Sync) -> Vec<f32> {
    let f = &f;
    a.par_iter().flat_map_iter(|a| b.iter().map(move |b| f(a, b))).collect()
}

/// The areas that each of `a` shares with each of `b` from above, row by row.
pub fn boxes_overlap_bev(a: &[Box3d], b: &[Box3d]) -> Vec<f32> {
    pairs(a, b, |a, b| overlap_bev(a, b) as f32)
}

/// Intersections over unions from above, row by row.
pub fn boxes_iou_bev(a: &[Box3d], b: &[Box3d]) -> Vec<f32> {
    pairs(a, b, iou_bev)
}

/// Intersections over unions of volumes, row by row; `z` is the centre's.
pub fn boxes_iou3d(a: &[Box3d], b: &[Box3d]) -> Vec<f32> {
    pairs(a, b, |a, b| {
        let face = |b: &Box3d, sign: f64| f64::from(b[2]) + sign * f64::from(b[5]) / 2.0;
        let height = (face(a, 1.0).min(face(b, 1.0)) - face(a, -1.0).max(face(b, -1.0))).max(0.0);
        let shared = overlap_bev(a, b) * height;
        let volume = |b: &Box3d| area(b) * f64::from(b[5]);
        (shared / (volume(a) + volume(b) - shared).max(1e-6)) as f32
    })
}

fn suppress(
    op: &str,
    boxes: &[Box3d],
    scores: &[f32],
    threshold: f32,
    iou: impl Fn(&Box3d, &Box3d) -> f32 + Sync,
) -> Result<Vec<usize>> {
    if boxes.len() != scores.len() {
        return Err(Error::Run(format!("{op}: scores has {} entries, expected {}", scores.len(), boxes.len())));
    }
    let mut rest = order_of(scores);
    let mut keep = Vec::new();
    while let Some(&best) = rest.first() {
        keep.push(best);
        let stays = |i: &&usize| iou(&boxes[best], &boxes[**i]) <= threshold;
        rest = rest[1..].par_iter().with_min_len(256).filter(stays).copied().collect();
    }
    Ok(keep)
}

/// Places of the boxes that no better one overlaps from above by more than `iou_threshold`, best first.
pub fn nms3d(boxes: &[Box3d], scores: &[f32], iou_threshold: f32) -> Result<Vec<usize>> {
    suppress("nms3d", boxes, scores, iou_threshold, iou_bev)
}

/// [`nms3d`] as if all headings were 0: mmcv's `nms3d_normal`.
pub fn nms_normal_3d(boxes: &[Box3d], scores: &[f32], iou_threshold: f32) -> Result<Vec<usize>> {
    suppress("nms3d_normal", boxes, scores, iou_threshold, iou_normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Box3d = [1.0, 2.0, 0.5, 4.0, 2.0, 1.0, 0.0];

    #[test]
    fn overlaps_of_boxes_whose_share_is_known() {
        use std::f32::consts::{FRAC_PI_2, FRAC_PI_4};
        // Half of it along x; turned by a quarter; half of it in height; elsewhere; an eighth turn of a square in a square.
        let b = [
            [3.0, 2.0, 0.5, 4.0, 2.0, 1.0, 0.0],
            [1.0, 2.0, 0.5, 4.0, 2.0, 1.0, FRAC_PI_2],
            [1.0, 2.0, 1.0, 4.0, 2.0, 1.0, 0.0],
            [50.0, 2.0, 0.5, 4.0, 2.0, 1.0, 0.3],
            [1.0, 2.0, 0.5, 1.0, 1.0, 1.0, FRAC_PI_4],
        ];
        let near = |ours: Vec<f32>, wanted: [f32; 5]| {
            ours.iter().zip(wanted).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{ours:?}, expected {wanted:?}"));
        };
        near(boxes_overlap_bev(&[A], &b), [4.0, 4.0, 8.0, 0.0, 1.0]);
        near(boxes_iou_bev(&[A], &b), [1.0 / 3.0, 1.0 / 3.0, 1.0, 0.0, 1.0 / 8.0]);
        near(boxes_iou3d(&[A], &b), [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 0.0, 1.0 / 8.0]);
    }

    #[test]
    fn suppression_minds_headings_or_not() {
        use std::f32::consts::FRAC_PI_2;
        let turned = [1.0, 2.0, 0.5, 4.0, 2.0, 1.0, FRAC_PI_2];
        let boxes = [A, turned, [1.2, 2.0, 0.5, 4.0, 2.0, 1.0, 0.0]];
        let scores = [0.8, 0.9, 0.7];
        assert_eq!(nms3d(&boxes, &scores, 0.5).unwrap(), [1, 0]);
        assert_eq!(nms_normal_3d(&boxes, &scores, 0.5).unwrap(), [1]);
        assert!(nms3d(&[], &[], 0.5).unwrap().is_empty());
        assert!(nms3d(&boxes, &[1.0], 0.5).is_err());
        // No size, no overlap.
        assert_eq!(boxes_iou3d(&[[0.0; 7]], &[[0.0; 7]]), [0.0]);
    }
}
