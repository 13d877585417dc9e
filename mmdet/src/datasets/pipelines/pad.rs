//! Padding.

use mmcv::image::{PadMode, impad};
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::{OneOrMany, ensure};
use super::{PIPELINES, Results, Transform};

/// Fill values.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PadVal {
    /// Of images and masks; 255 of semantic maps.
    Number(f64),
    /// Of each kind.
    Each(PadVals),
}

/// Fill values of each kind.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PadVals {
    /// Of images: one per channel, or one number, which is the first channel's while the others get 0 (as in cv2).
    #[serde(default = "zero")]
    pub img: OneOrMany<f64>,
    /// Of instance masks.
    #[serde(default)]
    pub masks: f64,
    /// Of semantic maps.
    #[serde(default = "ignored")]
    pub seg: f64,
}

fn zero() -> OneOrMany<f64> {
    OneOrMany::One(0.0)
}

fn ignored() -> f64 {
    255.0
}

impl Default for PadVal {
    fn default() -> Self {
        Self::Each(PadVals { img: zero(), masks: 0.0, seg: ignored() })
    }
}

/// `type = "Pad"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PadConfig {
    /// `(height, width)` to pad to.
    #[serde(default)]
    pub size: Option<[usize; 2]>,
    /// Height and width become multiples of this.
    #[serde(default)]
    pub size_divisor: Option<usize>,
    /// Height and width become the greater of both.
    #[serde(default)]
    pub pad_to_square: bool,
    /// Fill values.
    #[serde(default)]
    pub pad_val: PadVal,
}

/// Pads image, masks and semantic map at the right and bottom.
pub struct Pad {
    cfg: PadConfig,
    values: PadVals,
}

impl Pad {
    /// An error unless exactly one of the three sizes is asked for.
    pub fn new(cfg: &PadConfig) -> Result<Self> {
        let ways = [cfg.size.is_some(), cfg.size_divisor.is_some(), cfg.pad_to_square];
        ensure(ways.iter().filter(|w| **w).count() == 1, || {
            "Pad: set exactly one of size, size_divisor and pad_to_square".into()
        })?;
        ensure(cfg.size_divisor != Some(0), || "Pad: size_divisor is 0".into())?;
        let values = match &cfg.pad_val {
            PadVal::Number(v) => PadVals { img: OneOrMany::One(*v), masks: *v, seg: ignored() },
            PadVal::Each(values) => values.clone(),
        };
        Ok(Self { cfg: cfg.clone(), values })
    }

    fn size(&self, h: usize, w: usize) -> [usize; 2] {
        match (self.cfg.size, self.cfg.size_divisor) {
            (Some(size), _) => size,
            (None, Some(n)) => [h.div_ceil(n) * n, w.div_ceil(n) * n],
            (None, None) => [h.max(w); 2],
        }
    }
}

impl Transform for Pad {
    fn apply(&self, mut results: Results, _: &mut Rng) -> Result<Option<Results>> {
        let picture = results.img.take().ok_or_else(|| results.missing("Pad", "img"))?;
        let [h, w, c] = picture.shape();
        let value = self.values.img.to_vec();
        if value.len() != 1 && value.len() != c {
            return Err(Error::config(format!("Pad: {} fill values for {c} channels", value.len())));
        }
        let picture = picture.pad(self.size(h, w), &value)?;
        let shape = picture.shape();
        results.img = Some(picture);
        results.pad_shape = Some(shape);
        if let Some(masks) = results.gt_masks.take() {
            results.gt_masks = Some(masks.pad([shape[0], shape[1]], self.values.masks)?);
        }
        if let Some(seg) = results.gt_semantic_seg.take() {
            let seg = impad(&seg, (shape[0], shape[1]), &[self.values.seg], PadMode::Constant)?;
            results.gt_semantic_seg = Some(seg);
        }
        Ok(Some(results))
    }
}

register!(PIPELINES: dyn Transform, "Pad" => Pad(PadConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{bitmap, image, refused, run, sample, sum};
    use super::*;
    use mmcv::image::{Image, Pixels};

    #[test]
    fn sizes_and_values_are_as_asked() {
        let before = sum(&image(&sample()));
        // Pad(size=(40, 60), pad_val=5)(sample)['img'].sum() - sample['img'].sum() == 2195 == 5 * (40 * 60 - 37 * 53): cv2 takes
        // one number for the first channel's and 0 for the others'.
        for (json, size, value) in [
            (r#"{"type": "Pad", "size_divisor": 32}"#, [64, 64], 0),
            (r#"{"type": "Pad", "size": [40, 60], "pad_val": 5}"#, [40, 60], 5),
            (r#"{"type": "Pad", "pad_to_square": true, "pad_val": {"img": [1, 2, 3]}}"#, [53, 53], 6),
            // Pad doesn't crop.
            (r#"{"type": "Pad", "size": [10, 60], "pad_val": {"img": 4}}"#, [37, 60], 4),
        ] {
            let r = run(json, sample());
            assert_eq!(r.pad_shape, Some([size[0], size[1], 3]), "{json}");
            assert_eq!(r.img_shape, Some([37, 53, 3]));
            assert_eq!(sum(&image(&r)), before + value * (size[0] * size[1] - 37 * 53) as u64, "{json}");
        }
    }

    #[test]
    fn masks_and_semantic_maps_have_their_own_value() {
        let seg = Image::new(37, 53, 1, Pixels::U8(vec![3; 37 * 53])).unwrap();
        let all = Results { gt_masks: Some(bitmap()), gt_semantic_seg: Some(seg), ..sample() };
        let r = run(r#"{"type": "Pad", "size": [64, 64], "pad_val": 1}"#, all);
        assert_eq!(r.gt_masks.unwrap().areas(), [2463.0]);
        assert_eq!(sum(&r.gt_semantic_seg.unwrap()), 3 * 37 * 53 + 255 * (64 * 64 - 37 * 53));
    }

    #[test]
    fn bad_options_are_refused() {
        for (json, part) in [
            (r#"{"type": "Pad"}"#, "exactly one of"),
            (r#"{"type": "Pad", "size": [1, 2], "size_divisor": 32}"#, "exactly one of"),
            (r#"{"type": "Pad", "pad_to_square": true, "size_divisor": 32}"#, "exactly one of"),
            (r#"{"type": "Pad", "size_divisor": 0}"#, "size_divisor is 0"),
        ] {
            let message = refused(json);
            assert!(message.contains(part), "{json}: {message}");
        }
    }
}
