//! The one image type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The values of an image, row by row, channels innermost (HWC).
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// 0 to 255.
    U8(Vec<u8>),
    /// Any range; 16-bit files come as whole numbers 0 to 65535.
    F32(Vec<f32>),
}

impl Pixels {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::F32(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A picture of `height` x `width` x `channels`. Colour is BGR unless an operation says otherwise, as in mmcv.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    height: usize,
    width: usize,
    channels: usize,
    pixels: Pixels,
}

/// mmcv's flip directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FlipDirection {
    /// Left and right change places.
    Horizontal,
    /// Top and bottom change places.
    Vertical,
    /// Both.
    Diagonal,
}

impl Image {
    /// An image of `pixels`; an error when their number is not `height * width * channels`.
    pub fn new(height: usize, width: usize, channels: usize, pixels: Pixels) -> Result<Self> {
        let n = pixels.len();
        if n != height * width * channels {
            return Err(Error::Run(format!("an image of {height}x{width}x{channels} can't have {n} values")));
        }
        Ok(Self { height, width, channels, pixels })
    }

    /// An image whose number of values its maker has counted.
    pub(crate) fn made(height: usize, width: usize, channels: usize, pixels: Pixels) -> Self {
        debug_assert_eq!(height * width * channels, pixels.len());
        Self { height, width, channels, pixels }
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Values per pixel.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// `[height, width, channels]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// The values.
    pub fn pixels(&self) -> &Pixels {
        &self.pixels
    }

    /// The values, to change in place.
    pub fn pixels_mut(&mut self) -> &mut Pixels {
        &mut self.pixels
    }

    /// The values, taken.
    pub fn into_pixels(self) -> Pixels {
        self.pixels
    }

    /// The same values as f32.
    #[must_use]
    pub fn into_f32(self) -> Self {
        let pixels = match self.pixels {
            Pixels::U8(v) => Pixels::F32(v.into_iter().map(f32::from).collect()),
            pixels => pixels,
        };
        Self { pixels, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_number_of_values_is_an_error() {
        assert!(Image::new(2, 3, 3, Pixels::U8(vec![0; 17])).is_err());
        let image = Image::new(2, 3, 3, Pixels::U8(vec![7; 18])).unwrap().into_f32();
        assert_eq!(image.shape(), [2, 3, 3]);
        assert_eq!(image.pixels(), &Pixels::F32(vec![7.0; 18]));
    }
}
