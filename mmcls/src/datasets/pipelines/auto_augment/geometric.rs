//! Shearing, moving and turning by a magnitude; mmcls's `Shear`, `Translate` and `Rotate`.

use mmcv::config::OneOrMany;
use mmcv::image::{FlipDirection, Interpolation, Warp, imrotate, imshear, imtranslate};
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{half, probability, signed, skipped};
use crate::datasets::pipelines::{PIPELINES, Results, Transform, ensure};

fn grey() -> OneOrMany<i64> {
    OneOrMany::One(128)
}
fn horizontal() -> FlipDirection {
    FlipDirection::Horizontal
}
fn bicubic() -> Interpolation {
    Interpolation::Bicubic
}
fn nearest() -> Interpolation {
    Interpolation::Nearest
}
fn one() -> f64 {
    1.0
}

/// The fill of three channels.
fn fill(pad_val: &OneOrMany<i64>) -> Result<[f64; 3]> {
    let values = pad_val.to_vec();
    match (pad_val, values.as_slice()) {
        (OneOrMany::One(v), _) => Ok([*v as f64; 3]),
        (_, [a, b, c]) => Ok([*a as f64, *b as f64, *c as f64]),
        _ => Err(Error::config(format!("is {values:?}, expected a whole number or 3")).under("pad_val")),
    }
}

fn straight(direction: FlipDirection) -> Result<()> {
    ensure(direction != FlipDirection::Diagonal, "direction", || "expected horizontal or vertical".into())
}

/// `type = "Shear"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShearConfig {
    /// Pixels of shift for each pixel across.
    pub magnitude: f64,
    /// Fill, a whole number or one for each of three channels; default 128.
    #[serde(default = "grey")]
    pub pad_val: OneOrMany<i64>,
    /// Probability; default 0.5.
    #[serde(default = "half")]
    pub prob: f64,
    /// `horizontal` or `vertical`; default `horizontal`.
    #[serde(default = "horizontal")]
    pub direction: FlipDirection,
    /// Probability that the magnitude is negated; default 0.5.
    #[serde(default = "half")]
    pub random_negative_prob: f64,
    /// `nearest`, `bilinear`, `bicubic`, `area` or `lanczos`; default `bicubic`.
    #[serde(default = "bicubic")]
    pub interpolation: Interpolation,
}

/// Shears the image now and then.
pub struct Shear {
    cfg: ShearConfig,
    fill: [f64; 3],
}

impl Shear {
    /// An error for probabilities, a fill or a direction that are none.
    pub fn new(cfg: &ShearConfig) -> Result<Self> {
        probability(cfg.prob, "prob")?;
        probability(cfg.random_negative_prob, "random_negative_prob")?;
        straight(cfg.direction)?;
        Ok(Self { cfg: cfg.clone(), fill: fill(&cfg.pad_val)? })
    }
}

impl Transform for Shear {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        if skipped(self.cfg.prob, rng) {
            return Ok(());
        }
        let magnitude = signed(self.cfg.magnitude, self.cfg.random_negative_prob, rng);
        let image = results.take_image("Shear")?;
        let warp = Warp { interpolation: self.cfg.interpolation, border_value: &self.fill, ..Warp::default() };
        results.img = Some(imshear(&image, magnitude, self.cfg.direction, warp)?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "Shear" => Shear(ShearConfig));

/// `type = "Translate"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TranslateConfig {
    /// Share of the image's side that it is moved by.
    pub magnitude: f64,
    /// Fill, a whole number or one for each of three channels; default 128.
    #[serde(default = "grey")]
    pub pad_val: OneOrMany<i64>,
    /// Probability; default 0.5.
    #[serde(default = "half")]
    pub prob: f64,
    /// `horizontal` or `vertical`; default `horizontal`.
    #[serde(default = "horizontal")]
    pub direction: FlipDirection,
    /// Probability that the magnitude is negated; default 0.5.
    #[serde(default = "half")]
    pub random_negative_prob: f64,
    /// `nearest`, `bilinear`, `bicubic`, `area` or `lanczos`; default `nearest`.
    #[serde(default = "nearest")]
    pub interpolation: Interpolation,
}

/// Moves the image now and then.
pub struct Translate {
    cfg: TranslateConfig,
    fill: [f64; 3],
}

impl Translate {
    /// An error for probabilities, a fill or a direction that are none.
    pub fn new(cfg: &TranslateConfig) -> Result<Self> {
        probability(cfg.prob, "prob")?;
        probability(cfg.random_negative_prob, "random_negative_prob")?;
        straight(cfg.direction)?;
        Ok(Self { cfg: cfg.clone(), fill: fill(&cfg.pad_val)? })
    }
}

impl Transform for Translate {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        if skipped(self.cfg.prob, rng) {
            return Ok(());
        }
        let magnitude = signed(self.cfg.magnitude, self.cfg.random_negative_prob, rng);
        let image = results.take_image("Translate")?;
        let side = if self.cfg.direction == FlipDirection::Horizontal { image.width() } else { image.height() };
        let warp = Warp { interpolation: self.cfg.interpolation, border_value: &self.fill, ..Warp::default() };
        results.img = Some(imtranslate(&image, magnitude * side as f64, self.cfg.direction, warp)?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "Translate" => Translate(TranslateConfig));

/// `type = "Rotate"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateConfig {
    /// Degrees clockwise.
    pub angle: f64,
    /// `(x, y)` to turn about; default the middle.
    #[serde(default)]
    pub center: Option<[f64; 2]>,
    /// Enlarges at the same time; default 1.
    #[serde(default = "one")]
    pub scale: f64,
    /// Fill, a whole number or one for each of three channels; default 128.
    #[serde(default = "grey")]
    pub pad_val: OneOrMany<i64>,
    /// Probability; default 0.5.
    #[serde(default = "half")]
    pub prob: f64,
    /// Probability that the angle is negated; default 0.5.
    #[serde(default = "half")]
    pub random_negative_prob: f64,
    /// `nearest`, `bilinear`, `bicubic`, `area` or `lanczos`; default `nearest`.
    #[serde(default = "nearest")]
    pub interpolation: Interpolation,
}

/// Turns the image now and then.
pub struct Rotate {
    cfg: RotateConfig,
    fill: [f64; 3],
}

impl Rotate {
    /// An error for probabilities or a fill that are none.
    pub fn new(cfg: &RotateConfig) -> Result<Self> {
        probability(cfg.prob, "prob")?;
        probability(cfg.random_negative_prob, "random_negative_prob")?;
        Ok(Self { cfg: cfg.clone(), fill: fill(&cfg.pad_val)? })
    }
}

impl Transform for Rotate {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        if skipped(self.cfg.prob, rng) {
            return Ok(());
        }
        let angle = signed(self.cfg.angle, self.cfg.random_negative_prob, rng);
        let image = results.take_image("Rotate")?;
        let centre = self.cfg.center.map(|[x, y]| (x, y));
        let warp = Warp { interpolation: self.cfg.interpolation, border_value: &self.fill, ..Warp::default() };
        results.img = Some(imrotate(&image, angle, centre, self.cfg.scale, false, warp)?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "Rotate" => Rotate(RotateConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, check};

    // build_from_cfg(cfg, PIPELINES)(dict(img=picture))['img'].ravel()
    #[test]
    fn values_are_mmcls() {
        check(
            r#"{"type": "Shear", "magnitude": 0.3, "prob": 1, "random_negative_prob": 0}"#,
            &[
                0, 37, 74, 111, 148, 185, 222, 3, 40, 77, 114, 151, 188, 225, 6, 56, 82, 108, 133, 172, 211, 45, 82,
                119, 68, 133, 170, 216, 47, 88, 103, 118, 151, 136, 177, 98, 143, 180, 35, 91, 128, 192, 110, 149, 189,
                127, 132, 135, 138, 156, 196, 235, 20, 59, 96, 148, 164, 201, 238, 24,
            ],
            0,
        );
        check(
            r#"{"type": "Shear", "magnitude": 0.3, "prob": 1, "random_negative_prob": 1, "direction": "vertical",
                "pad_val": [1, 2, 3], "interpolation": "bilinear"}"#,
            &[
                0, 37, 74, 124, 161, 198, 96, 29, 66, 116, 153, 190, 191, 20, 57, 43, 80, 117, 167, 204, 161, 35, 72,
                109, 159, 196, 233, 26, 63, 100, 86, 123, 160, 210, 167, 28, 78, 115, 152, 202, 239, 44, 50, 80, 110,
                129, 166, 203, 165, 15, 41, 39, 55, 70, 20, 25, 5, 1, 2, 3,
            ],
            0,
        );
        check(
            r#"{"type": "Translate", "magnitude": 0.4, "prob": 1, "random_negative_prob": 0}"#,
            &[
                128, 128, 128, 128, 128, 128, 0, 37, 74, 111, 148, 185, 222, 3, 40, 128, 128, 128, 128, 128, 128, 43,
                80, 117, 154, 191, 228, 9, 46, 83, 128, 128, 128, 128, 128, 128, 86, 123, 160, 197, 234, 15, 52, 89,
                126, 128, 128, 128, 128, 128, 128, 129, 166, 203, 240, 21, 58, 95, 132, 169,
            ],
            0,
        );
        check(
            r#"{"type": "Translate", "magnitude": 0.25, "prob": 1, "random_negative_prob": 1, "direction": "vertical",
                "pad_val": [9, 8, 7]}"#,
            &[
                43, 80, 117, 154, 191, 228, 9, 46, 83, 120, 157, 194, 231, 12, 49, 86, 123, 160, 197, 234, 15, 52, 89,
                126, 163, 200, 237, 18, 55, 92, 129, 166, 203, 240, 21, 58, 95, 132, 169, 206, 243, 24, 61, 98, 135, 9,
                8, 7, 9, 8, 7, 9, 8, 7, 9, 8, 7, 9, 8, 7,
            ],
            0,
        );
        check(
            r#"{"type": "Rotate", "angle": 30.0, "prob": 1, "random_negative_prob": 0}"#,
            &[
                43, 80, 117, 43, 80, 117, 111, 148, 185, 222, 3, 40, 128, 128, 128, 86, 123, 160, 197, 234, 15, 9, 46,
                83, 120, 157, 194, 77, 114, 151, 240, 21, 58, 197, 234, 15, 52, 89, 126, 120, 157, 194, 231, 12, 49,
                128, 128, 128, 95, 132, 169, 206, 243, 24, 18, 55, 92, 18, 55, 92,
            ],
            0,
        );
        check(
            r#"{"type": "Rotate", "angle": 30.0, "prob": 1, "random_negative_prob": 1, "center": [1, 2], "scale": 1.5,
                "interpolation": "bilinear", "pad_val": [1, 2, 3]}"#,
            &[
                131, 156, 193, 78, 89, 126, 45, 82, 119, 121, 158, 195, 114, 134, 171, 130, 167, 186, 123, 160, 123,
                55, 92, 111, 112, 149, 174, 173, 210, 142, 120, 157, 120, 197, 234, 15, 130, 129, 92, 98, 135, 145,
                175, 212, 65, 107, 138, 157, 183, 126, 89, 200, 63, 82, 92, 84, 112, 62, 79, 50,
            ],
            0,
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (wrong, words) in [
            (r#"{"type": "Shear", "magnitude": 1, "direction": "diagonal"}"#, "direction"),
            (r#"{"type": "Translate", "magnitude": 1, "pad_val": [1, 2]}"#, "pad_val"),
            (r#"{"type": "Rotate", "angle": 1, "prob": 2}"#, "prob"),
        ] {
            let e = applied(wrong).unwrap_err();
            assert!(e.is_usage() && e.to_string().contains(words), "{e}");
        }
    }
}
