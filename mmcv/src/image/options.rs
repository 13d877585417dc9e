//! The named choices of image reading and geometry, spelt as in mmcv's configs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `flag` of [`imread`](super::imread): what comes out of a file, whatever is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColorFlag {
    /// Three channels, 8 bit, turned upright by EXIF.
    #[default]
    Color,
    /// One channel, 8 bit, turned upright by EXIF.
    Grayscale,
    /// As stored: 16-bit values, alpha, one channel for grey; not turned.
    Unchanged,
    /// `color`, not turned.
    ColorIgnoreOrientation,
    /// `grayscale`, not turned.
    GrayscaleIgnoreOrientation,
}

impl ColorFlag {
    /// Whether one channel is wanted.
    pub(crate) fn is_gray(self) -> bool {
        matches!(self, Self::Grayscale | Self::GrayscaleIgnoreOrientation)
    }

    /// Whether EXIF turns the picture.
    pub(crate) fn turns(self) -> bool {
        matches!(self, Self::Color | Self::Grayscale)
    }
}

/// Order of the colour channels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Blue first, mmcv's default.
    #[default]
    Bgr,
    /// Red first.
    Rgb,
}

/// `imdecode_backend`: whose conventions decoding follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageBackend {
    /// cv2's numbers (the default). JPEG by libjpeg-turbo under the feature `turbojpeg`.
    #[default]
    Cv2,
    /// Pillow's: a palette picture read `unchanged` gives its indices, grey is made by Pillow's weights.
    Pillow,
    /// PyTurboJPEG's: JPEG only, `color` and `grayscale` only, EXIF never turns.
    Turbojpeg,
    /// tifffile's: TIFF only, channels as stored whatever the flag says.
    Tifffile,
    /// cv2's conventions with decoders in Rust alone; JPEG differs from cv2 by some levels.
    Image,
    /// OpenCV itself, under the cargo feature `opencv`.
    Opencv,
}

/// `interpolation`, with cv2's meaning of each name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// `INTER_NEAREST`.
    Nearest,
    /// `INTER_LINEAR`.
    #[default]
    Bilinear,
    /// `INTER_CUBIC`, a = -0.75.
    Bicubic,
    /// `INTER_AREA`.
    Area,
    /// `INTER_LANCZOS4`.
    Lanczos,
}

/// `padding_mode` of [`impad`](super::impad).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PadMode {
    /// `pad_val`.
    #[default]
    Constant,
    /// The edge repeated: `aaa|abcd|ddd`.
    Edge,
    /// Mirrored about the edge pixel: `dcb|abcd|cba`.
    Reflect,
    /// Mirrored with the edge pixel repeated: `cba|abcd|dcb`.
    Symmetric,
}

/// `scale` of [`imrescale`](super::imrescale).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scale {
    /// A factor.
    Factor(f64),
    /// The largest box to fit in, long and short edge in either order.
    Within(usize, usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mmcvs() {
        let flag: ColorFlag = serde_json::from_str("\"color_ignore_orientation\"").unwrap();
        assert_eq!(flag, ColorFlag::ColorIgnoreOrientation);
        assert_eq!(serde_json::to_string(&Interpolation::Lanczos).unwrap(), "\"lanczos\"");
        assert_eq!(serde_json::from_str::<ImageBackend>("\"cv2\"").unwrap(), ImageBackend::Cv2);
        assert_eq!(serde_json::from_str::<Scale>("[1333, 800]").unwrap(), Scale::Within(1333, 800));
    }
}
