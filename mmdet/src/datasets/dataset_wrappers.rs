//! Data sets made of data sets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mmcv::config::Node;
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::builder::build_all;
use super::pipelines::{ImgInfo, Results, yes};
use super::{DATASETS, DatasetDefaults, DetDataset, Source, build_dataset};
use crate::core::AnnInfo;

/// The methods of a wrapper whose samples are those of another data set: `self.at(index)` is the data set and the index in it.
macro_rules! delegate {
    () => {
        fn img_info(&self, index: usize) -> &ImgInfo {
            let (dataset, i) = self.at(index);
            dataset.img_info(i)
        }
        fn ann_info(&self, index: usize) -> Result<Arc<AnnInfo>> {
            let (dataset, i) = self.at(index);
            dataset.ann_info(i)
        }
        fn cat_ids(&self, index: usize) -> Result<Vec<i64>> {
            let (dataset, i) = self.at(index);
            dataset.cat_ids(i)
        }
        fn labels_in(&self, index: usize) -> Result<Vec<i64>> {
            let (dataset, i) = self.at(index);
            dataset.labels_in(i)
        }
        fn flag(&self, index: usize) -> u8 {
            let (dataset, i) = self.at(index);
            dataset.flag(i)
        }
        fn fetch(&self, index: usize, rng: &mut Rng) -> Result<Results> {
            let (dataset, i) = self.at(index);
            dataset.fetch(i, rng)
        }
    };
}

/// `type = "ConcatDataset"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcatDatasetConfig {
    /// The parts.
    pub datasets: Vec<Node>,
    /// Evaluates each part on its own instead of all as one.
    #[serde(default = "yes")]
    pub separate_eval: bool,
}

/// Data sets one after the other. Classes and colours are those of the first.
pub struct ConcatDataset {
    parts: Vec<Box<dyn DetDataset>>,
    /// The index after each part's last.
    ends: Vec<usize>,
    separate_eval: bool,
}

impl ConcatDataset {
    /// Builds the parts.
    pub fn new(cfg: &ConcatDatasetConfig, defaults: DatasetDefaults) -> Result<Self> {
        let parts = build_all(&cfg.datasets, defaults).map_err(|e| e.under("datasets"))?;
        Self::of(parts, cfg.separate_eval)
    }

    /// Puts data sets together; an error when there are none, or when they can't be evaluated as `separate_eval` says.
    pub fn of(parts: Vec<Box<dyn DetDataset>>, separate_eval: bool) -> Result<Self> {
        let Some(first) = parts.first() else {
            return Err(Error::config("ConcatDataset: there are no data sets"));
        };
        if !separate_eval {
            if parts.iter().any(|p| matches!(p.source(), Source::Coco(_))) {
                return Err(Error::config(
                    "ConcatDataset: COCO data sets can't be evaluated as one; set separate_eval=True",
                ));
            }
            let kind = std::mem::discriminant(&first.source());
            if parts.iter().any(|p| std::mem::discriminant(&p.source()) != kind) {
                return Err(Error::config("ConcatDataset: with separate_eval=False all data sets must be of one type"));
            }
        }
        let mut end = 0;
        let ends = parts.iter().map(|p| {
            end += p.len();
            end
        });
        Ok(Self { ends: ends.collect(), parts, separate_eval })
    }

    fn at(&self, index: usize) -> (&dyn DetDataset, usize) {
        let part = self.ends.partition_point(|end| *end <= index).min(self.parts.len() - 1);
        let start = if part == 0 { 0 } else { self.ends[part - 1] };
        (&*self.parts[part], index - start)
    }
}

impl DetDataset for ConcatDataset {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }
    fn classes(&self) -> &[String] {
        self.parts[0].classes()
    }
    fn palette(&self) -> &[[u8; 3]] {
        self.parts[0].palette()
    }
    fn source(&self) -> Source<'_> {
        Source::Concat { parts: self.parts.iter().map(|p| &**p).collect(), separate_eval: self.separate_eval }
    }
    delegate!();
}

register!(DATASETS: dyn DetDataset, "ConcatDataset" => ConcatDataset, ConcatDatasetConfig);

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
    dataset: Box<dyn DetDataset>,
    times: usize,
}

impl RepeatDataset {
    /// Builds the data set; an error when `times` is 0.
    pub fn new(cfg: &RepeatDatasetConfig, defaults: DatasetDefaults) -> Result<Self> {
        if cfg.times == 0 {
            return Err(Error::config("expected at least 1").under("times"));
        }
        let dataset = build_dataset(&cfg.dataset, defaults).map_err(|e| e.under("dataset"))?;
        Ok(Self { dataset, times: cfg.times })
    }

    fn at(&self, index: usize) -> (&dyn DetDataset, usize) {
        (&*self.dataset, index % self.dataset.len())
    }
}

impl DetDataset for RepeatDataset {
    fn len(&self) -> usize {
        self.times * self.dataset.len()
    }
    fn classes(&self) -> &[String] {
        self.dataset.classes()
    }
    fn palette(&self) -> &[[u8; 3]] {
        self.dataset.palette()
    }
    fn source(&self) -> Source<'_> {
        Source::Wrapped(&*self.dataset)
    }
    delegate!();
}

register!(DATASETS: dyn DetDataset, "RepeatDataset" => RepeatDataset, RepeatDatasetConfig);

/// `type = "ClassBalancedDataset"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassBalancedDatasetConfig {
    /// What is balanced.
    pub dataset: Node,
    /// Images with a category that fewer than this fraction of the images has are repeated.
    pub oversample_thr: f64,
    /// Doesn't repeat images without objects; otherwise they count as a category of their own.
    #[serde(default = "yes")]
    pub filter_empty_gt: bool,
}

/// Repeats images with rare categories, as LVIS does (<https://arxiv.org/abs/1908.03195>): with `f` the fraction of images that
/// hold a category, an image comes `ceil(max(1, sqrt(oversample_thr / f)))` times, for its rarest category.
pub struct ClassBalancedDataset {
    dataset: Box<dyn DetDataset>,
    indices: Vec<usize>,
}

impl ClassBalancedDataset {
    /// Builds the data set and counts its categories.
    pub fn new(cfg: &ClassBalancedDatasetConfig, defaults: DatasetDefaults) -> Result<Self> {
        let dataset = build_dataset(&cfg.dataset, defaults).map_err(|e| e.under("dataset"))?;
        let n = dataset.len();
        let mut cats = Vec::with_capacity(n);
        for i in 0..n {
            let mut set: BTreeSet<i64> = dataset.cat_ids(i)?.into_iter().collect();
            if set.is_empty() && !cfg.filter_empty_gt {
                set.insert(dataset.classes().len() as i64);
            }
            cats.push(set);
        }
        let indices = repeats(&cats, cfg.oversample_thr);
        Ok(Self { dataset, indices })
    }

    fn at(&self, index: usize) -> (&dyn DetDataset, usize) {
        (&*self.dataset, self.indices[index])
    }
}

/// Each image's index, as often as its categories ask for.
fn repeats(cats: &[BTreeSet<i64>], threshold: f64) -> Vec<usize> {
    let mut images_with: BTreeMap<i64, usize> = BTreeMap::new();
    cats.iter().flatten().for_each(|c| *images_with.entry(*c).or_default() += 1);
    let factor = |c: &i64| (threshold / (images_with[c] as f64 / cats.len() as f64)).sqrt().max(1.0);
    let times = |set: &BTreeSet<i64>| set.iter().map(factor).fold(1.0, f64::max).ceil() as usize;
    cats.iter().enumerate().flat_map(|(i, set)| std::iter::repeat_n(i, times(set))).collect()
}

impl DetDataset for ClassBalancedDataset {
    fn len(&self) -> usize {
        self.indices.len()
    }
    fn classes(&self) -> &[String] {
        self.dataset.classes()
    }
    fn palette(&self) -> &[[u8; 3]] {
        self.dataset.palette()
    }
    fn source(&self) -> Source<'_> {
        Source::Wrapped(&*self.dataset)
    }
    delegate!();
}

register!(DATASETS: dyn DetDataset, "ClassBalancedDataset" => ClassBalancedDataset, ClassBalancedDatasetConfig);

#[cfg(test)]
mod tests {
    use super::super::testing::{built, files, message};
    use super::*;
    use std::path::Path;

    fn write(dir: &Path, name: &str, labels: &[&[i64]]) {
        let images: Vec<_> = labels
            .iter()
            .enumerate()
            .map(|(i, labels)| {
                let boxes: Vec<_> = labels.iter().map(|_| [0, 0, 9, 9]).collect();
                let wide = if i % 2 == 0 { 64 } else { 40 };
                serde_json::json!({"filename": format!("{name}{i}"), "width": wide, "height": 50,
                    "ann": {"bboxes": boxes, "labels": labels}})
            })
            .collect();
        std::fs::write(dir.join(format!("{name}.json")), serde_json::Value::from(images).to_string()).unwrap();
    }

    const A: &str = r#"{"type": "CustomDataset", "ann_file": "{dir}/a.json", "pipeline": [], "classes": ["x", "y"]}"#;
    const B: &str = r#"{"type": "CustomDataset", "ann_file": "{dir}/b.json", "pipeline": [], "classes": ["x", "y"]}"#;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", &[&[0, 1], &[1]]);
        write(dir.path(), "b", &[&[0], &[], &[1]]);
        dir
    }

    #[test]
    fn parts_come_one_after_the_other() {
        let dir = folder();
        let list = A.replace("\"{dir}/a.json\"", r#"["{dir}/a.json", "{dir}/b.json"]"#);
        for json in [
            format!(r#"{{"type": "ConcatDataset", "datasets": [{A}, {B}], "separate_eval": false}}"#),
            list.replace("\"pipeline\"", "\"separate_eval\": false, \"img_prefix\": [\"p\", \"q\"], \"pipeline\""),
        ] {
            let d = built(dir.path(), &json, false).unwrap();
            assert_eq!(files(&*d), ["a0", "a1", "b0", "b1", "b2"]);
            assert_eq!((0..5).map(|i| d.flag(i)).collect::<Vec<_>>(), [1, 0, 1, 0, 1]);
            assert_eq!((d.cat_ids(4).unwrap(), d.classes()), (vec![1], &["x".to_owned(), "y".into()][..]));
            assert!(matches!(d.source(), Source::Concat { separate_eval: false, ref parts } if parts.len() == 2));
        }
        let d = built(dir.path(), &list.replace("\"pipeline\"", "\"img_prefix\": [\"p\", \"q\"], \"pipeline\""), false)
            .unwrap();
        assert_eq!(d.fetch(4, &mut Rng::new(0)).unwrap().img_prefix.as_deref(), Some("q"));
        let e = message(dir.path(), &list.replace("\"pipeline\"", "\"img_prefix\": [\"p\"], \"pipeline\""), false);
        assert!(e.contains("img_prefix: has 1 entries"), "{e}");
        let e = message(
            dir.path(),
            &format!(r#"{{"type": "ConcatDataset", "datasets": [{A}, {{"type": "Coco"}}]}}"#),
            false,
        );
        assert!(
            e.contains("datasets.1.type: 'Coco' is not in the DATASETS registry; did you mean 'CocoDataset'"),
            "{e}"
        );
        assert!(message(dir.path(), r#"{"type": "ConcatDataset", "datasets": []}"#, false).contains("no data sets"));
    }

    #[test]
    fn repeating_goes_round() {
        let dir = folder();
        let d =
            built(dir.path(), &format!(r#"{{"type": "RepeatDataset", "times": 3, "dataset": {A}}}"#), false).unwrap();
        assert_eq!(files(&*d), ["a0", "a1", "a0", "a1", "a0", "a1"]);
        assert_eq!((d.flag(2), d.flag(5)), (1, 0));
        let e = message(dir.path(), &format!(r#"{{"type": "RepeatDataset", "times": 0, "dataset": {A}}}"#), false);
        assert!(e.contains("times: expected at least 1"), "{e}");
    }

    #[test]
    fn rare_classes_are_repeated_as_in_mmdet() {
        // ClassBalancedDataset(d, 0.9, ...).repeat_indices where three of four images have class 0, one has 1, one none:
        // r(0) = sqrt(0.9 / 0.75) -> 2, r(1) = r(none) = sqrt(0.9 / 0.25) = 1.897 -> 2
        let set = |v: &[i64]| v.iter().copied().collect::<BTreeSet<i64>>();
        assert_eq!(repeats(&[set(&[0]), set(&[0, 1]), set(&[0]), set(&[])], 0.9), [0, 0, 1, 1, 2, 2, 3]);
        assert_eq!(repeats(&[set(&[0]), set(&[0, 1]), set(&[0]), set(&[2])], 0.1), [0, 1, 2, 3]);
        assert_eq!(repeats(&[set(&[0]), set(&[1]), set(&[0]), set(&[0])], 2.5), [0, 0, 1, 1, 1, 1, 2, 2, 3, 3]);
        let dir = folder();
        let json =
            |more: &str| format!(r#"{{"type": "ClassBalancedDataset", "oversample_thr": 0.5{more}, "dataset": {B}}}"#);
        // f(0) = f(1) = f(none) = 1/3: sqrt(1.5) -> 2
        assert_eq!(files(&*built(dir.path(), &json(""), false).unwrap()), ["b0", "b0", "b1", "b2", "b2"]);
        let d = built(dir.path(), &json(r#", "filter_empty_gt": false"#), false).unwrap();
        assert_eq!(files(&*d), ["b0", "b0", "b1", "b1", "b2", "b2"]);
        assert_eq!((0..6).map(|i| d.flag(i)).collect::<Vec<_>>(), [1, 1, 0, 0, 1, 1]);
    }

    #[test]
    fn mixing_runs_its_own_steps_after_the_inner_ones() {
        let dir = folder();
        let json = format!(
            r#"{{"type": "MultiImageMixDataset", "dataset": {}, "skip_type_keys": ["Pad"],
                "pipeline": [{{"type": "FilterAnnotations"}}, {{"type": "Pad", "size_divisor": 2}}]}}"#,
            A.replace("[]", r#"[{"type": "LoadAnnotations"}]"#)
        );
        let d = built(dir.path(), &json, false).unwrap();
        assert_eq!(d.fetch(1, &mut Rng::new(0)).unwrap().gt_labels, Some(vec![1]));
        let drops = json.replace(
            r#"{"type": "FilterAnnotations"}"#,
            r#"{"type": "FilterAnnotations", "min_gt_bbox_wh": [99, 99]}"#,
        );
        let e = built(dir.path(), &drops, false).unwrap().fetch(1, &mut Rng::new(0)).unwrap_err().to_string();
        assert!(e.contains("a1: FilterAnnotations dropped the sample 15 times"), "{e}");
    }
}
