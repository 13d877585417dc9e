//! The assigners against mmdet, on these:
//!
//! ```python
//! P, G = boxes(60, 71, 40, 24), boxes(6, 72, 36, 30); G[5] = G[0]; L = torch.tensor([3, 1, 4, 1, 0, 2]); I = boxes(2, 73, 40, 24)
//! g = lcg(50); S = torch.tensor([[(next(g) % 997 + 1) / 1000 for _ in range(5)] for _ in range(60)])
//! D = P + torch.tensor([[(next(g) % 41 - 20) / 8 for _ in range(4)] for _ in range(60)])
//! D[:, 2:] = torch.max(D[:, 2:], D[:, :2] + 1); F = torch.tensor([next(g) % 2 for _ in range(60)], dtype=torch.uint8)
//! pts = torch.cat(MlvlPointGenerator([4, 8, 16], 0.3).grid_priors([(4, 5), (2, 3), (1, 2)], device='cpu', with_stride=True))
//! small = boxes(5, 12, 16, 20)
//! d2b = distance2bbox(pts[:, :2], torch.tensor([[(next(g) % 97 + 3) / 8 for _ in range(4)] for _ in range(28)]))
//! bp = torch.tensor([[(next(g) % 60 + 20) / 100 for _ in range(4)] for _ in range(9)])
//! cl = torch.tensor([[(next(g) % 81 - 40) / 20 for _ in range(5)] for _ in range(9)])
//! r = assigner.assign(...); r.gt_inds, r.max_overlaps (None: an empty list here; NONE: -1e8, SimOTA's -1e5)
//! ```

use mmcv::config::Node;
use mmcv::registry::build;

use super::*;
use crate::core::anchor::{MlvlPointGenerator, PriorGenerator};
use crate::core::bbox::distance2bbox;
use crate::core::testing::{Lcg, boxes, boxes_of, close};

const NONE: f32 = -1e8;

struct Scene {
    priors: Vec<BBox>,
    gts: Vec<BBox>,
    ignore: Vec<BBox>,
    scores: Vec<f32>,
    decoded: Vec<BBox>,
    flags: Vec<bool>,
    points: Vec<BBox>,
    small: Vec<BBox>,
    around: Vec<BBox>,
    queries: Vec<BBox>,
    logits: Vec<f32>,
}

const LABELS: [i64; 6] = [3, 1, 4, 1, 0, 2];
const LEVELS: [usize; 3] = [35, 17, 8];

fn scene() -> Scene {
    let (priors, mut gts) = (boxes_of(60, 71, 40, 24), boxes_of(6, 72, 36, 30));
    gts[5] = gts[0];
    let mut g = Lcg(50);
    let mut draw = |n: u64, offset: f32, by: f32| ((g.draw() % n) as f32 + offset) / by;
    let scores: Vec<f32> = (0..300).map(|_| draw(997, 1.0, 1000.0)).collect();
    let mut decoded: Vec<BBox> = priors.iter().map(|b| b.map(|v| v + draw(41, -20.0, 8.0))).collect();
    decoded.iter_mut().for_each(|b| (b[2], b[3]) = (b[2].max(b[0] + 1.0), b[3].max(b[1] + 1.0)));
    let flags = (0..60).map(|_| draw(2, 0.0, 1.0) == 1.0).collect();
    let cfg = serde_json::from_str(r#"{"strides": [4, 8, 16], "offset": 0.3}"#).unwrap();
    let points = MlvlPointGenerator::new(&cfg).unwrap().grid_priors(&[(4, 5), (2, 3), (1, 2)]).unwrap().concat();
    let around = points.iter().map(|p| distance2bbox(p, &[0; 4].map(|_| draw(97, 3.0, 8.0)), None)).collect();
    let queries = (0..9).map(|_| [0; 4].map(|_| draw(60, 20.0, 100.0))).collect();
    let logits = (0..45).map(|_| draw(81, -40.0, 20.0)).collect();
    let (ignore, small) = (boxes_of(2, 73, 40, 24), boxes_of(5, 12, 16, 20));
    Scene { priors, gts, ignore, scores, decoded, flags, points, small, around, queries, logits }
}

impl Scene {
    /// Everything about `priors` and `gts`; nothing ignored.
    fn input(&self) -> AssignInput<'_> {
        AssignInput {
            bboxes: &self.priors,
            gt_bboxes: &self.gts,
            gt_labels: Some(&LABELS),
            num_level_bboxes: &LEVELS,
            pred_bboxes: Some(&self.decoded),
            pred_scores: Some(&self.scores),
            box_responsible_flags: &self.flags,
            alpha: 1.0,
            beta: 2.0,
            ..AssignInput::default()
        }
    }
}

fn make(json: &str) -> Box<dyn Assigner> {
    build(&BBOX_ASSIGNERS, &Node::from_json(json).unwrap(), ()).unwrap()
}

#[track_caller]
fn check(json: &str, input: &AssignInput, (inds, overlaps): (&[i64], &[f32])) -> AssignResult {
    let result = make(json).assign_input(input).unwrap();
    assert_eq!(result.gt_inds, inds, "{json}");
    if !overlaps.is_empty() {
        close(&result.max_overlaps, overlaps);
    }
    if let (Some(labels), Some(of)) = (&result.labels, input.gt_labels) {
        let expected = inds.iter().map(|i| if *i > 0 { of[*i as usize - 1] } else { -1 });
        assert_eq!(labels, &expected.collect::<Vec<_>>());
    }
    result
}

// ATSSAssigner(5).assign(P, [35, 17, 8], G, None, L); ATSSAssigner(3, ignore_iof_thr=0.5).assign(P, .., G, I, L)
// ATSSAssigner(4, alpha=0.8).assign(P, .., G, None, L, (S - .5) * 4, D)
#[test]
fn atss_is_mmdets() {
    let s = scene();
    check(r#"{"type": "ATSSAssigner", "topk": 5}"#, &s.input(), ATSS);
    let ignoring = AssignInput { gt_bboxes_ignore: &s.ignore, ..s.input() };
    check(r#"{"type": "ATSSAssigner", "topk": 3, "ignore_iof_thr": 0.5}"#, &ignoring, ATSS_IGNORE);
    let logits: Vec<f32> = s.scores.iter().map(|v| (v - 0.5) * 4.0).collect();
    let input = AssignInput { pred_scores: Some(&logits), ..s.input() };
    check(r#"{"type": "ATSSAssigner", "topk": 4, "alpha": 0.8}"#, &input, DDOD);
}

// TaskAlignedAssigner(6).assign(S, D, P, G, None, L, 1, 2) and its assign_metrics
#[test]
fn task_aligned_is_mmdets() {
    let s = scene();
    let result = check(r#"{"type": "TaskAlignedAssigner", "topk": 6}"#, &s.input(), TOOD);
    close(&result.extras.assign_metrics, METRICS);
}

// ap = torch.cat([P[:, None], (P * 1.1)[:, None], D[:, None]], 1).reshape(-1, 4)
// ApproxMaxIoUAssigner(0.5, 0.2, 0.15, ignore_iof_thr=0.6).assign(ap, P, 3, G, I, L)
#[test]
fn approx_max_iou_is_mmdets() {
    let s = scene();
    let three = |(p, d): (&BBox, &BBox)| [*p, p.map(|v| v * 1.1), *d];
    let approxs: Vec<BBox> = s.priors.iter().zip(&s.decoded).flat_map(three).collect();
    let input = AssignInput { approxs: &approxs, approxs_per_octave: 3, gt_bboxes_ignore: &s.ignore, ..s.input() };
    let cfg = r#"{"type": "ApproxMaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.2, "min_pos_iou": 0.15, "ignore_iof_thr": 0.6}"#;
    check(cfg, &input, APPROX);
}

// GridAssigner(0.4, 0.2, 0.02).assign(P, F, G, L); GridAssigner(0.4, (0.01, 0.1), 0.02, gt_max_assign_all=False).assign(P, F, G, L)
#[test]
fn grid_is_mmdets() {
    let s = scene();
    check(r#"{"type": "GridAssigner", "pos_iou_thr": 0.4, "neg_iou_thr": 0.2, "min_pos_iou": 0.02}"#, &s.input(), GRID);
    let cfg = r#"{"type": "GridAssigner", "pos_iou_thr": 0.4, "neg_iou_thr": [0.01, 0.1], "min_pos_iou": 0.02, "gt_max_assign_all": false}"#;
    check(cfg, &s.input(), GRID_RANGE);
}

// PointAssigner(scale=4, pos_num=2).assign(pts[:, :3], small, None, L[:5])
// SimOTAAssigner(center_radius=1.0, candidate_topk=5).assign(S[:28], pts, d2b, small, L[:5])
#[test]
fn point_and_sim_ota_are_mmdets() {
    let s = scene();
    let input = AssignInput {
        bboxes: &s.points,
        gt_bboxes: &s.small,
        gt_labels: Some(&LABELS[..5]),
        pred_bboxes: Some(&s.around),
        pred_scores: Some(&s.scores[..140]),
        ..AssignInput::default()
    };
    check(r#"{"type": "PointAssigner", "scale": 4, "pos_num": 2}"#, &input, POINT);
    let expected: Vec<f32> = SIM_OTA.1.iter().map(|v| if *v == NONE { -1e5 } else { *v }).collect();
    check(r#"{"type": "SimOTAAssigner", "center_radius": 1.0, "candidate_topk": 5}"#, &input, (SIM_OTA.0, &expected));
}

// r = CenterRegionAssigner(0.5, 0.9).assign(boxes(30, 61, 24, 12), boxes(4, 62, 16, 40), boxes(1, 63), torch.tensor([1, 2, 2, 2]))
// r.get_extra_property('shadowed_labels'), and with foreground_dominate=True
#[test]
fn center_region_is_mmdets() {
    let (priors, gts, ignore) = (boxes_of(30, 61, 24, 12), boxes_of(4, 62, 16, 40), boxes(1, 63));
    let input = AssignInput {
        bboxes: &priors,
        gt_bboxes: &gts,
        gt_bboxes_ignore: &ignore,
        gt_labels: Some(&[1, 2, 2, 2]),
        ..AssignInput::default()
    };
    let r = check(r#"{"type": "CenterRegionAssigner", "pos_scale": 0.5, "neg_scale": 0.9}"#, &input, CENTER);
    assert_eq!(r.extras.shadowed_labels.unwrap(), CENTER_SHADOW);
    let cfg = r#"{"type": "CenterRegionAssigner", "pos_scale": 0.5, "neg_scale": 0.9, "foreground_dominate": true}"#;
    let r = check(cfg, &input, CENTER_FOREGROUND);
    assert_eq!(r.extras.shadowed_labels.unwrap(), CENTER_FOREGROUND_SHADOW);
    let everywhere = [[-100.0, -100.0, 200.0, 200.0]];
    let r = make(cfg).assign_input(&AssignInput { gt_bboxes_ignore: &everywhere, ..input }).unwrap();
    assert_eq!(r.gt_inds, [-1; 30]);
}

// UniformAssigner(0.15, 0.3, 3).assign(D, P, G, None, L), its pos_idx and the places of its pos_predicted_boxes
#[test]
fn uniform_is_mmdets() {
    let s = scene();
    let cfg = r#"{"type": "UniformAssigner", "pos_ignore_thr": 0.15, "neg_ignore_thr": 0.3, "match_times": 3}"#;
    let r = check(cfg, &s.input(), UNIFORM);
    assert_eq!((r.extras.pos_idx.as_slice(), r.extras.pos_priors.as_slice()), (UNIFORM_POS, UNIFORM_PRIORS));
    assert!(r.extras.target_gts.iter().enumerate().all(|(i, gt)| i % 6 == *gt));
}

// HungarianAssigner().assign(bp, cl, boxes(4, 12), L[:4], dict(img_shape=(90, 110, 3))), and with
// cls_cost=dict(type='FocalLossCost', weight=2.0), reg_cost=dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
// iou_cost=dict(type='IoUCost', iou_mode='giou', weight=2.0)
#[test]
fn hungarian_is_mmdets() {
    let (s, gts) = (scene(), boxes(4, 12));
    let input = AssignInput {
        gt_bboxes: &gts,
        gt_labels: Some(&LABELS[..4]),
        pred_bboxes: Some(&s.queries),
        pred_scores: Some(&s.logits),
        img_shape: (90, 110),
        ..AssignInput::default()
    };
    check(r#"{"type": "HungarianAssigner"}"#, &input, HUNGARIAN);
    let cfg = r#"{"type": "HungarianAssigner", "cls_cost": {"type": "FocalLossCost", "weight": 2.0},
        "reg_cost": {"type": "BBoxL1Cost", "weight": 5.0, "box_format": "xywh"},
        "iou_cost": {"type": "IoUCost", "iou_mode": "giou", "weight": 2.0}}"#;
    check(cfg, &input, HUNGARIAN_FOCAL);
}

/// One config of each assigner.
const ALL: &[&str] = &[
    r#"{"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4}"#,
    r#"{"type": "ApproxMaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4}"#,
    r#"{"type": "ATSSAssigner", "topk": 9}"#,
    r#"{"type": "TaskAlignedAssigner", "topk": 6}"#,
    r#"{"type": "GridAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4}"#,
    r#"{"type": "PointAssigner"}"#,
    r#"{"type": "SimOTAAssigner"}"#,
    r#"{"type": "CenterRegionAssigner", "pos_scale": 0.2, "neg_scale": 0.5}"#,
    r#"{"type": "UniformAssigner", "pos_ignore_thr": 0.15, "neg_ignore_thr": 0.7}"#,
    r#"{"type": "HungarianAssigner"}"#,
];

#[test]
fn without_ground_truth_all_is_background_and_without_priors_there_is_nothing() {
    let s = scene();
    for cfg in ALL {
        let none = AssignInput {
            gt_bboxes: &[],
            gt_labels: Some(&[]),
            approxs: &s.priors,
            approxs_per_octave: 1,
            ..s.input()
        };
        let r = make(cfg).assign_input(&none).unwrap();
        assert_eq!((r.num_gts, r.gt_inds, r.labels), (0, vec![0; 60], Some(vec![-1; 60])), "{cfg}");
        let empty = AssignInput {
            gt_bboxes: &s.gts,
            gt_labels: Some(&LABELS),
            pred_bboxes: Some(&[]),
            pred_scores: Some(&[]),
            ..AssignInput::default()
        };
        let r = make(cfg).assign_input(&empty).unwrap();
        assert_eq!((r.num_gts, r.gt_inds.len(), r.labels), (6, 0, Some(vec![])), "{cfg}");
    }
}

#[test]
fn what_is_missing_or_does_not_fit_is_an_error() {
    let s = scene();
    for cfg in &ALL[1..] {
        let bare = AssignInput { bboxes: &s.priors, gt_bboxes: &s.gts, ..AssignInput::default() };
        let needs_nothing = cfg.contains("Point") || cfg.contains("CenterRegion");
        assert_eq!(make(cfg).assign_input(&bare).is_err(), !needs_nothing, "{cfg}");
        let odd = AssignInput { gt_labels: Some(&[1]), ..s.input() };
        assert!(make(cfg).assign_input(&odd).is_err(), "{cfg}");
    }
}

#[rustfmt::skip]
const ATSS: (&[i64], &[f32]) = (&[0, 4, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0], &[NONE, 0.15384616, NONE, NONE, NONE, NONE, NONE, 0.40597844, NONE, NONE, NONE, NONE, 0.3764525, NONE, NONE, NONE, NONE, 0.7737321, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, 0.32008892, NONE, NONE, 0.4178052, NONE, 0.338843, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, 0.39103743, NONE, NONE, NONE]);
#[rustfmt::skip]
const ATSS_IGNORE: (&[i64], &[f32]) = (&[0, 0, 0, 0, -1, 0, 0, 2, 0, -1, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, -1, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, -1, 0, 0, 0], &[NONE, NONE, NONE, NONE, NONE, NONE, NONE, 0.40597844, NONE, NONE, NONE, NONE, 0.3764525, NONE, NONE, NONE, NONE, 0.7737321, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE]);
#[rustfmt::skip]
const DDOD: (&[i64], &[f32]) = (&[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 6, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0], &[NONE, NONE, NONE, NONE, NONE, NONE, NONE, 0.39816216, NONE, NONE, NONE, NONE, 0.31434703, NONE, NONE, NONE, NONE, 0.72746354, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, 0.3568396, NONE, NONE, 0.3661739, NONE, 0.42920694, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, 0.39110482, NONE, NONE, NONE]);
#[rustfmt::skip]
const TOOD: (&[i64], &[f32]) = (&[0, 4, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 1, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0], &[NONE, 0.17454545, NONE, NONE, NONE, NONE, NONE, 0.3360692, NONE, 0.2429837, NONE, NONE, 0.33624268, NONE, NONE, NONE, NONE, 0.70160747, NONE, NONE, 0.20490272, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, 0.34466532, 0.17274205, 0.1755102, 0.39296263, NONE, 0.3968761, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, 0.4011353, NONE, NONE, NONE]);
#[rustfmt::skip]
const METRICS: &[f32] = &[0.0, 0.0017670346, 0.0, 0.0, 0.0, 0.0, 0.0, 0.09295168, 0.0, 0.055616695, 0.0, 0.0, 0.023968536, 0.0, 0.0, 0.0, 0.0, 0.45090377, 0.0, 0.0, 0.03921411, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.04858682, 0.01984348, 0.026891744, 0.025942497, 0.0, 0.09261625, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.05615742, 0.0, 0.0, 0.0];
#[rustfmt::skip]
const APPROX: (&[i64], &[f32]) = (&[0, 4, 0, 0, -1, 0, 0, 2, 0, -1, 0, 0, 3, 0, 0, 0, 0, 6, 0, 0, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, 0, -1, 0, 0, 0, 0, 0, -1, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, -1, 0, 0, 0], &[0.0, 0.17454545, 0.12513994, 0.0, -1.0, 0.0, 0.07380906, 0.5084408, 0.0, 0.24379915, 0.08673681, 0.0, 0.3897391, 0.0, 0.0890716, 0.048635826, 0.0, 0.7737321, 0.0, 0.0, 0.20490272, 0.28854474, 0.09138988, 0.12798284, 0.18878983, 0.0, 0.0, 0.033143938, 0.0, 0.0, 0.3769904, 0.20334059, 0.32, 0.4178052, 0.0, -1.0, 0.0757315, 0.0, 0.03993796, 0.0, 0.0143305315, -1.0, 0.12437811, -1.0, 0.0, 0.13724536, 0.113618575, 0.0, 0.0, 0.0, 0.0, 0.0, 0.054054055, 0.0155494455, -1.0, 0.034631643, -1.0, 0.086074695, 0.1548975, 0.110488735]);
#[rustfmt::skip]
const GRID: (&[i64], &[f32]) = (&[0, 4, 0, 0, 0, 0, 0, -1, 0, -1, 0, 0, 2, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, -1, -1, 6, -1, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0], &[0.0, 0.15384616, 0.017862288, 0.0, 0.0011501965, 0.0, -1.0, -1.0, -1.0, 0.24379915, -1.0, -1.0, 0.3764525, -1.0, 0.02597686, 0.048635826, -1.0, -1.0, 0.0, 0.0, 0.19415465, -1.0, 0.036106516, 0.12217132, 0.1279555, 0.0, 0.0, -1.0, 0.0, 0.0, -1.0, -1.0, 0.32, -1.0, 0.0, -1.0, 0.0757315, 0.0, -1.0, -1.0, -1.0, 0.030178918, 0.046332046, -1.0, 0.0, -1.0, -1.0, 0.0, -1.0, -1.0, -1.0, -1.0, 0.054054055, -1.0, -1.0, -1.0, 0.39103743, -1.0, -1.0, 0.0912114]);
#[rustfmt::skip]
const GRID_RANGE: (&[i64], &[f32]) = (&[-1, 4, 0, -1, -1, -1, 0, -1, -1, -1, 0, -1, 2, -1, 0, 0, -1, -1, -1, -1, -1, 0, 0, -1, 5, -1, -1, -1, -1, -1, -1, -1, 6, -1, -1, -1, 0, -1, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1, -1, -1, -1, -1, 0, 0, 0, 0, 3, 0, 0, 0], &[0.0, 0.15384616, 0.017862288, 0.0, 0.0011501965, 0.0, -1.0, -1.0, -1.0, 0.24379915, -1.0, -1.0, 0.3764525, -1.0, 0.02597686, 0.048635826, -1.0, -1.0, 0.0, 0.0, 0.19415465, -1.0, 0.036106516, 0.12217132, 0.1279555, 0.0, 0.0, -1.0, 0.0, 0.0, -1.0, -1.0, 0.32, -1.0, 0.0, -1.0, 0.0757315, 0.0, -1.0, -1.0, -1.0, 0.030178918, 0.046332046, -1.0, 0.0, -1.0, -1.0, 0.0, -1.0, -1.0, -1.0, -1.0, 0.054054055, -1.0, -1.0, -1.0, 0.39103743, -1.0, -1.0, 0.0912114]);
#[rustfmt::skip]
const POINT: (&[i64], &[f32]) = (&[0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 4, 3, 3, 0, 0, 4, 5, 5, 2, 0, 0, 0, 0, 0, 0, 0, 0], &[]);
#[rustfmt::skip]
const SIM_OTA: (&[i64], &[f32]) = (&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 4, 5, 0, 2, 0, 0, 0, 0, 3, 0, 0, 0], &[NONE, NONE, NONE, NONE, NONE, NONE, NONE, 0.3585491, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, 0.14195774, 0.6177193, NONE, 0.17399265, NONE, NONE, NONE, NONE, 0.06088411, NONE, NONE, NONE]);
#[rustfmt::skip]
const CENTER: (&[i64], &[f32]) = (&[1, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1], &[]);
#[rustfmt::skip]
const CENTER_SHADOW: &[(usize, i64)] = &[(0, 2), (1, 1), (1, 2), (2, 2), (5, 2), (6, 2), (6, 2), (10, 2), (11, 1), (11, 2), (12, 1), (12, 2), (13, 1), (15, 1), (18, 2), (19, 1), (21, 2), (22, 2), (23, 2), (24, 2), (27, 2), (29, 2), (0, 2), (16, 2), (17, 2), (18, 2), (22, 1), (29, 2)];
#[rustfmt::skip]
const CENTER_FOREGROUND: (&[i64], &[f32]) = (&[1, 3, 0, 3, 0, 3, 0, 0, 0, 0, 3, 2, 2, 2, 3, 3, 2, 2, 1, 0, 0, 0, 2, 0, 0, 3, 0, 3, 0, 1], &[]);
#[rustfmt::skip]
const CENTER_FOREGROUND_SHADOW: &[(usize, i64)] = &[(0, 2), (1, 1), (2, 2), (6, 2), (6, 2), (11, 1), (12, 1), (13, 1), (15, 1), (18, 2), (19, 1), (21, 2), (23, 2), (24, 2), (29, 2), (0, 2), (18, 2), (22, 1), (29, 2)];
#[rustfmt::skip]
const UNIFORM: (&[i64], &[f32]) = (&[0, 4, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, -1, 0, 0, 0, -1, 0, 0, -1, 0, 0, 0, 0, 0, 2, 0, 0, 6, 0, 3, 0, 0, 0, 0, 0, 0, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 3, 0, 0, -1], &[0.7737321, 0.40597844, 0.39103743, 0.15384616, 0.1279555, 0.7737321]);
#[rustfmt::skip]
const UNIFORM_POS: &[bool] = &[true, true, true, false, false, true, true, true, true, true, false, true, true, true, true, true, false, true, true, true, true, false, false, true, false, true, true, false, false, false, false, true, true, false, false, false];
#[rustfmt::skip]
const UNIFORM_PRIORS: &[usize] = &[17, 7, 35, 43, 59, 17, 17, 7, 12, 1, 17, 17, 33, 30, 12, 1, 33, 33, 33, 30, 35, 43, 59, 33, 21, 56, 56, 54, 17, 21, 59, 12, 56, 42, 24, 59];
#[rustfmt::skip]
const HUNGARIAN: (&[i64], &[f32]) = (&[1, 0, 0, 3, 4, 0, 0, 2, 0], &[]);
#[rustfmt::skip]
const HUNGARIAN_FOCAL: (&[i64], &[f32]) = (&[0, 2, 3, 0, 4, 0, 0, 1, 0], &[]);
