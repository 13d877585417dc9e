//! The balanced and the mining samplers.

use mmcv::Rng;
use mmcv::config::Node;
use mmcv::registry::build;

use super::*;
use crate::core::testing::{boxes, boxes_of, close};

fn make(json: &str) -> Box<dyn Sampler> {
    build(&BBOX_SAMPLERS, &Node::from_json(json).unwrap(), ()).unwrap()
}

/// A head of two classes whose logits are `[x1 / 20, y1 / 20, 1]` and which leaves boxes as they are.
struct Head;

impl Head {
    fn softmax(b: &BBox) -> [f32; 3] {
        let powers = [b[0] / 20.0, b[1] / 20.0, 1.0].map(f32::exp);
        let sum: f32 = powers.iter().sum();
        powers.map(|p| p / sum)
    }
}

impl SampleContext for Head {
    fn num_classes(&self) -> i64 {
        2
    }

    fn loss_cls(&self, bboxes: &[BBox], labels: &[i64]) -> Result<Vec<f32>> {
        Ok(bboxes.iter().zip(labels).map(|(b, l)| -Self::softmax(b)[*l as usize].ln()).collect())
    }

    fn best(&self, bboxes: &[BBox]) -> Result<Vec<(f32, BBox)>> {
        let one = |b: &BBox| {
            let scores = Self::softmax(b);
            (scores[0].max(scores[1]), *b)
        };
        Ok(bboxes.iter().map(one).collect())
    }
}

fn mined() -> AssignResult {
    let inds = vec![1, 0, 0, 2, 0, 1, 0, 0, -1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, -1, 0, 0];
    AssignResult::new(2, inds, vec![0.0; 24], Some(&[0, 1]))
}

// class Head: num_classes = 2; bbox_coder = DeltaXYWHBBoxCoder()
//     def loss(self, cls_score, labels, **kw): return dict(loss_cls=F.cross_entropy(cls_score, labels, reduction='none'))
// class Context: bbox_head = Head(); bbox_roi_extractor = None; with_shared_head = False
//     def _bbox_forward(self, feats, rois): return dict(
//         cls_score=torch.stack([rois[:, 1] / 20, rois[:, 2] / 20, torch.ones(len(rois))], 1), bbox_pred=torch.zeros(len(rois), 8))
// OHEMSampler(num=8, pos_fraction=0.5, context=Context()).sample(assign, boxes(24, 81, 40, 40), boxes(2, 82), torch.tensor([0, 1]), feats=None)
// ScoreHLRSampler(num=12, pos_fraction=0.6, context=Context(), add_gt_as_proposals=False).sample(...), and with
// k=0.8, bias=0.2, score_thr=0.6, iou_thr=0.1
#[test]
fn mining_is_mmdets() {
    let (priors, gts) = (boxes_of(24, 81, 40, 40), boxes(2, 82));
    let run =
        |json: &str| make(json).sample_with(mined(), &priors, &gts, Some(&[0, 1]), &mut Rng::new(0), &Head).unwrap();
    let r = run(r#"{"type": "OHEMSampler", "num": 8, "pos_fraction": 0.5}"#);
    assert_eq!((r.pos_inds.as_slice(), r.neg_inds.as_slice()), (&[0, 1, 2, 14][..], &[8, 13, 16, 20][..]));
    let r = run(r#"{"type": "ScoreHLRSampler", "num": 12, "pos_fraction": 0.6, "add_gt_as_proposals": false}"#);
    assert_eq!(
        (r.pos_inds.as_slice(), r.neg_inds.as_slice()),
        (&[0, 3, 5, 12, 16][..], &[11, 2, 14, 4, 17, 13, 1][..])
    );
    let weights = [1.0994678, 1.0666405, 1.0327702, 0.99775076, 0.96145666, 0.9237377, 0.8844115];
    close(&r.neg_label_weights.unwrap(), &weights);
    // Two are ranked here, the others drawn at random, which the last factor of the weights depends on.
    let r = run(
        r#"{"type": "ScoreHLRSampler", "num": 12, "pos_fraction": 0.6, "add_gt_as_proposals": false, "k": 0.8, "bias": 0.2,
        "score_thr": 0.6, "iou_thr": 0.1}"#,
    );
    assert_eq!((&r.neg_inds[..2], r.neg_inds.len()), (&[11, 2][..], 7));
    let w = r.neg_label_weights.unwrap();
    close(&[w[0] / w[1]], &[1.0824119 / 0.9822623]);
    assert!(w[2..].iter().all(|v| *v == w[1]));
    assert!(
        make(r#"{"type": "OHEMSampler", "num": 8, "pos_fraction": 0.5}"#)
            .sample(mined(), &priors, &gts, Some(&[0, 1]), &mut Rng::new(0))
            .is_err()
    );
}

#[test]
fn each_ground_truth_gets_as_many_positives() {
    // Forty priors of the first ground truth, four of the second, three of the third.
    let inds: Vec<i64> = (0..60)
        .map(|i| {
            if i < 40 {
                1
            } else if i < 44 {
                2
            } else if i < 47 {
                3
            } else {
                0
            }
        })
        .collect();
    let assigned = AssignResult::new(3, inds, vec![0.0; 60], None);
    let s =
        make(r#"{"type": "InstanceBalancedPosSampler", "num": 24, "pos_fraction": 0.5, "add_gt_as_proposals": false}"#);
    let mut rng = Rng::new(3);
    let r = s.sample(assigned.clone(), &boxes(60, 1), &boxes(3, 2), None, &mut rng).unwrap();
    let of = |gt: usize| r.pos_assigned_gt_inds.iter().filter(|g| **g == gt).count();
    // round(12 / 3) + 1 = 5 each, 4 and 3 where there are no more: 12 in all.
    assert_eq!([of(0), of(1), of(2), r.neg_inds.len()], [5, 4, 3, 12]);
    let s =
        make(r#"{"type": "InstanceBalancedPosSampler", "num": 60, "pos_fraction": 0.5, "add_gt_as_proposals": false}"#);
    let r = s.sample(assigned, &boxes(60, 1), &boxes(3, 2), None, &mut rng).unwrap();
    // 11 + 4 + 3 and 12 of all, some of which were drawn before.
    assert!((18..=30).contains(&r.pos_inds.len()), "{}", r.pos_inds.len());
}

#[test]
fn each_range_of_overlaps_gets_as_many_negatives() {
    // Negatives: 60 without overlap, 30 up to 0.1, 30 up to 0.2, 6 up to 0.3; a positive of 0.3.
    let overlap = |i: usize| match i {
        0..60 => 0.0,
        60..90 => 0.05,
        90..120 => 0.15,
        120..126 => 0.25,
        _ => 0.3,
    };
    let overlaps: Vec<f32> = (0..127).map(overlap).collect();
    let inds: Vec<i64> = (0..127).map(|i| i64::from(i == 126)).collect();
    let assigned = AssignResult::new(1, inds, overlaps, None);
    let run = |json: &str| {
        let s = make(json);
        let r = s.sample(assigned.clone(), &boxes(127, 1), &boxes(1, 2), None, &mut Rng::new(7)).unwrap();
        let within = |low: usize, high: usize| r.neg_inds.iter().filter(|i| (low..high).contains(*i)).count();
        [within(0, 60), within(60, 90), within(90, 120), within(120, 126)]
    };
    let base = r#""type": "IoUBalancedNegSampler", "num": 31, "pos_fraction": 0.1, "add_gt_as_proposals": false"#;
    // Ten of each range, but the last has six: four more come from the others.
    let [none, a, b, c] = run(&format!("{{{base}}}"));
    assert!(none == 0 && a >= 10 && b >= 10 && c == 6 && a + b == 24, "{none} {a} {b} {c}");
    let [none, a, b, c] = run(&format!(r#"{{{base}, "floor_thr": 0.1, "floor_fraction": 0.4, "num_bins": 2}}"#));
    // 12 below the floor, 18 above in two ranges: 0.1 to 0.2 and 0.2 to 0.3.
    assert!(none + a == 12 && b == 12 && c == 6, "{none} {a} {b} {c}");
    let [none, a, b, c] = run(&format!(r#"{{{base}, "num_bins": 1}}"#));
    assert!(none == 0 && a + b + c == 30);
}

#[test]
fn two_samplers_combine() {
    let combined = r#"{"type": "CombinedSampler", "num": 12, "pos_fraction": 0.25, "add_gt_as_proposals": true,
        "pos_sampler": {"type": "InstanceBalancedPosSampler"}, "neg_sampler": {"type": "IoUBalancedNegSampler", "num_bins": 3}}"#;
    let r = make(combined).sample(mined(), &boxes(24, 1), &boxes(2, 2), Some(&[0, 1]), &mut Rng::new(0)).unwrap();
    assert_eq!((r.pos_inds.len(), r.neg_inds.len()), (3, 9));
    let node = Node::from_json(&combined.replace("InstanceBalancedPosSampler", "PseudoSampler")).unwrap();
    // A pseudo sampler takes no `num`, in mmdet neither the draw.
    let e = build(&BBOX_SAMPLERS, &node, ()).err().unwrap().to_string();
    assert!(e.contains("pos_sampler"), "{e}");
}
