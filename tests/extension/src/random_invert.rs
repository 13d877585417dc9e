//! Negatives.

use mmcv::image::iminvert;
use mmcv::{Result, Rng, register};
use mmdet::datasets::pipelines::{PIPELINES, Picture, Results, Transform};
use schemars::JsonSchema;
use serde::Deserialize;

/// `type = "RandomInvert"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomInvertConfig {
    /// How often the image is inverted, 0 to 1.
    pub prob: f64,
}

/// Turns an image into its negative.
pub struct RandomInvert(RandomInvertConfig);

impl RandomInvert {
    /// An error unless `prob` is a probability.
    pub fn new(cfg: &RandomInvertConfig) -> Result<Self> {
        if !(0.0..=1.0).contains(&cfg.prob) {
            return Err(mmcv::Error::config(format!("is {}, expected 0 to 1", cfg.prob)).under("prob"));
        }
        Ok(Self(cfg.clone()))
    }
}

impl Transform for RandomInvert {
    fn apply(&self, mut results: Results, rng: &mut Rng) -> Result<Option<Results>> {
        if rng.chance(self.0.prob) {
            let picture = results.img.take().ok_or_else(|| results.error("RandomInvert: there is no image yet"))?;
            results.img = Some(Picture::new(iminvert(&picture.into_image()?)));
        }
        Ok(Some(results))
    }
}

register!(PIPELINES: dyn Transform, "RandomInvert" => RandomInvert(RandomInvertConfig));
