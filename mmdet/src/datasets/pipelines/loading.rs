//! Reading images and annotations.

use std::sync::Arc;

use mmcv::fileio::{FileClient, FileClientConfig};
use mmcv::image::{ChannelOrder, ColorFlag, imfrombytes_of};
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::{ensure, yes};
use super::results::BoxField;
use super::{InstanceMasks, PIPELINES, Picture, Results, Transform};
use crate::core::{AnnInfo, BBox};

/// `type = "LoadImageFromFile"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadImageFromFileConfig {
    /// Gives f32 values instead of bytes.
    #[serde(default)]
    pub to_float32: bool,
    /// What to make of the file's channels.
    #[serde(default)]
    pub color_type: ColorFlag,
    /// Order of colour channels.
    #[serde(default)]
    pub channel_order: ChannelOrder,
    /// Where files are read from.
    #[serde(default)]
    pub file_client_args: FileClientConfig,
}

/// Reads `img_prefix/filename`. Sets the image, its names and shapes.
pub struct LoadImageFromFile {
    cfg: LoadImageFromFileConfig,
    client: FileClient,
}

impl LoadImageFromFile {
    /// Opens the file client.
    pub fn new(cfg: &LoadImageFromFileConfig) -> Result<Self> {
        Ok(Self { cfg: cfg.clone(), client: FileClient::new(&cfg.file_client_args)? })
    }
}

/// `prefix/name` as Python's `os.path.join` has it.
pub(crate) fn join(prefix: Option<&str>, name: &str) -> String {
    match prefix {
        Some(prefix) if !prefix.is_empty() && !name.starts_with('/') => {
            format!("{prefix}{}{name}", if prefix.ends_with('/') { "" } else { "/" })
        }
        _ => name.to_owned(),
    }
}

fn start(mut results: Results, picture: Picture) -> Results {
    let shape = picture.shape();
    results.img = Some(picture);
    results.img_shape = Some(shape);
    results.ori_shape = Some(shape);
    results
}

impl Transform for LoadImageFromFile {
    fn apply(&self, mut results: Results, _: &mut Rng) -> Result<Option<Results>> {
        let filename = join(results.img_prefix.as_deref(), &results.img_info.filename);
        let bytes = self.client.get(&filename)?;
        let image = imfrombytes_of(&filename, &bytes, self.cfg.color_type, self.cfg.channel_order, None)?;
        let image = if self.cfg.to_float32 { image.into_f32() } else { image };
        results.ori_filename = Some(results.img_info.filename.clone());
        results.filename = Some(filename);
        Ok(Some(start(results, Picture::new(image))))
    }
}

register!(PIPELINES: dyn Transform, "LoadImageFromFile" => LoadImageFromFile(LoadImageFromFileConfig));

/// Takes an image that is in the results already ([`Results::from_image`]).
pub struct LoadImageFromWebcam(LoadImageFromFileConfig);

impl LoadImageFromWebcam {
    /// Nothing can go wrong.
    pub fn new(cfg: &LoadImageFromFileConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

impl Transform for LoadImageFromWebcam {
    fn apply(&self, mut results: Results, _: &mut Rng) -> Result<Option<Results>> {
        let image = results.take_image("LoadImageFromWebcam")?;
        let image = if self.0.to_float32 { image.into_f32() } else { image };
        // mmdet sets both names to None; here they are empty.
        results.filename = Some(String::new());
        results.ori_filename = Some(String::new());
        Ok(Some(start(results, Picture::new(image))))
    }
}

register!(PIPELINES: dyn Transform, "LoadImageFromWebcam" => LoadImageFromWebcam(LoadImageFromFileConfig));

/// `type = "LoadAnnotations"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadAnnotationsConfig {
    /// Loads boxes.
    #[serde(default = "yes")]
    pub with_bbox: bool,
    /// Loads their classes.
    #[serde(default = "yes")]
    pub with_label: bool,
    /// Loads instance masks.
    #[serde(default)]
    pub with_mask: bool,
    /// Loads the semantic map.
    #[serde(default)]
    pub with_seg: bool,
    /// Makes bitmaps of polygons.
    #[serde(default = "yes")]
    pub poly2mask: bool,
    /// Boxes are fractions of the image's size (OpenImages).
    #[serde(default)]
    pub denorm_bbox: bool,
    /// Where semantic maps are read from.
    #[serde(default)]
    pub file_client_args: FileClientConfig,
}

/// Takes boxes, classes, masks and the semantic map from the annotation.
pub struct LoadAnnotations {
    cfg: LoadAnnotationsConfig,
    client: FileClient,
}

impl LoadAnnotations {
    /// Opens the file client.
    pub fn new(cfg: &LoadAnnotationsConfig) -> Result<Self> {
        Ok(Self { cfg: cfg.clone(), client: FileClient::new(&cfg.file_client_args)? })
    }

    fn masks(&self, results: &Results, ann: &AnnInfo) -> Result<InstanceMasks> {
        let (h, w) = (results.img_info.height, results.img_info.width);
        if ann.masks.len() != ann.bboxes.len() {
            return Err(results.error("with_mask=True, but not every box of the annotation has a mask"));
        }
        if self.cfg.poly2mask {
            InstanceMasks::bitmaps(&ann.masks, h, w).map_err(|e| results.error(e.to_string()))
        } else {
            InstanceMasks::polygons(&ann.masks, h, w)
                .ok_or_else(|| results.error("poly2mask=False, but a mask is given as run lengths"))
        }
    }

    fn semantic_seg(&self, results: &Results, ann: &AnnInfo) -> Result<mmcv::image::Image> {
        let name =
            ann.seg_map.as_deref().ok_or_else(|| results.error("with_seg=True, but there is no semantic map"))?;
        let filename = join(results.seg_prefix.as_deref(), name);
        let bytes = self.client.get(&filename)?;
        let image = imfrombytes_of(&filename, &bytes, ColorFlag::Unchanged, ChannelOrder::Bgr, None)?;
        match image.channels() {
            1 => Ok(image),
            c => Err(Error::data(&filename, format!("a semantic map has one channel, this image {c}"))),
        }
    }
}

impl Transform for LoadAnnotations {
    fn apply(&self, mut results: Results, _: &mut Rng) -> Result<Option<Results>> {
        let ann = results.ann_info.clone().ok_or_else(|| results.missing("LoadAnnotations", "ann_info"))?;
        if self.cfg.with_bbox {
            results.gt_bboxes = Some(ann.bboxes.clone());
            results.gt_bboxes_ignore = Some(ann.bboxes_ignore.clone());
            if self.cfg.denorm_bbox {
                let [h, w, _] = results.shape("LoadAnnotations")?;
                let (h, w) = (h as f32, w as f32);
                let scale = |b: &mut BBox| *b = [b[0] * w, b[1] * h, b[2] * w, b[3] * h];
                results.boxes_mut(BoxField::Gt).into_iter().flatten().for_each(scale);
            }
        }
        if self.cfg.with_label {
            results.gt_labels = Some(ann.labels.clone());
        }
        if self.cfg.with_mask {
            results.gt_masks = Some(self.masks(&results, &ann)?);
        }
        if self.cfg.with_seg {
            results.gt_semantic_seg = Some(self.semantic_seg(&results, &ann)?);
        }
        Ok(Some(results))
    }
}

register!(PIPELINES: dyn Transform, "LoadAnnotations" => LoadAnnotations(LoadAnnotationsConfig));

/// `type = "LoadProposals"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadProposalsConfig {
    /// Takes only the first so many; all without it.
    #[serde(default)]
    pub num_max_proposals: Option<usize>,
}

/// Takes the proposed boxes of the image's `proposal_file` entry.
pub struct LoadProposals(LoadProposalsConfig);

impl LoadProposals {
    /// Nothing can go wrong.
    pub fn new(cfg: &LoadProposalsConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

impl Transform for LoadProposals {
    fn apply(&self, mut results: Results, _: &mut Rng) -> Result<Option<Results>> {
        let raw: Arc<_> = results.raw_proposals.clone().ok_or_else(|| results.missing("LoadProposals", "proposals"))?;
        let max = self.0.num_max_proposals.unwrap_or(usize::MAX);
        let mut boxes: Vec<BBox> = Vec::with_capacity(raw.len().min(max));
        for (i, row) in raw.iter().enumerate() {
            let (4 | 5, Some(b)) = (row.len(), row.first_chunk::<4>()) else {
                return Err(results.error(format!("proposal {i} has {} numbers, expected 4 or 5", row.len())));
            };
            if boxes.len() < max {
                boxes.push(*b);
            }
        }
        if boxes.is_empty() {
            boxes.push([0.0; 4]);
        }
        results.proposals = Some(boxes);
        Ok(Some(results))
    }
}

register!(PIPELINES: dyn Transform, "LoadProposals" => LoadProposals(LoadProposalsConfig));

/// `type = "FilterAnnotations"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterAnnotationsConfig {
    /// A box must be wider and higher than this.
    #[serde(default = "one_by_one")]
    pub min_gt_bbox_wh: [f64; 2],
    /// A mask must have at least so many pixels.
    #[serde(default = "one")]
    pub min_gt_mask_area: f64,
    /// Looks at boxes.
    #[serde(default = "yes")]
    pub by_box: bool,
    /// Looks at masks.
    #[serde(default)]
    pub by_mask: bool,
    /// Drops the sample when nothing is left (mmdet's name says the opposite).
    #[serde(default = "yes")]
    pub keep_empty: bool,
}

fn one_by_one() -> [f64; 2] {
    [1.0, 1.0]
}

fn one() -> f64 {
    1.0
}

/// Leaves out instances that are too small.
pub struct FilterAnnotations(FilterAnnotationsConfig);

impl FilterAnnotations {
    /// An error when it shall look at neither boxes nor masks.
    pub fn new(cfg: &FilterAnnotationsConfig) -> Result<Self> {
        ensure(cfg.by_box || cfg.by_mask, || "FilterAnnotations: set by_box or by_mask".into())?;
        Ok(Self(cfg.clone()))
    }
}

impl Transform for FilterAnnotations {
    fn apply(&self, mut results: Results, _: &mut Rng) -> Result<Option<Results>> {
        let mut keep: Option<Vec<bool>> = None;
        if self.0.by_box {
            let boxes = results.gt_bboxes.as_ref().ok_or_else(|| results.missing("FilterAnnotations", "gt_bboxes"))?;
            let [w, h] = self.0.min_gt_bbox_wh;
            keep = Some(boxes.iter().map(|b| f64::from(b[2] - b[0]) > w && f64::from(b[3] - b[1]) > h).collect());
        }
        if self.0.by_mask {
            let masks = results.gt_masks.as_ref().ok_or_else(|| results.missing("FilterAnnotations", "gt_masks"))?;
            let big: Vec<bool> = masks.areas().iter().map(|a| *a >= self.0.min_gt_mask_area).collect();
            keep = Some(match keep {
                Some(keep) => keep.iter().zip(&big).map(|(a, b)| *a && *b).collect(),
                None => big,
            });
        }
        let keep = keep.unwrap_or_default();
        if keep.is_empty() {
            return Ok(Some(results));
        }
        results.keep_boxes(BoxField::Gt, &keep);
        let empty = !keep.contains(&true);
        Ok(if empty && self.0.keep_empty { None } else { Some(results) })
    }
}

register!(PIPELINES: dyn Transform, "FilterAnnotations" => FilterAnnotations(FilterAnnotationsConfig));

#[cfg(test)]
mod tests {
    use super::super::ImgInfo;
    use super::super::testing::{POLYGON, bitmap, run, sample, step};
    use super::*;
    use crate::core::AnnMask;
    use mmcv::image::{Image, Pixels, imwrite};

    fn annotated(ann: AnnInfo) -> Results {
        let img_info = ImgInfo { filename: "a.jpg".into(), width: 53, height: 37, ..ImgInfo::default() };
        Results { img_info, ann_info: Some(Arc::new(ann)), img_shape: Some([37, 53, 3]), ..Results::default() }
    }

    fn message(json: &str, results: Results) -> String {
        step(json).unwrap().apply(results, &mut Rng::new(0)).unwrap_err().to_string()
    }

    #[test]
    fn an_image_is_read_from_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let image = Image::new(2, 3, 3, Pixels::U8((0..18).collect())).unwrap();
        imwrite(&image, dir.path().join("x.png")).unwrap();
        let prefix = dir.path().display().to_string();
        let start = || Results { img_prefix: Some(prefix.clone()), ..Results::from_file("x.png") };
        let r = run(r#"{"type": "LoadImageFromFile", "to_float32": true}"#, start());
        assert_eq!(r.filename.as_deref(), Some(format!("{prefix}/x.png").as_str()));
        assert_eq!((r.ori_filename.as_deref(), r.ori_shape, r.pad_shape), (Some("x.png"), Some([2, 3, 3]), None));
        let values = (0..18u8).map(f32::from).collect();
        assert_eq!(r.img.unwrap().into_image().unwrap().into_pixels(), Pixels::F32(values));
        let r = run(r#"{"type": "LoadImageFromFile", "color_type": "grayscale"}"#, start());
        assert_eq!(r.img_shape, Some([2, 3, 1]));
        let r = run(r#"{"type": "LoadImageFromFile", "channel_order": "rgb"}"#, start());
        let Pixels::U8(v) = r.img.unwrap().into_image().unwrap().into_pixels() else { panic!("bytes") };
        assert_eq!(v[..3], [2, 1, 0]);
    }

    #[test]
    fn a_file_that_is_no_image_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("empty.jpg"), "").unwrap();
        std::fs::write(dir.path().join("text.jpg"), "not an image").unwrap();
        let image = Image::new(40, 40, 3, Pixels::U8(vec![90; 4800])).unwrap();
        imwrite(&image, dir.path().join("cut.png")).unwrap();
        let png = std::fs::read(dir.path().join("cut.png")).unwrap();
        std::fs::write(dir.path().join("cut.png"), &png[..png.len() / 2]).unwrap();
        for name in ["missing.jpg", "empty.jpg", "text.jpg", "cut.png"] {
            let prefix = Some(dir.path().display().to_string());
            let start = Results { img_prefix: prefix, ..Results::from_file(name) };
            let message = message(r#"{"type": "LoadImageFromFile"}"#, start);
            assert!(message.contains(name), "{name}: {message}");
        }
    }

    #[test]
    fn annotations_are_taken_as_asked() {
        let ann = AnnInfo {
            bboxes: vec![[0.25, 0.5, 0.75, 1.0]],
            labels: vec![4],
            bboxes_ignore: vec![[0.0, 0.0, 1.0, 1.0]],
            masks: vec![AnnMask::Polygons(vec![POLYGON.to_vec()])],
            ..AnnInfo::default()
        };
        let r = run(r#"{"type": "LoadAnnotations", "with_mask": true, "denorm_bbox": true}"#, annotated(ann.clone()));
        assert_eq!(r.gt_bboxes.unwrap(), [[13.25, 18.5, 39.75, 37.0]]);
        // Ignored boxes stay relative, as in mmdet.
        assert_eq!(r.gt_bboxes_ignore.unwrap(), ann.bboxes_ignore);
        assert_eq!((r.gt_labels.unwrap(), r.gt_masks.unwrap()), (vec![4], bitmap()));
        let r = run(r#"{"type": "LoadAnnotations", "with_bbox": false, "with_label": false}"#, annotated(ann.clone()));
        assert_eq!((r.gt_bboxes, r.gt_labels, r.gt_masks), (None, None, None));
        let none = AnnInfo { masks: vec![], ..ann };
        let message = message(r#"{"type": "LoadAnnotations", "with_mask": true}"#, annotated(none));
        assert!(message.contains("a.jpg") && message.contains("not every box"), "{message}");
    }

    #[test]
    fn proposals_are_cut_to_four_numbers_and_the_first() {
        let with = |rows: Vec<Vec<f32>>| Results { raw_proposals: Some(Arc::new(rows)), ..sample() };
        let rows = vec![vec![1.0, 2.0, 3.0, 4.0, 0.9], vec![5.0, 6.0, 7.0, 8.0, 0.8]];
        let r = run(r#"{"type": "LoadProposals", "num_max_proposals": 1}"#, with(rows));
        assert_eq!(r.proposals.unwrap(), [[1.0, 2.0, 3.0, 4.0]]);
        assert_eq!(run(r#"{"type": "LoadProposals"}"#, with(vec![])).proposals.unwrap(), [[0.0; 4]]);
        let message = message(r#"{"type": "LoadProposals"}"#, with(vec![vec![1.0; 3]]));
        assert!(message.contains("proposal 0 has 3 numbers"), "{message}");
    }

    #[test]
    fn small_instances_are_filtered() {
        let all = || Results { gt_masks: Some(bitmap()), gt_bboxes: Some(vec![[0.0, 0.0, 5.0, 5.0]]), ..sample() };
        let all = || Results { gt_labels: Some(vec![3]), ..all() };
        let keeps = |json: &str| step(json).unwrap().apply(all(), &mut Rng::new(0)).unwrap();
        assert!(keeps(r#"{"type": "FilterAnnotations"}"#).is_some());
        assert!(keeps(r#"{"type": "FilterAnnotations", "min_gt_bbox_wh": [5, 1]}"#).is_none());
        assert!(keeps(r#"{"type": "FilterAnnotations", "by_mask": true, "min_gt_mask_area": 328}"#).is_some());
        let json = r#"{"type": "FilterAnnotations", "by_mask": true, "min_gt_mask_area": 329, "keep_empty": false}"#;
        let r = keeps(json).unwrap();
        assert_eq!((r.gt_bboxes.unwrap().len(), r.gt_labels.unwrap().len(), r.gt_masks.unwrap().len()), (0, 0, 0));
        assert!(step(r#"{"type": "FilterAnnotations", "by_box": false}"#).is_err());
    }
}
