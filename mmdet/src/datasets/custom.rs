//! The middle format: a list of images with their boxes.

use std::collections::HashSet;
use std::sync::Arc;

use mmcv::config::Node;
use mmcv::fileio::{FileClientConfig, load_as};
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::base::{Args, Base, MIN_SIZE, filter};
use super::pipelines::{ImgInfo, OneOrMany, Results, yes};
use super::{DATASETS, DatasetDefaults, DetDataset, Source};
use crate::core::{AnnInfo, AnnMask, BBox};

/// `type = "CustomDataset"` and `type = "CocoDataset"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomDatasetConfig {
    /// The annotation file.
    pub ann_file: String,
    /// The steps an image goes through.
    pub pipeline: Vec<Node>,
    /// Class names, or a file with one in each line; the format's own without it.
    #[serde(default)]
    pub classes: Option<OneOrMany<String>>,
    /// Folder that `ann_file`, the prefixes and `proposal_file` are in when they are relative.
    #[serde(default)]
    pub data_root: Option<String>,
    /// Folder of the images.
    #[serde(default = "here")]
    pub img_prefix: Option<String>,
    /// Folder of the semantic maps.
    #[serde(default)]
    pub seg_prefix: Option<String>,
    /// Ending of the semantic maps' names.
    #[serde(default = "png")]
    pub seg_suffix: String,
    /// Boxes proposed by another detector: a list (pickled, JSON) with each image's boxes of 4 or 5 numbers.
    #[serde(default)]
    pub proposal_file: Option<String>,
    /// Nothing is filtered, and annotations aren't given to the pipeline.
    #[serde(default)]
    pub test_mode: Option<bool>,
    /// Leaves out images without a box of the classes, when training. The middle format doesn't.
    #[serde(default = "yes")]
    pub filter_empty_gt: bool,
    /// Where files are read from.
    #[serde(default)]
    pub file_client_args: FileClientConfig,
}

/// No folder: file names are whole paths.
pub(super) fn here() -> Option<String> {
    Some(String::new())
}

/// The ending of semantic maps.
pub(super) fn png() -> String {
    ".png".to_owned()
}

impl CustomDatasetConfig {
    pub(super) fn args(&self, defaults: DatasetDefaults) -> Args<'_> {
        Args {
            ann_file: &self.ann_file,
            pipeline: &self.pipeline,
            classes: self.classes.as_ref(),
            data_root: self.data_root.as_deref(),
            img_prefix: self.img_prefix.as_deref(),
            seg_prefix: self.seg_prefix.as_deref(),
            proposal_file: self.proposal_file.as_deref(),
            test_mode: self.test_mode.unwrap_or(defaults.test_mode),
            file_client_args: &self.file_client_args,
        }
    }
}

#[derive(Deserialize)]
struct RawImage {
    filename: String,
    width: usize,
    height: usize,
    #[serde(default)]
    ann: Option<RawAnn>,
}

#[derive(Deserialize)]
struct RawAnn {
    bboxes: Vec<BBox>,
    labels: Vec<i64>,
    #[serde(default)]
    bboxes_ignore: Vec<BBox>,
    #[serde(default)]
    labels_ignore: Vec<i64>,
    #[serde(default)]
    masks: Vec<Vec<Vec<f64>>>,
    #[serde(default)]
    seg_map: Option<String>,
}

/// A list, in any format of [`mmcv::fileio::load`] (mmdet's tools write pickles), of `{filename, width, height, ann: {bboxes, labels, bboxes_ignore, labels_ignore, masks, seg_map}}`, boxes as
/// `[x1, y1, x2, y2]`; `ann` is not needed in test mode, its last four never.
pub struct CustomDataset {
    base: Base,
    anns: Vec<Option<Arc<AnnInfo>>>,
}

impl CustomDataset {
    /// Reads the annotations.
    pub fn new(cfg: &CustomDatasetConfig, defaults: DatasetDefaults) -> Result<Self> {
        let mut base = Base::new(&cfg.args(defaults), &[])?;
        let raw: Vec<RawImage> = load_as(&base.client, &base.ann_file)?;
        let mut names = HashSet::new();
        let (mut infos, mut anns) = (Vec::with_capacity(raw.len()), Vec::with_capacity(raw.len()));
        for (i, image) in raw.into_iter().enumerate() {
            let bad =
                |message: String| Error::data(&base.ann_file, format!("image {i} ({}): {message}", image.filename));
            if !names.insert(image.filename.clone()) {
                return Err(bad("another image has this filename".into()));
            }
            if image.ann.is_none() && !base.test_mode {
                return Err(bad("has no 'ann'".into()));
            }
            anns.push(image.ann.map(|a| parse(a, base.classes.len()).map(Arc::new)).transpose().map_err(bad)?);
            let id = image.filename.clone();
            infos.push(ImgInfo { id, filename: image.filename, width: image.width, height: image.height });
        }
        let keep = if base.test_mode {
            None
        } else {
            if cfg.filter_empty_gt {
                tracing::warn!("CustomDataset does not support filtering empty gt images.");
            }
            Some(filter(&infos, false, |_| true))
        };
        if let Some(keep) = &keep {
            anns = keep.iter().map(|i| anns[*i].clone()).collect();
        }
        base.load(infos, keep, || format!("all are smaller than {MIN_SIZE} pixels"))?;
        Ok(Self { base, anns })
    }
}

/// `classes` is 0 when the data set has no class list.
fn parse(raw: RawAnn, classes: usize) -> Result<AnnInfo, String> {
    if raw.bboxes.len() != raw.labels.len() {
        return Err(format!("{} bboxes, {} labels", raw.bboxes.len(), raw.labels.len()));
    }
    if !raw.masks.is_empty() && raw.masks.len() != raw.bboxes.len() {
        return Err(format!("{} bboxes, {} masks", raw.bboxes.len(), raw.masks.len()));
    }
    if let Some(b) = raw.bboxes.iter().position(|b| !(b[2] > b[0] && b[3] > b[1]) || b.iter().any(|v| !v.is_finite())) {
        return Err(format!("box {b} {:?} is not [x1, y1, x2, y2] with x1 < x2 and y1 < y2", raw.bboxes[b]));
    }
    if let Some(label) = raw.labels.iter().find(|l| **l < 0 || (classes > 0 && **l >= classes as i64)) {
        return Err(format!("label {label} is not one of the {classes} classes"));
    }
    Ok(AnnInfo {
        bboxes: raw.bboxes,
        labels: raw.labels,
        bboxes_ignore: raw.bboxes_ignore,
        labels_ignore: raw.labels_ignore,
        masks: raw.masks.into_iter().map(AnnMask::Polygons).collect(),
        seg_map: raw.seg_map,
    })
}

impl DetDataset for CustomDataset {
    fn len(&self) -> usize {
        self.base.infos.len()
    }
    fn classes(&self) -> &[String] {
        &self.base.classes
    }
    fn palette(&self) -> &[[u8; 3]] {
        &[]
    }
    fn img_info(&self, index: usize) -> &ImgInfo {
        &self.base.infos[index]
    }
    fn ann_info(&self, index: usize) -> Result<Arc<AnnInfo>> {
        self.anns[index].clone().ok_or_else(|| {
            Error::data(&self.base.ann_file, format!("image {} has no 'ann'", self.base.infos[index].filename))
        })
    }
    fn cat_ids(&self, index: usize) -> Result<Vec<i64>> {
        Ok(self.ann_info(index)?.labels.clone())
    }
    fn flag(&self, index: usize) -> u8 {
        self.base.flag(index)
    }
    fn fetch(&self, index: usize, rng: &mut Rng) -> Result<Results> {
        self.base.fetch(index, rng, |i| self.ann_info(i))
    }
    fn source(&self) -> Source<'_> {
        Source::Custom
    }
}

register!(DATASETS: dyn DetDataset, "CustomDataset" => CustomDataset, CustomDatasetConfig);

#[cfg(test)]
mod tests {
    use super::super::testing::{built, files, message};
    use super::*;

    const CFG: &str = r#"{"type": "CustomDataset", "ann_file": "{dir}/a.json", "classes": ["x", "y"]}"#;

    fn folder(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.json"), text).unwrap();
        dir
    }

    const GOOD: &str = r#"[{"filename": "a.jpg", "width": 64, "height": 32,
            "ann": {"bboxes": [[1, 2, 3.5, 4]], "labels": [1], "bboxes_ignore": [[0, 0, 1, 1]], "seg_map": "s.png"}},
        {"filename": "small.jpg", "width": 64, "height": 31, "ann": {"bboxes": [], "labels": []}},
        {"filename": "none.jpg", "width": 64, "height": 64, "ann": {"bboxes": [], "labels": []}}]"#;

    #[test]
    fn images_without_boxes_stay() {
        let d = built(folder(GOOD).path(), CFG, false).unwrap();
        assert_eq!(files(&*d), ["a.jpg", "none.jpg"]);
        let ann = d.ann_info(0).unwrap();
        assert_eq!((&ann.bboxes[..], &ann.labels[..]), (&[[1.0, 2.0, 3.5, 4.0]][..], &[1][..]));
        assert_eq!((ann.bboxes_ignore.len(), ann.seg_map.as_deref()), (1, Some("s.png")));
    }

    #[test]
    fn pickled_annotations_and_proposals_are_read() {
        // mmcv/src/fileio/testdata/make.py wrote them.
        let folder = format!("{}/src/datasets/testdata", env!("CARGO_MANIFEST_DIR"));
        let cfg = CFG.replace("a.json", "custom.pkl").replace(
            "\"classes\"",
            r#""proposal_file": "{dir}/proposals.pkl", "pipeline": [{"type": "LoadProposals"}], "classes""#,
        );
        let d = built(folder.as_ref(), &cfg, false).unwrap();
        assert_eq!(files(&*d), ["a.jpg", "none.jpg"]);
        let ann = d.ann_info(0).unwrap();
        assert_eq!((&ann.bboxes[..], &ann.labels[..]), (&[[1.0, 2.0, 3.5, 4.0]][..], &[1][..]));
        assert_eq!((&ann.bboxes_ignore[..], &ann.labels_ignore[..]), (&[[0.0, 0.0, 1.0, 1.0]][..], &[0][..]));
        assert!(d.ann_info(1).unwrap().bboxes.is_empty());
        let proposals = |i| d.fetch(i, &mut Rng::new(0)).unwrap().proposals.unwrap();
        assert_eq!((proposals(0), proposals(1)), (vec![[1.0, 2.0, 3.0, 4.0]], vec![[0.0; 4]]));
    }

    #[test]
    fn annotations_are_for_training_only() {
        let text = r#"[{"filename": "a.jpg", "width": 64, "height": 32}]"#;
        assert_eq!(built(folder(text).path(), CFG, true).unwrap().len(), 1);
        assert!(message(folder(text).path(), CFG, false).contains("image 0 (a.jpg): has no 'ann'"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (from, to, part) in [
            ("\"labels\": [1]", "\"labels\": [1, 0]", "image 0 (a.jpg): 1 bboxes, 2 labels"),
            ("\"labels\": [1]", "\"labels\": [2]", "label 2 is not one of the 2 classes"),
            ("[1, 2, 3.5, 4]", "[3.5, 2, 1, 4]", "box 0 [3.5, 2.0, 1.0, 4.0] is not"),
            ("[1, 2, 3.5, 4]", "[NaN, 2, 1, 4]", "box 0 [NaN, 2.0, 1.0, 4.0] is not"),
            ("[1, 2, 3.5, 4]", "[1, 2, 3.5]", "a.json: [0].ann.bboxes[0]: invalid length 3"),
            ("small.jpg", "a.jpg", "image 1 (a.jpg): another image has this filename"),
            ("\"width\": 64, \"height\": 32", "\"width\": 64", "missing field `height`"),
        ] {
            let e = message(folder(&GOOD.replace(from, to)).path(), CFG, false);
            assert!(e.contains(part), "{to}: {e}");
        }
        assert!(message(folder("[]").path(), CFG, true).contains("the data set is empty"));
    }

    #[test]
    fn dropped_images_are_replaced_by_others_of_their_flag() {
        let text = r#"[
            {"filename": "empty.jpg", "width": 64, "height": 32, "ann": {"bboxes": [], "labels": []}},
            {"filename": "tall.jpg", "width": 32, "height": 64, "ann": {"bboxes": [[1, 2, 3, 4]], "labels": [0]}},
            {"filename": "wide.jpg", "width": 64, "height": 32, "ann": {"bboxes": [[1, 2, 3, 4]], "labels": [1]}},
            {"filename": "small.jpg", "width": 64, "height": 32, "ann": {"bboxes": [[1, 2, 1.5, 4]], "labels": [1]}}]"#;
        let cfg = CFG.replace(
            "\"classes\"",
            r#""pipeline": [{"type": "LoadAnnotations"}, {"type": "FilterAnnotations"}], "classes""#,
        );
        let dir = folder(text);
        let d = built(dir.path(), &cfg, false).unwrap();
        for seed in 0..20 {
            let r = d.fetch(3, &mut Rng::new(seed)).unwrap();
            assert!(["empty.jpg", "wide.jpg"].contains(&r.img_info.filename.as_str()), "{}", r.img_info.filename);
        }
        let all = cfg.replace(r#""FilterAnnotations""#, r#""FilterAnnotations", "min_gt_bbox_wh": [9, 9]"#);
        let only = text.replace(r#"{"filename": "empty.jpg", "width": 64"#, r#"{"filename": "empty.jpg", "width": 32"#);
        let dir = folder(&only);
        let e = built(dir.path(), &all, false).unwrap().fetch(2, &mut Rng::new(0)).unwrap_err().to_string();
        assert!(e.contains("dropped 1000 images in a row"), "{e}");
        // Nothing makes a sample of it.
        let e = built(dir.path(), CFG, true).unwrap().test_samples(0).unwrap_err().to_string();
        assert!(e.contains("must end in Collect"), "{e}");
    }
}
