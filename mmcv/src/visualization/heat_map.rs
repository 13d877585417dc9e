//! Maps of numbers as heat over a picture.

use super::Color;
use crate::error::{Error, Result};
use crate::image::{Image, Pixels};

/// cv2's `COLORMAP_JET`, in BGR: blue, cyan, yellow, red.
pub fn jet(value: u8) -> Color {
    let v = i32::from(value);
    let blue = match v {
        0..=31 => 128 + 4 * v,
        32..=95 => 255,
        96..=158 => 254 - 4 * (v - 96),
        // As cv2's table has it.
        159 => 1,
        _ => 0,
    };
    let green = match v {
        0..=31 => 0,
        32..=95 => 4 * (v - 32),
        96..=159 => 255,
        160..=223 => 252 - 4 * (v - 160),
        _ => 0,
    };
    let red = match v {
        0..=95 => 0,
        96..=159 => 2 + 4 * (v - 96),
        160..=223 => 255,
        _ => 252 - 4 * (v - 224),
    };
    [blue, green, red].map(|c| c as u8)
}

/// A u8 picture (BGR) with `heat` (a value of 0 to 1 for each pixel, row by row) over it: both are added and the sum is scaled
/// to 255, as grad-cam's `show_cam_on_image` does.
pub fn heat_map(image: &Image, heat: &[f32]) -> Result<Image> {
    let [h, w, c] = image.shape();
    let Pixels::U8(pixels) = image.pixels() else { return Err(Error::Run("heat needs a u8 image".into())) };
    if c != 3 || heat.len() != h * w {
        return Err(Error::Run(format!(
            "{} values of heat for an image of {h}x{w}x{c}, which needs 3 channels",
            heat.len()
        )));
    }
    let colors = heat.iter().flat_map(|v| jet((255.0 * v.clamp(0.0, 1.0)) as u8));
    let sum: Vec<f32> = colors.zip(pixels).map(|(heat, p)| f32::from(heat) / 255.0 + f32::from(*p) / 255.0).collect();
    let most = sum.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let pixels = sum.iter().map(|v| (255.0 * (v / most)) as u8).collect();
    Image::new(h, w, 3, Pixels::U8(pixels))
}

#[cfg(test)]
mod tests {
    use super::*;

    // cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_JET)
    #[test]
    fn the_colours_are_cv2s() {
        let all = [
            (0, [128, 0, 0]),
            (31, [252, 0, 0]),
            (32, [255, 0, 0]),
            (95, [255, 252, 0]),
            (96, [254, 255, 2]),
            (127, [130, 255, 126]),
            (158, [6, 255, 250]),
            (159, [1, 255, 254]),
            (160, [0, 252, 255]),
            (255, [0, 0, 128]),
        ];
        for (value, color) in all {
            assert_eq!(jet(value), color, "{value}");
        }
    }

    // h = cv2.applyColorMap(np.uint8(255 * mask), cv2.COLORMAP_JET); c = np.float32(h) / 255 + np.float32(img) / 255
    // np.uint8(255 * c / c.max()) for img [[[10, 20, 30], [200, 100, 50]]], mask [[0.2, 0.9]]
    #[test]
    fn heat_is_added_to_the_picture() {
        let image = Image::new(1, 2, 3, Pixels::U8(vec![10, 20, 30, 200, 100, 50])).unwrap();
        let warm = heat_map(&image, &[0.2, 0.9]).unwrap();
        assert_eq!(warm.pixels(), &Pixels::U8(vec![239, 86, 27, 180, 90, 255]));
        assert!(heat_map(&image, &[0.2]).is_err());
    }
}
