//! Normalising.

use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::{ensure, yes};
use super::{PIPELINES, Results, Transform};
use crate::core::ImgNormCfg;

/// `type = "Normalize"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NormalizeConfig {
    /// Subtracted, per channel, in the order after `to_rgb`.
    pub mean: Vec<f32>,
    /// Divided by, per channel.
    pub std: Vec<f32>,
    /// BGR becomes RGB first.
    #[serde(default = "yes")]
    pub to_rgb: bool,
}

/// Normalises the image; its values are f32 after that.
pub struct Normalize(ImgNormCfg);

impl Normalize {
    /// An error when the lists differ in length or a deviation is 0.
    pub fn new(cfg: &NormalizeConfig) -> Result<Self> {
        let NormalizeConfig { mean, std, to_rgb } = cfg.clone();
        ensure(mean.len() == std.len(), || format!("Normalize: {} means, {} deviations", mean.len(), std.len()))?;
        ensure(std.iter().all(|v| *v != 0.0), || "Normalize: a value of std is 0".into())?;
        Ok(Self(ImgNormCfg { mean, std, to_rgb }))
    }
}

impl Transform for Normalize {
    fn apply(&self, mut results: Results, _: &mut Rng) -> Result<Option<Results>> {
        let picture = results.img.take().ok_or_else(|| results.missing("Normalize", "img"))?;
        results.img = Some(picture.normalize(self.0.clone())?);
        results.img_norm_cfg = Some(self.0.clone());
        Ok(Some(results))
    }
}

register!(PIPELINES: dyn Transform, "Normalize" => Normalize(NormalizeConfig));
