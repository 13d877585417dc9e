//! Normalising; mmcls's `Normalize`.

use mmcv::image::imnormalize;
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PIPELINES, Results, Transform, ensure};

/// `type = "Normalize"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NormalizeConfig {
    /// Subtracted, per channel, in the order after `to_rgb`.
    pub mean: Vec<f64>,
    /// Divided by, per channel.
    pub std: Vec<f64>,
    /// BGR becomes RGB first (an image of one channel stays).
    #[serde(default = "yes")]
    pub to_rgb: bool,
}

fn yes() -> bool {
    true
}

/// Normalises the image; its values are f32 after that.
pub struct Normalize(NormalizeConfig);

impl Normalize {
    /// An error when the lists differ in length or a deviation is 0.
    pub fn new(cfg: &NormalizeConfig) -> Result<Self> {
        let (m, s) = (cfg.mean.len(), cfg.std.len());
        ensure(m == s, "std", || format!("has {s} values, mean has {m}"))?;
        ensure(cfg.std.iter().all(|v| *v != 0.0), "std", || "a value is 0".into())?;
        Ok(Self(cfg.clone()))
    }
}

impl Transform for Normalize {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        let image = results.take_image("Normalize")?;
        let swap = self.0.to_rgb && image.channels() == 3;
        results.img = Some(imnormalize(&image, &self.0.mean, &self.0.std, swap)?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "Normalize" => Normalize(NormalizeConfig));
