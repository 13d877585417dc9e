//! A rectangle covered; mmcls's `Cutout`.

use mmcv::config::OneOrMany;
use mmcv::image::cutout;
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{half, probability, skipped};
use crate::datasets::pipelines::{PIPELINES, Results, Transform, ensure};

/// `type = "Cutout"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CutoutConfig {
    /// A side length, or `(height, width)`; fractions are cut off.
    pub shape: OneOrMany<f64>,
    /// Fill, a number or one for each of three channels; default 128.
    #[serde(default = "grey")]
    pub pad_val: OneOrMany<f64>,
    /// Probability; default 0.5.
    #[serde(default = "half")]
    pub prob: f64,
}

fn grey() -> OneOrMany<f64> {
    OneOrMany::One(128.0)
}

/// Covers a rectangle at a random place.
pub struct Cutout {
    shape: (usize, usize),
    pad_val: [f64; 3],
    prob: f64,
}

impl Cutout {
    /// An error for a shape or a fill that is none.
    pub fn new(cfg: &CutoutConfig) -> Result<Self> {
        probability(cfg.prob, "prob")?;
        let shape = cfg.shape.to_vec();
        let (h, w) = match (&cfg.shape, shape.as_slice()) {
            (OneOrMany::One(n), _) => (*n, *n),
            (_, [h, w]) => (*h, *w),
            _ => (-1.0, -1.0),
        };
        ensure(h >= 0.0 && w >= 0.0, "shape", || format!("is {shape:?}, expected a length or (height, width)"))?;
        let values = cfg.pad_val.to_vec();
        let pad_val = match (&cfg.pad_val, values.as_slice()) {
            (OneOrMany::One(v), _) => [*v; 3],
            (_, [a, b, c]) => [*a, *b, *c],
            _ => {
                let message = format!("is {values:?}, expected a number or 3");
                return Err(Error::config(message).under("pad_val"));
            }
        };
        Ok(Self { shape: (h as usize, w as usize), pad_val, prob: cfg.prob })
    }
}

impl Transform for Cutout {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        if skipped(self.prob, rng) {
            return Ok(());
        }
        let image = results.take_image("Cutout")?;
        // As mmcv's `np.random.uniform(img_h)`: from the side down to 1, not from 0.
        let y = rng.uniform(image.height() as f64, 1.0);
        let x = rng.uniform(image.width() as f64, 1.0);
        results.img = Some(cutout(&image, self.shape, (y, x), &self.pad_val)?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "Cutout" => Cutout(CutoutConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, picture};
    use mmcv::image::Pixels;

    #[test]
    fn a_rectangle_is_covered() {
        let Pixels::U8(before) = picture().into_pixels() else { panic!("bytes") };
        let after = applied(r#"{"type": "Cutout", "shape": [1, 1.9], "pad_val": [1, 2, 3], "prob": 1}"#).unwrap();
        let covered = after.chunks_exact(3).filter(|p| **p == [1, 2, 3]).count();
        let kept = after.chunks_exact(3).zip(before.chunks_exact(3)).filter(|(a, b)| a == b).count();
        assert!(covered <= 1 && covered + kept == 20, "{covered} {kept}");
        let all = applied(r#"{"type": "Cutout", "shape": 20, "pad_val": 7, "prob": 1.0}"#).unwrap();
        assert!(all.contains(&7));
        assert_eq!(applied(r#"{"type": "Cutout", "shape": 2, "prob": 0}"#).unwrap(), before);
        for wrong in [r#""shape": [1, 2, 3]"#, r#""shape": -1"#, r#""shape": 1, "pad_val": [1, 2]"#] {
            let e = applied(&format!(r#"{{"type": "Cutout", {wrong}}}"#)).unwrap_err();
            assert!(e.is_usage(), "{e}");
        }
    }
}
