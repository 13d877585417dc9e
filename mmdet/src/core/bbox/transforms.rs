//! Boxes flipped, scaled and written otherwise: mmdet's `bbox/transforms.py`. Shapes are `(h, w)`.

use mmcv::image::FlipDirection;

use crate::core::{BBox, ScoredBox};

/// Which boxes have some part inside an image of `(h, w)`.
pub fn find_inside_bboxes(bboxes: &[BBox], img_shape: (usize, usize)) -> Vec<bool> {
    let (h, w) = (img_shape.0 as f32, img_shape.1 as f32);
    bboxes.iter().map(|b| b[0] < w && b[2] > 0.0 && b[1] < h && b[3] > 0.0).collect()
}

/// Mirrors boxes with their image.
pub fn bbox_flip(bboxes: &[BBox], img_shape: (usize, usize), direction: FlipDirection) -> Vec<BBox> {
    let (h, w) = (img_shape.0 as f32, img_shape.1 as f32);
    let across = |[x1, y1, x2, y2]: BBox| [w - x2, y1, w - x1, y2];
    let over = |[x1, y1, x2, y2]: BBox| [x1, h - y2, x2, h - y1];
    let one = |b: &BBox| match direction {
        FlipDirection::Horizontal => across(*b),
        FlipDirection::Vertical => over(*b),
        FlipDirection::Diagonal => over(across(*b)),
    };
    bboxes.iter().map(one).collect()
}

/// Boxes of the file's frame in the frame of the test image: scaled by `[w, h, w, h]`, then mirrored within `img_shape`.
pub fn bbox_mapping(
    bboxes: &[BBox],
    img_shape: (usize, usize),
    scale_factor: [f32; 4],
    flip: Option<FlipDirection>,
) -> Vec<BBox> {
    let scaled: Vec<BBox> = bboxes.iter().map(|b| std::array::from_fn(|i| b[i] * scale_factor[i])).collect();
    match flip {
        Some(direction) => bbox_flip(&scaled, img_shape, direction),
        None => scaled,
    }
}

/// The way back of [`bbox_mapping`].
pub fn bbox_mapping_back(
    bboxes: &[BBox],
    img_shape: (usize, usize),
    scale_factor: [f32; 4],
    flip: Option<FlipDirection>,
) -> Vec<BBox> {
    let mut back = match flip {
        Some(direction) => bbox_flip(bboxes, img_shape, direction),
        None => bboxes.to_vec(),
    };
    back.iter_mut().for_each(|b| *b = std::array::from_fn(|i| b[i] / scale_factor[i]));
    back
}

/// Rows `[image, x1, y1, x2, y2]` of the boxes of each image.
pub fn bbox2roi<B: AsRef<[BBox]>>(bbox_list: &[B]) -> Vec<[f32; 5]> {
    let rows = |(i, bboxes): (usize, &B)| {
        bboxes.as_ref().iter().map(|b| [i as f32, b[0], b[1], b[2], b[3]]).collect::<Vec<_>>()
    };
    bbox_list.iter().enumerate().flat_map(rows).collect()
}

/// The boxes of each image that occurs among the rows, images in order. As in mmdet an image without rows leaves no list.
pub fn roi2bbox(rois: &[[f32; 5]]) -> Vec<Vec<BBox>> {
    let mut images: Vec<f32> = rois.iter().map(|r| r[0]).collect();
    images.sort_by(f32::total_cmp);
    images.dedup();
    let of = |image: &f32| rois.iter().filter(|r| r[0] == *image).map(|r| [r[1], r[2], r[3], r[4]]).collect();
    images.iter().map(of).collect()
}

/// Detections by class, in their order. Labels outside `0..num_classes` are left out.
pub fn bbox2result(dets: &[ScoredBox], labels: &[i64], num_classes: usize) -> Vec<Vec<ScoredBox>> {
    let mut result = vec![Vec::new(); num_classes];
    for (det, label) in dets.iter().zip(labels) {
        if let Some(class) = usize::try_from(*label).ok().and_then(|l| result.get_mut(l)) {
            class.push(*det);
        }
    }
    result
}

/// `low <= v <= high` as torch clamps: not a number stays what it is, and the upper bound wins.
pub(crate) fn clamp(v: f32, low: f32, high: f32) -> f32 {
    let v = if v < low { low } else { v };
    if v > high { high } else { v }
}

/// The box `left, top, right, bottom` pixels around a point `[x, y, ..]`, within `(h, w)` when given.
pub fn distance2bbox(point: &BBox, distance: &[f32; 4], max_shape: Option<(usize, usize)>) -> BBox {
    let [x, y, ..] = *point;
    let b = [x - distance[0], y - distance[1], x + distance[2], y + distance[3]];
    match max_shape {
        Some(shape) => clip(b, shape),
        None => b,
    }
}

/// A box within `(h, w)`.
pub(crate) fn clip(b: BBox, (h, w): (usize, usize)) -> BBox {
    let (h, w) = (h as f32, w as f32);
    [clamp(b[0], 0.0, w), clamp(b[1], 0.0, h), clamp(b[2], 0.0, w), clamp(b[3], 0.0, h)]
}

/// `left, top, right, bottom` from a point `[x, y, ..]` to a box's sides, within `0..=max_dis - eps` when a bound is given.
pub fn bbox2distance(point: &BBox, bbox: &BBox, max_dis: Option<f64>, eps: f64) -> [f32; 4] {
    let [x, y, ..] = *point;
    let d = [x - bbox[0], y - bbox[1], bbox[2] - x, bbox[3] - y];
    match max_dis {
        Some(max) => d.map(|v| clamp(v, 0.0, (max - eps) as f32)),
        None => d,
    }
}

/// A box grown by `scale_factor` around its centre.
pub fn bbox_rescale(b: &BBox, scale_factor: f64) -> BBox {
    let (cx, cy) = ((b[0] + b[2]) * 0.5, (b[1] + b[3]) * 0.5);
    let (w, h) = ((b[2] - b[0]) * scale_factor as f32, (b[3] - b[1]) * scale_factor as f32);
    [cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h]
}

/// `[cx, cy, w, h]` as corners.
pub fn bbox_cxcywh_to_xyxy(b: &BBox) -> BBox {
    let [cx, cy, w, h] = *b;
    [cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h]
}

/// Corners as `[cx, cy, w, h]`.
pub fn bbox_xyxy_to_cxcywh(b: &BBox) -> BBox {
    let [x1, y1, x2, y2] = *b;
    [(x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::testing::{boxes, close};

    const ALL: [FlipDirection; 3] = [FlipDirection::Horizontal, FlipDirection::Vertical, FlipDirection::Diagonal];

    // b = boxes(3, 5); [bbox_flip(b, (70, 80), d) for d in ('horizontal', 'vertical', 'diagonal')]
    // bbox_mapping(b, (70, 80), [1.5, 1.25, 1.5, 1.25], True, 'vertical')
    // bbox_mapping_back(b, (70, 80), [1.5, 1.3, 1.5, 1.3], True, 'diagonal')
    #[test]
    #[rustfmt::skip]
    fn flips_and_mappings_are_mmdets() {
        let b = boxes(3, 5);
        let expected = [
            [-4.0, 6.5, 34.0, 12.5, 63.25, 53.0, 80.0, 71.75, -1.0, 20.0, 18.0, 41.5],
            [46.0, 57.5, 84.0, 63.5, 0.0, -1.75, 16.75, 17.0, 62.0, 28.5, 81.0, 50.0],
            [-4.0, 57.5, 34.0, 63.5, 63.25, -1.75, 80.0, 17.0, -1.0, 28.5, 18.0, 50.0],
        ];
        for (direction, expected) in ALL.into_iter().zip(expected) {
            close(bbox_flip(&b, (70, 80), direction).as_flattened(), &expected);
        }
        let mapped = bbox_mapping(&b, (70, 80), [1.5, 1.25, 1.5, 1.25], Some(FlipDirection::Vertical));
        close(mapped.as_flattened(), &[69.0, 54.375, 126.0, 61.875, 0.0, -19.6875, 25.125, 3.75, 93.0, 18.125, 121.5, 45.0]);
        let back = bbox_mapping_back(&b, (70, 80), [1.5, 1.3, 1.5, 1.3], Some(FlipDirection::Diagonal));
        close(back.as_flattened(), &[-2.6666667, 44.23077, 22.666666, 48.846157, 42.166668, -1.3461539, 53.333332, 13.076923, -0.6666667, 21.923079, 12.0, 38.46154]);
    }

    // distance2bbox(b[:,:2], torch.tensor([[1.,2,3,4],[90,80,70,60],[0,-5,1,200]]), (70,80))
    // bbox2distance(b[:,2:]*.5, b, 16); bbox_rescale(b, 1.3); bbox_cxcywh_to_xyxy(b); bbox_xyxy_to_cxcywh(b)
    #[test]
    #[rustfmt::skip]
    fn conversions_are_mmdets() {
        let b = boxes(3, 5);
        let distances = [[1.0, 2.0, 3.0, 4.0], [90.0, 80.0, 70.0, 60.0], [0.0, -5.0, 1.0, 200.0]];
        let to_box: Vec<BBox> = b.iter().zip(&distances).map(|(p, d)| distance2bbox(p, d, Some((70, 80)))).collect();
        close(to_box.as_flattened(), &[45.0, 4.5, 49.0, 10.5, 0.0, 0.0, 70.0, 70.0, 62.0, 25.0, 63.0, 70.0]);
        let half = |b: &BBox| [b[2] * 0.5, b[3] * 0.5, 0.0, 0.0];
        let plain: Vec<BBox> = b.iter().map(|b| bbox2distance(&half(b), b, None, 0.1)).collect();
        close(plain.as_flattened(), &[-4.0, -0.25, 42.0, 6.25, 8.375, -17.125, 8.375, 35.875, -21.5, 0.75, 40.5, 20.75]);
        let bounded: Vec<BBox> = b.iter().map(|b| bbox2distance(&half(b), b, Some(16.0), 0.1)).collect();
        close(bounded.as_flattened(), &[0.0, 0.0, 15.9, 6.25, 8.375, 0.0, 8.375, 15.9, 0.0, 0.75, 15.9, 15.9]);
        let rescaled: Vec<BBox> = b.iter().map(|b| bbox_rescale(b, 1.3)).collect();
        close(rescaled.as_flattened(), &[40.300003, 5.6000004, 89.7, 13.4, -2.5124998, 50.1875, 19.2625, 74.5625, 59.15, 16.775002, 83.85, 44.725]);
        let corners: Vec<BBox> = b.iter().map(bbox_cxcywh_to_xyxy).collect();
        close(corners.as_flattened(), &[4.0, 0.25, 88.0, 12.75, -8.375, 17.125, 8.375, 88.875, 21.5, -0.75, 102.5, 40.75]);
        let centres: Vec<BBox> = b.iter().map(bbox_xyxy_to_cxcywh).collect();
        close(centres.as_flattened(), &[65.0, 9.5, 38.0, 6.0, 8.375, 62.375, 16.75, 18.75, 71.5, 30.75, 19.0, 21.5]);
    }

    #[test]
    fn rois_name_their_image_and_results_their_class() {
        let lists = [vec![], boxes(2, 1), boxes(1, 2)];
        let rois = bbox2roi(&lists);
        assert_eq!(rois.iter().map(|r| r[0]).collect::<Vec<_>>(), [1.0, 1.0, 2.0]);
        assert_eq!(roi2bbox(&rois), lists[1..]);
        let dets = [[0.0, 0.0, 1.0, 1.0, 0.9], [0.0, 0.0, 1.0, 1.0, 0.8], [0.0, 0.0, 2.0, 1.0, 0.7]];
        let result = bbox2result(&dets, &[2, 0, 2], 3);
        assert_eq!(result, [vec![dets[1]], vec![], vec![dets[0], dets[2]]]);
        assert!(bbox2result(&[], &[], 2).iter().all(Vec::is_empty));
        assert_eq!(find_inside_bboxes(&[[-2.0, 0.0, 0.0, 1.0], [-2.0, 0.0, 0.5, 1.0]], (4, 4)), [false, true]);
    }

    proptest! {
        #[test]
        fn flipping_twice_changes_nothing(seed in 0u64..1000, h in 1usize..200, w in 1usize..200) {
            let b = boxes(4, seed);
            for direction in ALL {
                prop_assert_eq!(&bbox_flip(&bbox_flip(&b, (h, w), direction), (h, w), direction), &b);
            }
        }

        #[test]
        fn mapping_back_undoes_mapping(seed in 0u64..1000, x in 0.2f32..4.0, y in 0.2f32..4.0) {
            let (b, factor) = (boxes(4, seed), [x, y, x, y]);
            for flip in [None, Some(ALL[0]), Some(ALL[1]), Some(ALL[2])] {
                let back = bbox_mapping_back(&bbox_mapping(&b, (90, 80), factor, flip), (90, 80), factor, flip);
                for (a, b) in back.as_flattened().iter().zip(b.as_flattened()) {
                    prop_assert!((a - b).abs() < 1e-3, "{} {}", a, b);
                }
            }
        }
    }
}
