//! Evaluating results on any data set, as its kind does.

use std::sync::Arc;

use mmcv::config::Node;
use mmcv::{Error, Result};

use super::coco::{CocoEvaluateConfig, evaluate_coco};
use super::custom::{MapDataset, MapEvaluateConfig, evaluate_map};
use super::report::{Evaluation, TestResults};
use crate::core::AnnInfo;
use crate::datasets::{DetDataset, Source};

/// Evaluates results (one per image, in the data set's order) as `dataset.evaluate(results, **options)` does in mmdet.
/// `options` is what the config's `evaluation` says beside the hook's own fields; see [`CocoEvaluateConfig`] for COCO
/// data sets and [`MapEvaluateConfig`] for others.
///
/// Several data sets evaluated on their own put their number before their metrics: `0_bbox_mAP`.
///
/// # Errors
/// When the options are not those of the data set, when the results don't fit, and for wrappers that repeat images.
pub fn evaluate(dataset: &dyn DetDataset, results: TestResults, options: &Node) -> Result<Evaluation> {
    results.check_len(dataset.len())?;
    match dataset.source() {
        Source::Coco(coco) => {
            let cfg: CocoEvaluateConfig = options.parse()?;
            evaluate_coco(coco.api(), coco.img_ids(), coco.cat_id_of_label(), results, &cfg)
        }
        Source::Voc { year } => by_map(MapDataset::Voc { year }, dataset, results, options),
        Source::Xml | Source::Custom => by_map(MapDataset::Custom, dataset, results, options),
        Source::Concat { parts, separate_eval: false } => {
            let kind = match parts.first().map(|p| p.source()) {
                Some(Source::Voc { year }) => MapDataset::Voc { year },
                Some(Source::Xml | Source::Custom) => MapDataset::Custom,
                _ => return Err(Error::config("these data sets can't be evaluated as one; set separate_eval=True")),
            };
            by_map(kind, dataset, results, options)
        }
        Source::Concat { parts, separate_eval: true } => {
            let mut all = Evaluation::default();
            let mut start = 0;
            for (i, part) in parts.into_iter().enumerate() {
                let end = start + part.len();
                all.report += &format!("\nEvaluating data set {i} with {} images now\n", part.len());
                let one = evaluate(part, slice(results, start, end), options)?;
                all.report += &one.report;
                all.metrics.extend(one.metrics.into_iter().map(|(name, value)| (format!("{i}_{name}"), value)));
                start = end;
            }
            Ok(all)
        }
        Source::Wrapped(_) => Err(Error::config("a data set that repeats images can't be evaluated")),
    }
}

fn slice(results: TestResults, start: usize, end: usize) -> TestResults {
    match results {
        TestResults::Detections(d) => TestResults::Detections(&d[start..end]),
        TestResults::Proposals(p) => TestResults::Proposals(&p[start..end]),
    }
}

fn by_map(kind: MapDataset, dataset: &dyn DetDataset, results: TestResults, options: &Node) -> Result<Evaluation> {
    let cfg: MapEvaluateConfig = options.parse()?;
    let annotations: Vec<Arc<AnnInfo>> = (0..dataset.len()).map(|i| dataset.ann_info(i)).collect::<Result<_>>()?;
    let annotations: Vec<&AnnInfo> = annotations.iter().map(|a| &**a).collect();
    evaluate_map(kind, dataset.classes(), &annotations, results, &cfg)
}
