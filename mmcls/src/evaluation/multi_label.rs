//! Metrics of images of several classes; mmcls's `mean_ap.py`, `multilabel_eval_metrics.py` and `MultiLabelDataset.evaluate`.
//!
//! Labels are rows of 1 (there), 0 (not there) and -1 (hard to see).

use mmcv::config::{Node, OneOrMany};
use mmcv::error::did_you_mean;
use mmcv::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Metrics;

const METRICS: [&str; 7] = ["mAP", "CP", "CR", "CF1", "OP", "OR", "OF1"];

/// numpy's float32 `eps`.
const EPS: f64 = f32::EPSILON as f64;

/// `evaluation` of a multi-label data set, without what says when.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MultiLabelEvaluateConfig {
    /// `mAP`, `CP`, `CR`, `CF1`, `OP`, `OR`, `OF1`, or several; default `mAP`.
    #[serde(default = "plain")]
    pub metric: OneOrMany<String>,
    /// When a class counts as found.
    #[serde(default)]
    pub metric_options: Option<MultiLabelMetricOptions>,
}

/// `metric_options`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MultiLabelMetricOptions {
    /// Classes with a score of at least this are found; default 0.5 unless `k` is given.
    #[serde(default)]
    pub thr: Option<f32>,
    /// The best so many classes are found; `thr` goes before.
    #[serde(default)]
    pub k: Option<usize>,
}

fn plain() -> OneOrMany<String> {
    OneOrMany::One("mAP".into())
}

/// The places of `scores`, best first; equals keep their order.
fn order(scores: &[f32]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    // NaN comes last.
    let key = |i: usize| if scores[i].is_nan() { f32::INFINITY } else { -scores[i] };
    places.sort_by(|a, b| key(*a).total_cmp(&key(*b)));
    places
}

/// Average precision of one class, 0 to 1: the mean, over the images of it, of the precision down to each. Images where it
/// is hard to see (-1) don't count.
pub fn average_precision(scores: &[f32], target: &[i8]) -> f64 {
    let (mut right, mut seen, mut sum) = (0u64, 0u64, 0.0);
    for i in order(scores) {
        if target[i] != -1 {
            seen += 1;
        }
        if target[i] == 1 {
            right += 1;
            sum += right as f64 / (seen as f64).max(EPS);
        }
    }
    sum / (right as f64).max(EPS)
}

/// The mean of [`average_precision`] over classes, in percent. `scores` and `targets` have a row for each image.
pub fn mean_average_precision(scores: &[Vec<f32>], targets: &[Vec<i8>]) -> f64 {
    let classes = scores.first().map_or(0, Vec::len);
    let one = |class: usize| {
        let column: Vec<f32> = scores.iter().map(|row| row[class]).collect();
        let target: Vec<i8> = targets.iter().map(|row| row[class]).collect();
        average_precision(&column, &target)
    };
    (0..classes).map(one).sum::<f64>() / classes as f64 * 100.0
}

/// Precision, recall and F1 in percent: means over classes (C), and of all labels together (O).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Performance {
    /// Mean precision of the classes.
    pub cp: f64,
    /// Mean recall of the classes.
    pub cr: f64,
    /// F1 of these means.
    pub cf1: f64,
    /// Precision of all labels.
    pub op: f64,
    /// Recall of all labels.
    pub or: f64,
    /// F1 of these.
    pub of1: f64,
}

/// [`Performance`] where classes with a score of at least `thr` are found, or without it the best `k`, or those of at least
/// 0.5 without either. What is hard to see (-1) counts as not there.
pub fn average_performance(
    scores: &[Vec<f32>],
    targets: &[Vec<i8>],
    thr: Option<f32>,
    k: Option<usize>,
) -> Performance {
    let classes = scores.first().map_or(0, Vec::len);
    // Of each class: found and there, found and not there, there and not found.
    let (mut tp, mut fp, mut missed) = (vec![0u64; classes], vec![0u64; classes], vec![0u64; classes]);
    for (row, target) in scores.iter().zip(targets) {
        let found: Vec<bool> = match (thr, k) {
            (None, Some(k)) => {
                let mut found = vec![false; classes];
                order(row).into_iter().take(k).for_each(|i| found[i] = true);
                found
            }
            (thr, _) => row.iter().map(|v| *v >= thr.unwrap_or(0.5)).collect(),
        };
        for (class, found) in found.into_iter().enumerate() {
            match (found, target[class] == 1) {
                (true, true) => tp[class] += 1,
                (true, false) => fp[class] += 1,
                (false, true) => missed[class] += 1,
                (false, false) => {}
            }
        }
    }
    let share = |n: u64, others: u64| n as f64 / ((n + others) as f64).max(EPS);
    let mean = |others: &[u64]| tp.iter().zip(others).map(|(n, o)| share(*n, *o)).sum::<f64>() / classes as f64 * 100.0;
    let all = |counts: &[u64]| counts.iter().sum::<u64>();
    let f1 = |p: f64, r: f64| 2.0 * p * r / (p + r).max(EPS);
    let (cp, cr) = (mean(&fp), mean(&missed));
    let (op, or) = (share(all(&tp), all(&fp)) * 100.0, share(all(&tp), all(&missed)) * 100.0);
    Performance { cp, cr, cf1: f1(cp, cr), op, or, of1: f1(op, or) }
}

/// Scores (a row of classes for each image) against rows of labels, by `cfg`.
pub fn evaluate_multi_label(scores: &[Vec<f32>], targets: &[Vec<i8>], cfg: &Node) -> Result<Metrics> {
    let config: MultiLabelEvaluateConfig = cfg.parse()?;
    let metrics = config.metric.to_vec();
    if let Some(unknown) = metrics.iter().find(|m| !METRICS.contains(&m.as_str())) {
        let hint = did_you_mean(unknown, METRICS);
        let message = format!("'{unknown}' is not a metric of several classes{hint} (allowed: {})", METRICS.join(", "));
        return Err(cfg.get("metric").unwrap_or(cfg).error(message).under("metric"));
    }
    if scores.len() != targets.len() {
        return Err(Error::Run(format!("{} results for {} images", scores.len(), targets.len())));
    }
    if let Some((row, target)) = scores.iter().zip(targets).find(|(row, target)| row.len() != target.len()) {
        return Err(Error::Run(format!("{} scores for an image with {} labels", row.len(), target.len())));
    }
    let has = |name: &str| metrics.iter().any(|m| m == name);
    let mut out = Metrics::new();
    if has("mAP") {
        out.insert("mAP".into(), vec![mean_average_precision(scores, targets)]);
    }
    let options = config.metric_options.unwrap_or_default();
    let p = average_performance(scores, targets, options.thr, options.k);
    for (name, value) in [("CP", p.cp), ("CR", p.cr), ("CF1", p.cf1), ("OP", p.op), ("OR", p.or), ("OF1", p.of1)] {
        if has(name) {
            out.insert(name.into(), vec![value]);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> (Vec<Vec<f32>>, Vec<Vec<i8>>) {
        let scores = [[0.9, 0.4, 0.1], [0.2, 0.8, 0.6], [0.5, 0.5, 0.7], [0.6, 0.3, 0.3]];
        let targets = [[1, 0, -1], [0, 1, 1], [-1, 1, 0], [1, 0, 0]];
        (scores.map(|r| r.to_vec()).to_vec(), targets.map(|r| r.to_vec()).to_vec())
    }

    // p = array([[.9, .4, .1], [.2, .8, .6], [.5, .5, .7], [.6, .3, .3]]); t = array([[1, 0, -1], [0, 1, 1], [-1, 1, 0], [1, 0, 0]], int8)
    // mAP(p, t.copy()); average_performance(p, t.copy(), thr=.5); average_performance(p, t.copy(), k=1); ..., k=2)
    #[test]
    fn values_are_mmcls() {
        let (scores, targets) = data();
        assert!((mean_average_precision(&scores, &targets) - 83.33333333333334).abs() < 1e-9);
        let near = |thr: Option<f32>, k: Option<usize>, want: [f64; 6]| {
            let p = average_performance(&scores, &targets, thr, k);
            let found = [p.cp, p.cr, p.cf1, p.op, p.or, p.of1];
            assert!(found.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
        };
        let half = [72.22222222222221, 100.0, 83.87096774193547, 71.42857142857143, 100.0, 83.33333333333333];
        near(Some(0.5), None, half);
        near(None, None, half);
        near(Some(0.5), Some(1), half);
        near(None, Some(1), [66.66666666666666, 50.0, 57.14285714285714, 75.0, 60.0, 66.66666666666667]);
        near(None, Some(2), [50.0, 83.33333333333334, 62.5, 50.0, 80.0, 61.53846153846154]);
    }

    #[test]
    fn names_are_mmcls() {
        let (scores, targets) = data();
        let run = |cfg: &str| evaluate_multi_label(&scores, &targets, &Node::from_json(cfg).unwrap());
        let plain = run("{}").unwrap();
        assert_eq!(plain.keys().collect::<Vec<_>>(), ["mAP"]);
        let some = run(r#"{"metric": ["OF1", "mAP", "CP"], "metric_options": {"k": 1}}"#).unwrap();
        assert_eq!(some.keys().collect::<Vec<_>>(), ["mAP", "CP", "OF1"]);
        assert!((some["OF1"][0] - 66.66666666666667).abs() < 1e-9);
        let e = run(r#"{"metric": "map"}"#).unwrap_err();
        assert!(e.is_usage() && e.to_string().contains("did you mean 'mAP'"), "{e}");
        assert!(run(r#"{"metric": "accuracy"}"#).unwrap_err().to_string().contains("allowed: mAP, CP"));
        assert!(run(r#"{"metric_options": {"topk": 1}}"#).unwrap_err().is_usage());
    }
}
