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
            if let (BoxField::Gt, Some(masks)) = (field, results.gt_masks.take()) {
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
