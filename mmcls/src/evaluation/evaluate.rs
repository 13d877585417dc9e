//! What a config's `evaluation` asks for, of the scores of a data set; mmcls's `BaseDataset.evaluate`.

use indexmap::IndexMap;
use mmcv::config::{Node, OneOrMany};
use mmcv::error::did_you_mean;
use mmcv::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{accuracy, evaluate_multi_label, precision_recall_f1, support};
use crate::datasets::{ClsDataset, Evaluation, Label};

/// Metrics by name: a number, or one for each class with `average_mode = "none"`.
pub type Metrics = IndexMap<String, Vec<f64>>;

const METRICS: [&str; 5] = ["accuracy", "precision", "recall", "f1_score", "support"];

/// `evaluation` without what says when: `metric` and its options.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateConfig {
    /// `accuracy`, `precision`, `recall`, `f1_score`, `support`, or several; default `accuracy`.
    #[serde(default = "plain")]
    pub metric: OneOrMany<String>,
    /// How they are computed.
    #[serde(default)]
    pub metric_options: MetricOptions,
}

/// `metric_options`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricOptions {
    /// An image is right when its class is among the best so many; default 1 and 5.
    #[serde(default)]
    pub topk: Option<OneOrMany<usize>>,
    /// A score must be above to count; default 0.
    #[serde(default)]
    pub thrs: Option<OneOrMany<f32>>,
    /// `macro` (the mean over classes) or `none` (each class); default `macro`.
    #[serde(default)]
    pub average_mode: AverageMode,
}

/// How the classes' numbers become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AverageMode {
    /// Their mean.
    #[default]
    Macro,
    /// They stay apart.
    None,
}

fn plain() -> OneOrMany<String> {
    OneOrMany::One("accuracy".into())
}

/// Scores (a row of classes for each image of `dataset`) against its labels, by `cfg`.
pub fn evaluate_dataset(scores: &[Vec<f32>], dataset: &dyn ClsDataset, cfg: &Node) -> Result<Metrics> {
    evaluate_as(&dataset.evaluation(), scores, &dataset.gt_labels(), cfg)
}

fn evaluate_as(how: &Evaluation, scores: &[Vec<f32>], labels: &[Label], cfg: &Node) -> Result<Metrics> {
    let parts = match how {
        Evaluation::Whole => return evaluate(scores, labels, cfg),
        Evaluation::Refused(why) => return Err(Error::config(*why)),
        Evaluation::Parts(parts) => parts,
    };
    let total: usize = parts.iter().map(|(len, _)| len).sum();
    if scores.len() != total || labels.len() != total {
        return Err(Error::Run(format!("{} results for {total} images", scores.len())));
    }
    let (mut out, mut start) = (Metrics::new(), 0);
    for (i, (len, how)) in parts.iter().enumerate() {
        let part = start..start + len;
        start = part.end;
        let found = evaluate_as(how, &scores[part.clone()], &labels[part], cfg)?;
        out.extend(found.into_iter().map(|(name, value)| (format!("{i}_{name}"), value)));
    }
    Ok(out)
}

/// Scores (a row of classes for each image) against labels, by `cfg`. Labels of several classes have metrics of their own.
pub fn evaluate(scores: &[Vec<f32>], labels: &[Label], cfg: &Node) -> Result<Metrics> {
    let (mut single, mut several) = (Vec::new(), Vec::new());
    for label in labels {
        match label {
            Label::Class(class) => single.push(*class),
            Label::Classes(row) => several.push(row.clone()),
        }
    }
    match (single.is_empty(), several.is_empty()) {
        (_, true) => evaluate_single_label(scores, &single, cfg),
        (true, false) => evaluate_multi_label(scores, &several, cfg),
        (false, false) => Err(Error::Run("some images have a class, others rows of classes".into())),
    }
}

fn evaluate_single_label(scores: &[Vec<f32>], labels: &[i64], cfg: &Node) -> Result<Metrics> {
    let config: EvaluateConfig = cfg.parse()?;
    let metrics = config.metric.to_vec();
    if let Some(unknown) = metrics.iter().find(|m| !METRICS.contains(&m.as_str())) {
        let hint = did_you_mean(unknown, METRICS);
        let message = format!("'{unknown}' is not a metric{hint} (allowed: {})", METRICS.join(", "));
        return Err(cfg.get("metric").unwrap_or(cfg).error(message).under("metric"));
    }
    if scores.len() != labels.len() {
        return Err(Error::Run(format!("{} results for {} images", scores.len(), labels.len())));
    }
    let options = &config.metric_options;
    let has = |name: &str| metrics.iter().any(|m| m == name);
    let (thrs, single) = match &options.thrs {
        None => (vec![0.0], true),
        Some(OneOrMany::One(thr)) => (vec![*thr], true),
        Some(OneOrMany::Many(thrs)) => (thrs.clone(), false),
    };
    let named = |name: &str, thr: f32| if single { name.to_owned() } else { format!("{name}_thr_{thr:.2}") };
    let mut out = Metrics::new();
    if has("accuracy") {
        let (topk, names): (Vec<usize>, Vec<String>) = match &options.topk {
            Some(OneOrMany::One(k)) => (vec![*k], vec!["accuracy".into()]),
            topk => {
                let topk = topk.as_ref().map_or_else(|| vec![1, 5], OneOrMany::to_vec);
                let names = topk.iter().map(|k| format!("accuracy_top-{k}")).collect();
                (topk, names)
            }
        };
        let classes = scores.first().map_or(0, Vec::len);
        if let Some(k) = topk.iter().find(|k| **k == 0 || (**k > classes && classes > 0)) {
            let message = format!("topk {k}: expected 1 to {classes}, the number of classes");
            return Err(cfg.get("metric_options").unwrap_or(cfg).error(message).under("metric_options"));
        }
        let values: Vec<Vec<f64>> = thrs.iter().map(|t| accuracy(scores, labels, &topk, Some(*t))).collect();
        for (i, name) in names.iter().enumerate() {
            for (thr, value) in thrs.iter().zip(&values) {
                out.insert(named(name, *thr), vec![value[i]]);
            }
        }
    }
    let average = |values: Vec<f64>| match options.average_mode {
        AverageMode::Macro => vec![values.iter().sum::<f64>() / values.len().max(1) as f64],
        AverageMode::None => values,
    };
    if has("support") {
        let counts: Vec<f64> =
            support(labels, scores.first().map_or(0, Vec::len)).into_iter().map(|n| n as f64).collect();
        let value = match options.average_mode {
            AverageMode::Macro => vec![counts.iter().sum()],
            AverageMode::None => counts,
        };
        out.insert("support".into(), value);
    }
    for (thr, all) in thrs.iter().map(|t| (t, precision_recall_f1(scores, labels, Some(*t)))) {
        for (name, values) in [("precision", all.precision), ("recall", all.recall), ("f1_score", all.f1_score)] {
            if has(name) {
                out.insert(named(name, *thr), average(values));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(cfg: &str) -> Result<Metrics> {
        let scores = [vec![0.1, 0.6, 0.3], vec![0.5, 0.3, 0.2], vec![0.2, 0.2, 0.6], vec![0.4, 0.35, 0.25]];
        evaluate(&scores, &[1, 0, 0, 2].map(Label::Class), &Node::from_json(cfg).unwrap())
    }

    #[test]
    fn names_and_numbers_are_mmcls() {
        let found = metrics(r#"{"metric_options": {"topk": [1, 2]}}"#).unwrap();
        assert_eq!(found["accuracy_top-1"], [50.0]);
        assert_eq!(found.len(), 2);
        let one = metrics(r#"{"metric": "accuracy", "metric_options": {"topk": 1, "thrs": [0.0, 0.45]}}"#).unwrap();
        assert_eq!((one["accuracy_thr_0.00"][0], one["accuracy_thr_0.45"][0]), (50.0, 50.0));
        let all = metrics(r#"{"metric": ["precision", "recall", "f1_score", "support"]}"#).unwrap();
        assert_eq!((all["precision"][0], all["support"][0]), (50.0, 4.0));
        let each = metrics(r#"{"metric": "recall", "metric_options": {"average_mode": "none"}}"#).unwrap();
        assert_eq!(each["recall"], [50.0, 100.0, 0.0]);
    }

    #[test]
    fn rows_of_labels_have_their_own_metrics() {
        let rows = [[1, 0, 0], [0, 1, 1]].map(|r| Label::Classes(r.to_vec()));
        let scores = [vec![0.9, 0.4, 0.1], vec![0.2, 0.8, 0.6]];
        let found = evaluate(&scores, &rows, &Node::from_json("{}").unwrap()).unwrap();
        assert_eq!(found["mAP"], [100.0]);
        let mixed = [Label::Class(0), rows[0].clone()];
        assert!(evaluate(&scores, &mixed, &Node::from_json("{}").unwrap()).is_err());
    }

    #[test]
    fn parts_are_evaluated_by_themselves() {
        let scores = [vec![0.9, 0.1], vec![0.2, 0.8], vec![0.7, 0.3]];
        let labels = [0, 1, 1].map(Label::Class);
        let how = Evaluation::Parts(vec![(2, Evaluation::Whole), (1, Evaluation::Whole)]);
        let cfg = Node::from_json(r#"{"metric_options": {"topk": [1]}}"#).unwrap();
        let found = evaluate_as(&how, &scores, &labels, &cfg).unwrap();
        assert_eq!((found["0_accuracy_top-1"][0], found["1_accuracy_top-1"][0]), (100.0, 0.0));
        assert!(evaluate_as(&how, &scores[..2], &labels[..2], &cfg).is_err());
        assert!(evaluate_as(&Evaluation::Refused("why"), &scores, &labels, &cfg).unwrap_err().is_usage());
    }

    #[test]
    fn mistakes_are_named() {
        let e = metrics(r#"{"metric": "acuracy"}"#).unwrap_err();
        assert!(e.is_usage() && e.to_string().contains("did you mean 'accuracy'"), "{e}");
        let e = metrics("{}").unwrap_err().to_string();
        assert!(e.contains("topk 5: expected 1 to 3"), "{e}");
        assert!(metrics(r#"{"metrics": "accuracy"}"#).is_err());
    }
}
