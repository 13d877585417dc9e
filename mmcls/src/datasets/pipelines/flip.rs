//! Mirroring; mmcls's `RandomFlip`.

use mmcv::image::{FlipDirection, imflip};
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PIPELINES, Results, Transform, ensure};

/// `type = "RandomFlip"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomFlipConfig {
    /// Probability; default 0.5.
    #[serde(default = "half")]
    pub flip_prob: f64,
    /// `horizontal` or `vertical`; default `horizontal`.
    #[serde(default = "horizontal")]
    pub direction: FlipDirection,
}

fn half() -> f64 {
    0.5
}
fn horizontal() -> FlipDirection {
    FlipDirection::Horizontal
}

/// Mirrors the image now and then.
pub struct RandomFlip(RandomFlipConfig);

impl RandomFlip {
    /// An error unless the probability is one.
    pub fn new(cfg: &RandomFlipConfig) -> Result<Self> {
        let p = cfg.flip_prob;
        ensure((0.0..=1.0).contains(&p), "flip_prob", || format!("is {p}, expected 0 to 1"))?;
        ensure(cfg.direction != FlipDirection::Diagonal, "direction", || "expected horizontal or vertical".into())?;
        Ok(Self(cfg.clone()))
    }
}

impl Transform for RandomFlip {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        let image = results.take_image("RandomFlip")?;
        results.img = Some(if rng.chance(self.0.flip_prob) { imflip(&image, self.0.direction) } else { image });
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "RandomFlip" => RandomFlip(RandomFlipConfig));
