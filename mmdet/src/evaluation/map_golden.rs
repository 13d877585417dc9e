//! Mean average precision against mmdet 2.28.2, on data that both sides make from a seed (`make` of
//! `coco/golden.rs`):
//! ```python
//! from mmdet.core.evaluation import eval_map
//! from mmdet.core.evaluation.mean_ap import tpfp_imagenet
//! def data(seed):
//!     gt, dets = make(seed, 40, 5, 9, 9)
//!     for i, d in enumerate(dets): d['score'] += i * 2.0**-20   # no ties: NumPy's sort is not stable
//!     xyxy = lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
//!     cats = [c['id'] for c in gt['categories']]
//!     res, ann = [], []
//!     for i in (i['id'] for i in gt['images']):
//!         mine = [a for a in gt['annotations'] if a['image_id'] == i]
//!         arr = lambda l: np.array([xyxy(a['bbox']) for a in l], np.float32).reshape(-1, 4)
//!         keep, ign = [a for a in mine if not a['iscrowd']], [a for a in mine if a['iscrowd']]
//!         lab = lambda l: np.array([cats.index(a['category_id']) for a in l], np.int64)
//!         ann.append(dict(bboxes=arr(keep), labels=lab(keep), bboxes_ignore=arr(ign), labels_ignore=lab(ign)))
//!         res.append([np.array([xyxy(d['bbox']) + [d['score']] for d in dets if d['image_id'] == i and d['category_id'] == c], np.float32).reshape(-1, 5) for c in cats])
//!     return res, ann
//! res, ann = data(5)
//! ```

use super::synthetic::{Found, make};
use super::*;
use crate::core::{AnnInfo, BBox, DetResult, ScoredBox};
use crate::evaluation::coco::CocoApi;

pub(super) fn data(seed: u64) -> (Vec<DetResult>, Vec<AnnInfo>) {
    let (json, found) = make(seed, 40, 5, 9, 9);
    let gt: CocoApi = json.parse().unwrap();
    let cats = gt.get_cat_ids::<&str>(None);
    let xyxy = |b: [f64; 4]| -> BBox { [b[0], b[1], b[0] + b[2], b[1] + b[3]].map(|v| v as f32) };
    let scored = |(i, d): (usize, &Found)| -> ScoredBox {
        let [a, b, c, e] = xyxy(d.bbox);
        [a, b, c, e, (d.score + i as f64 * 2f64.powi(-20)) as f32]
    };
    let result = |img: i64| {
        let of = |cat: i64| found.iter().enumerate().filter(move |(_, d)| (d.image_id, d.category_id) == (img, cat));
        DetResult { bboxes: cats.iter().map(|c| of(*c).map(scored).collect()).collect(), masks: None }
    };
    let annotation = |img: i64| {
        let mut ann = AnnInfo::default();
        for a in gt.anns_of(img) {
            let label = cats.iter().position(|c| *c == a.category_id).unwrap() as i64;
            let (boxes, labels) = if a.iscrowd {
                (&mut ann.bboxes_ignore, &mut ann.labels_ignore)
            } else {
                (&mut ann.bboxes, &mut ann.labels)
            };
            boxes.push(xyxy(a.bbox));
            labels.push(label);
        }
        ann
    };
    let ids = gt.get_img_ids();
    (ids.iter().map(|i| result(*i)).collect(), ids.iter().map(|i| annotation(*i)).collect())
}

const BASE: EvalMapOptions =
    EvalMapOptions { iou_thr: 0.5, scale_ranges: None, use_legacy_coordinate: false, rules: MapRules::Default };

/// Objects, detections, AP and last precision of a class.
type Row = (&'static [usize], usize, &'static [f32], &'static [f32]);

/// Options, mAP, classes.
#[rustfmt::skip]
const EXPECTED: [(EvalMapOptions, &[f32], &[Row]); 7] = [
    // eval_map(res, ann, )
    (EvalMapOptions { ..BASE }, &[0.27315098], &[(&[27], 65, &[0.3009139], &[0.30645162]), (&[29], 78, &[0.32815436], &[0.29333332]), (&[32], 78, &[0.34024692], &[0.33333334]), (&[28], 64, &[0.26849368], &[0.3114754]), (&[21], 51, &[0.12794612], &[0.2173913])]),
    // eval_map(res, ann, use_legacy_coordinate=True, iou_thr=0.7)
    (EvalMapOptions { iou_thr: 0.7, use_legacy_coordinate: true, ..BASE }, &[0.15204012], &[(&[27], 65, &[0.13618279], &[0.1904762]), (&[29], 78, &[0.19615193], &[0.21052632]), (&[32], 78, &[0.20486112], &[0.25974026]), (&[28], 64, &[0.14963134], &[0.20967741]), (&[21], 51, &[0.07337352], &[0.14285715])]),
    // eval_map(res, ann, dataset='voc07', use_legacy_coordinate=True)
    (EvalMapOptions { rules: MapRules::Voc07, use_legacy_coordinate: true, ..BASE }, &[0.27350003], &[(&[27], 65, &[0.31547073], &[0.30645162]), (&[29], 78, &[0.3436446], &[0.29333332]), (&[32], 78, &[0.32088238], &[0.33333334]), (&[28], 64, &[0.2536639], &[0.3114754]), (&[21], 51, &[0.13383839], &[0.2173913])]),
    // eval_map(res, ann, dataset='det', iou_thr=0.6)
    (EvalMapOptions { rules: MapRules::ImageNet, iou_thr: 0.6, ..BASE }, &[0.26325506], &[(&[27], 65, &[0.28031233], &[0.2857143]), (&[29], 78, &[0.3245758], &[0.28947368]), (&[32], 78, &[0.33101425], &[0.32467532]), (&[28], 64, &[0.2671898], &[0.30645162]), (&[21], 51, &[0.1131832], &[0.1875])]),
    // eval_map(res, ann, scale_ranges=[(0, 32), (32, 96), (96, 100000.0)])
    (EvalMapOptions { scale_ranges: Some(&[(0.0, 32.0), (32.0, 96.0), (96.0, 1e5)]), ..BASE }, &[0.3046751, 0.3686437, 0.18964896], &[(&[10, 12, 5], 65, &[0.2875, 0.4269244, 0.3], &[0.31578946, 0.32352942, 0.22222222]), (&[8, 14, 7], 78, &[0.25892857, 0.46621317, 0.30166978], &[0.21052632, 0.36363637, 0.26086956]), (&[17, 9, 6], 78, &[0.5428084, 0.28195286, 0.20588236], &[0.56, 0.21875, 0.22222222]), (&[10, 12, 6], 64, &[0.23043479, 0.45095646, 0.14069265], &[0.3043478, 0.34615386, 0.25]), (&[9, 9, 3], 51, &[0.2037037, 0.21717171, 0.0], &[0.29411766, 0.2173913, 0.0])]),
    // eval_map(res, ann, scale_ranges=[(0, 32), (32, 96)], dataset='vid')
    (EvalMapOptions { rules: MapRules::ImageNet, scale_ranges: Some(&[(0.0, 32.0), (32.0, 96.0)]), ..BASE }, &[0.30336887, 0.3592519], &[(&[10, 12], 65, &[0.2875, 0.38216105], &[0.31578946, 0.29411766]), (&[8, 14], 78, &[0.25892857, 0.46621317], &[0.21052632, 0.36363637]), (&[17, 9], 78, &[0.5428084, 0.28195286], &[0.56, 0.21875]), (&[10, 12], 64, &[0.2239035, 0.45095646], &[0.29166666, 0.34615386]), (&[9, 9], 51, &[0.2037037, 0.21497585], &[0.29411766, 0.20833333])]),
    // eval_map(res, ann, scale_ranges=[(0, 32), (32, 96)], dataset='voc07')
    (EvalMapOptions { rules: MapRules::Voc07, scale_ranges: Some(&[(0.0, 32.0), (32.0, 96.0)]), ..BASE }, &[0.3170337, 0.37429777], &[(&[10, 12], 65, &[0.3181818, 0.42785695], &[0.31578946, 0.32352942]), (&[8, 14], 78, &[0.30519482, 0.45589226], &[0.21052632, 0.36363637]), (&[17, 9], 78, &[0.54018444, 0.27614322], &[0.56, 0.21875]), (&[10, 12], 64, &[0.20948616, 0.44300145], &[0.3043478, 0.34615386]), (&[9, 9], 51, &[0.2121212, 0.26859504], &[0.29411766, 0.2173913])]),
];

fn refs(ann: &[AnnInfo]) -> Vec<&AnnInfo> {
    ann.iter().collect()
}

#[test]
fn map_is_that_of_mmdet_to_the_last_bit() {
    let (dets, ann) = data(5);
    for (i, (opts, mean_ap, classes)) in EXPECTED.iter().enumerate() {
        let result = eval_map(&dets, &refs(&ann), opts).unwrap();
        assert_eq!(result.mean_ap, *mean_ap, "case {i}");
        for (class, (num_gts, num_dets, ap, precision)) in result.classes.iter().zip(*classes) {
            assert_eq!((&*class.num_gts, class.num_dets), (*num_gts, *num_dets), "case {i}");
            assert_eq!(class.ap, *ap, "case {i}");
            let last: Vec<f32> = class.precision.iter().map(|p| *p.last().unwrap()).collect();
            assert_eq!(last, *precision, "case {i}");
        }
    }
}

#[test]
fn the_table_reads_as_in_mmdet() {
    let (dets, ann) = data(5);
    let table = "
+-------+-----+------+--------+-------+
| class | gts | dets | recall | ap    |
+-------+-----+------+--------+-------+
| 0     | 27  | 65   | 0.704  | 0.301 |
| 1     | 29  | 78   | 0.759  | 0.328 |
| 2     | 32  | 78   | 0.781  | 0.340 |
| 3     | 28  | 64   | 0.679  | 0.268 |
| 4     | 21  | 51   | 0.476  | 0.128 |
+-------+-----+------+--------+-------+
| mAP   |     |      |        | 0.273 |
+-------+-----+------+--------+-------+
";
    assert_eq!(eval_map(&dets, &refs(&ann), &BASE).unwrap().table(&[]), table);
    let ranges = [(0.0, 32.0)];
    let opts = EvalMapOptions { scale_ranges: Some(&ranges), ..BASE };
    let text = eval_map(&dets, &refs(&ann), &opts).unwrap().table(&["cat".to_owned()]);
    assert!(text.starts_with("Scale range (0, 1024)\n\n+-") && text.contains("| cat   | 10  | 65   | 0.600"), "{text}");
}

#[test]
fn groups_count_as_in_open_images() {
    // groups = [np.arange(len(a["labels"])) % 3 == 0 for a in ann]
    // for a, g in zip(ann, groups): a["gt_is_group_ofs"] = g; a["bboxes_ignore"] = np.zeros((0, 4), np.float32); a["labels_ignore"] = np.zeros(0, np.int64)
    // m, r = eval_map(res, ann, iou_thr=0.5, ioa_thr=thr, use_group_of=True, dataset="oid_v6")
    // m, [(c["num_gts"], c["num_dets"], c["ap"]) for c in r]
    let (dets, mut ann) = data(5);
    for a in &mut ann {
        a.bboxes_ignore.clear();
        a.labels_ignore.clear();
    }
    let group_ofs: Vec<Vec<bool>> = ann.iter().map(|a| (0..a.labels.len()).map(|i| i % 3 == 0).collect()).collect();
    for (ioa_thr, num_dets) in [(0.5, [66, 83, 74, 63, 55]), (0.3, [66, 83, 73, 63, 55])] {
        let opts = EvalMapOptions { rules: MapRules::OpenImages { group_ofs: &group_ofs, ioa_thr }, ..BASE };
        let result = eval_map(&dets, &refs(&ann), &opts).unwrap();
        assert_eq!(result.mean_ap, [0.27184778]);
        let of = |f: fn(&ClassMap) -> f32| result.classes.iter().map(f).collect::<Vec<_>>();
        assert_eq!(of(|c| c.num_dets as f32), num_dets.map(|n| n as f32));
        assert_eq!(of(|c| c.num_gts[0] as f32), [27.0, 29.0, 32.0, 28.0, 21.0]);
        assert_eq!(of(|c| c.ap[0]), [0.31562632, 0.3115141, 0.33910257, 0.26990017, 0.12309574]);
    }
    let opts = EvalMapOptions { rules: MapRules::OpenImages { group_ofs: &group_ofs[1..], ioa_thr: 0.5 }, ..BASE };
    assert!(eval_map(&dets, &refs(&ann), &opts).is_err());
}

fn show(e: &Evaluation) -> Vec<String> {
    e.metrics.keys().map(|k| format!("{k}: {:?}", e.number(k).unwrap())).collect()
}

fn names() -> Vec<String> {
    (0..5).map(|i| format!("c{i}")).collect()
}

fn cfg(metric: &str, thrs: &[f64]) -> MapEvaluateConfig {
    MapEvaluateConfig {
        metric: OneOrMany::One(metric.to_owned()),
        iou_thr: OneOrMany::Many(thrs.to_vec()),
        ..MapEvaluateConfig::default()
    }
}

// `CustomDataset.evaluate` and `VOCDataset.evaluate` of mmdet, with `get_ann_info` giving `ann[i]`.

#[test]
fn map_metrics_are_those_of_mmdet() {
    let (dets, ann) = data(5);
    let run = |dataset, thrs: &[f64]| {
        evaluate_map(dataset, &names(), &refs(&ann), TestResults::Detections(&dets), &cfg("mAP", thrs)).unwrap()
    };
    let e = run(MapDataset::Custom, &[0.5, 0.55, 0.7]);
    assert_eq!(show(&e), ["AP50: 0.273", "AP55: 0.262", "AP70: 0.147", "mAP: 0.2275622288386027"]);
    assert!(e.report.starts_with("\n---------------iou_thr: 0.5---------------\n\n+--"), "{}", e.report);
    assert!(e.report.contains("| c0    | 27  | 65   | 0.704  | 0.301 |"), "{}", e.report);
    let e = run(MapDataset::Voc { year: 2007 }, &[0.5, 0.6]);
    assert_eq!(show(&e), ["mAP: 0.26871712505817413", "AP50: 0.274", "AP60: 0.264"]);
    let e = run(MapDataset::Voc { year: 2012 }, &[0.5, 0.6]);
    assert_eq!(show(&e), ["mAP: 0.2665833681821823", "AP50: 0.273", "AP60: 0.26"]);
}

#[test]
fn recall_metrics_are_those_of_mmdet() {
    // props = [np.concatenate(r) for r in res]
    let (dets, ann) = data(5);
    let proposals: Vec<Vec<ScoredBox>> = dets.iter().map(|d| d.bboxes.concat()).collect();
    let results = TestResults::Proposals(&proposals);
    let two = MapEvaluateConfig { proposal_nums: vec![1, 10], ..cfg("recall", &[0.5, 0.7]) };
    let e = evaluate_map(MapDataset::Custom, &names(), &refs(&ann), results, &two).unwrap();
    let expected = [
        "recall@1@0.5: 0.10948905109489052",
        "recall@1@0.7: 0.08759124087591241",
        "recall@10@0.5: 0.6715328467153284",
        "recall@10@0.7: 0.5036496350364964",
        "AR@1: 0.09854014598540146",
        "AR@10: 0.5875912408759124",
    ];
    assert_eq!(show(&e), expected);
    let e =
        evaluate_map(MapDataset::Voc { year: 2012 }, &names(), &refs(&ann), results, &cfg("recall", &[0.7])).unwrap();
    let expected = ["recall@100@0.7", "recall@300@0.7", "recall@1000@0.7"].map(|n| format!("{n}: 0.5328467153284672"));
    assert_eq!(show(&e), expected);
}

#[test]
fn what_can_not_be_evaluated_is_an_error() {
    let (dets, ann) = data(5);
    let error = |results, cfg: &MapEvaluateConfig| {
        evaluate_map(MapDataset::Custom, &names(), &refs(&ann), results, cfg).unwrap_err().to_string()
    };
    let detections = TestResults::Detections(&dets);
    let e = error(detections, &cfg("bbox", &[0.5]));
    assert_eq!(e, "config: metric: metric bbox is not supported, expected mAP or recall");
    assert_eq!(error(detections, &cfg("recall", &[0.5])), "config: metric: recall is supported for proposals only");
    let proposals = vec![vec![]; 40];
    let e = error(TestResults::Proposals(&proposals), &cfg("mAP", &[0.5]));
    assert_eq!(e, "config: metric: mAP needs the detections of each class, not proposals");
    let e = error(TestResults::Detections(&dets[2..]), &cfg("mAP", &[0.5]));
    assert_eq!(e, "The length of results is not equal to the dataset len: 38 != 40");
    assert_eq!(error(detections, &cfg("mAP", &[])), "config: iou_thr: there is no threshold");
    let scales = MapEvaluateConfig { scale_ranges: Some(vec![(0.0, 32.0)]), ..cfg("mAP", &[0.5]) };
    assert!(error(detections, &scales).starts_with("config: scale_ranges: "));
    let mut uneven = dets.clone();
    uneven[3].bboxes.pop();
    let e = eval_map(&uneven, &refs(&ann), &BASE).unwrap_err().to_string();
    assert_eq!(e, "eval_map: result 3 is of 4 classes, the first of 5");
}

#[test]
fn without_detections_or_objects_map_is_0_and_perfect_detections_give_1() {
    let (_, ann) = data(5);
    let none = vec![DetResult { bboxes: vec![vec![]; 5], masks: None }; 40];
    assert_eq!(eval_map(&none, &refs(&ann), &BASE).unwrap().mean_ap, [0.0]);
    assert_eq!(eval_map(&none, &refs(&vec![AnnInfo::default(); 40]), &BASE).unwrap().mean_ap, [0.0]);
    assert_eq!(eval_map(&[], &[], &BASE).unwrap().mean_ap, [0.0]);
    let perfect = |a: &AnnInfo| {
        let of = |class| a.bboxes.iter().zip(&a.labels).filter(move |(_, l)| **l == class);
        let boxes = |class| of(class).map(|(b, _)| [b[0], b[1], b[2], b[3], 0.5]).collect();
        DetResult { bboxes: (0..5).map(boxes).collect(), masks: None }
    };
    let all: Vec<DetResult> = ann.iter().map(perfect).collect();
    let result = eval_map(&all, &refs(&ann), &EvalMapOptions { use_legacy_coordinate: true, ..BASE }).unwrap();
    assert!((result.mean_ap[0] - 1.0).abs() < 1e-6, "{:?}", result.mean_ap);
}
