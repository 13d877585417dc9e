//! More or less contrast, colour, light and sharpness by a magnitude; mmcls's `Contrast`, `ColorTransform`, `Brightness`
//! and `Sharpness`.

use mmcv::image::{Image, adjust_brightness, adjust_color, adjust_contrast, adjust_sharpness};
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{half, probability, signed, skipped};
use crate::datasets::pipelines::{PIPELINES, Results, Transform};

/// `type = "Contrast"`, `"ColorTransform"`, `"Brightness"` and `"Sharpness"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MagnitudeConfig {
    /// The factor is one more than this: 0 changes nothing, below it is less of the quality.
    pub magnitude: f64,
    /// Probability; default 0.5.
    #[serde(default = "half")]
    pub prob: f64,
    /// Probability that the magnitude is negated; default 0.5.
    #[serde(default = "half")]
    pub random_negative_prob: f64,
}

/// [`adjust_contrast`].
pub(in crate::datasets::pipelines) fn contrast(image: &Image, factor: f64) -> Result<Image> {
    adjust_contrast(image, factor)
}

/// [`adjust_color`] against its grey picture.
pub(in crate::datasets::pipelines) fn color(image: &Image, factor: f64) -> Result<Image> {
    adjust_color(image, factor, None, 0.0)
}

/// [`adjust_brightness`].
pub(in crate::datasets::pipelines) fn brightness(image: &Image, factor: f64) -> Result<Image> {
    Ok(adjust_brightness(image, factor))
}

fn sharpness(image: &Image, factor: f64) -> Result<Image> {
    adjust_sharpness(image, factor, None)
}

/// A step that changes the image by `$change(image, 1 + magnitude)`.
macro_rules! enhancement {
    ($(#[$doc:meta])* $name:ident, $text:literal, $change:path) => {
        $(#[$doc])*
        pub struct $name(MagnitudeConfig);

        impl $name {
            /// An error unless the probabilities are such.
            pub fn new(cfg: &MagnitudeConfig) -> Result<Self> {
                probability(cfg.prob, "prob")?;
                probability(cfg.random_negative_prob, "random_negative_prob")?;
                Ok(Self(cfg.clone()))
            }
        }

        impl Transform for $name {
            fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
                if skipped(self.0.prob, rng) {
                    return Ok(());
                }
                let image = results.take_image($text)?;
                let magnitude = signed(self.0.magnitude, self.0.random_negative_prob, rng);
                results.img = Some($change(&image, 1.0 + magnitude)?);
                Ok(())
            }
        }
    };
}

enhancement!(
    /// Away from the mean grey, or towards it.
    Contrast, "Contrast", contrast
);
enhancement!(
    /// Away from the grey picture, or towards it.
    ColorTransform, "ColorTransform", color
);
enhancement!(
    /// Lighter or darker.
    Brightness, "Brightness", brightness
);
enhancement!(
    /// Away from the smoothed picture, or towards it.
    Sharpness, "Sharpness", sharpness
);

register!(PIPELINES: dyn Transform, "Contrast" => Contrast(MagnitudeConfig));
register!(PIPELINES: dyn Transform, "ColorTransform" => ColorTransform(MagnitudeConfig));
register!(PIPELINES: dyn Transform, "Brightness" => Brightness(MagnitudeConfig));
register!(PIPELINES: dyn Transform, "Sharpness" => Sharpness(MagnitudeConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, check};

    // build_from_cfg(cfg, PIPELINES)(dict(img=picture))['img'].ravel(); blends are within 1 level of cv2's.
    #[test]
    fn values_are_mmcls() {
        check(
            r#"{"type": "Contrast", "magnitude": 0.4, "prob": 1, "random_negative_prob": 0}"#,
            &[
                0, 4, 56, 108, 160, 211, 255, 0, 8, 60, 112, 164, 216, 255, 0, 13, 64, 116, 168, 220, 255, 0, 17, 69,
                120, 172, 224, 255, 0, 21, 73, 125, 176, 228, 255, 0, 25, 77, 129, 181, 232, 255, 0, 29, 81, 133, 185,
                237, 255, 0, 34, 85, 137, 189, 241, 255, 0, 38, 90, 141,
            ],
            1,
        );
        check(
            r#"{"type": "ColorTransform", "magnitude": 0.4, "prob": 1, "random_negative_prob": 1}"#,
            &[
                18, 40, 62, 129, 151, 173, 149, 17, 40, 95, 117, 139, 175, 197, 66, 61, 83, 105, 172, 194, 216, 27, 49,
                71, 138, 160, 182, 158, 26, 49, 104, 126, 148, 184, 206, 75, 70, 92, 114, 181, 203, 225, 36, 58, 80,
                147, 169, 191, 167, 35, 58, 113, 135, 157, 193, 215, 84, 79, 101, 123,
            ],
            1,
        );
        check(
            r#"{"type": "Brightness", "magnitude": 0.4, "prob": 1, "random_negative_prob": 0}"#,
            &[
                0, 51, 103, 155, 207, 255, 255, 4, 56, 107, 159, 211, 255, 255, 8, 60, 112, 163, 215, 255, 255, 12, 64,
                116, 168, 219, 255, 255, 16, 68, 120, 172, 224, 255, 255, 21, 72, 124, 176, 228, 255, 255, 25, 77, 128,
                180, 232, 255, 255, 29, 81, 133, 184, 236, 255, 255, 33, 85, 137, 189,
            ],
            1,
        );
        check(
            r#"{"type": "Sharpness", "magnitude": 0.4, "prob": 1, "random_negative_prob": 1}"#,
            &[
                28, 65, 102, 103, 132, 169, 190, 34, 71, 93, 106, 135, 175, 196, 40, 63, 100, 121, 138, 167, 196, 40,
                69, 98, 120, 141, 170, 202, 46, 75, 106, 127, 148, 173, 202, 46, 75, 104, 126, 147, 176, 205, 52, 81,
                103, 141, 162, 168, 208, 52, 73, 110, 140, 153, 174, 211, 55, 79, 116, 138,
            ],
            1,
        );
    }

    #[test]
    fn probabilities_are_checked() {
        for wrong in [r#""prob": 1.5"#, r#""random_negative_prob": -0.1"#] {
            let e = applied(&format!(r#"{{"type": "Contrast", "magnitude": 0.1, {wrong}}}"#)).unwrap_err();
            assert!(e.is_usage() && e.to_string().contains("expected 0 to 1"), "{e}");
        }
    }
}
