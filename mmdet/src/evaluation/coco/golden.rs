//! The evaluation against pycocotools 2.0 on data that both sides make from a seed.
//!
//! ```python
//! import numpy as np
//! class Mix:
//!     def __init__(s, seed): s.s = seed
//!     def bits(s):
//!         s.s = (s.s + 0x9E3779B97F4A7C15) % 2**64; z = s.s
//!         z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
//!         z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
//!         return z ^ z >> 31
//!     def unit(s): return (s.bits() >> 11) * 2.0**-53
//!     def below(s, n): return s.bits() % n
//!
//! W, H = 640, 480
//! def cents(v): return float(np.floor(v * 100) / 100)
//! def a_box(m):
//!     w, h = 4 + cents(m.unit()**2 * 300), 4 + cents(m.unit()**2 * 200)
//!     return [cents(m.unit() * (W - w)), cents(m.unit() * (H - h)), w, h]
//! def diamond(b):
//!     x, y, w, h = b
//!     return [x, y + h / 4, x + w / 2, y, x + w, y + h / 2, x + w / 4, y + h]
//! def solid(b):   # run lengths of the box in whole pixels
//!     x, y, w, h = (int(v) for v in b)
//!     runs = [x * H + y, h]
//!     for _ in range(w - 1): runs += [H - h, h]
//!     return dict(size=[H, W], counts=runs + [H * W - (x + w - 1) * H - y - h])
//! def make(seed, images, cats, gts, noise):
//!     m = Mix(seed); gt = dict(images=[], annotations=[], categories=[dict(id=3 * c + 2, name=f"c{c}") for c in range(cats)]); dets = []
//!     for i in range(images):
//!         img = 10 + i * 7919 % 10007
//!         gt["images"].append(dict(id=img, file_name=f"{img}.jpg", width=W, height=H))
//!         def add(box, cat): dets.append(dict(image_id=img, category_id=3 * cat + 2, bbox=box, score=m.below(64) / 64))
//!         for _ in range(m.below(gts)):
//!             b, cat, crowd = a_box(m), m.below(cats), m.unit() < 0.1
//!             gt["annotations"].append(dict(id=len(gt["annotations"]) + 1, image_id=img, category_id=3 * cat + 2, bbox=b,
//!                 area=b[2] * b[3] * 0.7, iscrowd=int(crowd), segmentation=solid(b) if crowd else [diamond(b)]))
//!             for _ in range(m.below(3)):
//!                 j = [(m.unit() - 0.5) * 0.3 for _ in range(4)]
//!                 add([b[0] + j[0] * b[2], b[1] + j[1] * b[3], b[2] + j[2] * b[2], b[3] + j[3] * b[3]], cat if m.unit() < 0.9 else m.below(cats))
//!         for _ in range(m.below(noise)): add(a_box(m), m.below(cats))
//!     return gt, dets
//! ```
//!
//! What pycocotools then answers:
//! ```python
//! from pycocotools.coco import COCO; from pycocotools.cocoeval import COCOeval; from pycocotools import mask as M
//! def fnv(a):
//!     h = 0xcbf29ce484222325
//!     for b in np.ascontiguousarray(a, dtype='<f8').view('<u8').ravel().tolist(): h = (h ^ b) * 0x100000001b3 % 2**64
//!     return h
//! def run(gt, dets, iou, maxdets, usecats):
//!     with contextlib.redirect_stdout(io.StringIO()) as out:
//!         c = COCO(); c.dataset = copy.deepcopy(gt); c.createIndex()
//!         d = copy.deepcopy(dets)
//!         if iou == 'segm':
//!             for x in d: b = x.pop('bbox'); x['segmentation'] = M.frPyObjects([diamond(b)], H, W)[0]
//!         e = COCOeval(c, c.loadRes(d), iou); e.params.maxDets = maxdets; e.params.useCats = usecats
//!         e.evaluate(); e.accumulate(); out.truncate(0); out.seek(0); e.summarize()
//!     return e, out.getvalue()
//! ```

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::core::mask::Rle;
use crate::evaluation::synthetic::{Found, HEIGHT, Mix, WIDTH, diamond, make};

fn fnv(values: impl IntoIterator<Item = f64>) -> u64 {
    values.into_iter().fold(0xcbf2_9ce4_8422_2325, |h, v| (h ^ v.to_bits()).wrapping_mul(0x100_0000_01b3))
}

fn dets(found: &[Found], iou_type: IouType) -> Vec<CocoDet<'static>> {
    found
        .iter()
        .map(|f| CocoDet {
            image_id: f.image_id,
            category_id: f.category_id,
            bbox: f.bbox,
            score: f.score,
            mask: (iou_type == IouType::Segm)
                .then(|| Cow::Owned(Rle::from_polygons(&[diamond(f.bbox)], HEIGHT, WIDTH))),
        })
        .collect()
}

fn params(gt: &CocoApi, iou_type: IouType) -> CocoEvalParams {
    CocoEvalParams::new(iou_type, gt.get_img_ids(), gt.get_cat_ids::<&str>(None))
}

struct Expected {
    iou_type: IouType,
    max_dets: [usize; 3],
    use_cats: bool,
    stats: [f64; 12],
    /// `fnv` of the whole precision, recall and score arrays.
    sums: [u64; 3],
}

/// `gt, dets = make(1, 60, 7, 12, 25)`, then for each case
/// `e, text = run(gt, dets, iou, maxdets, usecats); e.stats.tolist(); [fnv(e.eval[k]) for k in ("precision", "recall", "scores")]`.
#[rustfmt::skip]
const EXPECTED: [Expected; 6] = [
    Expected {
        iou_type: IouType::Bbox, max_dets: [1, 10, 100], use_cats: true,
        stats: [
            0.09948902553761137, 0.21768853453116813, 0.06264440651881002, 0.1226492728182435,
            0.11438460131939444, 0.10817472238320369, 0.15785229872349307, 0.36330950641020904,
            0.36330950641020904, 0.3660652435022183, 0.35341353383458646, 0.3451700680272109,
        ],
        sums: [0x3019_8009_5231_d9ad, 0x96fd_2b7e_e093_1014, 0x2214_6ace_5962_3d45],
    },
    Expected {
        iou_type: IouType::Bbox, max_dets: [100, 2, 5], use_cats: true,
        stats: [
            0.09948902553761137, 0.21768853453116813, 0.06264440651881002, 0.1226492728182435,
            0.11438460131939444, 0.10817472238320369, 0.2343162124075473, 0.3500876824085255,
            0.36330950641020904, 0.3660652435022183, 0.35341353383458646, 0.3451700680272109,
        ],
        sums: [0xc6f6_ff21_4c80_378f, 0xaa17_7bf9_a945_86ed, 0x228f_6ace_5962_3d45],
    },
    Expected {
        iou_type: IouType::Bbox, max_dets: [1, 10, 100], use_cats: false,
        stats: [
            0.09333904321291088, 0.21040849532521902, 0.054382580915514296, 0.10205407882753016,
            0.09616280683055473, 0.0956627763621853, 0.04051446945337621, 0.24308681672025725,
            0.3836012861736334, 0.38636363636363635, 0.37755102040816324, 0.3944444444444445,
        ],
        sums: [0xa4cc_4f3a_17db_dfd4, 0xbfbb_8839_0746_014b, 0x368b_4542_9485_9405],
    },
    Expected {
        iou_type: IouType::Segm, max_dets: [1, 10, 100], use_cats: true,
        stats: [
            0.06905964010320298, 0.20072128993120733, 0.02407560147837494, 0.06148567707556823,
            0.09537335382331764, 0.10101603830158619, 0.11975051601983684, 0.28601224391154134,
            0.28601224391154134, 0.2829340485222838, 0.2740128893662729, 0.29027210884353744,
        ],
        sums: [0x3d85_404f_cfc9_1c08, 0x3f91_44cd_6746_adcb, 0x0432_6ace_5962_3d45],
    },
    Expected {
        iou_type: IouType::Segm, max_dets: [100, 2, 5], use_cats: true,
        stats: [
            0.06905964010320298, 0.20072128993120733, 0.02407560147837494, 0.06148567707556823,
            0.09537335382331764, 0.10101603830158619, 0.17614848465668137, 0.2748319031644559,
            0.28601224391154134, 0.2829340485222838, 0.2740128893662729, 0.29027210884353744,
        ],
        sums: [0x6735_e881_6d54_04e7, 0xb0c6_efa0_69b3_1aa1, 0x25b7_eace_5962_3d45],
    },
    Expected {
        iou_type: IouType::Segm, max_dets: [1, 10, 100], use_cats: false,
        stats: [
            0.06351069523583769, 0.19330105368318726, 0.018238788661146737, 0.049175603897042626,
            0.0805440628755579, 0.09413829714553479, 0.031189710610932474, 0.18681672025723473,
            0.3045016077170418, 0.30363636363636365, 0.2972789115646258, 0.32592592592592595,
        ],
        sums: [0xc78b_6e03_efed_f8b8, 0xfa08_a522_4b35_e230, 0x4507_c542_9485_9405],
    },
];

#[test]
fn all_numbers_are_pycocotools_to_the_last_bit() {
    let (json, found) = make(1, 60, 7, 12, 25);
    let gt: CocoApi = json.parse().unwrap();
    assert_eq!((gt.anns().len(), found.len(), gt.anns().iter().filter(|a| a.iscrowd).count()), (348, 1093, 37));
    for (i, e) in EXPECTED.iter().enumerate() {
        let mut p = params(&gt, e.iou_type);
        (p.max_dets, p.use_cats) = (e.max_dets.to_vec(), e.use_cats);
        let eval = CocoEval::new(&gt, &dets(&found, e.iou_type), p).unwrap();
        assert_eq!(eval.summarize().unwrap().stats, e.stats, "case {i}");
        let [t, r, k, a, m] = eval.counts();
        let all = |f: &dyn Fn(usize, usize, usize, usize, usize) -> f64, r: usize| {
            fnv((0..t * r * k * a * m)
                .map(|i| f(i / (r * k * a * m), i / (k * a * m) % r, i / (a * m) % k, i / m % a, i % m)))
        };
        let sums = [
            all(&|t, r, k, a, m| eval.precision(t, r, k, a, m), r),
            all(&|t, _, k, a, m| eval.recall(t, k, a, m), 1),
            all(&|t, r, k, a, m| eval.score(t, r, k, a, m), r),
        ];
        assert_eq!(sums, e.sums, "case {i}");
    }
}

#[test]
fn the_summary_reads_as_in_pycocotools() {
    let (json, found) = make(1, 60, 7, 12, 25);
    let gt: CocoApi = json.parse().unwrap();
    let eval = CocoEval::new(&gt, &dets(&found, IouType::Bbox), params(&gt, IouType::Bbox)).unwrap();
    // `print(text)` of the first case.
    let expected = "
 Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.099
 Average Precision  (AP) @[ IoU=0.50      | area=   all | maxDets=100 ] = 0.218
 Average Precision  (AP) @[ IoU=0.75      | area=   all | maxDets=100 ] = 0.063
 Average Precision  (AP) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = 0.123
 Average Precision  (AP) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ] = 0.114
 Average Precision  (AP) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = 0.108
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ] = 0.158
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets= 10 ] = 0.363
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.363
 Average Recall     (AR) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = 0.366
 Average Recall     (AR) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ] = 0.353
 Average Recall     (AR) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = 0.345
";
    assert_eq!(eval.summarize().unwrap().text, expected.trim_start_matches('\n'));
}

#[test]
fn what_can_not_be_evaluated_is_an_error() {
    let (json, found) = make(2, 3, 2, 5, 5);
    let gt: CocoApi = json.parse().unwrap();
    let mut foreign = dets(&found, IouType::Bbox);
    foreign[1].image_id = 5;
    let e = CocoEval::new(&gt, &foreign, params(&gt, IouType::Bbox)).unwrap_err().to_string();
    assert_eq!(e, "<annotations>: result 1 is of image 5, which the annotations don't have");
    let e = CocoEval::new(&gt, &dets(&found, IouType::Bbox), params(&gt, IouType::Segm)).unwrap_err().to_string();
    assert_eq!(e, "result 0 has no mask, evaluating 'segm' needs one");
    let boxes = CocoApi::from_slice(json.replace("segmentation", "outline").as_bytes(), "b.json").unwrap();
    let e = CocoEval::new(&boxes, &dets(&found, IouType::Segm), params(&gt, IouType::Segm)).unwrap_err().to_string();
    assert_eq!(e, "b.json: annotation 1 has no 'segmentation', evaluating 'segm' needs one");
    let none = CocoEvalParams { max_dets: vec![], ..params(&gt, IouType::Bbox) };
    assert!(CocoEval::new(&gt, &[], none).is_err());
    let one = CocoEvalParams { max_dets: vec![5], ..params(&gt, IouType::Bbox) };
    assert!(CocoEval::new(&gt, &[], one).unwrap().summarize().is_none());
}

#[test]
fn without_objects_everything_is_minus_1_and_without_detections_0() {
    let (json, _) = make(2, 3, 2, 5, 5);
    let gt: CocoApi = json.parse().unwrap();
    let stats = CocoEval::new(&gt, &[], params(&gt, IouType::Bbox)).unwrap().summarize().unwrap().stats;
    assert_eq!((stats[0], stats[8]), (0.0, 0.0));
    let nowhere = CocoEvalParams { img_ids: vec![], ..params(&gt, IouType::Bbox) };
    let eval = CocoEval::new(&gt, &[], nowhere).unwrap();
    assert_eq!(eval.summarize().unwrap().stats, [-1.0; 12]);
    assert!(eval.class_ap(0).is_nan());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_number_is_a_rate_or_minus_1_and_order_is_nothing(seed in 0u64..1 << 32, segm: bool) {
        let (json, mut found) = make(seed, 6, 3, 6, 8);
        // Of equal scores the first counts as the better, so only different ones may be put in another order.
        for (i, f) in found.iter_mut().enumerate() {
            f.score += i as f64 * 1e-6;
        }
        let gt: CocoApi = json.parse().unwrap();
        let iou_type = if segm { IouType::Segm } else { IouType::Bbox };
        let stats = |found: &[Found]| {
            CocoEval::new(&gt, &dets(found, iou_type), params(&gt, iou_type)).unwrap().summarize().unwrap().stats
        };
        let before = stats(&found);
        prop_assert!(before.iter().all(|s| *s == -1.0 || (0.0..=1.0).contains(s)), "{:?}", before);
        let mut m = Mix(seed);
        found.sort_by_cached_key(|_| m.bits());
        prop_assert_eq!(stats(&found), before);
    }

    #[test]
    fn finding_just_the_objects_is_perfect(seed in 0u64..1 << 32, segm: bool) {
        let (json, _) = make(seed, 6, 3, 6, 1);
        let gt: CocoApi = json.replace("\"iscrowd\": 1", "\"iscrowd\": 0").parse().unwrap();
        let iou_type = if segm { IouType::Segm } else { IouType::Bbox };
        let truth: Vec<CocoDet> = gt
            .anns()
            .iter()
            .map(|a| CocoDet {
                image_id: a.image_id,
                category_id: a.category_id,
                bbox: a.bbox,
                score: 0.5,
                mask: segm.then(|| match a.segmentation.clone().unwrap() {
                    crate::core::AnnMask::Rle(rle) => Cow::Owned(rle),
                    crate::core::AnnMask::Polygons(p) => Cow::Owned(Rle::from_polygons(&p, HEIGHT, WIDTH)),
                }),
            })
            .collect();
        let eval = CocoEval::new(&gt, &truth, params(&gt, iou_type)).unwrap();
        let [ap, .., ar, _, _, _] = eval.summarize().unwrap().stats;
        // The last digits are those of `tp / (tp + fp + 2.2e-16)`.
        prop_assert!(gt.anns().is_empty() || (ap - 1.0).abs() < 1e-12 && ar == 1.0, "{ap} {ar}");
    }
}
