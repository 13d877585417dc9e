//! Data sets made of data sets; mmcls's `dataset_wrappers.py`.

use std::collections::{BTreeMap, BTreeSet};

use mmcv::config::Node;
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{ClsDataset, ClsSample, DATASETS, DatasetDefaults, Evaluation, Label, build_dataset};

fn yes() -> bool {
    true
}

/// The methods of a wrapper whose samples are those of another data set: `self.at(index)` is the data set and the index in it.
macro_rules! wrapped {
    () => {
        fn gt_label(&self, index: usize) -> Label {
            let (dataset, i) = self.at(index);
            dataset.gt_label(i)
        }
        fn name(&self, index: usize) -> String {
            let (dataset, i) = self.at(index);
            dataset.name(i)
        }
        fn sample(&self, index: usize, rng: &mut Rng) -> Result<ClsSample> {
            let (dataset, i) = self.at(index);
            dataset.sample(i, rng)
        }
    };
}

/// `type = "ConcatDataset"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcatDatasetConfig {
    /// The parts.
    pub datasets: Vec<Node>,
    /// Evaluates each part on its own (`0_accuracy_top-1`, ...) in place of all as one; default true.
    #[serde(default = "yes")]
    pub separate_eval: bool,
}

/// Data sets one after the other, with the classes of the first.
pub struct ConcatDataset {
    parts: Vec<Box<dyn ClsDataset>>,
    /// The index after each part's last.
    ends: Vec<usize>,
    separate_eval: bool,
}

impl ConcatDataset {
    /// Builds the parts.
    pub fn new(cfg: &ConcatDatasetConfig, defaults: DatasetDefaults) -> Result<Self> {
        let first = cfg.datasets.first().and_then(Node::type_name);
        if !cfg.separate_eval && cfg.datasets.iter().any(|node| node.type_name() != first) {
            let message = "is false: the data sets must all be of one type then";
            return Err(Error::config(message).under("separate_eval"));
        }
        Self::of(&cfg.datasets, cfg.separate_eval, defaults).map_err(|e| e.under("datasets"))
    }

    /// Builds each of a list; an error when there is none.
    pub fn of(nodes: &[Node], separate_eval: bool, defaults: DatasetDefaults) -> Result<Self> {
        if nodes.is_empty() {
            return Err(Error::config("is empty, expected data sets"));
        }
        let one = |(i, node): (usize, &Node)| build_dataset(node, defaults).map_err(|e| e.under(&i.to_string()));
        let parts = nodes.iter().enumerate().map(one).collect::<Result<Vec<_>>>()?;
        let mut end = 0;
        let mut ends = Vec::with_capacity(parts.len());
        for part in &parts {
            end += part.len();
            ends.push(end);
        }
        Ok(Self { parts, ends, separate_eval })
    }

    fn at(&self, index: usize) -> (&dyn ClsDataset, usize) {
        let part = self.ends.partition_point(|end| *end <= index).min(self.parts.len() - 1);
        let start = if part == 0 { 0 } else { self.ends[part - 1] };
        (&*self.parts[part], index - start)
    }
}

impl ClsDataset for ConcatDataset {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }
    fn classes(&self) -> &[String] {
        self.parts[0].classes()
    }
    fn evaluation(&self) -> Evaluation {
        let parts: Vec<(usize, Evaluation)> = self.parts.iter().map(|p| (p.len(), p.evaluation())).collect();
        if self.separate_eval {
            return Evaluation::Parts(parts);
        }
        match parts.into_iter().find(|(_, how)| *how != Evaluation::Whole) {
            None => Evaluation::Whole,
            Some(_) => Evaluation::Refused("data sets of data sets can't be evaluated as one: set separate_eval"),
        }
    }
    wrapped!();
}

register!(DATASETS: dyn ClsDataset, "ConcatDataset" => ConcatDataset, ConcatDatasetConfig);

/// `type = "RepeatDataset"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepeatDatasetConfig {
    /// What is repeated.
    pub dataset: Node,
    /// How often.
    pub times: usize,
}

/// A data set several times over, to make epochs longer.
pub struct RepeatDataset {
    dataset: Box<dyn ClsDataset>,
    times: usize,
}

impl RepeatDataset {
    /// Builds the data set; an error when `times` is 0.
    pub fn new(cfg: &RepeatDatasetConfig, defaults: DatasetDefaults) -> Result<Self> {
        if cfg.times == 0 {
            return Err(Error::config("is 0, expected at least 1").under("times"));
        }
        let dataset = build_dataset(&cfg.dataset, defaults).map_err(|e| e.under("dataset"))?;
        Ok(Self { dataset, times: cfg.times })
    }

    fn at(&self, index: usize) -> (&dyn ClsDataset, usize) {
        (&*self.dataset, index % self.dataset.len())
    }
}

impl ClsDataset for RepeatDataset {
    fn len(&self) -> usize {
        self.times * self.dataset.len()
    }
    fn classes(&self) -> &[String] {
        self.dataset.classes()
    }
    fn evaluation(&self) -> Evaluation {
        Evaluation::Refused("a RepeatDataset can't be evaluated: evaluate the data set in it")
    }
    wrapped!();
}

register!(DATASETS: dyn ClsDataset, "RepeatDataset" => RepeatDataset, RepeatDatasetConfig);

/// `type = "ClassBalancedDataset"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassBalancedDatasetConfig {
    /// What is balanced.
    pub dataset: Node,
    /// Images of a class that fewer than this fraction of the images are of are repeated.
    pub oversample_thr: f64,
}

/// Repeats images of rare classes (<https://arxiv.org/abs/1908.03195>): with `f` the fraction of images that are of a class,
/// an image comes `ceil(max(1, sqrt(oversample_thr / f)))` times, for its rarest class.
pub struct ClassBalancedDataset {
    dataset: Box<dyn ClsDataset>,
    indices: Vec<usize>,
}

impl ClassBalancedDataset {
    /// Builds the data set and counts its classes; an error for an image without any.
    pub fn new(cfg: &ClassBalancedDatasetConfig, defaults: DatasetDefaults) -> Result<Self> {
        let dataset = build_dataset(&cfg.dataset, defaults).map_err(|e| e.under("dataset"))?;
        let images: Vec<BTreeSet<i64>> =
            dataset.gt_labels().iter().map(|label| label.cat_ids().into_iter().collect()).collect();
        if let Some(i) = images.iter().position(BTreeSet::is_empty) {
            let message = "is of no class: a ClassBalancedDataset can't weigh it";
            return Err(Error::data(dataset.name(i), message));
        }
        let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
        images.iter().flatten().for_each(|class| *counts.entry(*class).or_default() += 1);
        let times = |class: &i64| {
            let fraction = counts[class] as f64 / images.len() as f64;
            (cfg.oversample_thr / fraction).sqrt().max(1.0)
        };
        let mut indices = Vec::with_capacity(images.len());
        for (i, classes) in images.iter().enumerate() {
            let most = classes.iter().map(times).fold(1.0, f64::max);
            indices.extend(std::iter::repeat_n(i, most.ceil() as usize));
        }
        Ok(Self { dataset, indices })
    }

    fn at(&self, index: usize) -> (&dyn ClsDataset, usize) {
        (&*self.dataset, self.indices[index])
    }
}

impl ClsDataset for ClassBalancedDataset {
    fn len(&self) -> usize {
        self.indices.len()
    }
    fn classes(&self) -> &[String] {
        self.dataset.classes()
    }
    fn evaluation(&self) -> Evaluation {
        Evaluation::Refused("a ClassBalancedDataset can't be evaluated: evaluate the data set in it")
    }
    wrapped!();
}

register!(DATASETS: dyn ClsDataset, "ClassBalancedDataset" => ClassBalancedDataset, ClassBalancedDatasetConfig);

/// `type = "KFoldDataset"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KFoldDatasetConfig {
    /// What is divided.
    pub dataset: Node,
    /// The fold that is kept for testing; default 0.
    #[serde(default)]
    pub fold: usize,
    /// Number of folds; default 5.
    #[serde(default = "five")]
    pub num_splits: usize,
    /// The fold in place of all others; default false for `data.train`.
    #[serde(default)]
    pub test_mode: Option<bool>,
    /// Mixes the images before they are divided (in another order than numpy's); default null, which doesn't.
    #[serde(default)]
    pub seed: Option<u64>,
}

fn five() -> usize {
    5
}

/// One of several parts of a data set, or all others.
pub struct KFoldDataset {
    dataset: Box<dyn ClsDataset>,
    indices: Vec<usize>,
}

impl KFoldDataset {
    /// Builds the data set; an error for a fold that there isn't.
    pub fn new(cfg: &KFoldDatasetConfig, defaults: DatasetDefaults) -> Result<Self> {
        if cfg.fold >= cfg.num_splits {
            let message = format!("is {}, expected less than num_splits, which is {}", cfg.fold, cfg.num_splits);
            return Err(Error::config(message).under("fold"));
        }
        // The default is for the wrapper, not for what is in it.
        let inner = if cfg.test_mode.is_some() { defaults } else { DatasetDefaults::default() };
        let dataset = build_dataset(&cfg.dataset, inner).map_err(|e| e.under("dataset"))?;
        let n = dataset.len();
        let mut indices: Vec<usize> = (0..n).collect();
        if let Some(seed) = cfg.seed {
            Rng::named(seed, "KFoldDataset").shuffle(&mut indices);
        }
        let (start, end) = (n * cfg.fold / cfg.num_splits, n * (cfg.fold + 1) / cfg.num_splits);
        let indices = if cfg.test_mode.unwrap_or(defaults.test_mode) {
            indices[start..end].to_vec()
        } else {
            [&indices[..start], &indices[end..]].concat()
        };
        Ok(Self { dataset, indices })
    }

    fn at(&self, index: usize) -> (&dyn ClsDataset, usize) {
        (&*self.dataset, self.indices[index])
    }
}

impl ClsDataset for KFoldDataset {
    fn len(&self) -> usize {
        self.indices.len()
    }
    fn classes(&self) -> &[String] {
        self.dataset.classes()
    }
    fn evaluation(&self) -> Evaluation {
        match self.dataset.evaluation() {
            Evaluation::Parts(_) => Evaluation::Refused("a fold of a ConcatDataset can't be evaluated by its parts"),
            how => how,
        }
    }
    wrapped!();
}

register!(DATASETS: dyn ClsDataset, "KFoldDataset" => KFoldDataset, KFoldDatasetConfig);

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with four images of the first class and one of the second.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in ["a/0.jpg", "a/1.jpg", "a/2.jpg", "a/3.jpg", "b/4.jpg"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        dir
    }

    fn made(json: &str, test_mode: bool) -> Result<Box<dyn ClsDataset>> {
        let dir = folder();
        let inner = format!(r#"{{"type": "CustomDataset", "data_prefix": "{}"}}"#, dir.path().display());
        build_dataset(&Node::from_json(&json.replace("INNER", &inner))?, DatasetDefaults { test_mode })
    }

    fn names(dataset: &dyn ClsDataset) -> Vec<String> {
        (0..dataset.len()).map(|i| dataset.name(i)).collect()
    }

    #[test]
    fn parts_come_one_after_the_other() {
        let concat = made(r#"{"type": "ConcatDataset", "datasets": [INNER, INNER]}"#, false).unwrap();
        let once = ["a/0.jpg", "a/1.jpg", "a/2.jpg", "a/3.jpg", "b/4.jpg"];
        assert_eq!(names(&*concat), [once, once].concat());
        assert_eq!(concat.gt_labels(), [0, 0, 0, 0, 1, 0, 0, 0, 0, 1].map(Label::Class));
        assert_eq!(concat.evaluation(), Evaluation::Parts(vec![(5, Evaluation::Whole), (5, Evaluation::Whole)]));
        let list = made("[INNER, INNER]", false).unwrap();
        assert_eq!(names(&*list), names(&*concat));
        let one = made(r#"{"type": "ConcatDataset", "datasets": [INNER], "separate_eval": false}"#, false).unwrap();
        assert_eq!(one.evaluation(), Evaluation::Whole);
        let repeat = made(r#"{"type": "RepeatDataset", "dataset": INNER, "times": 2}"#, false).unwrap();
        assert_eq!(names(&*repeat), names(&*concat));
        assert!(matches!(repeat.evaluation(), Evaluation::Refused(_)));
    }

    // f(a) = .8, f(b) = .2; with oversample_thr .5 r(b) = sqrt(2.5) = 1.58, so the last image comes twice; with 2 r(a) = 1.58 too
    #[test]
    fn rare_classes_come_more_often() {
        let balanced = |thr: &str| {
            let json = format!(r#"{{"type": "ClassBalancedDataset", "dataset": INNER, "oversample_thr": {thr}}}"#);
            made(&json, false).unwrap()
        };
        let some = balanced("0.5");
        assert_eq!(some.gt_labels(), [0, 0, 0, 0, 1, 1].map(Label::Class));
        assert_eq!(balanced("2").len(), 8 + 4);
        assert_eq!(balanced("0.1").len(), 5);
    }

    // KFoldDataset(dataset, fold=1, num_splits=3, test_mode=...).indices: [1, 2]; [0, 3, 4]
    #[test]
    fn folds_are_mmcls() {
        let json = r#"{"type": "KFoldDataset", "dataset": INNER, "fold": 1, "num_splits": 3}"#;
        assert_eq!(names(&*made(json, true).unwrap()), ["a/1.jpg", "a/2.jpg"]);
        assert_eq!(names(&*made(json, false).unwrap()), ["a/0.jpg", "a/3.jpg", "b/4.jpg"]);
        let mixed = |test_mode: bool| {
            let json = r#"{"type": "KFoldDataset", "dataset": INNER, "fold": 1, "num_splits": 3, "seed": 4}"#;
            names(&*made(json, test_mode).unwrap())
        };
        let mut all = [mixed(true), mixed(false)].concat();
        all.sort();
        assert_eq!(all, ["a/0.jpg", "a/1.jpg", "a/2.jpg", "a/3.jpg", "b/4.jpg"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (json, words) in [
            (r#"{"type": "ConcatDataset", "datasets": []}"#, "datasets: is empty"),
            (r#"{"type": "RepeatDataset", "dataset": INNER, "times": 0}"#, "times"),
            (r#"{"type": "KFoldDataset", "dataset": INNER, "fold": 5}"#, "fold"),
            (r#"{"type": "ConcatDataset", "datasets": [INNER, {"type": "Custom"}]}"#, "datasets.1"),
        ] {
            let e = made(json, false).err().unwrap();
            assert!(e.is_usage() && e.to_string().contains(words), "{e}");
        }
    }
}
