//! Resizing as Pillow does it (`backend='pillow'`): filters that widen when shrinking, 22 bits of weight.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::types::{Image, Pixels};
use crate::error::{Error, Result};

/// Pillow's names of its filters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PillowInterpolation {
    /// The nearest pixel.
    Nearest,
    /// A triangle.
    #[default]
    Bilinear,
    /// Keys' cubic, a = -0.5.
    Bicubic,
    /// The mean of the covered pixels.
    Box,
    /// Sinc, windowed to three lobes.
    Lanczos,
    /// Hamming's window on one lobe.
    Hamming,
}

const BITS: u32 = 22;

impl PillowInterpolation {
    /// Half the filter's width, in pixels of the result when shrinking.
    fn support(self) -> f64 {
        match self {
            Self::Box | Self::Nearest => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
        let a = x.abs();
        match self {
            Self::Box | Self::Nearest => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - a).max(0.0),
            Self::Hamming if a >= 1.0 => 0.0,
            Self::Hamming => sinc(a) * (0.54 + 0.46 * (a * std::f64::consts::PI).cos()),
            Self::Bicubic if a < 1.0 => (1.5 * a - 2.5) * a * a + 1.0,
            Self::Bicubic if a < 2.0 => (((a - 5.0) * a + 8.0) * a - 4.0) * -0.5,
            Self::Bicubic => 0.0,
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

/// Where a result pixel's weights begin, and the weights.
struct Span {
    first: usize,
    weights: Vec<i32>,
}

fn spans(n: usize, on: usize, filter: PillowInterpolation) -> Vec<Span> {
    let scale = n as f64 / on as f64;
    let wide = scale.max(1.0);
    let support = filter.support() * wide;
    let span = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(n);
        let weights: Vec<f64> = (first..end).map(|x| filter.weight((x as f64 - centre + 0.5) * (1.0 / wide))).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |w: f64| {
            let w = if sum == 0.0 { w } else { w * (1.0 / sum) } * f64::from(1 << BITS);
            (if w < 0.0 { w - 0.5 } else { w + 0.5 }) as i32
        };
        Span { first, weights: weights.into_iter().map(fixed).collect() }
    };
    (0..on).map(span).collect()
}

fn clip(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Resizes a u8 picture of 1 or 3 channels to `size` = (w, h). Bit-identical to Pillow 13.
pub fn imresize_pillow(image: &Image, size: (usize, usize), interpolation: PillowInterpolation) -> Result<Image> {
    let [h, w, c] = image.shape();
    let (ow, oh) = size;
    let Pixels::U8(v) = image.pixels() else {
        return Err(Error::Run("Pillow backend only support uint8 type".into()));
    };
    if ow == 0 || oh == 0 || h == 0 || w == 0 || !matches!(c, 1 | 3) {
        return Err(Error::Run(format!("can't resize an image of {h}x{w}x{c} to {oh}x{ow} as Pillow does")));
    }
    if (ow, oh) == (w, h) {
        return Ok(image.clone());
    }
    if interpolation == PillowInterpolation::Nearest {
        return Ok(Image::made(oh, ow, c, Pixels::U8(nearest(v, (w, h), (ow, oh), c))));
    }
    // Pillow begins with the rows when that alone makes the picture smaller.
    if ow > w && oh < h {
        let down = vertical(v, h, oh, w * c, interpolation);
        return Ok(Image::made(oh, ow, c, Pixels::U8(horizontal(&down, w, ow, c, interpolation))));
    }
    let across = if ow == w { v.clone() } else { horizontal(v, w, ow, c, interpolation) };
    let out = if oh == h { across } else { vertical(&across, h, oh, ow * c, interpolation) };
    Ok(Image::made(oh, ow, c, Pixels::U8(out)))
}

fn horizontal(v: &[u8], w: usize, ow: usize, c: usize, filter: PillowInterpolation) -> Vec<u8> {
    let spans = spans(w, ow, filter);
    let mut out = Vec::with_capacity(v.len() / w * ow);
    for row in v.chunks_exact(w * c) {
        for span in &spans {
            let mut sums = [1i32 << (BITS - 1); 3];
            for (p, &weight) in row[span.first * c..].chunks_exact(c).zip(&span.weights) {
                sums.iter_mut().zip(p).for_each(|(s, &p)| *s += i32::from(p) * weight);
            }
            out.extend(sums[..c].iter().map(|&s| clip(s)));
        }
    }
    out
}

fn vertical(v: &[u8], h: usize, oh: usize, pitch: usize, filter: PillowInterpolation) -> Vec<u8> {
    let mut out = Vec::with_capacity(oh * pitch);
    let mut sums = vec![0i32; pitch];
    for span in spans(h, oh, filter) {
        sums.fill(1 << (BITS - 1));
        for (row, &weight) in v.chunks_exact(pitch).skip(span.first).zip(&span.weights) {
            sums.iter_mut().zip(row).for_each(|(s, &p)| *s += i32::from(p) * weight);
        }
        out.extend(sums.iter().map(|&s| clip(s)));
    }
    out
}

/// Pillow adds the step up pixel by pixel, and so do we.
fn nearest(v: &[u8], (w, h): (usize, usize), (ow, oh): (usize, usize), c: usize) -> Vec<u8> {
    let places = |n: usize, on: usize| -> Vec<usize> {
        let step = n as f64 / on as f64;
        let mut at = step * 0.5;
        let next = |_| {
            let place = (at as usize).min(n - 1);
            at += step;
            place
        };
        (0..on).map(next).collect()
    };
    let xs = places(w, ow);
    let mut out = Vec::with_capacity(ow * oh * c);
    for y in places(h, oh) {
        xs.iter().for_each(|x| out.extend_from_slice(&v[(y * w + x) * c..][..c]));
    }
    out
}
