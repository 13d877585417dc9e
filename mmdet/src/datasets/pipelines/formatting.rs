//! The end of a pipeline: tensors, and the sample that is collected from the results.

use candle_core::{Device, Tensor};
use mmcv::error::did_you_mean;
use mmcv::image::{Image, Pixels};
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::yes;
use super::{PIPELINES, Results, ScaleFactor, Transform};
use crate::core::{DetSample, ImgMeta, ImgNormCfg, Padding};

/// `type = "DefaultFormatBundle"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefaultFormatBundleConfig {
    /// Bytes become f32. Without it, bytes are an error: no network takes them.
    #[serde(default = "yes")]
    pub img_to_float: bool,
    /// What fills up a batch's smaller images.
    #[serde(default)]
    pub pad_val: BatchPadVal,
}

/// What fills up a batch's smaller images.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchPadVal {
    /// Of images.
    #[serde(default)]
    pub img: f32,
    /// Of instance masks: read for mmdet's sake, its masks aren't stacked either.
    #[serde(default)]
    #[allow(dead_code)] // part of the config's form
    pub masks: f32,
    /// Of semantic maps.
    #[serde(default = "ignored")]
    pub seg: u8,
}

fn ignored() -> u8 {
    255
}

impl Default for BatchPadVal {
    fn default() -> Self {
        Self { img: 0.0, masks: 0.0, seg: ignored() }
    }
}

/// Makes the image a `[C, H, W]` tensor and sets what `Collect` needs and no step has set.
pub struct DefaultFormatBundle(DefaultFormatBundleConfig);

impl DefaultFormatBundle {
    /// Nothing can go wrong.
    pub fn new(cfg: &DefaultFormatBundleConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

impl Transform for DefaultFormatBundle {
    fn apply(&self, mut results: Results, _: &mut Rng) -> Result<Option<Results>> {
        results.padding = Padding { img: self.0.pad_val.img, seg: self.0.pad_val.seg };
        if let Some(picture) = results.img.take() {
            if picture.is_u8() && !self.0.img_to_float {
                return Err(Error::config("DefaultFormatBundle: img_to_float=False, and no Normalize makes floats"));
            }
            let shape = picture.shape();
            results.pad_shape.get_or_insert(shape);
            results.scale_factor.get_or_insert(ScaleFactor::Done([1.0; 4]));
            results.img_norm_cfg.get_or_insert_with(|| ImgNormCfg {
                mean: vec![0.0; shape[2]],
                std: vec![1.0; shape[2]],
                to_rgb: false,
            });
            results.tensor = Some(picture.to_tensor()?);
        }
        Ok(Some(results))
    }
}

register!(PIPELINES: dyn Transform, "DefaultFormatBundle" => DefaultFormatBundle(DefaultFormatBundleConfig));

/// What `Collect` and the conversions to tensors can name.
const KEYS: [&str; 7] =
    ["img", "gt_bboxes", "gt_labels", "gt_bboxes_ignore", "gt_masks", "gt_semantic_seg", "proposals"];

fn check_keys(step: &str, keys: &[String], known: &[&str]) -> Result<()> {
    for key in keys {
        if !known.contains(&key.as_str()) {
            let hint = did_you_mean(key, known.iter().copied());
            return Err(Error::config(format!("{step}: unknown key '{key}'{hint} (known: {})", known.join(", "))));
        }
    }
    Ok(())
}

/// `type = "ImageToTensor"` and `type = "ToTensor"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// What is converted.
    pub keys: Vec<String>,
}

/// Makes the image a `[C, H, W]` f32 tensor.
pub struct ImageToTensor;

impl ImageToTensor {
    /// An error unless the key is `img`.
    pub fn new(cfg: &KeysConfig) -> Result<Self> {
        check_keys("ImageToTensor", &cfg.keys, &["img"])?;
        Ok(Self)
    }
}

impl Transform for ImageToTensor {
    fn apply(&self, mut results: Results, _: &mut Rng) -> Result<Option<Results>> {
        let picture = results.img.take().ok_or_else(|| results.missing("ImageToTensor", "img"))?;
        results.tensor = Some(picture.to_tensor()?);
        Ok(Some(results))
    }
}

register!(PIPELINES: dyn Transform, "ImageToTensor" => ImageToTensor(KeysConfig));

/// Boxes and classes become tensors when a batch is used, so this only checks that they are there. An image keeps its
/// channels innermost in mmdet's `ToTensor`, which no network takes: that is an error that names `ImageToTensor`.
pub struct ToTensor(Vec<String>);

impl ToTensor {
    /// An error for keys that are unknown, or the image.
    pub fn new(cfg: &KeysConfig) -> Result<Self> {
        if cfg.keys.iter().any(|k| k == "img") {
            return Err(Error::config("ToTensor: use ImageToTensor for 'img'"));
        }
        check_keys("ToTensor", &cfg.keys, &KEYS[1..])?;
        Ok(Self(cfg.keys.clone()))
    }
}

impl Transform for ToTensor {
    fn apply(&self, results: Results, _: &mut Rng) -> Result<Option<Results>> {
        match self.0.iter().find(|key| !has(&results, key)) {
            Some(key) => Err(results.missing("ToTensor", key)),
            None => Ok(Some(results)),
        }
    }
}

register!(PIPELINES: dyn Transform, "ToTensor" => ToTensor(KeysConfig));

fn has(results: &Results, key: &str) -> bool {
    match key {
        "img" => results.tensor.is_some() || results.img.is_some(),
        "gt_bboxes" => results.gt_bboxes.is_some(),
        "gt_labels" => results.gt_labels.is_some(),
        "gt_bboxes_ignore" => results.gt_bboxes_ignore.is_some(),
        "gt_masks" => results.gt_masks.is_some(),
        "gt_semantic_seg" => results.gt_semantic_seg.is_some(),
        "proposals" => results.proposals.is_some(),
        "filename" => results.filename.is_some(),
        "ori_filename" => results.ori_filename.is_some(),
        "ori_shape" => results.ori_shape.is_some(),
        "img_shape" => results.img_shape.is_some(),
        "pad_shape" => results.pad_shape.is_some(),
        "scale_factor" => matches!(results.scale_factor, Some(ScaleFactor::Done(_))),
        "flip" => results.flip.is_some(),
        "flip_direction" => results.flip_direction.is_some(),
        "img_norm_cfg" => results.img_norm_cfg.is_some(),
        _ => false,
    }
}

const META_KEYS: [&str; 9] = [
    "filename",
    "ori_filename",
    "ori_shape",
    "img_shape",
    "pad_shape",
    "scale_factor",
    "flip",
    "flip_direction",
    "img_norm_cfg",
];

/// `type = "Collect"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectConfig {
    /// What the network gets.
    pub keys: Vec<String>,
    /// What must have been set of the image's description; all of it without this option.
    #[serde(default = "meta_keys")]
    pub meta_keys: Vec<String>,
}

fn meta_keys() -> Vec<String> {
    META_KEYS.map(str::to_owned).to_vec()
}

/// Makes the sample. Descriptions that no step has set and that aren't asked for get their neutral value.
pub struct Collect(CollectConfig);

impl Collect {
    /// An error for unknown keys, or when the image isn't among them.
    pub fn new(cfg: &CollectConfig) -> Result<Self> {
        check_keys("Collect", &cfg.keys, &KEYS)?;
        check_keys("Collect: meta_keys", &cfg.meta_keys, &META_KEYS)?;
        if !cfg.keys.iter().any(|k| k == "img") {
            return Err(Error::config("Collect: keys must hold 'img'"));
        }
        Ok(Self(cfg.clone()))
    }
}

fn semantic_map(seg: Image) -> Result<Tensor> {
    let [h, w, _] = seg.shape();
    let values = match seg.into_pixels() {
        Pixels::U8(v) => v,
        Pixels::F32(v) => v.into_iter().map(|v| v as u8).collect(),
    };
    Ok(Tensor::from_vec(values, (1, h, w), &Device::Cpu)?)
}

impl Transform for Collect {
    fn apply(&self, mut results: Results, _: &mut Rng) -> Result<Option<Results>> {
        let mut asked = self.0.keys.iter().chain(&self.0.meta_keys);
        if let Some(key) = asked.find(|key| !has(&results, key)) {
            return Err(results.missing("Collect", key));
        }
        let img = match (results.tensor.take(), results.img.take()) {
            (Some(tensor), _) => tensor,
            (None, Some(picture)) => picture.to_tensor()?,
            (None, None) => return Err(results.missing("Collect", "img")),
        };
        let (c, h, w) = img.dims3()?;
        let asked = |key: &str| self.0.keys.iter().any(|k| k == key);
        let img_shape = results.img_shape.unwrap_or([h, w, c]);
        let meta = ImgMeta {
            filename: results.filename.take().unwrap_or_default(),
            ori_filename: results.ori_filename.take().unwrap_or_default(),
            ori_shape: results.ori_shape.unwrap_or(img_shape),
            img_shape,
            pad_shape: results.pad_shape.unwrap_or([h, w, c]),
            scale_factor: match results.scale_factor {
                Some(ScaleFactor::Done(factor)) => factor,
                _ => [1.0; 4],
            },
            flip: results.flip.unwrap_or(false),
            flip_direction: results.flip_direction.flatten(),
            img_norm_cfg: results.img_norm_cfg.take(),
            batch_input_shape: None,
        };
        let seg = results.gt_semantic_seg.take().filter(|_| asked("gt_semantic_seg"));
        let sample = DetSample {
            img,
            meta,
            gt_bboxes: results.gt_bboxes.take().filter(|_| asked("gt_bboxes")).unwrap_or_default(),
            gt_labels: results.gt_labels.take().filter(|_| asked("gt_labels")).unwrap_or_default(),
            gt_bboxes_ignore: results.gt_bboxes_ignore.take().filter(|_| asked("gt_bboxes_ignore")),
            gt_masks: results.gt_masks.take().filter(|_| asked("gt_masks")).map(|m| m.into_ann()),
            gt_semantic_seg: seg.map(semantic_map).transpose()?,
            proposals: results.proposals.take().filter(|_| asked("proposals")),
            padding: results.padding,
        };
        results.samples.push(sample);
        Ok(Some(results))
    }
}

register!(PIPELINES: dyn Transform, "Collect" => Collect(CollectConfig));

/// `type = "WrapFieldsToLists"` has no options.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WrapFieldsToListsConfig {}

/// Makes lists of one of the sample's fields, as testing takes them. A pipeline's samples are a list here anyhow.
pub struct WrapFieldsToLists;

impl WrapFieldsToLists {
    /// Nothing can go wrong.
    pub fn new(_: &WrapFieldsToListsConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Transform for WrapFieldsToLists {
    fn apply(&self, results: Results, _: &mut Rng) -> Result<Option<Results>> {
        if results.samples.is_empty() {
            return Err(results.missing("WrapFieldsToLists", "img_metas"));
        }
        Ok(Some(results))
    }
}

register!(PIPELINES: dyn Transform, "WrapFieldsToLists" => WrapFieldsToLists(WrapFieldsToListsConfig));

#[cfg(test)]
mod tests {
    use super::super::Pipeline;
    use super::super::testing::{bitmap, refused, sample};
    use super::*;
    use mmcv::config::Node;
    use mmcv::image::FlipDirection;

    const NORMALIZE: &str =
        r#"{"type": "Normalize", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}"#;

    fn pipeline(steps: &[&str]) -> Pipeline {
        let steps: Vec<Node> = steps.iter().map(|s| Node::from_json(s).unwrap()).collect();
        Pipeline::new(&steps).unwrap()
    }

    fn message(steps: &[&str]) -> String {
        pipeline(steps).samples(sample(), &mut Rng::new(0)).unwrap_err().to_string()
    }

    #[test]
    fn the_whole_way_is_mmdets() {
        // Resize(img_scale=(100, 60)), RandomFlip (flip=True, horizontal), Normalize, Pad(size_divisor=32), DefaultFormatBundle, Collect
        let start = Results { flip: Some(true), flip_direction: Some(Some(FlipDirection::Horizontal)), ..sample() };
        let samples = pipeline(&[
            r#"{"type": "Resize", "img_scale": [100, 60]}"#,
            r#"{"type": "RandomFlip"}"#,
            NORMALIZE,
            r#"{"type": "Pad", "size_divisor": 32}"#,
            r#"{"type": "DefaultFormatBundle"}"#,
            r#"{"type": "Collect", "keys": ["img", "gt_bboxes", "gt_labels"]}"#,
        ])
        .samples(start, &mut Rng::new(0))
        .unwrap()
        .unwrap();
        let [sample] = &samples[..] else { panic!("one sample") };
        assert_eq!((sample.meta.img_shape, sample.meta.pad_shape), ([60, 86, 3], [64, 96, 3]));
        let values = sample.img.to_vec3::<f32>().unwrap();
        let sum: f64 = values.iter().flatten().flatten().map(|v| f64::from(*v)).sum();
        assert!((sum - 3_739.241_487).abs() < 1e-4, "{sum}");
        let at = |c: usize, y: usize, x: usize| values[c][y][x];
        assert_eq!(
            [at(0, 0, 0), at(1, 17, 40), at(2, 59, 85), at(2, 60, 0)],
            [0.724_805_2, -0.127_450_96, 1.890_544_7, 0.0]
        );
        assert_eq!((sample.meta.flip, sample.gt_labels.len()), (true, 3));
        assert_eq!(sample.gt_bboxes_ignore, None);
    }

    #[test]
    fn the_bundle_sets_what_no_step_has_set() {
        let steps = [
            r#"{"type": "RandomFlip", "flip_ratio": 0}"#,
            r#"{"type": "DefaultFormatBundle", "pad_val": {"img": 3, "seg": 7}}"#,
            r#"{"type": "Collect", "keys": ["img", "gt_bboxes_ignore", "gt_masks"]}"#,
            r#"{"type": "WrapFieldsToLists"}"#,
        ];
        let start = Results { gt_masks: Some(bitmap()), ..sample() };
        let samples = pipeline(&steps).samples(start, &mut Rng::new(0)).unwrap().unwrap();
        let meta = &samples[0].meta;
        assert_eq!((meta.pad_shape, meta.scale_factor), ([37, 53, 3], [1.0; 4]));
        assert_eq!(meta.img_norm_cfg.as_ref().unwrap().std, [1.0; 3]);
        assert_eq!(samples[0].padding, Padding { img: 3.0, seg: 7 });
        assert_eq!(samples[0].gt_masks.as_ref().unwrap().len(), 1);
        assert!(samples[0].gt_bboxes.is_empty() && samples[0].gt_bboxes_ignore.is_some());
    }

    #[test]
    fn what_is_missing_is_named() {
        let collect = r#"{"type": "Collect", "keys": ["img"]}"#;
        assert!(message(&[collect]).contains("Collect: 'pad_shape' is not in the results"), "{}", message(&[collect]));
        let some = r#"{"type": "Collect", "keys": ["img", "proposals"], "meta_keys": ["filename"]}"#;
        assert!(message(&[some]).contains("'proposals' is not in the results"));
        assert!(message(&[NORMALIZE]).contains("must end in Collect"));
        assert!(message(&[r#"{"type": "WrapFieldsToLists"}"#]).contains("img_metas"));
        assert!(message(&[r#"{"type": "ToTensor", "keys": ["proposals"]}"#]).contains("'proposals'"));
        let bundle = r#"{"type": "DefaultFormatBundle", "img_to_float": false}"#;
        assert!(message(&[bundle]).contains("img_to_float=False"));
    }

    #[test]
    fn bad_options_are_refused() {
        for (json, part) in [
            (r#"{"type": "Collect", "keys": ["img", "gt_box"]}"#, "unknown key 'gt_box'; did you mean 'gt_bboxes'"),
            (r#"{"type": "Collect", "keys": ["gt_bboxes"]}"#, "must hold 'img'"),
            (r#"{"type": "Collect", "keys": ["img"], "meta_keys": ["flop"]}"#, "did you mean 'flip'"),
            (r#"{"type": "ToTensor", "keys": ["img"]}"#, "use ImageToTensor"),
            (r#"{"type": "ImageToTensor", "keys": ["gt_masks"]}"#, "unknown key 'gt_masks'"),
            (r#"{"type": "Normalize", "mean": [1, 2], "std": [1]}"#, "2 means, 1 deviations"),
            (r#"{"type": "Normalize", "mean": [1], "std": [0]}"#, "a value of std is 0"),
        ] {
            let message = refused(json);
            assert!(message.contains(part), "{json}: {message}");
        }
    }
}
