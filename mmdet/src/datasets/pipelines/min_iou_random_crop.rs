//! SSD's random crop.

use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::crop::cut;
use super::options::{ensure, yes};
use super::results::BoxField;
use super::{PIPELINES, Results, Transform};
use crate::core::BBox;

/// `type = "MinIoURandomCrop"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MinIoURandomCropConfig {
    /// One is drawn; every box must overlap the crop at least so much.
    #[serde(default = "min_ious")]
    pub min_ious: Vec<f64>,
    /// The crop is at least this fraction of the image high and wide.
    #[serde(default = "min_crop_size")]
    pub min_crop_size: f64,
    /// Clips boxes to the crop.
    #[serde(default = "yes")]
    pub bbox_clip_border: bool,
}

fn min_ious() -> Vec<f64> {
    vec![0.1, 0.3, 0.5, 0.7, 0.9]
}

fn min_crop_size() -> f64 {
    0.3
}

/// Crops such that each box overlaps the crop by a drawn threshold; boxes whose centre falls outside are left out.
/// The whole image (1) and any crop (0) are drawn as often as each threshold.
pub struct MinIoURandomCrop {
    cfg: MinIoURandomCropConfig,
    modes: Vec<f64>,
}

const NAME: &str = "MinIoURandomCrop";
/// Tries with one threshold before another is drawn.
const TRIES: usize = 50;

impl MinIoURandomCrop {
    /// An error when `min_crop_size` is not in `(0, 1]`.
    pub fn new(cfg: &MinIoURandomCropConfig) -> Result<Self> {
        ensure(cfg.min_crop_size > 0.0 && cfg.min_crop_size <= 1.0, || {
            format!("{NAME}: min_crop_size {} is not in (0, 1]", cfg.min_crop_size)
        })?;
        let modes = std::iter::once(1.0).chain(cfg.min_ious.iter().copied()).chain([0.0]).collect();
        Ok(Self { cfg: cfg.clone(), modes })
    }

    /// A crop `[x1, y1, x2, y2]` of an image of `h` x `w`, if it is neither too long nor empty.
    fn patch(&self, h: usize, w: usize, rng: &mut Rng) -> Option<[usize; 4]> {
        let (h, w, least) = (h as f64, w as f64, self.cfg.min_crop_size);
        let new_w = rng.uniform(least * w, w);
        let new_h = rng.uniform(least * h, h);
        if !(0.5..=2.0).contains(&(new_h / new_w)) {
            return None;
        }
        // numpy's uniform(low) has high = 1: left is between 1 and w - new_w.
        let left = rng.uniform(w - new_w, 1.0);
        let top = rng.uniform(h - new_h, 1.0);
        let patch = [left, top, left + new_w, top + new_h].map(|v| v as usize);
        (patch[2] != patch[0] && patch[3] != patch[1]).then_some(patch)
    }

    fn crop(&self, mut results: Results, patch: [usize; 4]) -> Result<Results> {
        let [x1, y1, x2, y2] = patch;
        let p = patch.map(|v| v as f32);
        for field in BoxField::ALL {
            let Some(boxes) = results.boxes_mut(field) else { continue };
            let keep: Vec<bool> = boxes.iter().map(|b| centre_inside(b, p)).collect();
            for b in boxes.iter_mut() {
                if self.cfg.bbox_clip_border {
                    *b = [b[0].max(p[0]), b[1].max(p[1]), b[2].min(p[2]), b[3].min(p[3])];
                }
                *b = [b[0] - p[0], b[1] - p[1], b[2] - p[0], b[3] - p[1]];
            }
            results.keep_boxes(field, &keep);
            if field != BoxField::Gt {
                continue;
            }
            if let Some(masks) = results.gt_masks.take() {
                results.gt_masks = Some(masks.crop(patch));
            }
        }
        self.crop_image(results, [x1, y1, x2 - x1, y2 - y1])
    }

    fn crop_image(&self, mut results: Results, rect: [usize; 4]) -> Result<Results> {
        let image = results.take_image(NAME)?;
        let image = cut(&image, rect);
        results.img_shape = Some(image.shape());
        results.set_image(image);
        if let Some(seg) = results.gt_semantic_seg.take() {
            results.gt_semantic_seg = Some(cut(&seg, rect));
        }
        Ok(results)
    }
}

fn centre_inside(b: &BBox, p: [f32; 4]) -> bool {
    let (x, y) = ((b[0] + b[2]) / 2.0, (b[1] + b[3]) / 2.0);
    x > p[0] && y > p[1] && x < p[2] && y < p[3]
}

/// mmdet's evaluation `bbox_overlaps` of one pair.
fn iou(a: [f32; 4], b: &BBox) -> f32 {
    let area = |b: &[f32; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    let w = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let h = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let union = area(&a) + area(b) - w * h;
    w * h / union.max(1e-6)
}

impl Transform for MinIoURandomCrop {
    fn apply(&self, results: Results, rng: &mut Rng) -> Result<Option<Results>> {
        let [h, w, _] = results.picture(NAME)?.shape();
        let mut all: Vec<BBox> = Vec::new();
        let mut results = results;
        for field in BoxField::ALL {
            all.extend(results.boxes_mut(field).into_iter().flatten().map(|b| *b));
        }
        loop {
            let mode = self.modes[rng.below(self.modes.len())];
            if mode == 1.0 {
                return Ok(Some(results));
            }
            for _ in 0..TRIES {
                let Some(patch) = self.patch(h, w, rng) else { continue };
                let p = patch.map(|v| v as f32);
                let low = all.iter().any(|b| f64::from(iou(p, b)) < mode);
                if low || (!all.is_empty() && !all.iter().any(|b| centre_inside(b, p))) {
                    continue;
                }
                return self.crop(results, patch).map(Some);
            }
        }
    }
}

register!(PIPELINES: dyn Transform, "MinIoURandomCrop" => MinIoURandomCrop(MinIoURandomCropConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{bitmap, bytes, image, refused, sample, step};
    use super::super::{InstanceMasks, Picture};
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn cropper(json: &str) -> MinIoURandomCrop {
        MinIoURandomCrop::new(&mmcv::config::Node::from_json(json).unwrap().parse().unwrap()).unwrap()
    }

    fn two_boxes() -> Results {
        let InstanceMasks::Bitmap { height, width, masks } = bitmap() else { panic!("bitmaps") };
        Results {
            gt_bboxes: Some(vec![[3.5, 4.25, 40.75, 30.5], [0.0, 0.0, 30.0, 33.0]]),
            gt_labels: Some(vec![0, 1]),
            gt_bboxes_ignore: Some(vec![]),
            gt_masks: Some(InstanceMasks::Bitmap { height, width, masks: vec![masks[0].clone(); 2] }),
            ..sample()
        }
    }

    #[test]
    fn a_crop_is_mmdets() {
        // MinIoURandomCrop(min_ious=(0.3,))(two_boxes), choice giving 0.3, uniform 40.7, 30.2, 2.9, 1.5
        let r = cropper("{}").crop(two_boxes(), [2, 1, 43, 31]).unwrap();
        assert_eq!(r.img_shape, Some([30, 41, 3]));
        assert_eq!(r.gt_bboxes.as_deref().unwrap(), [[1.5, 3.25, 38.75, 29.5], [0.0, 0.0, 28.0, 30.0]]);
        assert_eq!(r.gt_labels.as_deref().unwrap(), [0, 1]);
        let masks = r.gt_masks.as_ref().unwrap();
        assert_eq!((masks.size(), masks.areas()), ([30, 41], vec![328.0, 328.0]));
        assert_eq!(bytes(&image(&r))[..3], [29, 58, 87]);
    }

    #[test]
    fn overlap_is_mmdets() {
        // bbox_overlaps(np.array([[2, 1, 43, 31]]), np.array([[3.5, 4.25, 40.75, 30.5], [50, 35, 53, 37]]))
        let p = [2.0, 1.0, 43.0, 31.0];
        assert_eq!(iou(p, &[3.5, 4.25, 40.75, 30.5]), 0.794_969_5);
        assert_eq!(iou(p, &[50.0, 35.0, 53.0, 37.0]), 0.0);
    }

    #[test]
    fn bad_options_are_refused() {
        assert!(refused(r#"{"type": "MinIoURandomCrop", "min_crop_size": 0}"#).contains("min_crop_size 0"));
    }

    proptest! {
        #[test]
        fn crops_are_inside_and_not_too_long(h in 1usize..300, w in 1usize..300, seed in any::<u64>()) {
            let (mut rng, step) = (Rng::new(seed), cropper("{}"));
            for _ in 0..20 {
                if let Some([x1, y1, x2, y2]) = step.patch(h, w, &mut rng) {
                    prop_assert!(x1 < x2 && y1 < y2 && x2 <= w && y2 <= h, "{:?}", [x1, y1, x2, y2]);
                }
            }
        }

        #[test]
        fn what_is_left_overlaps_as_asked(seed in any::<u64>(), min_iou in 0.05f64..0.9) {
            let json = format!(r#"{{"type": "MinIoURandomCrop", "min_ious": [{min_iou}]}}"#);
            let r = step(&json).unwrap().apply(two_boxes(), &mut Rng::new(seed)).unwrap().unwrap();
            let [h, w, _] = r.img.as_ref().map(Picture::shape).unwrap();
            let (boxes, labels) = (r.gt_bboxes.unwrap(), r.gt_labels.unwrap());
            prop_assert!(!boxes.is_empty() && boxes.len() == labels.len());
            prop_assert_eq!(boxes.len(), r.gt_masks.unwrap().len());
            for b in boxes {
                prop_assert!(b[0] >= 0.0 && b[1] >= 0.0 && b[2] <= w as f32 && b[3] <= h as f32, "{:?}", b);
            }
        }

        #[test]
        fn an_image_without_boxes_is_cropped_too(seed in any::<u64>()) {
            let empty = Results { gt_bboxes: Some(vec![]), gt_labels: Some(vec![]), gt_bboxes_ignore: None, ..sample() };
            let r = step(r#"{"type": "MinIoURandomCrop"}"#).unwrap().apply(empty, &mut Rng::new(seed)).unwrap().unwrap();
            prop_assert_eq!(r.gt_labels.unwrap().len(), 0);
        }
    }
}
