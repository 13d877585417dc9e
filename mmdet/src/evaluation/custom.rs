//! `CustomDataset.evaluate` and `VOCDataset.evaluate` of mmdet.

use mmcv::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::mean_ap::{EvalMapOptions, MapRules, eval_map};
use super::recall::eval_recalls;
use super::report::{Evaluation, OneOrMany, TestResults, proposal_nums, round};
use crate::core::{AnnInfo, BBox};

/// What `evaluation = dict(...)` says for data sets other than COCO's, beside the hook's own fields.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MapEvaluateConfig {
    /// `mAP` or `recall`.
    #[serde(default = "map")]
    pub metric: OneOrMany<String>,
    /// Numbers of best proposals per image to look at.
    #[serde(default = "proposal_nums")]
    pub proposal_nums: Vec<usize>,
    /// IoU threshold, or several to average over.
    #[serde(default = "half")]
    pub iou_thr: OneOrMany<f64>,
    /// Scales `[min, max)` in pixels. VOC data sets don't look at it.
    #[serde(default)]
    pub scale_ranges: Option<Vec<(f64, f64)>>,
}

fn map() -> OneOrMany<String> {
    OneOrMany::One("mAP".to_owned())
}

fn half() -> OneOrMany<f64> {
    OneOrMany::One(0.5)
}

impl Default for MapEvaluateConfig {
    fn default() -> Self {
        Self { metric: map(), proposal_nums: proposal_nums(), iou_thr: half(), scale_ranges: None }
    }
}

/// The kinds of data set that are evaluated like this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapDataset {
    /// `CustomDataset` and what extends it.
    Custom,
    /// `VOCDataset` of a year: widths are `x2 - x1 + 1`, and 2007 has eleven-point AP.
    Voc {
        /// 2007 or 2012.
        year: u16,
    },
}

/// Evaluates results, one per annotation.
///
/// With mAP the metrics are `AP50` and its like for each threshold, to three digits, and their mean `mAP`; with
/// recall `recall@100@0.5` and, of several thresholds, the mean `AR@100`.
///
/// # Errors
/// When the metric is unknown, the results don't have what it needs, or their number is not that of the annotations.
pub fn evaluate_map(
    dataset: MapDataset,
    classes: &[String],
    annotations: &[&AnnInfo],
    results: TestResults,
    cfg: &MapEvaluateConfig,
) -> Result<Evaluation> {
    results.check_len(annotations.len())?;
    let metric = match cfg.metric.as_slice() {
        [metric] => metric.as_str(),
        several => return Err(Error::config(format!("expected one metric, found {}", several.len())).under("metric")),
    };
    match (metric, results) {
        ("mAP", TestResults::Detections(dets)) => {
            let thrs = cfg.iou_thr.as_slice();
            if thrs.is_empty() {
                return Err(Error::config("there is no threshold").under("iou_thr"));
            }
            let voc = matches!(dataset, MapDataset::Voc { .. });
            if !voc && cfg.scale_ranges.is_some() {
                // mmdet fails too, when it rounds the list of mAPs.
                let message = "the metrics have no place for scales; call eval_map for the mAP of each";
                return Err(Error::config(message).under("scale_ranges"));
            }
            let rules = if dataset == (MapDataset::Voc { year: 2007 }) { MapRules::Voc07 } else { MapRules::Default };
            let mut out = Evaluation::default();
            let mut mean_aps = Vec::new();
            for &iou_thr in thrs {
                let line = "-".repeat(15);
                out.report += &format!("\n{line}iou_thr: {iou_thr:?}{line}\n");
                let opts = EvalMapOptions { iou_thr, use_legacy_coordinate: voc, rules, scale_ranges: None };
                let result = eval_map(dets, annotations, &opts)?;
                out.report += &result.table(classes);
                let mean_ap = f64::from(result.mean_ap[0]);
                out.put(format!("AP{:02}", (iou_thr * 100.0) as i64), round(mean_ap, 3));
                mean_aps.push(mean_ap);
            }
            out.put("mAP", mean_aps.iter().sum::<f64>() / mean_aps.len() as f64);
            if voc {
                out.metrics.move_index(out.metrics.len() - 1, 0);
            }
            Ok(out)
        }
        ("recall", TestResults::Proposals(proposals)) => {
            let gts: Vec<Vec<BBox>> = annotations.iter().map(|a| a.bboxes.clone()).collect();
            let legacy = matches!(dataset, MapDataset::Voc { .. });
            let recalls = eval_recalls(&gts, proposals, &cfg.proposal_nums, cfg.iou_thr.as_slice(), legacy)?;
            let mut out = Evaluation { report: format!("\n{}\n", recalls.table()), ..Evaluation::default() };
            for (num, row) in recalls.proposal_nums.iter().zip(&recalls.values) {
                for (iou, value) in recalls.iou_thrs.iter().zip(row) {
                    out.put(format!("recall@{num}@{iou:?}"), *value);
                }
            }
            if recalls.iou_thrs.len() > 1 {
                for (num, ar) in recalls.proposal_nums.iter().zip(recalls.average()) {
                    out.put(format!("AR@{num}"), ar);
                }
            }
            Ok(out)
        }
        ("mAP", _) => Err(Error::config("mAP needs the detections of each class, not proposals").under("metric")),
        ("recall", _) => Err(Error::config("recall is supported for proposals only").under("metric")),
        _ => Err(Error::config(format!("metric {metric} is not supported, expected mAP or recall")).under("metric")),
    }
}
