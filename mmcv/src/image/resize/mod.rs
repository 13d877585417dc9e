//! Resizing with cv2's numbers: [`imresize`] and mmcv's ways of choosing the size.

mod area;
mod linear;
mod pillow;
mod taps;

pub use pillow::{PillowInterpolation, imresize_pillow};
pub(super) use taps::{cubic_weights, lanczos4_weights};

use super::options::{Interpolation, Scale};
use super::types::{Image, Pixels};
use crate::error::{Error, Result};

/// Resizes to `size` = (w, h).
///
/// Bounds against cv2 4.8: `nearest`, `bilinear` and `area` of u8 are bit-identical; `bicubic` and `lanczos` of u8
/// within 1 level (cv2 rounds sums in vector lanes of f32); f32 within 1e-4 of the range of the values (cv2 has IPP's weights there).
pub fn imresize(image: &Image, size: (usize, usize), interpolation: Interpolation) -> Result<Image> {
    let [h, w, c] = image.shape();
    let (ow, oh) = size;
    if ow == 0 || oh == 0 || h == 0 || w == 0 || c == 0 {
        return Err(Error::Run(format!("can't resize an image of {h}x{w}x{c} to {oh}x{ow}")));
    }
    if (ow, oh) == (w, h) {
        return Ok(image.clone());
    }
    #[cfg(feature = "opencv")]
    if super::current_backend() == super::ImageBackend::Opencv {
        return super::opencv::resize(image, size, interpolation).map_err(Error::Run);
    }
    let geometry = Geometry::new((w, h), size, c);
    let pixels = match image.pixels() {
        Pixels::U8(v) => Pixels::U8(match geometry.method(interpolation) {
            Method::Nearest => nearest(v, &geometry),
            Method::AreaFast => area::fast_u8(v, &geometry),
            Method::Area => area::any(v, &geometry),
            Method::Linear(axis) => linear::u8(v, &geometry, axis),
            Method::Taps(kernel) => taps::u8(v, &geometry, kernel),
        }),
        Pixels::F32(v) => Pixels::F32(match geometry.method(interpolation) {
            Method::Nearest => nearest(v, &geometry),
            Method::AreaFast => area::fast_f32(v, &geometry),
            Method::Area => area::any(v, &geometry),
            Method::Linear(axis) => linear::f32(v, &geometry, axis),
            Method::Taps(kernel) => taps::f32(v, &geometry, kernel),
        }),
    };
    Ok(Image::made(oh, ow, c, pixels))
}

/// Sizes and cv2's scales (source pixels per result pixel, from the inverse as cv2 has them).
pub(super) struct Geometry {
    pub(super) w: usize,
    pub(super) h: usize,
    pub(super) ow: usize,
    pub(super) oh: usize,
    pub(super) c: usize,
    pub(super) scale_x: f64,
    pub(super) scale_y: f64,
}

/// What cv2 does for an interpolation at a scale.
enum Method {
    Nearest,
    /// Both scales are whole: plain means.
    AreaFast,
    Area,
    Linear(linear::Axis),
    Taps(taps::Kernel),
}

impl Geometry {
    fn new((w, h): (usize, usize), (ow, oh): (usize, usize), c: usize) -> Self {
        let scale = |from: usize, to: usize| 1.0 / (to as f64 / from as f64);
        Self { w, h, ow, oh, c, scale_x: scale(w, ow), scale_y: scale(h, oh) }
    }

    fn method(&self, interpolation: Interpolation) -> Method {
        let whole = |s: f64| (s - s.round()).abs() < f64::EPSILON;
        let fast = whole(self.scale_x) && whole(self.scale_y);
        let halves = fast && self.scale_x.round() == 2.0 && self.scale_y.round() == 2.0;
        match interpolation {
            Interpolation::Nearest => Method::Nearest,
            Interpolation::Bilinear if halves => Method::AreaFast,
            Interpolation::Bilinear => Method::Linear(linear::Axis::Centred),
            Interpolation::Area if self.scale_x >= 1.0 && self.scale_y >= 1.0 => {
                if fast {
                    Method::AreaFast
                } else {
                    Method::Area
                }
            }
            Interpolation::Area => Method::Linear(linear::Axis::Area),
            Interpolation::Bicubic => Method::Taps(taps::Kernel::Cubic),
            Interpolation::Lanczos => Method::Taps(taps::Kernel::Lanczos4),
        }
    }
}

fn nearest<T: Copy>(v: &[T], g: &Geometry) -> Vec<T> {
    let xs: Vec<usize> = (0..g.ow).map(|x| ((x as f64 * g.scale_x) as usize).min(g.w - 1) * g.c).collect();
    let mut out = Vec::with_capacity(g.ow * g.oh * g.c);
    for y in 0..g.oh {
        let at = ((y as f64 * g.scale_y) as usize).min(g.h - 1) * g.w * g.c;
        let row = &v[at..at + g.w * g.c];
        match g.c {
            1 => out.extend(xs.iter().map(|&x| row[x])),
            3 => out.extend(xs.iter().flat_map(|&x| [row[x], row[x + 1], row[x + 2]])),
            c => xs.iter().for_each(|&x| out.extend_from_slice(&row[x..x + c])),
        }
    }
    out
}

/// mmcv's `_scale_size`: each side times the factor, plus a half, cut to a whole number. (w, h).
fn scale_size((w, h): (usize, usize), (fx, fy): (f64, f64)) -> (usize, usize) {
    ((w as f64 * fx + 0.5) as usize, (h as f64 * fy + 0.5) as usize)
}

/// The size (w, h) that `old` = (w, h) is rescaled to, and the factor.
pub fn rescale_size(old: (usize, usize), scale: Scale) -> Result<((usize, usize), f64)> {
    let factor = match scale {
        Scale::Factor(f) if f > 0.0 => f,
        Scale::Factor(f) => return Err(Error::config(format!("Invalid scale {f}, must be positive."))),
        Scale::Within(a, b) => {
            let (long, short) = (a.max(b) as f64, a.min(b) as f64);
            (long / old.0.max(old.1) as f64).min(short / old.0.min(old.1) as f64)
        }
    };
    Ok((scale_size(old, (factor, factor)), factor))
}

/// Resizes with the aspect ratio kept; also gives the factor (the exact one, before sizes were rounded).
pub fn imrescale(image: &Image, scale: Scale, interpolation: Interpolation) -> Result<(Image, f64)> {
    let (size, factor) = rescale_size((image.width(), image.height()), scale)?;
    Ok((imresize(image, size, interpolation)?, factor))
}

/// Resizes to the size of `like`.
pub fn imresize_like(image: &Image, like: &Image, interpolation: Interpolation) -> Result<Image> {
    imresize(image, (like.width(), like.height()), interpolation)
}

/// Resizes to `size` = (w, h) rounded up to multiples of `divisor` = (w, h); `keep_ratio` first shrinks `size` to the
/// picture's shape. `factor` in place of `size` scales (w, h).
pub fn imresize_to_multiple(
    image: &Image,
    divisor: (usize, usize),
    size: Option<(usize, usize)>,
    factor: Option<(f64, f64)>,
    keep_ratio: bool,
    interpolation: Interpolation,
) -> Result<Image> {
    let old = (image.width(), image.height());
    let (w, h) = match (size, factor) {
        (Some(_), Some(_)) => return Err(Error::config("only one of size or scale_factor should be defined")),
        (None, None) => return Err(Error::config("one of size or scale_factor should be defined")),
        (Some((w, h)), None) if keep_ratio => rescale_size(old, Scale::Within(w, h))?.0,
        (Some(size), None) => size,
        (None, Some(factor)) => scale_size(old, factor),
    };
    if divisor.0 == 0 || divisor.1 == 0 {
        return Err(Error::config("the divisor is 0"));
    }
    imresize(image, (w.div_ceil(divisor.0) * divisor.0, h.div_ceil(divisor.1) * divisor.1), interpolation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_as_in_mmcv() {
        // mmcv.rescale_size((1000, 667), (1333, 800), return_scale=True)
        assert_eq!(rescale_size((1000, 667), Scale::Within(1333, 800)).unwrap(), ((1199, 800), 1.199400299850075));
        // mmcv.rescale_size((25, 17), 0.5)
        assert_eq!(rescale_size((25, 17), Scale::Factor(0.5)).unwrap().0, (13, 9));
        assert!(rescale_size((25, 17), Scale::Factor(0.0)).is_err());
    }

    #[test]
    fn sides_come_out_as_multiples() {
        let image = Image::new(10, 20, 1, Pixels::U8(vec![5; 200])).unwrap();
        let shape = |size, factor, keep| {
            imresize_to_multiple(&image, (8, 16), size, factor, keep, Interpolation::Bilinear).unwrap().shape()
        };
        assert_eq!(shape(Some((30, 30)), None, false), [32, 32, 1]);
        assert_eq!(shape(Some((30, 30)), None, true), [16, 32, 1]);
        assert_eq!(shape(None, Some((2.0, 2.0)), false), [32, 40, 1]);
    }

    #[test]
    fn an_empty_size_is_an_error() {
        let image = Image::new(2, 2, 1, Pixels::U8(vec![5; 4])).unwrap();
        assert!(imresize(&image, (0, 3), Interpolation::Nearest).is_err());
    }
}
