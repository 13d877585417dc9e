//! Resizing, with all of mmdet's ways to choose the size.

use mmcv::config::Node;
use mmcv::image::{
    Image, Interpolation, PillowInterpolation, Scale, imrescale, imresize, imresize_pillow, rescale_size,
};
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::{ensure, pairs, yes};
use super::results::clip;
use super::{PIPELINES, Picture, Results, ScaleFactor, Transform};

/// How one of several scales is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MultiscaleMode {
    /// Long and short edge each between those of two scales.
    #[default]
    Range,
    /// One of the list.
    Value,
}

/// Which library's numbers resizing gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResizeBackend {
    /// OpenCV's.
    #[default]
    Cv2,
    /// Pillow's; images of bytes only.
    Pillow,
}

/// A way to make values between pixels.
#[derive(Debug, Clone, Copy)]
enum Method {
    Cv2(Interpolation),
    Pillow(PillowInterpolation),
}

/// `type = "Resize"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeConfig {
    /// `(width, height)` or a list of them.
    #[serde(default)]
    pub img_scale: Node,
    /// How one of several is drawn.
    #[serde(default)]
    pub multiscale_mode: MultiscaleMode,
    /// The one `img_scale` is multiplied by a number drawn from this range.
    #[serde(default)]
    pub ratio_range: Option<[f64; 2]>,
    /// Fits the image into the scale (its greater number bounds the long edge) instead of stretching it.
    #[serde(default = "yes")]
    pub keep_ratio: bool,
    /// Clips boxes to the image.
    #[serde(default = "yes")]
    pub bbox_clip_border: bool,
    /// Whose numbers resizing gives.
    #[serde(default)]
    pub backend: ResizeBackend,
    /// How values between pixels are made: `nearest`, `bilinear`, `bicubic`, `area`, `lanczos` (cv2) or `nearest`, `bilinear`,
    /// `bicubic`, `box`, `lanczos`, `hamming` (Pillow).
    #[serde(default = "bilinear")]
    pub interpolation: String,
    /// Resizes again what an earlier `Resize` resized.
    #[serde(default)]
    pub r#override: bool,
}

fn bilinear() -> String {
    "bilinear".to_owned()
}

/// Resizes image, boxes, masks and semantic map.
///
/// The scale is that of the results when test-time augmentation has set `scale` or `scale_factor`, otherwise drawn from `img_scale`.
pub struct Resize {
    cfg: ResizeConfig,
    scales: Vec<[f64; 2]>,
    method: Method,
}

const NAME: &str = "Resize";

/// A scale that an image is fitted into.
pub(super) fn within(scale: [f64; 2]) -> Scale {
    Scale::Within(scale[0] as usize, scale[1] as usize)
}

impl Resize {
    /// An error when the number of scales doesn't fit the way to draw one.
    pub fn new(cfg: &ResizeConfig) -> Result<Self> {
        let scales = if cfg.img_scale.is_null() { Vec::new() } else { pairs(&cfg.img_scale, "img_scale")? };
        if let Some([low, high]) = cfg.ratio_range {
            ensure(scales.len() == 1, || "Resize: ratio_range goes with exactly one img_scale".into())?;
            ensure(low <= high, || format!("Resize: ratio_range ({low}, {high}) is empty"))?;
        } else if cfg.multiscale_mode == MultiscaleMode::Range {
            let n = scales.len();
            ensure(n <= 2, || format!("Resize: multiscale_mode='range' takes two scales, found {n}"))?;
        }
        let name = Node::from(cfg.interpolation.as_str());
        let method = match cfg.backend {
            ResizeBackend::Cv2 => name.parse().map(Method::Cv2),
            ResizeBackend::Pillow => name.parse().map(Method::Pillow),
        };
        Ok(Self { cfg: cfg.clone(), scales, method: method.map_err(|e| e.under("interpolation"))? })
    }

    /// A scale and its index when it is one of the list.
    fn draw(&self, rng: &mut Rng) -> Result<([f64; 2], Option<usize>)> {
        ensure(!self.scales.is_empty(), || "Resize: img_scale is not set, and no step before it sets a scale".into())?;
        let first = self.scales[0];
        if let Some([low, high]) = self.cfg.ratio_range {
            let ratio = rng.unit() * (high - low) + low;
            return Ok((first.map(|v| (v * ratio).trunc()), None));
        }
        if let [_] = self.scales[..] {
            return Ok((first, Some(0)));
        }
        if self.cfg.multiscale_mode == MultiscaleMode::Value {
            let i = rng.below(self.scales.len());
            return Ok((self.scales[i], Some(i)));
        }
        let mut edge = |of: fn(f64, f64) -> f64| {
            let (a, b) = (of(first[0], first[1]), of(self.scales[1][0], self.scales[1][1]));
            rng.int(a.min(b) as i64, a.max(b) as i64) as f64
        };
        let long = edge(f64::max);
        Ok(([long, edge(f64::min)], None))
    }

    fn choose(&self, results: &mut Results, rng: &mut Rng) -> Result<[f64; 2]> {
        let wanted = match (results.scale, results.scale_factor) {
            (None, Some(ScaleFactor::Wanted(factor))) => {
                let [h, w, _] = results.picture(NAME)?.shape();
                Some([(w as f64 * factor).trunc(), (h as f64 * factor).trunc()])
            }
            (None, Some(ScaleFactor::Done(_))) => {
                return Err(results.error("Resize: the image is resized already; set override=True to do it again"));
            }
            (Some(_), Some(_)) if !self.cfg.r#override => {
                return Err(
                    results.error("Resize: scale and scale_factor are both set; set override=True to resize again")
                );
            }
            (Some(scale), None) if !self.cfg.r#override => Some(scale),
            _ => None,
        };
        let (scale, index) = match wanted {
            Some(scale) => (scale, results.scale_idx),
            None => self.draw(rng)?,
        };
        (results.scale, results.scale_idx) = (Some(scale), index);
        ensure(scale.iter().all(|v| *v >= 1.0), || format!("Resize: the scale ({}, {}) is empty", scale[0], scale[1]))?;
        Ok(scale)
    }

    fn resize(&self, image: &Image, scale: [f64; 2], method: Method) -> Result<Image> {
        let size = (scale[0] as usize, scale[1] as usize);
        match (method, self.cfg.keep_ratio) {
            (Method::Cv2(method), true) => Ok(imrescale(image, within(scale), method)?.0),
            (Method::Cv2(method), false) => imresize(image, size, method),
            (Method::Pillow(method), true) => {
                let (size, _) = rescale_size((image.width(), image.height()), within(scale))?;
                imresize_pillow(image, size, method)
            }
            (Method::Pillow(method), false) => imresize_pillow(image, size, method),
        }
    }
}

impl Transform for Resize {
    fn apply(&self, mut results: Results, rng: &mut Rng) -> Result<Option<Results>> {
        let scale = self.choose(&mut results, rng)?;
        let image = results.take_image(NAME)?;
        let (h, w) = (image.height(), image.width());
        let resized = self.resize(&image, scale, self.method)?;
        let [new_h, new_w, _] = resized.shape();
        let (sx, sy) = ((new_w as f64 / w as f64) as f32, (new_h as f64 / h as f64) as f32);
        results.img_shape = Some(resized.shape());
        results.pad_shape = Some(resized.shape());
        results.scale_factor = Some(ScaleFactor::Done([sx, sy, sx, sy]));
        results.keep_ratio = Some(self.cfg.keep_ratio);
        results.img = Some(Picture::new(resized));
        results.map_boxes(|b| {
            *b = [b[0] * sx, b[1] * sy, b[2] * sx, b[3] * sy];
            if self.cfg.bbox_clip_border {
                clip(b, new_w, new_h);
            }
        });
        if let Some(masks) = results.gt_masks.take() {
            let masks = if self.cfg.keep_ratio { masks.rescale(scale)? } else { masks.resize([new_h, new_w])? };
            results.gt_masks = Some(masks);
        }
        if let Some(seg) = results.gt_semantic_seg.take() {
            let nearest = match self.method {
                Method::Cv2(_) => Method::Cv2(Interpolation::Nearest),
                Method::Pillow(_) => Method::Pillow(PillowInterpolation::Nearest),
            };
            results.gt_semantic_seg = Some(self.resize(&seg, scale, nearest)?);
        }
        Ok(Some(results))
    }
}

register!(PIPELINES: dyn Transform, "Resize" => Resize(ResizeConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{bitmap, image, polygon, refused, run, sample, step, sum};
    use super::*;

    #[test]
    fn boxes_and_scale_factor_are_mmdets() {
        // Resize(img_scale=(100, 60))(sample)
        let r = run(r#"{"type": "Resize", "img_scale": [100, 60]}"#, sample());
        assert_eq!(r.img_shape, Some([60, 86, 3]));
        assert_eq!(r.pad_shape, Some([60, 86, 3]));
        let (sx, sy) = (1.622_641_6, 1.621_621_6);
        assert_eq!(r.scale_factor, Some(ScaleFactor::Done([sx, sy, sx, sy])));
        assert_eq!(
            r.gt_bboxes.as_deref().unwrap(),
            [
                [5.679_245_5, 6.891_892, 33.669_81, 49.459_457],
                [16.226_416, 0.0, 86.0, 19.459_46],
                [81.456_604, 56.918_915, 85.837_74, 59.837_84]
            ]
        );
        assert_eq!(r.gt_bboxes_ignore.as_deref().unwrap(), [[0.0, 0.0, 12.981_132_5, 15.405_405]]);
        assert_eq!(sum(&image(&r)), 1_987_034);
        // Resize(img_scale=(60, 100), keep_ratio=False)(sample)
        let r = run(r#"{"type": "Resize", "img_scale": [[60, 100]], "keep_ratio": false}"#, sample());
        assert_eq!(r.img_shape, Some([100, 60, 3]));
        assert_eq!(r.gt_bboxes.as_ref().unwrap()[1], [11.320_754, 0.0, 60.0, 32.432_434]);
        assert_eq!(sum(&image(&r)), 2_309_706);
        // Resize(img_scale=(100, 60), backend='pillow')(sample), Resize(img_scale=(30, 20), backend='pillow', keep_ratio=False)(sample)
        let r = run(r#"{"type": "Resize", "img_scale": [100, 60], "backend": "pillow"}"#, sample());
        assert_eq!((r.img_shape, sum(&image(&r))), (Some([60, 86, 3]), 1989090));
        let json = r#"{"type": "Resize", "img_scale": [30, 20], "backend": "pillow", "keep_ratio": false}"#;
        assert_eq!(sum(&image(&run(json, sample()))), 231253);
        // Resize(img_scale=(100, 60), bbox_clip_border=False)(sample)
        let r = run(r#"{"type": "Resize", "img_scale": [100, 60], "bbox_clip_border": false}"#, sample());
        assert_eq!(r.gt_bboxes.as_ref().unwrap()[1], [16.226_416, -4.864_865, 97.358_49, 19.459_46]);
    }

    #[test]
    fn a_wanted_scale_factor_sets_the_scale() {
        // r['scale_factor'] = 1.37; Resize()(r)
        let r = run(r#"{"type": "Resize"}"#, Results { scale_factor: Some(ScaleFactor::Wanted(1.37)), ..sample() });
        assert_eq!(r.scale, Some([72.0, 50.0]));
        assert_eq!(r.img_shape, Some([50, 72, 3]));
    }

    #[test]
    fn masks_and_semantic_maps_follow() {
        let seg =
            Image::new(37, 53, 1, mmcv::image::Pixels::U8((0..37 * 53).map(|i| (i % 53) as u8).collect())).unwrap();
        let all = |masks| Results { gt_masks: Some(masks), gt_semantic_seg: Some(seg.clone()), ..sample() };
        let r = run(r#"{"type": "Resize", "img_scale": [100, 60]}"#, all(bitmap()));
        // BitmapMasks.rescale((100, 60))
        let masks = r.gt_masks.unwrap();
        assert_eq!((masks.size(), masks.areas()), ([60, 86], vec![853.0]));
        assert_eq!(masks.bboxes(), [[7.0, 5.0, 33.0, 49.0]]);
        assert_eq!(r.gt_semantic_seg.unwrap().shape(), [60, 86, 1]);
        let r = run(r#"{"type": "Resize", "img_scale": [40, 50], "keep_ratio": false}"#, all(polygon()));
        // PolygonMasks.resize((50, 40))
        let masks = r.gt_masks.unwrap();
        assert_eq!(masks.size(), [50, 40]);
        assert!((masks.areas()[0] - 335.543_090_260_071_3).abs() < 1e-9);
        assert_eq!(masks.bboxes(), [[3.018_868, 4.054_054_3, 15.094_339, 40.540_54]]);
    }

    #[test]
    fn scales_are_drawn_from_what_the_options_allow() {
        let mut rng = Rng::new(5);
        let mut scales = |json: &str| {
            let step = step(json).unwrap();
            (0..60).map(|_| step.apply(sample(), &mut rng).unwrap().unwrap()).collect::<Vec<_>>()
        };
        let range = scales(r#"{"type": "Resize", "img_scale": [[100, 40], [120, 50]]}"#);
        assert!(range.iter().all(|r| {
            let [long, short] = r.scale.unwrap();
            (100.0..=120.0).contains(&long) && (40.0..=50.0).contains(&short) && r.scale_idx.is_none()
        }));
        assert!(range.iter().any(|r| r.scale.unwrap()[1] == 50.0) && range.iter().any(|r| r.scale.unwrap()[1] == 40.0));
        let value =
            scales(r#"{"type": "Resize", "img_scale": [[100, 40], [120, 50], [8, 9]], "multiscale_mode": "value"}"#);
        for i in 0..3 {
            assert!(value.iter().any(|r| r.scale_idx == Some(i)));
        }
        let ratio = scales(r#"{"type": "Resize", "img_scale": [100, 50], "ratio_range": [0.5, 1.5]}"#);
        assert!(ratio.iter().all(|r| (50.0..=150.0).contains(&r.scale.unwrap()[0])));
        assert!(ratio.iter().any(|r| r.scale.unwrap()[0] < 80.0) && ratio.iter().any(|r| r.scale.unwrap()[0] > 120.0));
    }

    #[test]
    fn resizing_twice_needs_override() {
        let once = run(r#"{"type": "Resize", "img_scale": [100, 60]}"#, sample());
        let again = |json| step(json).unwrap().apply(once.clone(), &mut Rng::new(0));
        let message = again(r#"{"type": "Resize", "img_scale": [50, 30]}"#).unwrap_err().to_string();
        assert!(message.contains("a.jpg") && message.contains("override=True"), "{message}");
        let twice = again(r#"{"type": "Resize", "img_scale": [50, 30], "override": true}"#).unwrap().unwrap();
        assert_eq!(twice.img_shape, Some([30, 43, 3]));
    }

    #[test]
    fn bad_options_are_refused() {
        for (json, part) in [
            (r#"{"type": "Resize", "img_scale": [[1, 2], [3, 4]], "ratio_range": [0.5, 2]}"#, "exactly one img_scale"),
            (r#"{"type": "Resize", "img_scale": [10, 10], "ratio_range": [2, 0.5]}"#, "ratio_range (2, 0.5) is empty"),
            (r#"{"type": "Resize", "img_scale": [[1, 2], [3, 4], [5, 6]]}"#, "takes two scales, found 3"),
            (r#"{"type": "Resize", "img_scale": 800}"#, "img_scale: found an int, expected (a, b)"),
            (r#"{"type": "Resize", "img_scale": [1, 2, 3]}"#, "expected pairs of numbers"),
            (r#"{"type": "Resize", "multiscale_mode": "values"}"#, "did you mean 'value'"),
            (r#"{"type": "Resize", "backend": "pil"}"#, "unknown value 'pil'"),
            (
                r#"{"type": "Resize", "backend": "pillow", "interpolation": "area"}"#,
                "interpolation: unknown value 'area'",
            ),
            (r#"{"type": "Resize", "interpolation": "bilinaer"}"#, "did you mean 'bilinear'"),
            (r#"{"type": "Resize", "keep_ration": true}"#, "did you mean 'keep_ratio'"),
        ] {
            let message = refused(json);
            assert!(message.contains(part), "{json}: {message}");
        }
        let message = step(r#"{"type": "Resize"}"#).unwrap().apply(sample(), &mut Rng::new(0)).unwrap_err().to_string();
        assert!(message.contains("img_scale is not set"), "{message}");
    }
}
