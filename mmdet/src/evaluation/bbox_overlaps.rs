//! Box overlaps in `f32`, as mmdet's `core/evaluation/bbox_overlaps.py` computes them with NumPy.

use crate::core::BBox;

/// What the intersection is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlapMode {
    /// The union.
    Iou,
    /// The area of the first box.
    Iof,
}

/// Width and height are `x2 - x1 + extra`: 1 for boxes that hold their last pixel (mmdet 1.x, VOC), else 0.
pub(crate) fn extra_length(use_legacy_coordinate: bool) -> f32 {
    if use_legacy_coordinate { 1.0 } else { 0.0 }
}

/// Area of a box, square pixels.
pub(crate) fn area(b: &BBox, extra: f32) -> f32 {
    (b[2] - b[0] + extra) * (b[3] - b[1] + extra)
}

/// NumPy's `maximum`, which keeps NaN.
fn maximum(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

fn minimum(a: f32, b: f32) -> f32 {
    if a.is_nan() || a < b { a } else { b }
}

/// Overlap of each of `a` (rows) with each of `b` (columns), row-major `[a.len(), b.len()]`.
pub fn bbox_overlaps(a: &[BBox], b: &[BBox], mode: OverlapMode, use_legacy_coordinate: bool) -> Vec<f32> {
    let extra = extra_length(use_legacy_coordinate);
    let areas: Vec<f32> = b.iter().map(|b| area(b, extra)).collect();
    let mut all = Vec::with_capacity(a.len() * b.len());
    for a in a {
        let a_area = area(a, extra);
        for (b, b_area) in b.iter().zip(&areas) {
            let w = minimum(a[2], b[2]) - maximum(a[0], b[0]) + extra;
            let h = minimum(a[3], b[3]) - maximum(a[1], b[1]) + extra;
            let both = maximum(w, 0.0) * maximum(h, 0.0);
            let whole = match mode {
                OverlapMode::Iou => a_area + b_area - both,
                OverlapMode::Iof => a_area,
            };
            all.push(both / maximum(whole, 1e-6));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_those_of_mmdet() {
        // a = np.array([[0, 0, 10, 10], [5.5, 3.25, 20.125, 9], [3, 3, 3, 3]], np.float32); b = a[:2] + np.float32(1.5)
        // bbox_overlaps(a, b).ravel(), (a, b, mode="iof"), (a, b, use_legacy_coordinate=True)
        let a = [[0.0, 0.0, 10.0, 10.0], [5.5, 3.25, 20.125, 9.0], [3.0, 3.0, 3.0, 3.0]];
        let b: Vec<BBox> = a[..2].iter().map(|b: &BBox| b.map(|v| v + 1.5)).collect();
        let golden: [(OverlapMode, bool, [f32; 6]); 3] = [
            (OverlapMode::Iou, false, [0.5655577, 0.093558565, 0.2306246, 0.49624687, 0.0, 0.0]),
            (OverlapMode::Iof, false, [0.7225, 0.1575, 0.41025642, 0.6633222, 0.0, 0.0]),
            (OverlapMode::Iou, true, [0.5947282, 0.12408873, 0.26364428, 0.54215217, 0.008264462, 0.0]),
        ];
        for (mode, legacy, expected) in golden {
            assert_eq!(bbox_overlaps(&a, &b, mode, legacy), expected, "{mode:?} {legacy}");
        }
        assert!(bbox_overlaps(&a, &[], OverlapMode::Iou, false).is_empty());
    }
}
