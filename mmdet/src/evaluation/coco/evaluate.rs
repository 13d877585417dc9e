//! `CocoDataset.evaluate` of mmdet.

use mmcv::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::api::CocoApi;
use super::eval::{CocoDet, CocoEval};
use super::params::{CocoEvalParams, IouType};
use super::results::{coco_records, has_masks, results2json};
use crate::core::{BBox, ScoredBox};
use crate::evaluation::numeric::coco_iou_thrs;
use crate::evaluation::recall::eval_recalls;
use crate::evaluation::report::{Evaluation, MetricValue, OneOrMany, TestResults, proposal_nums, round};
use crate::evaluation::table::ascii_table;

/// mmdet's names of pycocotools' twelve numbers.
const STATS: [&str; 12] = [
    "mAP",
    "mAP_50",
    "mAP_75",
    "mAP_s",
    "mAP_m",
    "mAP_l",
    "AR@100",
    "AR@300",
    "AR@1000",
    "AR_s@1000",
    "AR_m@1000",
    "AR_l@1000",
];

/// What `evaluation = dict(...)` says for COCO data sets, beside the hook's own fields.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CocoEvaluateConfig {
    /// `bbox`, `segm`, `proposal`, `proposal_fast`, one or several.
    #[serde(default = "bbox")]
    pub metric: OneOrMany<String>,
    /// Beginning of the names of the result files to write; none are written without.
    #[serde(default)]
    pub jsonfile_prefix: Option<String>,
    /// Adds a table of the AP of each class.
    #[serde(default)]
    pub classwise: bool,
    /// Numbers of best detections or proposals per image to look at.
    #[serde(default = "proposal_nums")]
    pub proposal_nums: Vec<usize>,
    /// IoU thresholds; 0.5 to 0.95 when not given. Given, AP50 and AP75 are -1, as they are in mmdet, where pycocotools
    /// doesn't find them in a list.
    #[serde(default)]
    pub iou_thrs: Option<Vec<f64>>,
    /// Which of the twelve numbers to give (`mAP`, `AR@100`, ...).
    #[serde(default)]
    pub metric_items: Option<OneOrMany<String>>,
}

fn bbox() -> OneOrMany<String> {
    OneOrMany::One("bbox".to_owned())
}

impl Default for CocoEvaluateConfig {
    fn default() -> Self {
        Self {
            metric: bbox(),
            jsonfile_prefix: None,
            classwise: false,
            proposal_nums: proposal_nums(),
            iou_thrs: None,
            metric_items: None,
        }
    }
}

/// Evaluates results of `img_ids` (one per image, in this order), whose label `i` is the category `cat_ids[i]`.
///
/// # Errors
/// When a metric is unknown or the results don't have what it needs, or their number is not that of the images.
pub fn evaluate_coco(
    gt: &CocoApi,
    img_ids: &[i64],
    cat_ids: &[i64],
    results: TestResults,
    cfg: &CocoEvaluateConfig,
) -> Result<Evaluation> {
    let metrics = cfg.metric.as_slice();
    const ALLOWED: [&str; 4] = ["bbox", "segm", "proposal", "proposal_fast"];
    if let Some(unknown) = metrics.iter().find(|m| !ALLOWED.contains(&m.as_str())) {
        let message = format!("metric {unknown} is not supported, expected one of {}", ALLOWED.join(", "));
        return Err(Error::config(message).under("metric"));
    }
    results.check_len(img_ids.len())?;
    if let Some(prefix) = &cfg.jsonfile_prefix {
        results2json(results, img_ids, cat_ids, prefix)?;
    }
    let mut out = Evaluation::default();
    // As in mmdet, what the first metric takes by default the following ones take too.
    let mut items: Option<Vec<String>> = cfg.metric_items.as_ref().map(|i| i.as_slice().to_vec());
    for metric in metrics {
        out.report += &format!("\nEvaluating {metric}...\n");
        if metric == "proposal_fast" {
            proposal_fast(gt, img_ids, results, cfg, &mut out)?;
            continue;
        }
        let iou_type = if metric == "segm" { IouType::Segm } else { IouType::Bbox };
        let there = match results {
            TestResults::Proposals(_) => metric == "proposal",
            TestResults::Detections(images) => metric != "segm" || has_masks(images),
        };
        if !there {
            return Err(Error::config(format!("{metric} is not in results")).under("metric"));
        }
        let records = coco_records(results, img_ids, cat_ids, iou_type)?;
        if records.is_empty() {
            tracing::error!("The testing results of the whole dataset is empty.");
            out.report += "The testing results of the whole dataset is empty.\n";
            break;
        }
        let eval = run(gt, img_ids, cat_ids, iou_type, metric == "proposal", &records, cfg)?;
        let stats = summary(&eval, cfg, &mut out.report)?;
        if let Some(unknown) = items.iter().flatten().find(|i| !STATS.contains(&i.as_str())) {
            let message = format!("metric item {unknown} is not supported, expected some of {}", STATS.join(", "));
            return Err(Error::config(message).under("metric_items"));
        }
        let value = |item: &str| STATS.iter().position(|s| *s == item).map_or(-1.0, |i| round(stats[i], 4));
        let own = if metric == "proposal" { &STATS[6..] } else { &STATS[..6] };
        if cfg.classwise && metric != "proposal" {
            out.report += &format!("\n{}\n", classwise(gt, cat_ids, &eval));
        }
        let items = items.get_or_insert_with(|| own.iter().map(|s| (*s).to_owned()).collect());
        for item in items.iter() {
            let name = if metric == "proposal" { item.clone() } else { format!("{metric}_{item}") };
            out.put(name, value(item));
        }
        if metric != "proposal" {
            let all: Vec<String> = stats[..6].iter().map(|s| format!("{s:.4}")).collect();
            out.metrics.insert(format!("{metric}_mAP_copypaste"), MetricValue::Text(all.join(" ")));
        }
    }
    Ok(out)
}

fn run(
    gt: &CocoApi,
    img_ids: &[i64],
    cat_ids: &[i64],
    iou_type: IouType,
    proposal: bool,
    records: &[CocoDet],
    cfg: &CocoEvaluateConfig,
) -> Result<CocoEval> {
    let mut params = CocoEvalParams::new(iou_type, img_ids.to_vec(), cat_ids.to_vec());
    params.max_dets = cfg.proposal_nums.clone();
    params.use_cats = !proposal;
    if let Some(thrs) = &cfg.iou_thrs {
        params.iou_thrs = thrs.clone();
        params.named_thrs = false;
    }
    CocoEval::new(gt, records, params)
}

fn summary(eval: &CocoEval, cfg: &CocoEvaluateConfig, report: &mut String) -> Result<[f64; 12]> {
    let Some(summary) = eval.summarize() else {
        let message = format!("{:?} are too few, the summary needs three numbers", cfg.proposal_nums);
        return Err(Error::config(message).under("proposal_nums"));
    };
    *report += &format!("\n{}", summary.text);
    Ok(summary.stats)
}

/// The table of the AP of each class, three classes in a row.
///
/// Differs from mmdet, which puts the names in the file's order beside APs in ascending order of the category ids: here
/// each name stands beside its own AP.
fn classwise(gt: &CocoApi, cat_ids: &[i64], eval: &CocoEval) -> String {
    let cells: Vec<String> = cat_ids
        .iter()
        .flat_map(|id| {
            let ap = eval.params().cat_ids.iter().position(|c| c == id).map_or(f64::NAN, |k| eval.class_ap(k));
            let name = gt.cats().get(id).map_or_else(|| id.to_string(), |c| c.name.clone());
            [name, format!("{ap:.3}").to_lowercase()]
        })
        .collect();
    let columns = cells.len().min(6);
    let mut rows = vec![["category", "AP"].iter().cycle().take(columns).map(|s| (*s).to_owned()).collect()];
    for row in cells.chunks(columns.max(1)) {
        let mut row = row.to_vec();
        row.resize(columns, "None".to_owned());
        rows.push(row);
    }
    ascii_table(&rows, false)
}

fn proposal_fast(
    gt: &CocoApi,
    img_ids: &[i64],
    results: TestResults,
    cfg: &CocoEvaluateConfig,
    out: &mut Evaluation,
) -> Result<()> {
    let TestResults::Proposals(proposals) = results else {
        return Err(Error::config("proposal_fast is supported for proposals only").under("metric"));
    };
    let thrs = cfg.iou_thrs.clone().unwrap_or_else(coco_iou_thrs);
    let recalls = fast_eval_recall(gt, img_ids, proposals, &cfg.proposal_nums, &thrs)?;
    for (num, ar) in cfg.proposal_nums.iter().zip(&recalls) {
        out.put(format!("AR@{num}"), *ar);
        out.report += &format!("\nAR@{num}\t{ar:.4}");
    }
    out.report.push('\n');
    Ok(())
}

/// Average recall over the thresholds for each number of proposals, of all objects that are no crowd.
fn fast_eval_recall(
    gt: &CocoApi,
    img_ids: &[i64],
    proposals: &[Vec<ScoredBox>],
    nums: &[usize],
    thrs: &[f64],
) -> Result<Vec<f64>> {
    let boxes = |id: &i64| -> Vec<BBox> {
        gt.anns_of(*id)
            .filter(|a| !a.ignore && !a.iscrowd)
            .map(|a| [a.bbox[0], a.bbox[1], a.bbox[0] + a.bbox[2], a.bbox[1] + a.bbox[3]].map(|v| v as f32))
            .collect()
    };
    let gts: Vec<Vec<BBox>> = img_ids.iter().map(boxes).collect();
    let recalls = eval_recalls(&gts, proposals, nums, thrs, false)?;
    Ok(recalls.average())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::DetResult;
    use crate::core::mask::Rle;
    use crate::evaluation::coco::{read_results, results_of_records};
    use crate::evaluation::synthetic::{Found, HEIGHT, WIDTH, diamond, make};

    struct Data {
        gt: CocoApi,
        found: Vec<Found>,
    }

    fn data() -> Data {
        let (json, found) = make(5, 40, 5, 9, 9);
        Data { gt: json.parse().unwrap(), found }
    }

    fn scored(f: &Found) -> ScoredBox {
        let [x, y, w, h] = f.bbox;
        [x, y, x + w, y + h, f.score].map(|v| v as f32)
    }

    impl Data {
        fn ids(&self) -> (Vec<i64>, Vec<i64>) {
            (self.gt.get_img_ids(), self.gt.get_cat_ids::<&str>(None))
        }

        fn detections(&self, masks: bool) -> Vec<DetResult> {
            let (imgs, cats) = self.ids();
            let of = |img, cat| self.found.iter().filter(move |f| (f.image_id, f.category_id) == (img, cat));
            let mask = |f: &Found| Rle::from_polygons(&[diamond(f.bbox)], HEIGHT, WIDTH);
            imgs.iter()
                .map(|&i| DetResult {
                    bboxes: cats.iter().map(|&c| of(i, c).map(scored).collect()).collect(),
                    masks: masks.then(|| cats.iter().map(|&c| of(i, c).map(mask).collect()).collect()),
                })
                .collect()
        }

        /// Without equal scores, whose order NumPy leaves open.
        fn proposals(&self) -> Vec<Vec<ScoredBox>> {
            let of = |img| self.found.iter().filter(move |f| f.image_id == img).map(scored).enumerate();
            let spread = |(i, mut b): (usize, ScoredBox)| {
                b[4] += i as f32 * 2f32.powi(-20);
                b
            };
            self.gt.get_img_ids().into_iter().map(|i| of(i).map(spread).collect()).collect()
        }

        fn evaluate(&self, results: TestResults, cfg: &CocoEvaluateConfig) -> Result<Evaluation> {
            let (imgs, cats) = self.ids();
            evaluate_coco(&self.gt, &imgs, &cats, results, cfg)
        }
    }

    fn cfg(metrics: &[&str]) -> CocoEvaluateConfig {
        let metric = OneOrMany::Many(metrics.iter().map(|m| (*m).to_owned()).collect());
        CocoEvaluateConfig { metric, ..CocoEvaluateConfig::default() }
    }

    fn show(e: &Evaluation) -> Vec<String> {
        let value = |v: &MetricValue| match v {
            MetricValue::Number(n) => format!("{n}"),
            MetricValue::Text(t) => t.clone(),
        };
        e.metrics.iter().map(|(k, v)| format!("{k}: {}", value(v))).collect()
    }

    // The numbers are those of `CocoDataset.evaluate` of mmdet 2.28.2 with `gt, dets = make(5, 40, 5, 9, 9)` of
    // `golden.rs` and the same options:
    // ```python
    // ds = CocoDataset(ann_file=f, pipeline=[], classes=[c["name"] for c in gt["categories"]], test_mode=True)
    // arr = lambda l: np.array([[b[0], b[1], b[0] + b[2], b[1] + b[3], d["score"]] for d in l for b in [d["bbox"]]], np.float32).reshape(-1, 5)
    // per = lambda i, c: [d for d in dets if d["image_id"] == i and d["category_id"] == c]
    // boxes = [[arr(per(i, c)) for c in ds.cat_ids] for i in ds.img_ids]
    // segs = [[[frPyObjects([diamond(d["bbox"])], H, W)[0] for d in per(i, c)] for c in ds.cat_ids] for i in ds.img_ids]
    // props = [arr([d for d in dets if d["image_id"] == i]) for i in ds.img_ids]
    // for p in props: p[:, 4] += np.arange(len(p)).astype(np.float32) * np.float32(2.0**-20)
    // ds.evaluate(boxes, ...), ds.evaluate(list(zip(boxes, segs)), ...), ds.evaluate(props, ...)
    // ```

    #[test]
    fn box_metrics_and_the_class_table_are_those_of_mmdet() {
        let d = data();
        let detections = d.detections(false);
        let cfg = CocoEvaluateConfig { classwise: true, proposal_nums: vec![1, 3, 100], ..cfg(&["bbox", "proposal"]) };
        let e = d.evaluate(TestResults::Detections(&detections), &cfg).unwrap();
        let expected = [
            "bbox_mAP: 0.1236",
            "bbox_mAP_50: 0.273",
            "bbox_mAP_75: 0.0727",
            "bbox_mAP_s: 0.1492",
            "bbox_mAP_m: 0.1645",
            "bbox_mAP_l: 0.0994",
            "bbox_mAP_copypaste: 0.1236 0.2730 0.0727 0.1492 0.1645 0.0994",
            "mAP: 0.1214",
            "mAP_50: 0.2731",
            "mAP_75: 0.0628",
            "mAP_s: 0.1294",
            "mAP_m: 0.1524",
            "mAP_l: 0.0745",
        ];
        assert_eq!(show(&e), expected);
        let table = "
+----------+-------+----------+-------+----------+-------+
| category | AP    | category | AP    | category | AP    |
+----------+-------+----------+-------+----------+-------+
| c0       | 0.133 | c1       | 0.150 | c2       | 0.163 |
| c3       | 0.115 | c4       | 0.057 | None     | None  |
+----------+-------+----------+-------+----------+-------+
";
        assert!(e.report.contains(table), "{}", e.report);
        let line = " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  3 ] = 0.325\n";
        assert!(e.report.contains(line), "{}", e.report);
    }

    #[test]
    fn mask_metrics_and_chosen_items_are_those_of_mmdet() {
        let d = data();
        let detections = d.detections(true);
        let items = Some(OneOrMany::Many(vec!["mAP".to_owned(), "AR@300".to_owned()]));
        let cfg = CocoEvaluateConfig { metric_items: items, ..cfg(&["bbox", "segm"]) };
        let e = d.evaluate(TestResults::Detections(&detections), &cfg).unwrap();
        let expected = [
            "bbox_mAP: 0.1236",
            "bbox_AR@300: 0.3518",
            "bbox_mAP_copypaste: 0.1236 0.2730 0.0727 0.1492 0.1645 0.0994",
            "segm_mAP: 0.0836",
            "segm_AR@300: 0.2664",
            "segm_mAP_copypaste: 0.0836 0.2595 0.0195 0.0912 0.1007 0.1078",
        ];
        assert_eq!(show(&e), expected);
    }

    #[test]
    fn thresholds_of_ones_own_hide_ap50_as_in_mmdet() {
        let d = data();
        let detections = d.detections(false);
        let cfg = CocoEvaluateConfig { iou_thrs: Some(vec![0.5, 0.6]), ..cfg(&["bbox"]) };
        let e = d.evaluate(TestResults::Detections(&detections), &cfg).unwrap();
        assert_eq!(show(&e)[..4], ["bbox_mAP: 0.2583", "bbox_mAP_50: -1", "bbox_mAP_75: -1", "bbox_mAP_s: 0.2965"]);
        assert_eq!(show(&e)[6], "bbox_mAP_copypaste: 0.2583 -1.0000 -1.0000 0.2965 0.3363 0.2215");
        assert!(e.report.contains("[ IoU=0.50      | area=   all | maxDets=1000 ] = -1.000"), "{}", e.report);
    }

    #[test]
    fn proposal_recalls_are_those_of_mmdet() {
        let d = data();
        let proposals = d.proposals();
        let cfg1 = CocoEvaluateConfig { proposal_nums: vec![1, 5, 100], ..cfg(&["proposal_fast"]) };
        let e = d.evaluate(TestResults::Proposals(&proposals), &cfg1).unwrap();
        assert_eq!(show(&e), ["AR@1: 0.05912408759124088", "AR@5: 0.23868613138686134", "AR@100: 0.37664233576642336"]);
        assert!(e.report.contains("\nAR@1\t0.0591\nAR@5\t0.2387\nAR@100\t0.3766\n"), "{}", e.report);
        // Proposals are written with the category 1, which this data set doesn't have.
        let e = d.evaluate(TestResults::Proposals(&proposals), &cfg(&["proposal"])).unwrap();
        let zeros = ["AR@100", "AR@300", "AR@1000", "AR_s@1000", "AR_m@1000", "AR_l@1000"].map(|n| format!("{n}: 0"));
        assert_eq!(show(&e), zeros);
    }

    #[test]
    fn nothing_found_is_no_metric() {
        let d = data();
        let empty = vec![DetResult { bboxes: vec![vec![]; 5], masks: None }; 40];
        let e = d.evaluate(TestResults::Detections(&empty), &cfg(&["bbox"])).unwrap();
        assert!(e.metrics.is_empty());
        assert!(e.report.ends_with("The testing results of the whole dataset is empty.\n"));
    }

    #[test]
    fn what_can_not_be_evaluated_is_an_error() {
        let d = data();
        let (detections, proposals) = (d.detections(false), d.proposals());
        let error = |results, cfg: &CocoEvaluateConfig| d.evaluate(results, cfg).unwrap_err().to_string();
        let e = error(TestResults::Detections(&detections), &cfg(&["mAP"]));
        assert_eq!(
            e,
            "config: metric: metric mAP is not supported, expected one of bbox, segm, proposal, proposal_fast"
        );
        let e = error(TestResults::Detections(&detections), &cfg(&["segm"]));
        assert_eq!(e, "config: metric: segm is not in results");
        let e = error(TestResults::Proposals(&proposals), &cfg(&["bbox"]));
        assert_eq!(e, "config: metric: bbox is not in results");
        let e = error(TestResults::Detections(&detections), &cfg(&["proposal_fast"]));
        assert_eq!(e, "config: metric: proposal_fast is supported for proposals only");
        let e = error(TestResults::Detections(&detections[1..]), &cfg(&["bbox"]));
        assert_eq!(e, "The length of results is not equal to the dataset len: 39 != 40");
        let items = Some(OneOrMany::One("mAP_60".to_owned()));
        let e =
            error(TestResults::Detections(&detections), &CocoEvaluateConfig { metric_items: items, ..cfg(&["bbox"]) });
        assert!(
            e.starts_with("config: metric_items: metric item mAP_60 is not supported, expected some of mAP, "),
            "{e}"
        );
        let few = CocoEvaluateConfig { proposal_nums: vec![100], ..cfg(&["bbox"]) };
        let e = error(TestResults::Detections(&detections), &few);
        assert_eq!(e, "config: proposal_nums: [100] are too few, the summary needs three numbers");
    }

    #[test]
    fn result_files_read_back_and_evaluate_alike() {
        let d = data();
        let (imgs, cats) = d.ids();
        let detections = d.detections(true);
        let dir = tempfile::tempdir().unwrap();
        let prefix = dir.path().join("run/epoch_1").display().to_string();
        let files = results2json(TestResults::Detections(&detections), &imgs, &cats, &prefix).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["bbox", "proposal", "segm"]);
        assert_eq!(files["segm"].file_name().unwrap(), "epoch_1.segm.json");
        for (iou_type, name) in [(IouType::Bbox, "bbox"), (IouType::Segm, "segm")] {
            let read = read_results(&files[name]).unwrap();
            assert_eq!(read, coco_records(TestResults::Detections(&detections), &imgs, &cats, iou_type).unwrap());
        }
        let back = results_of_records(&read_results(&files["segm"]).unwrap(), &imgs, &cats);
        let e = |r: &[DetResult]| d.evaluate(TestResults::Detections(r), &cfg(&["bbox", "segm"])).unwrap().metrics;
        assert_eq!(e(&back), e(&detections));

        let text = std::fs::read_to_string(&files["bbox"]).unwrap();
        assert!(text.starts_with("[{\"image_id\":10,\"bbox\":["), "{}", &text[..40]);
        std::fs::write(&files["bbox"], text.replacen("\"score\"", "\"points\"", 1)).unwrap();
        let e = read_results(&files["bbox"]).unwrap_err().to_string();
        assert!(e.ends_with("epoch_1.bbox.json: result 0: no 'score'"), "{e}");
    }

    #[test]
    fn a_misspelt_option_is_refused() {
        let parse = |text: &str| serde_json::from_str::<CocoEvaluateConfig>(text);
        assert!(parse(r#"{"metric": "bbox", "class_wise": true}"#).is_err());
        let c = parse(r#"{"metric": ["bbox", "segm"], "iou_thrs": [0.5]}"#).unwrap();
        assert_eq!((c.metric.as_slice().len(), c.proposal_nums), (2, vec![100, 300, 1000]));
    }
}
