//! Lines of text on a picture.

use super::canvas::{Canvas, Color, Direction, text_size};
use crate::error::Result;
use crate::image::{Image, Interpolation, imresize};

/// A small picture is enlarged up to this many times for its text to fit.
const MOST: usize = 16;

/// A u8 picture of three channels with `lines` in its upper left corner, on dark ground. One that is too small for them is
/// enlarged by a whole number.
pub fn with_captions(image: &Image, lines: &[String], color: Color) -> Result<Image> {
    let width = lines.iter().map(|l| text_size(l, 1).0).max().unwrap_or(0) + 2;
    let height = lines.iter().map(|l| text_size(l, 1).1 + 2).sum::<usize>() + 2;
    let (w, h) = (image.width().max(1), image.height().max(1));
    let times = width.div_ceil(w).max(height.div_ceil(h)).clamp(1, MOST);
    let mut picture = imresize(image, (image.width() * times, image.height() * times), Interpolation::Nearest)?;
    let mut canvas = Canvas::new(&mut picture)?;
    let fits = (canvas.width() / width).min(canvas.height() / height).max(1);
    let scale = (canvas.width().min(canvas.height()) / 600 + 1).min(4).min(fits);
    let mut y = 0;
    for line in lines {
        let (w, h) = text_size(line, scale);
        let (w, h, pad) = (w as i64, h as i64, scale as i64);
        canvas.fill_rect(0, y, w + 2 * pad, y + h + 2 * pad, [0; 3], 0.8);
        canvas.text(pad, y + pad, line, scale, Direction::Right, color);
        y += h + 2 * pad;
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Pixels;

    #[test]
    fn a_small_picture_grows_until_its_text_fits() {
        let image = Image::new(10, 10, 3, Pixels::U8(vec![200; 300])).unwrap();
        // 3 characters of 6 pixels less the last gap, and a margin: 19 of 10 pixels.
        let drawn = with_captions(&image, &["cat".to_owned()], [255; 3]).unwrap();
        assert_eq!(drawn.shape(), [20, 20, 3]);
        let Pixels::U8(v) = drawn.pixels() else { panic!() };
        assert!(v.contains(&255), "no text");
        assert_eq!(v.last(), Some(&200));
        assert_eq!(with_captions(&image, &[], [255; 3]).unwrap(), image);
    }
}
