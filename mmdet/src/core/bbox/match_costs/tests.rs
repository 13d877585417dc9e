//! The costs against mmdet, on `bp`, `cl` and generator `g` of the assigners' tests and these:
//!
//! ```python
//! gh, f = boxes(4, 12), torch.tensor([110., 90, 110, 90])
//! mp = torch.tensor([[(next(g) % 81 - 40) / 20 for _ in range(6)] for _ in range(2)])
//! mg = torch.tensor([[next(g) % 2 for _ in range(6)] for _ in range(3)])
//! ```

use mmcv::config::Node;
use mmcv::registry::build;

use super::*;
use crate::core::bbox::bbox_cxcywh_to_xyxy;
use crate::core::testing::{Lcg, boxes, close};

fn cost(json: &str, input: &MatchInput) -> Result<Vec<f32>> {
    build(&MATCH_COST, &Node::from_json(json).unwrap(), ()).unwrap().cost(input)
}

// ClassificationCost(1.5)(cl[:2], L[:4]); FocalLossCost(2.)(cl[:2], L[:4]); BBoxL1Cost(2.)(bp[:2], gh / f)
// BBoxL1Cost(2., 'xywh')(bp[:2], gh / f); IoUCost('iou', 2.)(bbox_cxcywh_to_xyxy(bp[:2]) * f, gh)
// FocalLossCost(2., binary_input=True)(mp, mg); DiceCost(2., pred_act=True)(mp, mg)
// DiceCost(1., naive_dice=False, eps=1.)(mp.abs(), mg); CrossEntropyLossCost(2.)(mp, mg)
#[test]
fn costs_are_mmdets() {
    let mut g = Lcg(50);
    (0..712).for_each(|_| _ = g.draw());
    let mut draw = |n: u64, offset: f32, by: f32| ((g.draw() % n) as f32 + offset) / by;
    let queries: Vec<BBox> = (0..9).map(|_| [0; 4].map(|_| draw(60, 20.0, 100.0))).collect();
    let logits: Vec<f32> = (0..45).map(|_| draw(81, -40.0, 20.0)).collect();
    let masks: Vec<f32> = (0..12).map(|_| draw(81, -40.0, 20.0)).collect();
    let gt_masks: Vec<f32> = (0..18).map(|_| draw(2, 0.0, 1.0)).collect();
    let (gts, factor) = (boxes(4, 12), [110.0, 90.0, 110.0, 90.0]);
    let normalized: Vec<BBox> = gts.iter().map(|b| std::array::from_fn(|i| b[i] / factor[i])).collect();
    let pixels = |b: &BBox| {
        let b = bbox_cxcywh_to_xyxy(b);
        std::array::from_fn(|i| b[i] * factor[i])
    };
    let bboxes: Vec<BBox> = queries[..2].iter().map(pixels).collect();
    let input = MatchInput {
        queries: 2,
        gts: 4,
        cls_pred: &logits[..10],
        gt_labels: &[3, 1, 4, 1],
        bbox_pred: &queries[..2],
        gt_bboxes_normalized: &normalized,
        bboxes: &bboxes,
        gt_bboxes: &gts,
        ..MatchInput::default()
    };
    let on_masks = MatchInput { queries: 2, gts: 3, mask_pred: &masks, gt_masks: &gt_masks, ..MatchInput::default() };
    let positive: Vec<f32> = masks.iter().map(|v| v.abs()).collect();
    let on_positive = MatchInput { mask_pred: &positive, ..on_masks };
    for (json, input, expected) in [
        (r#"{"type": "ClassificationCost", "weight": 1.5}"#, &input, CLASS),
        (r#"{"type": "FocalLossCost", "weight": 2.0}"#, &input, FOCAL),
        (r#"{"type": "BBoxL1Cost", "weight": 2.0}"#, &input, L1),
        (r#"{"type": "BBoxL1Cost", "weight": 2.0, "box_format": "xywh"}"#, &input, L1_XYWH),
        (r#"{"type": "IoUCost", "weight": 2.0, "iou_mode": "iou"}"#, &input, IOU),
        (r#"{"type": "FocalLossCost", "weight": 2.0, "binary_input": true}"#, &on_masks, MASK_FOCAL),
        (r#"{"type": "DiceCost", "weight": 2.0, "pred_act": true}"#, &on_masks, DICE),
        (r#"{"type": "DiceCost", "naive_dice": false, "eps": 1.0}"#, &on_positive, DICE_SQUARES),
        (r#"{"type": "CrossEntropyLossCost", "weight": 2.0}"#, &on_masks, ENTROPY),
    ] {
        close(&cost(json, input).unwrap(), expected);
        assert!(cost(json, &MatchInput { queries: 2, gts: 4, ..MatchInput::default() }).is_err(), "{json}");
        assert!(cost(json, &MatchInput::default()).unwrap().is_empty(), "{json}");
    }
}

#[rustfmt::skip]
const CLASS: &[f32] = &[-0.77231085, -0.14108846, -0.2986843, -0.14108846, -0.27234137, -0.5484282, -0.030176282, -0.5484282];
#[rustfmt::skip]
const FOCAL: &[f32] = &[-1.4902174, 0.015274271, -0.44956285, 0.015274271, -0.3363472, -0.98332465, 0.7951254, -0.98332465];
#[rustfmt::skip]
const L1: &[f32] = &[2.1355555, 1.8471718, 2.6925256, 2.6248484, 1.5046463, 1.8253534, 1.4216164, 2.0812123];
#[rustfmt::skip]
const L1_XYWH: &[f32] = &[2.5267677, 2.5265152, 2.7100003, 3.1054547, 1.5467676, 1.546515, 1.5627275, 1.9254546];
#[rustfmt::skip]
const IOU: &[f32] = &[-0.02241561, -0.10644419, -0.0, -0.0026629549, -0.0, -0.0, -0.0, -0.0];
#[rustfmt::skip]
const MASK_FOCAL: &[f32] = &[0.53199166, 0.546652, 0.19359374, 0.45562246, 0.45722714, 0.5492661];
#[rustfmt::skip]
const DICE: &[f32] = &[1.1532323, 1.3552632, 1.1404825, 1.110747, 1.2959263, 1.8247342];
#[rustfmt::skip]
const DICE_SQUARES: &[f32] = &[0.43996197, 0.41269004, 0.47275925, 0.6441914, 0.66289985, 0.62663347];
#[rustfmt::skip]
const ENTROPY: &[f32] = &[2.0325365, 1.9825367, 1.0325365, 1.7591852, 1.6591853, 1.875852];
