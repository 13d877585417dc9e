//! Values changed one by one; mmcls's `AutoContrast`, `Invert`, `Equalize`, `Solarize`, `SolarizeAdd` and `Posterize`.

use mmcv::image::{Image, Pixels, auto_contrast, imequalize, iminvert, posterize, solarize};
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{half, probability, skipped};
use crate::datasets::pipelines::{PIPELINES, Results, Transform, ensure};

/// `type = "AutoContrast"`, `"Invert"` and `"Equalize"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbConfig {
    /// Probability; default 0.5.
    #[serde(default = "half")]
    pub prob: f64,
}

/// Stretches each channel's values to 0 to 255 now and then.
pub struct AutoContrast(f64);

impl AutoContrast {
    /// An error unless the probability is one.
    pub fn new(cfg: &ProbConfig) -> Result<Self> {
        probability(cfg.prob, "prob").map(|()| Self(cfg.prob))
    }
}

impl Transform for AutoContrast {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        if skipped(self.0, rng) {
            return Ok(());
        }
        let image = results.take_image("AutoContrast")?;
        results.img = Some(auto_contrast(&image, (0.0, 0.0))?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "AutoContrast" => AutoContrast(ProbConfig));

/// Makes a negative now and then.
pub struct Invert(f64);

impl Invert {
    /// An error unless the probability is one.
    pub fn new(cfg: &ProbConfig) -> Result<Self> {
        probability(cfg.prob, "prob").map(|()| Self(cfg.prob))
    }
}

impl Transform for Invert {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        if skipped(self.0, rng) {
            return Ok(());
        }
        let image = results.take_image("Invert")?;
        results.img = Some(iminvert(&image));
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "Invert" => Invert(ProbConfig));

/// Spreads each channel's values evenly now and then.
pub struct Equalize(f64);

impl Equalize {
    /// An error unless the probability is one.
    pub fn new(cfg: &ProbConfig) -> Result<Self> {
        probability(cfg.prob, "prob").map(|()| Self(cfg.prob))
    }
}

impl Transform for Equalize {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        if skipped(self.0, rng) {
            return Ok(());
        }
        let image = results.take_image("Equalize")?;
        results.img = Some(imequalize(&image)?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "Equalize" => Equalize(ProbConfig));

/// `type = "Solarize"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SolarizeConfig {
    /// Values of at least this are inverted.
    pub thr: f64,
    /// Probability; default 0.5.
    #[serde(default = "half")]
    pub prob: f64,
}

/// Inverts light values now and then.
pub struct Solarize(SolarizeConfig);

impl Solarize {
    /// An error unless the probability is one.
    pub fn new(cfg: &SolarizeConfig) -> Result<Self> {
        probability(cfg.prob, "prob").map(|()| Self(cfg.clone()))
    }
}

impl Transform for Solarize {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        if skipped(self.0.prob, rng) {
            return Ok(());
        }
        let image = results.take_image("Solarize")?;
        results.img = Some(solarize(&image, self.0.thr));
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "Solarize" => Solarize(SolarizeConfig));

/// A number that remembers whether it is whole, which numpy's arithmetic on bytes depends on.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Number {
    /// Python's `int`.
    Whole(i64),
    /// Python's `float`.
    Float(f64),
}

/// `type = "SolarizeAdd"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SolarizeAddConfig {
    /// Added to values below `thr`. Sums above 255 stay there, but of a whole number from 0 to 255 they wrap, as numpy's
    /// bytes do.
    pub magnitude: Number,
    /// Values of at least this stay; default 128.
    #[serde(default = "middle")]
    pub thr: f64,
    /// Probability; default 0.5.
    #[serde(default = "half")]
    pub prob: f64,
}

fn middle() -> f64 {
    128.0
}

/// Lightens dark values now and then.
pub struct SolarizeAdd(SolarizeAddConfig);

impl SolarizeAdd {
    /// An error unless the probability is one.
    pub fn new(cfg: &SolarizeAddConfig) -> Result<Self> {
        probability(cfg.prob, "prob").map(|()| Self(cfg.clone()))
    }

    fn byte(&self, v: u8) -> u8 {
        if f64::from(v) >= self.0.thr {
            return v;
        }
        match self.0.magnitude {
            Number::Whole(m) => match u8::try_from(m) {
                Ok(m) => v.wrapping_add(m),
                Err(_) => i64::from(v).saturating_add(m).min(255) as u8,
            },
            Number::Float(m) => (f64::from(v) + m).min(255.0) as i64 as u8,
        }
    }

    fn float(&self, v: f32) -> f32 {
        let magnitude = match self.0.magnitude {
            Number::Whole(m) => m as f32,
            Number::Float(m) => m as f32,
        };
        if f64::from(v) < self.0.thr { (v + magnitude).min(255.0) } else { v }
    }
}

impl Transform for SolarizeAdd {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        if skipped(self.0.prob, rng) {
            return Ok(());
        }
        let mut image: Image = results.take_image("SolarizeAdd")?;
        match image.pixels_mut() {
            Pixels::U8(v) => v.iter_mut().for_each(|v| *v = self.byte(*v)),
            Pixels::F32(v) => v.iter_mut().for_each(|v| *v = self.float(*v)),
        }
        results.img = Some(image);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "SolarizeAdd" => SolarizeAdd(SolarizeAddConfig));

/// `type = "Posterize"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PosterizeConfig {
    /// Bits of each value that are kept, at most 8; fractions are rounded up.
    pub bits: f64,
    /// Probability; default 0.5.
    #[serde(default = "half")]
    pub prob: f64,
}

/// Leaves fewer levels now and then.
pub struct Posterize {
    bits: u32,
    prob: f64,
}

impl Posterize {
    /// An error for more than 8 bits.
    pub fn new(cfg: &PosterizeConfig) -> Result<Self> {
        ensure(cfg.bits <= 8.0, "bits", || format!("is {}, expected at most 8", cfg.bits))?;
        probability(cfg.prob, "prob")?;
        // Below 0 nothing is left of a value either.
        Ok(Self { bits: cfg.bits.ceil().max(0.0) as u32, prob: cfg.prob })
    }
}

impl Transform for Posterize {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        if skipped(self.prob, rng) {
            return Ok(());
        }
        let image = results.take_image("Posterize")?;
        results.img = Some(posterize(&image, self.bits)?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "Posterize" => Posterize(PosterizeConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, check};

    // build_from_cfg(cfg, PIPELINES)(dict(img=picture))['img'].ravel()
    #[test]
    fn values_are_mmcls() {
        check(
            r#"{"type": "AutoContrast", "prob": 1}"#,
            &[
                0, 36, 75, 117, 154, 197, 235, 0, 37, 81, 117, 160, 199, 235, 0, 45, 81, 122, 163, 199, 245, 9, 45, 85,
                127, 163, 207, 245, 9, 47, 91, 127, 170, 209, 245, 9, 55, 91, 132, 173, 209, 255, 19, 55, 94, 137, 173,
                217, 255, 19, 57, 100, 137, 179, 218, 255, 19, 64, 100, 142,
            ],
            0,
        );
        let all: Vec<u8> = (0..60).map(|i| (i * 37 % 256) as u8).collect();
        check(r#"{"type": "Invert", "prob": 1}"#, &all.iter().map(|v| 255 - v).collect::<Vec<_>>(), 0);
        // Too few pixels to spread.
        check(r#"{"type": "Equalize", "prob": 1}"#, &all, 0);
        check(
            r#"{"type": "Solarize", "thr": 100, "prob": 1}"#,
            &[
                0, 37, 74, 144, 107, 70, 33, 3, 40, 77, 141, 104, 67, 30, 6, 43, 80, 138, 101, 64, 27, 9, 46, 83, 135,
                98, 61, 24, 12, 49, 86, 132, 95, 58, 21, 15, 52, 89, 129, 92, 55, 18, 18, 55, 92, 126, 89, 52, 15, 21,
                58, 95, 123, 86, 49, 12, 24, 61, 98, 120,
            ],
            0,
        );
        check(
            r#"{"type": "Posterize", "bits": 3.2, "prob": 1}"#,
            &[
                0, 32, 64, 96, 144, 176, 208, 0, 32, 64, 112, 144, 176, 224, 0, 32, 80, 112, 144, 176, 224, 0, 32, 80,
                112, 144, 192, 224, 0, 48, 80, 112, 160, 192, 224, 0, 48, 80, 112, 160, 192, 224, 16, 48, 80, 128, 160,
                192, 240, 16, 48, 80, 128, 160, 192, 240, 16, 48, 96, 128,
            ],
            0,
        );
        check(r#"{"type": "Posterize", "bits": 0, "prob": 1}"#, &[0; 60], 0);
        assert!(applied(r#"{"type": "Posterize", "bits": 8.5}"#).unwrap_err().is_usage());
    }

    // The first 24 of build_from_cfg(cfg, PIPELINES)(dict(img=picture))['img'].ravel()
    #[test]
    fn whole_and_broken_numbers_are_added_as_numpy_does() {
        let cases: [(&str, [u8; 24]); 4] = [
            (
                r#""magnitude": 200"#,
                [
                    200, 237, 18, 55, 148, 185, 222, 203, 240, 21, 58, 151, 188, 225, 206, 243, 24, 61, 154, 191, 228,
                    209, 246, 27,
                ],
            ),
            (
                r#""magnitude": 200.7"#,
                [
                    200, 237, 255, 255, 148, 185, 222, 203, 240, 255, 255, 151, 188, 225, 206, 243, 255, 255, 154, 191,
                    228, 209, 246, 255,
                ],
            ),
            (
                r#""magnitude": -60"#,
                [
                    196, 233, 14, 51, 148, 185, 222, 199, 236, 17, 54, 151, 188, 225, 202, 239, 20, 57, 154, 191, 228,
                    205, 242, 23,
                ],
            ),
            (
                r#""magnitude": -60.5, "thr": 90.5"#,
                [
                    196, 233, 13, 111, 148, 185, 222, 199, 236, 16, 114, 151, 188, 225, 202, 239, 19, 117, 154, 191,
                    228, 205, 242, 22,
                ],
            ),
        ];
        for (cfg, want) in cases {
            let found = applied(&format!(r#"{{"type": "SolarizeAdd", {cfg}, "prob": 1}}"#)).unwrap();
            assert_eq!(found[..24], want, "{cfg}");
        }
    }
}
