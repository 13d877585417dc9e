//! Random cropping.

use mmcv::image::{Image, crop};
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::{ensure, yes};
use super::results::{BoxField, clip};
use super::{PIPELINES, Results, Transform};

/// What `crop_size` means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CropType {
    /// `(height, width)` in pixels.
    #[default]
    Absolute,
    /// Height and width are each drawn from `crop_size[0]..=crop_size[1]` pixels.
    AbsoluteRange,
    /// Fractions of the image's height and width.
    Relative,
    /// The least fractions of height and width; drawn up to 1.
    RelativeRange,
}

/// `type = "RandomCrop"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomCropConfig {
    /// Two numbers, whose meaning is that of `crop_type`.
    pub crop_size: [f64; 2],
    /// What `crop_size` means.
    #[serde(default)]
    pub crop_type: CropType,
    /// Keeps a crop without any box; otherwise the sample is dropped.
    #[serde(default)]
    pub allow_negative_crop: bool,
    /// Makes boxes anew from the cropped masks.
    #[serde(default)]
    pub recompute_bbox: bool,
    /// Clips boxes to the crop.
    #[serde(default = "yes")]
    pub bbox_clip_border: bool,
}

/// Cuts a part out of image, boxes, masks and semantic map.
pub struct RandomCrop(RandomCropConfig);

/// A rectangle of the image: left, top, width, height.
pub(super) fn cut(image: &Image, [x, y, w, h]: [usize; 4]) -> Image {
    crop(image, y, x, h, w)
}

impl RandomCrop {
    /// An error when `crop_size` can't be what `crop_type` says.
    pub fn new(cfg: &RandomCropConfig) -> Result<Self> {
        let [a, b] = cfg.crop_size;
        match cfg.crop_type {
            CropType::Absolute | CropType::AbsoluteRange => {
                ensure(a > 0.0 && b > 0.0 && a.fract() == 0.0 && b.fract() == 0.0, || {
                    format!("RandomCrop: crop_size ({a}, {b}) is not in whole pixels above 0")
                })?;
                ensure(cfg.crop_type == CropType::Absolute || a <= b, || {
                    format!("RandomCrop: the range of crop_size ({a}, {b}) is empty")
                })?;
            }
            CropType::Relative | CropType::RelativeRange => {
                let fraction = |v: f64| v > 0.0 && v <= 1.0;
                ensure(fraction(a) && fraction(b), || format!("RandomCrop: crop_size ({a}, {b}) is not in (0, 1]"))?;
            }
        }
        Ok(Self(cfg.clone()))
    }

    /// Height and width of the crop of an image of `h` x `w`.
    fn size(&self, h: usize, w: usize, rng: &mut Rng) -> [usize; 2] {
        let [a, b] = self.0.crop_size;
        let round = |of: usize, fraction: f64| (of as f64 * fraction + 0.5) as usize;
        match self.0.crop_type {
            CropType::Absolute => [h.min(a as usize), w.min(b as usize)],
            CropType::AbsoluteRange => {
                let mut draw = |of: usize| rng.int(of.min(a as usize) as i64, of.min(b as usize) as i64) as usize;
                [draw(h), draw(w)]
            }
            CropType::Relative => [round(h, a), round(w, b)],
            CropType::RelativeRange => {
                // mmdet holds the bounds as f32.
                let mut draw = |low: f64| {
                    let low = low as f32;
                    f64::from(low) + rng.unit() * f64::from(1.0 - low)
                };
                let (a, b) = (draw(a), draw(b));
                [round(h, a), round(w, b)]
            }
        }
    }

    /// Crops to `[x, y, w, h]`; `None` when no ground truth is left and that isn't allowed.
    fn crop(&self, mut results: Results, [x, y, w, h]: [usize; 4]) -> Result<Option<Results>> {
        let image = results.take_image("RandomCrop")?;
        let image = cut(&image, [x, y, w, h]);
        let shape = image.shape();
        results.set_image(image);
        results.img_shape = Some(shape);
        let (dx, dy) = (x as f32, y as f32);
        for field in BoxField::ALL {
            let Some(boxes) = results.boxes_mut(field) else { continue };
            for b in boxes.iter_mut() {
                *b = [b[0] - dx, b[1] - dy, b[2] - dx, b[3] - dy];
                if self.0.bbox_clip_border {
                    clip(b, shape[1], shape[0]);
                }
            }
            let keep: Vec<bool> = boxes.iter().map(|b| b[2] > b[0] && b[3] > b[1]).collect();
            if field == BoxField::Gt && !keep.contains(&true) && !self.0.allow_negative_crop {
                return Ok(None);
            }
            results.keep_boxes(field, &keep);
            if field != BoxField::Gt {
                continue;
            }
            if let Some(masks) = results.gt_masks.take() {
                let masks = masks.crop([x, y, x + w, y + h]);
                if self.0.recompute_bbox {
                    results.gt_bboxes = Some(masks.bboxes());
                }
                results.gt_masks = Some(masks);
            }
        }
        if let Some(seg) = results.gt_semantic_seg.take() {
            results.gt_semantic_seg = Some(cut(&seg, [x, y, w, h]));
        }
        Ok(Some(results))
    }
}

impl Transform for RandomCrop {
    fn apply(&self, results: Results, rng: &mut Rng) -> Result<Option<Results>> {
        let [h, w, _] = results.picture("RandomCrop")?.shape();
        let [crop_h, crop_w] = self.size(h, w, rng);
        ensure(crop_h > 0 && crop_w > 0, || format!("RandomCrop: the crop of an image of {h}x{w} is empty"))?;
        let mut offset = |margin: usize| rng.int(0, margin as i64) as usize;
        let y = offset(h.saturating_sub(crop_h));
        let x = offset(w.saturating_sub(crop_w));
        self.crop(results, [x, y, crop_w.min(w), crop_h.min(h)])
    }
}

register!(PIPELINES: dyn Transform, "RandomCrop" => RandomCrop(RandomCropConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{bitmap, bytes, image, refused, sample, step};
    use super::super::{InstanceMasks, Picture};
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn cropper(json: &str) -> RandomCrop {
        RandomCrop::new(&mmcv::config::Node::from_json(json).unwrap().parse().unwrap()).unwrap()
    }

    /// The sample with a mask for each of its three boxes.
    fn masked() -> Results {
        let InstanceMasks::Bitmap { height, width, masks } = bitmap() else { panic!("bitmaps") };
        let masks = InstanceMasks::Bitmap { height, width, masks: vec![masks[0].clone(); 3] };
        Results { gt_masks: Some(masks), ..sample() }
    }

    #[test]
    fn a_crop_is_mmdets() {
        // RandomCrop(crop_size=(20, 30))(sample) with randint giving 5 (offset_h) and 9 (offset_w)
        let r = cropper(r#"{"crop_size": [20, 30]}"#).crop(masked(), [9, 5, 30, 20]).unwrap().unwrap();
        assert_eq!(r.img_shape, Some([20, 30, 3]));
        assert_eq!(r.gt_bboxes.as_deref().unwrap(), [[0.0, 0.0, 11.75, 20.0], [1.0, 0.0, 30.0, 7.0]]);
        assert_eq!(r.gt_labels.as_deref().unwrap(), [0, 1]);
        assert_eq!(r.gt_bboxes_ignore.as_deref().unwrap(), [[0.0f32; 4]; 0]);
        assert_eq!(r.gt_masks.as_ref().unwrap().areas(), [205.0, 205.0]);
        assert_eq!(bytes(&image(&r))[..3], [139, 168, 197]);
        // RandomCrop(crop_size=(0.5, 0.6), crop_type='relative')
        let relative = cropper(r#"{"crop_size": [0.5, 0.6], "crop_type": "relative"}"#);
        assert_eq!(relative.size(37, 53, &mut Rng::new(0)), [19, 32]);
    }

    #[test]
    fn boxes_are_made_anew_from_masks() {
        let r = cropper(r#"{"crop_size": [20, 30], "recompute_bbox": true}"#).crop(masked(), [9, 5, 30, 20]);
        let r = r.unwrap().unwrap();
        assert_eq!(r.gt_bboxes.unwrap(), r.gt_masks.unwrap().bboxes());
    }

    #[test]
    fn a_crop_without_boxes_drops_the_sample_unless_allowed() {
        let away = || Results { gt_bboxes: Some(vec![[40.0, 30.0, 50.0, 36.0]]), gt_labels: Some(vec![1]), ..sample() };
        assert!(cropper(r#"{"crop_size": [9, 9]}"#).crop(away(), [0, 0, 9, 9]).unwrap().is_none());
        let kept = cropper(r#"{"crop_size": [9, 9], "allow_negative_crop": true}"#).crop(away(), [0, 0, 9, 9]);
        assert_eq!(kept.unwrap().unwrap().gt_labels, Some(vec![]));
    }

    #[test]
    fn bad_options_are_refused() {
        for (json, part) in [
            (r#"{"type": "RandomCrop", "crop_size": [0, 5]}"#, "not in whole pixels above 0"),
            (r#"{"type": "RandomCrop", "crop_size": [5.5, 5]}"#, "not in whole pixels above 0"),
            (r#"{"type": "RandomCrop", "crop_size": [9, 5], "crop_type": "absolute_range"}"#, "is empty"),
            (r#"{"type": "RandomCrop", "crop_size": [2, 0.5], "crop_type": "relative"}"#, "not in (0, 1]"),
            (r#"{"type": "RandomCrop", "crop_size": [2, 5], "crop_type": "relativ"}"#, "did you mean 'relative'"),
            (r#"{"type": "RandomCrop"}"#, "missing required field 'crop_size'"),
        ] {
            let message = refused(json);
            assert!(message.contains(part), "{json}: {message}");
        }
    }

    proptest! {
        #[test]
        fn sizes_are_within_what_is_asked(h in 1usize..90, w in 1usize..90, a in 1usize..50, more in 0usize..50, seed in any::<u64>()) {
            let b = a + more;
            let mut rng = Rng::new(seed);
            let size = cropper(&format!(r#"{{"crop_size": [{a}, {b}]}}"#)).size(h, w, &mut rng);
            prop_assert_eq!(size, [h.min(a), w.min(b)]);
            let [ch, cw] =
                cropper(&format!(r#"{{"crop_size": [{a}, {b}], "crop_type": "absolute_range"}}"#)).size(h, w, &mut rng);
            prop_assert!((h.min(a)..=h.min(b)).contains(&ch) && (w.min(a)..=w.min(b)).contains(&cw));
            let fraction = a as f64 / 50.0;
            let json = format!(r#"{{"crop_size": [{fraction}, {fraction}], "crop_type": "relative_range"}}"#);
            let [ch, cw] = cropper(&json).size(h, w, &mut rng);
            prop_assert!(ch <= h && cw <= w && ch as f64 >= (h as f64 * fraction - 0.51) && cw as f64 >= (w as f64 * fraction - 0.51));
        }

        #[test]
        fn boxes_stay_inside_and_aligned_with_labels(seed in any::<u64>(), size in 1usize..60) {
            let json = format!(r#"{{"type": "RandomCrop", "crop_size": [{size}, {size}], "allow_negative_crop": true}}"#);
            let r = step(&json).unwrap().apply(sample(), &mut Rng::new(seed)).unwrap().unwrap();
            let [h, w, _] = r.img.as_ref().map(Picture::shape).unwrap();
            prop_assert_eq!([h, w], [size.min(37), size.min(53)]);
            let boxes = r.gt_bboxes.unwrap();
            prop_assert_eq!(boxes.len(), r.gt_labels.unwrap().len());
            for b in boxes {
                prop_assert!(b[0] >= 0.0 && b[1] >= 0.0 && b[2] <= w as f32 && b[3] <= h as f32 && b[0] < b[2] && b[1] < b[3]);
            }
        }
    }
}
