//! Against mmdet, on these:
//!
//! ```python
//! b = boxes(12, 31, 24); g = lcg(32)
//! s = torch.tensor([[next(g) % 1000 / 1000 for _ in range(4)] for _ in range(12)])
//! f = torch.tensor([next(g) % 1000 / 1000 for _ in range(12)])
//! ```

use mmcv::image::FlipDirection;
use mmcv::ops::NmsConfig;

use super::*;
use crate::core::testing::{Lcg, boxes, boxes_of, close};
use crate::core::{BBox, ImgMeta, ScoredBox};

fn draws(g: &mut Lcg, n: usize) -> Vec<f32> {
    (0..n).map(|_| (g.draw() % 1000) as f32 / 1000.0).collect()
}

/// `b`, `s`, `f` and the generator behind them.
fn scene() -> (Vec<BBox>, Vec<f32>, Vec<f32>, Lcg) {
    let mut g = Lcg(32);
    (boxes_of(12, 31, 24, 40), draws(&mut g, 48), draws(&mut g, 12), g)
}

fn scores_of(dets: &[ScoredBox]) -> Vec<f32> {
    dets.iter().map(|d| d[4]).collect()
}

// multiclass_nms(b, s, 0.5, dict(type='nms', iou_threshold=0.3), max_num=6, return_inds=True), and with score_factors=f
// bc = torch.cat([b, b + 3, b * 1.5], 1); multiclass_nms(bc, s, 0.7, dict(type='nms', iou_threshold=0.2), 5, return_inds=True)
#[test]
#[rustfmt::skip]
fn multiclass_nms_is_mmdets() {
    let (b, s, f, _) = scene();
    let r = multiclass_nms(&b, &s, 3, 0.5, &NmsConfig::hard(0.3), 6, None).unwrap();
    close(&scores_of(&r.dets), &[0.999, 0.982, 0.982, 0.947, 0.888, 0.847]);
    assert_eq!((r.labels.as_slice(), r.inds.as_slice()), (&[2, 2, 1, 2, 1, 1][..], &[23, 8, 10, 20, 25, 28][..]));
    close(&r.dets[0], &[23.25, 3.25, 46.75, 17.75, 0.999]);
    let r = multiclass_nms(&b, &s, 3, 0.5, &NmsConfig::hard(0.3), -1, Some(&f)).unwrap();
    close(&scores_of(&r.dets), &[0.651348, 0.6401, 0.531267, 0.528772, 0.50875, 0.46264803, 0.44883302, 0.42930403, 0.41440398, 0.4075, 0.333795, 0.30634803, 0.254466, 0.21938999, 0.13133, 0.085434, 0.063945]);
    assert_eq!(r.labels, [2, 0, 2, 1, 2, 1, 0, 2, 1, 0, 1, 0, 2, 0, 1, 2, 0]);
    assert_eq!(r.inds, [23, 33, 20, 22, 35, 25, 30, 26, 10, 21, 19, 24, 11, 3, 1, 8, 6]);
    let per_class: Vec<BBox> = b.iter().flat_map(|b| [*b, b.map(|v| v + 3.0), b.map(|v| v * 1.5)]).collect();
    let r = multiclass_nms(&per_class, &s, 3, 0.7, &NmsConfig::hard(0.2), 5, None).unwrap();
    close(r.dets.as_flattened(), &[34.875, 4.875, 70.125, 26.625, 0.999, 12.0, 3.375, 48.375, 13.5, 0.982, 9.0, 8.75, 24.25, 12.75, 0.982, 30.75, 15.0, 51.0, 71.625, 0.947, 15.75, 20.5, 27.25, 34.5, 0.888]);
    assert_eq!((r.labels.as_slice(), r.inds.as_slice()), (&[2, 2, 1, 2, 1][..], &[23, 8, 10, 20, 25][..]));
}

#[test]
fn no_scores_above_the_threshold_are_no_detections_and_odd_counts_an_error() {
    let (b, s, f, _) = scene();
    let run = |b: &[BBox], s: &[f32], thr, f: Option<&[f32]>| multiclass_nms(b, s, 3, thr, &NmsConfig::hard(0.3), 6, f);
    assert_eq!(run(&b, &s, 1.0, None).unwrap(), Detections::default());
    assert_eq!(run(&[], &[], 0.0, None).unwrap(), Detections::default());
    assert!(run(&b[..11], &s, 0.5, None).is_err());
    assert!(run(&b, &s[..47], 0.5, None).is_err());
    assert!(run(&b, &s, 0.5, Some(&f[..3])).is_err());
}

// fast_nms(b, s, torch.arange(12.)[:, None], 0.3, 0.3, 8, 9)
#[test]
fn fast_nms_is_mmdets() {
    let (b, s, ..) = scene();
    let r = fast_nms(&b, &s, 3, &FastNms { score_thr: 0.3, iou_thr: 0.3, top_k: 8, max_num: 9 }).unwrap();
    close(&scores_of(&r.dets), &[0.999, 0.982, 0.982, 0.947, 0.888, 0.847, 0.824, 0.811, 0.735]);
    // Two score 0.982; torch's sort, which is not stable, has changed their order.
    assert_eq!(r.labels, [2, 1, 2, 2, 1, 1, 2, 1, 0]);
    assert_eq!(r.inds, [7, 3, 2, 6, 8, 9, 8, 7, 2]);
    let none = fast_nms(&[], &[], 3, &FastNms { score_thr: 0.3, iou_thr: 0.3, top_k: 8, max_num: 9 }).unwrap();
    assert_eq!(none, Detections::default());
}

// masks = torch.zeros(8, 10, 12)
// for k in range(8): x, y, w, h = next(g) % 8, next(g) % 6, 2 + next(g) % 6, 2 + next(g) % 6; masks[k, y:y+h, x:x+w] = 1
// ms = torch.tensor([next(g) % 1000 / 1000 for _ in range(8)]); ml = torch.tensor([0, 1, 0, 1, 0, 0, 1, 0])
// mask_matrix_nms(masks.bool(), ml, ms), (.., kernel='linear', filter_thr=0.2, nms_pre=6, max_num=4), (.., mask_area=torch.arange(30, 38.))
#[test]
fn matrix_nms_is_mmdets() {
    let (_, _, _, mut g) = scene();
    let mut masks = vec![vec![false; 120]; 8];
    for mask in &mut masks {
        let [x, y, w, h] = [(0, 8), (0, 6), (2, 6), (2, 6)].map(|(low, n)| low + (g.draw() % n) as usize);
        (y..(y + h).min(10)).for_each(|y| mask[y * 12 + x..y * 12 + (x + w).min(12)].fill(true));
    }
    let scores = draws(&mut g, 8);
    let masks: Vec<&[bool]> = masks.iter().map(Vec::as_slice).collect();
    let run =
        |area: Option<&[f32]>, cfg| mask_matrix_nms(&masks, &[0, 1, 0, 1, 0, 0, 1, 0], &scores, area, &cfg).unwrap();
    let (s, keep) = run(None, MatrixNms::default());
    close(&s, &[0.876, 0.843, 0.6086706, 0.6068028, 0.56833243, 0.44027385, 0.31494275, 0.07785599]);
    assert_eq!(keep, [6, 5, 4, 7, 0, 3, 1, 2]);
    let cfg = MatrixNms { filter_thr: 0.2, nms_pre: 6, max_num: 4, kernel: MatrixKernel::Linear, sigma: 2.0 };
    let (s, keep) = run(None, cfg);
    close(&s, &[0.876, 0.843, 0.54337096, 0.5371837]);
    assert_eq!(keep, [6, 5, 0, 4]);
    let area: Vec<f32> = (30..38).map(|a| a as f32).collect();
    let (s, _) = run(Some(&area), MatrixNms::default());
    close(&s, &[0.876, 0.843, 0.62310356, 0.6202912, 0.56833243, 0.4411732, 0.32139087, 0.078]);
    assert_eq!(mask_matrix_nms(&[], &[], &[], None, &MatrixNms::default()).unwrap(), (vec![], vec![]));
}

fn meta(shape: (usize, usize), scale: f32, flip: Option<FlipDirection>) -> ImgMeta {
    ImgMeta {
        filename: String::new(),
        ori_filename: String::new(),
        ori_shape: [32, 40, 3],
        img_shape: [shape.0, shape.1, 3],
        pad_shape: [shape.0, shape.1, 3],
        scale_factor: [scale; 4],
        flip: flip.is_some(),
        flip_direction: flip,
        img_norm_cfg: None,
        batch_input_shape: None,
    }
}

// metas: img_shape (64, 80), scale 2, no flip; (96, 120), scale 3, flipped horizontally
// p = [torch.cat([boxes(5, 41), s[:5, :1]], 1), torch.cat([boxes(5, 42, 90, 60), s[5:10, :1]], 1)]
// merge_aug_proposals(p, metas, ConfigDict(nms=dict(type='nms', iou_threshold=0.1), max_per_img=6))
// merge_aug_bboxes([boxes(2, 41), boxes(2, 42)], [s[:2], s[2:4]], [[m] for m in metas], None)
#[test]
#[rustfmt::skip]
fn boxes_and_scores_of_views_merge_as_mmdets() {
    let (_, s, ..) = scene();
    let metas = [meta((64, 80), 2.0, None), meta((96, 120), 3.0, Some(FlipDirection::Horizontal))];
    let scored = |b: Vec<BBox>, from: usize| -> Vec<ScoredBox> {
        b.iter().enumerate().map(|(i, b)| [b[0], b[1], b[2], b[3], s[(from + i) * 4]]).collect()
    };
    let proposals = [scored(boxes(5, 41), 0), scored(boxes_of(5, 42, 90, 60), 5)];
    close(merge_aug_proposals(&proposals, &metas, 0.1, 6).as_flattened(), &[
        2.75, 19.375, 20.75, 23.0, 0.735, 23.875, 26.125, 32.0, 36.875, 0.725, 5.0, 6.375, 18.875, 11.875, 0.71,
        21.083334, 14.083333, 23.583334, 20.5, 0.625, 6.25, 22.833334, 16.75, 42.166668, 0.588, 14.0, 21.5, 25.25, 25.875, 0.215,
    ]);
    assert!(merge_aug_proposals(&[vec![], vec![]], &metas, 0.1, 6).is_empty());
    let merged = merge_aug_bboxes(&[boxes(2, 41), boxes(2, 42)], &metas).unwrap();
    close(merged.as_flattened(), &[27.4375, 17.520834, 35.416664, 23.770834, 16.416668, 8.979166, 24.770832, 16.1875]);
    let scores = merge_aug_scores(&[s[..8].to_vec(), s[8..16].to_vec()]).unwrap();
    close(&scores, &[0.73, 0.4495, 0.494, 0.86800003, 0.4245, 0.6125, 0.45099998, 0.358]);
    assert!(merge_aug_bboxes(&[boxes(2, 41), boxes(3, 42)], &metas).is_err());
    assert!(merge_aug_scores(&[]).is_err());
}

// m1 = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3); m2 = m1 * m1
// merge_aug_masks([m1, m2], [[dict(flip=False)], [dict(flip=True, flip_direction=d)]], None), the last also with weights=[0.25, 1.]
#[test]
fn masks_of_views_merge_as_mmdets() {
    let m1: Vec<f32> = (0..12).map(|v| v as f32).collect();
    let m2: Vec<f32> = m1.iter().map(|v| v * v).collect();
    let run = |direction, weights: Option<&[f64]>| {
        let metas = [meta((8, 8), 1.0, None), meta((8, 8), 1.0, Some(direction))];
        merge_aug_masks(&[m1.clone(), m2.clone()], (2, 3), &metas, weights)
    };
    for (direction, expected) in [
        (FlipDirection::Horizontal, [2.0, 1.0, 1.0, 14.0, 10.0, 7.0, 35.0, 28.0, 22.0, 65.0, 55.0, 46.0]),
        (FlipDirection::Vertical, [4.5, 8.5, 13.5, 1.5, 2.5, 4.5, 43.5, 53.5, 64.5, 22.5, 29.5, 37.5]),
        (FlipDirection::Diagonal, [12.5, 8.5, 5.5, 3.5, 2.5, 2.5, 63.5, 53.5, 44.5, 36.5, 29.5, 23.5]),
    ] {
        close(&run(direction, None).unwrap(), &expected);
    }
    let weighted = run(FlipDirection::Diagonal, Some(&[0.25, 1.0])).unwrap();
    close(&weighted, &[20.0, 13.0, 7.6, 3.8, 1.6, 1.0, 98.0, 81.4, 66.4, 53.0, 41.2, 31.0]);
    assert!(run(FlipDirection::Diagonal, Some(&[0.25])).is_err());
}
