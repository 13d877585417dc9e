//! EXIF orientation.

use std::io::Cursor;

use super::types::{Image, Pixels};

/// The orientation tag of a file, 1 when there is none.
pub(crate) fn of(bytes: &[u8]) -> u32 {
    let Ok(exif) = exif::Reader::new().read_from_container(&mut Cursor::new(bytes)) else { return 1 };
    let field = exif.get_field(exif::Tag::Orientation, exif::In::PRIMARY);
    field.and_then(|f| f.value.get_uint(0)).unwrap_or(1)
}

/// Whether a TIFF file says that its alpha is not yet multiplied into the colours.
pub(crate) fn has_unassociated_alpha(bytes: &[u8]) -> bool {
    const EXTRA_SAMPLES: exif::Tag = exif::Tag(exif::Context::Tiff, 338);
    let Ok(exif) = exif::Reader::new().read_from_container(&mut Cursor::new(bytes)) else { return false };
    exif.get_field(EXTRA_SAMPLES, exif::In::PRIMARY).and_then(|f| f.value.get_uint(0)) == Some(2)
}

/// Turns a picture upright. Values outside 1 to 8 leave it as it is.
pub(crate) fn turn(image: Image, orientation: u32) -> Image {
    // Transposed first, then mirrored left-right, then top-bottom.
    let (transpose, horizontal, vertical) = match orientation {
        2 => (false, true, false),
        3 => (false, true, true),
        4 => (false, false, true),
        5 => (true, false, false),
        6 => (true, true, false),
        7 => (true, true, true),
        8 => (true, false, true),
        _ => return image,
    };
    let [h, w, c] = image.shape();
    let (oh, ow) = if transpose { (w, h) } else { (h, w) };
    let source = |y: usize, x: usize| {
        let (y, x) = (if vertical { oh - 1 - y } else { y }, if horizontal { ow - 1 - x } else { x });
        if transpose { x * w + y } else { y * w + x }
    };
    let pixels = match image.pixels() {
        Pixels::U8(v) => Pixels::U8(gather(v, oh, ow, c, source)),
        Pixels::F32(v) => Pixels::F32(gather(v, oh, ow, c, source)),
    };
    Image::made(oh, ow, c, pixels)
}

fn gather<T: Copy>(v: &[T], h: usize, w: usize, c: usize, source: impl Fn(usize, usize) -> usize) -> Vec<T> {
    let mut out = Vec::with_capacity(h * w * c);
    for y in 0..h {
        for x in 0..w {
            let at = source(y, x) * c;
            out.extend_from_slice(&v[at..at + c]);
        }
    }
    out
}
