//! Warps with cv2's fixed-point sampling: [`warp_affine`], [`warp_perspective`], and mmcv's rotation, translation and
//! shear on top.
//!
//! A source position is rounded to 1/32 pixel, and u8 weights have 15 bits. Bounds against cv2 4.8: u8 is
//! bit-identical for affine maps, and for perspective ones but for positions that round the other way (under one pixel
//! in a thousand); f32 within 1e-5 of the range of the values.

mod sample;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::options::Interpolation;
use super::types::{FlipDirection, Image, Pixels};
use crate::error::{Error, Result};
use sample::{Sampler, TAB_BITS, Tap};

/// `border_mode`: what lies outside a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BorderMode {
    /// The border value.
    #[default]
    Constant,
    /// `aaa|abcd|ddd`.
    Replicate,
    /// `cba|abcd|dcb`.
    Reflect,
    /// `bcd|abcd|abc`.
    Wrap,
    /// `dcb|abcd|cba`.
    #[serde(rename = "reflect_101")]
    Reflect101,
}

impl BorderMode {
    /// The index inside `0..n` that stands for `i`, or none for the border value.
    fn index(self, i: i64, n: usize) -> Option<usize> {
        let n = n as i64;
        if (0..n).contains(&i) {
            return Some(i as usize);
        }
        let at = match self {
            Self::Constant => return None,
            Self::Replicate => i.clamp(0, n - 1),
            Self::Wrap => i.rem_euclid(n),
            Self::Reflect => {
                let i = i.rem_euclid(2 * n);
                i.min(2 * n - 1 - i)
            }
            Self::Reflect101 if n == 1 => 0,
            Self::Reflect101 => {
                let i = i.rem_euclid(2 * n - 2);
                i.min(2 * n - 2 - i)
            }
        };
        Some(at as usize)
    }
}

/// How to sample: interpolation, border mode, and up to four border values (cv2's scalar: missing ones are 0, a fifth
/// channel takes the first).
#[derive(Debug, Clone, Copy, Default)]
pub struct Warp<'a> {
    /// `area` samples as `bilinear`.
    pub interpolation: Interpolation,
    /// Outside the picture.
    pub border_mode: BorderMode,
    /// For [`BorderMode::Constant`].
    pub border_value: &'a [f64],
}

/// Applies the 2x3 matrix that maps source to result positions (x, y); `size` = (w, h) of the result.
pub fn warp_affine(image: &Image, matrix: [[f64; 3]; 2], size: (usize, usize), warp: Warp) -> Result<Image> {
    let [[a, b, c], [d, e, f]] = matrix;
    let det = a * e - b * d;
    let det = if det == 0.0 { 0.0 } else { 1.0 / det };
    let (ia, ib, id, ie) = (e * det, b * -det, d * -det, a * det);
    let (ic, jf) = (-ia * c - ib * f, -id * c - ie * f);
    // Ten bits below the pixel, of which five are kept.
    const SCALE: f64 = 1024.0;
    let fixed = |v: f64| v.round_ties_even() as i32;
    let (shift, half) = match warp.interpolation {
        Interpolation::Nearest => (10, 512),
        _ => (10 - TAB_BITS, 512 >> TAB_BITS),
    };
    let columns: Vec<[i32; 2]> = (0..size.0).map(|x| [ia, id].map(|m| fixed(m * x as f64 * SCALE))).collect();
    run(image, size, warp, |y, taps| {
        let x0 = fixed((ib * y as f64 + ic) * SCALE).wrapping_add(half);
        let y0 = fixed((ie * y as f64 + jf) * SCALE).wrapping_add(half);
        taps.extend(columns.iter().map(|[dx, dy]| {
            let (x, y) = (x0.wrapping_add(*dx) >> shift, y0.wrapping_add(*dy) >> shift);
            Tap::new(x, y, warp.interpolation)
        }));
    })
}

/// Applies the 3x3 matrix that maps source to result positions (x, y, 1); `size` = (w, h) of the result.
pub fn warp_perspective(image: &Image, matrix: [[f64; 3]; 3], size: (usize, usize), warp: Warp) -> Result<Image> {
    let m = inverse(matrix);
    let unit = if warp.interpolation == Interpolation::Nearest { 1.0 } else { f64::from(1 << TAB_BITS) };
    // cv2 walks in blocks, and adds within a block to the value at its left edge.
    let height = 16.min(size.1).max(1);
    let block = (1024 / height).min(size.0).max(1);
    run(image, size, warp, |y, taps| {
        for x in 0..size.0 {
            let start = (x / block * block) as f64;
            let dx = x as f64 - start;
            let at = |r: [f64; 3]| (r[0] * start + r[1] * y as f64 + r[2]) + r[0] * dx;
            let w = at(m[2]);
            let w = if w == 0.0 { 0.0 } else { unit / w };
            let fixed = |v: f64| (v * w).clamp(f64::from(i32::MIN), f64::from(i32::MAX)).round_ties_even() as i32;
            taps.push(Tap::new(fixed(at(m[0])), fixed(at(m[1])), warp.interpolation));
        }
    })
}

/// The inverse by cofactors; zeros when there is none, as cv2's `invert` leaves it.
fn inverse(m: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let minor = |r: usize, c: usize| {
        let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
        m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
    };
    let det = m[0][0] * minor(0, 0) + m[0][1] * minor(0, 1) + m[0][2] * minor(0, 2);
    let scale = if det == 0.0 { 0.0 } else { 1.0 / det };
    std::array::from_fn(|r| std::array::from_fn(|c| minor(c, r) * scale))
}

fn run(image: &Image, (ow, oh): (usize, usize), warp: Warp, row: impl Fn(usize, &mut Vec<Tap>)) -> Result<Image> {
    let [h, w, c] = image.shape();
    if h == 0 || w == 0 || c == 0 || ow == 0 || oh == 0 {
        return Err(Error::Run(format!("can't warp an image of {h}x{w}x{c} to {oh}x{ow}")));
    }
    // cv2 keeps positions in 16 bits.
    if h.max(w).max(oh).max(ow) > i16::MAX as usize {
        return Err(Error::Run(format!("can't warp an image of {h}x{w} to {oh}x{ow}: a side is over {}", i16::MAX)));
    }
    let value = |ch: usize| warp.border_value.get(ch % 4).copied().unwrap_or(0.0);
    let values: Vec<f64> = (0..c).map(value).collect();
    let mut taps = Vec::with_capacity(ow);
    let pixels = match image.pixels() {
        Pixels::U8(v) => {
            let border: Vec<u8> = values.iter().map(|&v| super::geometric::to_u8(v)).collect();
            let sampler = Sampler { v, w, h, c, border: &border, mode: warp.border_mode };
            let mut out = vec![0; ow * oh * c];
            for (y, o) in out.chunks_exact_mut(ow * c).enumerate() {
                taps.clear();
                row(y, &mut taps);
                sampler.u8(&taps, warp.interpolation, o);
            }
            Pixels::U8(out)
        }
        Pixels::F32(v) => {
            let border: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            let sampler = Sampler { v, w, h, c, border: &border, mode: warp.border_mode };
            let mut out = vec![0.0; ow * oh * c];
            for (y, o) in out.chunks_exact_mut(ow * c).enumerate() {
                taps.clear();
                row(y, &mut taps);
                sampler.f32(&taps, warp.interpolation, o);
            }
            Pixels::F32(out)
        }
    };
    Ok(Image::made(oh, ow, c, pixels))
}

/// Turns by `angle` degrees clockwise about `centre` = (x, y), the middle by default, and scales. With `auto_bound` the
/// result is as large as the turned picture; that goes with no centre of one's own.
pub fn imrotate(
    image: &Image,
    angle: f64,
    centre: Option<(f64, f64)>,
    scale: f64,
    auto_bound: bool,
    warp: Warp,
) -> Result<Image> {
    if centre.is_some() && auto_bound {
        return Err(Error::config("`auto_bound` conflicts with `center`"));
    }
    let (mut w, mut h) = (image.width() as f64, image.height() as f64);
    let (cx, cy) =
        centre.map_or(((w - 1.0) * 0.5, (h - 1.0) * 0.5), |(x, y)| (f64::from(x as f32), f64::from(y as f32)));
    let radians = -angle * std::f64::consts::PI / 180.0;
    let (alpha, beta) = (radians.cos() * scale, radians.sin() * scale);
    let mut matrix = [[alpha, beta, (1.0 - alpha) * cx - beta * cy], [-beta, alpha, beta * cx + (1.0 - alpha) * cy]];
    if auto_bound {
        let (cos, sin) = (alpha.abs(), beta.abs());
        let (new_w, new_h) = (h * sin + w * cos, h * cos + w * sin);
        matrix[0][2] += (new_w - w) * 0.5;
        matrix[1][2] += (new_h - h) * 0.5;
        (w, h) = (new_w.round_ties_even(), new_h.round_ties_even());
    }
    warp_affine(image, matrix, (w as usize, h as usize), warp)
}

/// Moves by `offset` pixels, right or down ([`FlipDirection::Diagonal`] is an error). A single border value is every
/// channel's; at most three are used.
pub fn imtranslate(image: &Image, offset: f64, direction: FlipDirection, warp: Warp) -> Result<Image> {
    let offset = f64::from(offset as f32);
    let matrix = match direction {
        FlipDirection::Horizontal => [[1.0, 0.0, offset], [0.0, 1.0, 0.0]],
        FlipDirection::Vertical => [[1.0, 0.0, 0.0], [0.0, 1.0, offset]],
        FlipDirection::Diagonal => return Err(Error::config("Invalid direction: diagonal")),
    };
    moved(image, matrix, warp)
}

/// Shears: x by `magnitude` times y, or y by `magnitude` times x. Border values as in [`imtranslate`].
pub fn imshear(image: &Image, magnitude: f64, direction: FlipDirection, warp: Warp) -> Result<Image> {
    let magnitude = f64::from(magnitude as f32);
    let matrix = match direction {
        FlipDirection::Horizontal => [[1.0, magnitude, 0.0], [0.0, 1.0, 0.0]],
        FlipDirection::Vertical => [[1.0, 0.0, 0.0], [magnitude, 1.0, 0.0]],
        FlipDirection::Diagonal => return Err(Error::config("Invalid direction: diagonal")),
    };
    moved(image, matrix, warp)
}

fn moved(image: &Image, matrix: [[f64; 3]; 2], warp: Warp) -> Result<Image> {
    let c = image.channels();
    let values = match warp.border_value {
        [] => Vec::new(),
        [v] => vec![*v; c.min(3)],
        values if values.len() == c => values[..c.min(3)].to_vec(),
        values => {
            return Err(Error::config(format!("{} border values don't fit {c} channels", values.len())));
        }
    };
    warp_affine(image, matrix, (image.width(), image.height()), Warp { border_value: &values, ..warp })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn border_modes_are_those_of_the_docs() {
        let text = |mode: BorderMode| -> String {
            (-3..7).map(|i| mode.index(i, 4).map_or('.', |i| ['a', 'b', 'c', 'd'][i])).collect()
        };
        assert_eq!(text(BorderMode::Constant), "...abcd...");
        assert_eq!(text(BorderMode::Replicate), "aaaabcdddd");
        assert_eq!(text(BorderMode::Reflect), "cbaabcddcb");
        assert_eq!(text(BorderMode::Wrap), "bcdabcdabc");
        assert_eq!(text(BorderMode::Reflect101), "dcbabcdcba");
    }

    #[test]
    fn a_quarter_turn_moves_whole_pixels() {
        let image = Image::new(3, 3, 1, Pixels::U8((1..=9).collect())).unwrap();
        let turned = imrotate(&image, 90.0, None, 1.0, false, Warp::default()).unwrap();
        assert_eq!(turned.pixels(), &Pixels::U8(vec![7, 4, 1, 8, 5, 2, 9, 6, 3]));
        assert!(imrotate(&image, 90.0, Some((1.0, 1.0)), 1.0, true, Warp::default()).is_err());
        assert!(imshear(&image, 0.5, FlipDirection::Diagonal, Warp::default()).is_err());
    }

    #[test]
    fn a_matrix_without_an_inverse_does_no_harm() {
        let image = Image::new(3, 3, 1, Pixels::U8((1..=9).collect())).unwrap();
        assert!(warp_affine(&image, [[0.0; 3]; 2], (2, 2), Warp::default()).is_ok());
        assert!(warp_perspective(&image, [[f64::NAN; 3]; 3], (2, 2), Warp::default()).is_ok());
        assert!(warp_affine(&image, [[1e300; 3]; 2], (2, 2), Warp::default()).is_ok());
    }
}
