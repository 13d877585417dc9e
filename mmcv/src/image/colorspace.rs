//! Colour spaces: cv2's grey, HSV and HLS, mmcv's YCbCr.
//!
//! Ranges are cv2's. u8: H 0 to 179 (`_full`: 0 to 255), S, V and L 0 to 255. f32: H 0 to 360; S, and in HLS L, are 0
//! to 1 for colours of 0 to 1. HSV takes colours of any range (`PhotoMetricDistortion` gives it 0 to 255): V keeps that
//! range. Bounds against cv2 4.8: grey and BGR to HSV of u8 are bit-identical; the other u8 ones within 1 level; f32
//! within 1e-5 of the range of each channel.

use super::types::{Image, Pixels};
use crate::error::{Error, Result};

fn need3(image: &Image, what: &str) -> Result<()> {
    match image.channels() {
        3 => Ok(()),
        c => Err(Error::Run(format!("{what} needs an image of 3 channels, not {c}"))),
    }
}

/// Each pixel of three channels through `bytes` or `floats`.
fn map3(
    image: &Image,
    what: &str,
    bytes: impl Fn([u8; 3]) -> [u8; 3],
    floats: impl Fn([f32; 3]) -> [f32; 3],
) -> Result<Image> {
    need3(image, what)?;
    let [h, w, _] = image.shape();
    let pixels = match image.pixels() {
        Pixels::U8(v) => Pixels::U8(v.as_chunks::<3>().0.iter().flat_map(|&p| bytes(p)).collect()),
        Pixels::F32(v) => Pixels::F32(v.as_chunks::<3>().0.iter().flat_map(|&p| floats(p)).collect()),
    };
    Ok(Image::made(h, w, 3, pixels))
}

fn byte(v: f32) -> u8 {
    v.round_ties_even() as u8
}

/// Swaps the first and the third channel. Exact.
pub fn bgr2rgb(image: &Image) -> Result<Image> {
    map3(image, "bgr2rgb", |[a, b, c]| [c, b, a], |[a, b, c]| [c, b, a])
}

/// The same as [`bgr2rgb`].
pub fn rgb2bgr(image: &Image) -> Result<Image> {
    bgr2rgb(image)
}

fn gray(image: &Image, what: &str, [wb, wg, wr]: [(u32, f32); 3]) -> Result<Image> {
    need3(image, what)?;
    let [h, w, _] = image.shape();
    let pixels = match image.pixels() {
        Pixels::U8(v) => {
            let one = |p: &[u8; 3]| {
                let sum = u32::from(p[0]) * wb.0 + u32::from(p[1]) * wg.0 + u32::from(p[2]) * wr.0;
                ((sum + (1 << 14)) >> 15) as u8
            };
            Pixels::U8(v.as_chunks::<3>().0.iter().map(one).collect())
        }
        Pixels::F32(v) => {
            let one = |p: &[f32; 3]| p[0] * wb.1 + p[1] * wg.1 + p[2] * wr.1;
            Pixels::F32(v.as_chunks::<3>().0.iter().map(one).collect())
        }
    };
    Ok(Image::made(h, w, 1, pixels))
}

/// Weights with 15 bits, and as floats.
const BLUE: (u32, f32) = (3735, 0.114);
const GREEN: (u32, f32) = (19235, 0.587);
const RED: (u32, f32) = (9798, 0.299);

/// Luminance: 0.114 B + 0.587 G + 0.299 R. One channel.
pub fn bgr2gray(image: &Image) -> Result<Image> {
    gray(image, "bgr2gray", [BLUE, GREEN, RED])
}

/// [`bgr2gray`] of RGB.
pub fn rgb2gray(image: &Image) -> Result<Image> {
    gray(image, "rgb2gray", [RED, GREEN, BLUE])
}

/// One channel three times.
pub fn gray2bgr(image: &Image) -> Result<Image> {
    if image.channels() != 1 {
        return Err(Error::Run(format!("gray2bgr needs an image of 1 channel, not {}", image.channels())));
    }
    let [h, w, _] = image.shape();
    let pixels = match image.pixels() {
        Pixels::U8(v) => Pixels::U8(v.iter().flat_map(|&v| [v; 3]).collect()),
        Pixels::F32(v) => Pixels::F32(v.iter().flat_map(|&v| [v; 3]).collect()),
    };
    Ok(Image::made(h, w, 3, pixels))
}

/// Sectors of the hue circle: which of the four values is blue, green, red.
const SECTORS: [[usize; 3]; 6] = [[1, 3, 0], [1, 0, 2], [3, 0, 1], [0, 2, 1], [0, 1, 3], [2, 1, 0]];

/// Hue over 60 degrees: its sector and the place in it.
fn sector(h: f32) -> (usize, f32) {
    // NaN comes out as sector 0.
    let h = if (0.0..6.0).contains(&h) { h } else { h.rem_euclid(6.0) };
    let whole = h.floor();
    if (0.0..6.0).contains(&whole) { (whole as usize, h - whole) } else { (0, 0.0) }
}

fn hue([b, g, r]: [f32; 3], max: f32, scale: f32) -> f32 {
    let h = if max == r {
        (g - b) * scale
    } else if max == g {
        (b - r) * scale + 120.0
    } else {
        (r - g) * scale + 240.0
    };
    if h < 0.0 { h + 360.0 } else { h }
}

fn bgr_to_hsv_f32(p: [f32; 3]) -> [f32; 3] {
    let (max, min) = (p[0].max(p[1]).max(p[2]), p[0].min(p[1]).min(p[2]));
    let diff = max - min;
    [hue(p, max, 60.0 / (diff + f32::EPSILON)), diff / (max.abs() + f32::EPSILON), max]
}

/// `h` times `scale` is the hue over 60 degrees.
fn hsv_to_bgr_f32([h, s, v]: [f32; 3], scale: f32) -> [f32; 3] {
    if s == 0.0 {
        return [v; 3];
    }
    let (sector, h) = sector(h * scale);
    let values = [v, v * (1.0 - s), v * (1.0 - s * h), v * (1.0 - s * (1.0 - h))];
    SECTORS[sector].map(|i| values[i])
}

fn bgr_to_hsv_u8(p: [u8; 3], range: i32) -> [u8; 3] {
    const SHIFT: u32 = 12;
    let [b, g, r] = p.map(i32::from);
    let (max, min) = (b.max(g).max(r), b.min(g).min(r));
    let diff = max - min;
    let divided =
        |n: i32, by: i32| if by == 0 { 0 } else { (f64::from(n << SHIFT) / f64::from(by)).round_ties_even() as i32 };
    let scaled = |v: i32| (v + (1 << (SHIFT - 1))) >> SHIFT;
    let s = scaled(diff * divided(255, max));
    let h = if max == r {
        g - b
    } else if max == g {
        b - r + 2 * diff
    } else {
        r - g + 4 * diff
    };
    let h = scaled(h * divided(range, 6 * diff));
    [(if h < 0 { h + range } else { h }).clamp(0, 255) as u8, s as u8, max as u8]
}

fn hsv_to_bgr_u8([h, s, v]: [u8; 3], range: f32) -> [u8; 3] {
    let p = [f32::from(h), f32::from(s) * (1.0 / 255.0), f32::from(v) * (1.0 / 255.0)];
    hsv_to_bgr_f32(p, 6.0 / range).map(|v| byte(v * 255.0))
}

/// BGR to hue, saturation, value.
pub fn bgr2hsv(image: &Image) -> Result<Image> {
    map3(image, "bgr2hsv", |p| bgr_to_hsv_u8(p, 180), bgr_to_hsv_f32)
}

/// Hue, saturation, value to BGR. f32 hues outside 0 to 360 go round the circle; cv2's vector lanes and its tails
/// disagree on those.
pub fn hsv2bgr(image: &Image) -> Result<Image> {
    map3(image, "hsv2bgr", |p| hsv_to_bgr_u8(p, 180.0), |p| hsv_to_bgr_f32(p, 6.0 / 360.0))
}

/// [`bgr2hsv`] with u8 hues of 0 to 255.
pub(crate) fn bgr2hsv_full(image: &Image) -> Result<Image> {
    map3(image, "bgr2hsv", |p| bgr_to_hsv_u8(p, 256), bgr_to_hsv_f32)
}

/// Undoes [`bgr2hsv_full`].
pub(crate) fn hsv2bgr_full(image: &Image) -> Result<Image> {
    map3(image, "hsv2bgr", |p| hsv_to_bgr_u8(p, 255.0), |p| hsv_to_bgr_f32(p, 6.0 / 360.0))
}

fn bgr_to_hls_f32(p: [f32; 3]) -> [f32; 3] {
    let (max, min) = (p[0].max(p[1]).max(p[2]), p[0].min(p[1]).min(p[2]));
    let (diff, sum) = (max - min, max + min);
    let l = sum * 0.5;
    if diff <= f32::EPSILON {
        return [0.0, l, 0.0];
    }
    let s = if l < 0.5 { diff / sum } else { diff / (2.0 - max - min) };
    [hue(p, max, 60.0 / diff), l, s]
}

fn hls_to_bgr_f32([h, l, s]: [f32; 3], scale: f32) -> [f32; 3] {
    if s == 0.0 {
        return [l; 3];
    }
    let p2 = if l <= 0.5 { l * (1.0 + s) } else { l + s - l * s };
    let p1 = 2.0 * l - p2;
    let (sector, h) = sector(h * scale);
    let values = [p2, p1, p1 + (p2 - p1) * (1.0 - h), p1 + (p2 - p1) * h];
    SECTORS[sector].map(|i| values[i])
}

/// BGR to hue, lightness, saturation; f32 colours are 0 to 1.
pub fn bgr2hls(image: &Image) -> Result<Image> {
    let bytes = |p: [u8; 3]| {
        let [h, l, s] = bgr_to_hls_f32(p.map(|v| f32::from(v) * (1.0 / 255.0)));
        [byte(h * 0.5), byte(l * 255.0), byte(s * 255.0)]
    };
    map3(image, "bgr2hls", bytes, bgr_to_hls_f32)
}

/// Hue, lightness, saturation to BGR; f32 colours are 0 to 1.
pub fn hls2bgr(image: &Image) -> Result<Image> {
    let bytes = |[h, l, s]: [u8; 3]| {
        let p = [f32::from(h), f32::from(l) * (1.0 / 255.0), f32::from(s) * (1.0 / 255.0)];
        hls_to_bgr_f32(p, 6.0 / 180.0).map(|v| byte(v * 255.0))
    };
    map3(image, "hls2bgr", bytes, |p| hls_to_bgr_f32(p, 6.0 / 360.0))
}

/// Rows: what R, G and B add to Y, Cb and Cr.
const TO_YCBCR: [[f64; 3]; 3] = [[65.481, -37.797, 112.0], [128.553, -74.203, -93.786], [24.966, 112.0, -18.214]];

fn rgb_to_ycbcr(rgb: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| (0..3).map(|k| rgb[k] * TO_YCBCR[k][i]).sum::<f64>() + [16.0, 128.0, 128.0][i])
}

/// From YCbCr of 0 to 255 to RGB of 0 to 255.
fn ycbcr_to_rgb(p: [f64; 3]) -> [f64; 3] {
    const FROM: [[f64; 3]; 3] = [[0.00456621; 3], [0.0, -0.00153632, 0.00791071], [0.00625893, -0.00318811, 0.0]];
    std::array::from_fn(|i| (0..3).map(|k| p[k] * FROM[k][i]).sum::<f64>() * 255.0 + [-222.921, 135.576, -276.836][i])
}

/// numpy's cast of a rounded f64 to uint8: it wraps.
fn wrap(v: f64) -> u8 {
    v.round_ties_even() as i64 as u8
}

fn ycbcr(image: &Image, what: &str, reverse_in: bool, reverse_out: bool, back: bool) -> Result<Image> {
    let convert = move |mut p: [f64; 3]| {
        if reverse_in {
            p.reverse();
        }
        let mut p = if back { ycbcr_to_rgb(p) } else { rgb_to_ycbcr(p) };
        if reverse_out {
            p.reverse();
        }
        p
    };
    // numpy scales in f32 and multiplies the matrix in f64.
    let scale = if back { 255.0 } else { 1.0f32 };
    map3(
        image,
        what,
        |p| convert(p.map(|v| f64::from(f32::from(v) / 255.0 * scale))).map(wrap),
        |p| convert(p.map(|v| f64::from(v * scale))).map(|v| (v / 255.0) as f32),
    )
}

fn luma(image: &Image) -> Result<Image> {
    let [h, w, _] = image.shape();
    let pixels = match image.pixels() {
        Pixels::U8(v) => Pixels::U8(v.iter().step_by(3).copied().collect()),
        Pixels::F32(v) => Pixels::F32(v.iter().step_by(3).copied().collect()),
    };
    Ok(Image::made(h, w, 1, pixels))
}

/// Matlab's `rgb2ycbcr` (BT.601, 16 to 235), of u8, or of f32 in 0 to 1. `y_only`: one channel.
pub fn rgb2ycbcr(image: &Image, y_only: bool) -> Result<Image> {
    let all = ycbcr(image, "rgb2ycbcr", false, false, false)?;
    if y_only { luma(&all) } else { Ok(all) }
}

/// [`rgb2ycbcr`] of BGR.
pub fn bgr2ycbcr(image: &Image, y_only: bool) -> Result<Image> {
    let all = ycbcr(image, "bgr2ycbcr", true, false, false)?;
    if y_only { luma(&all) } else { Ok(all) }
}

/// Undoes [`rgb2ycbcr`]; u8 values out of range wrap, as in mmcv.
pub fn ycbcr2rgb(image: &Image) -> Result<Image> {
    ycbcr(image, "ycbcr2rgb", false, false, true)
}

/// Undoes [`bgr2ycbcr`]; u8 values out of range wrap, as in mmcv.
pub fn ycbcr2bgr(image: &Image) -> Result<Image> {
    ycbcr(image, "ycbcr2bgr", false, true, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hues_that_are_no_number_do_no_harm() {
        let image = Image::new(1, 1, 3, Pixels::F32(vec![f32::NAN, 1.0, f32::INFINITY])).unwrap();
        assert!(hsv2bgr(&image).is_ok() && hls2bgr(&image).is_ok() && bgr2hsv(&image).is_ok());
    }

    #[test]
    fn the_number_of_channels_is_checked() {
        let image = Image::new(1, 1, 1, Pixels::U8(vec![3])).unwrap();
        assert_eq!(bgr2hsv(&image).unwrap_err().to_string(), "bgr2hsv needs an image of 3 channels, not 1");
        assert_eq!(gray2bgr(&image).unwrap().pixels(), &Pixels::U8(vec![3; 3]));
        assert!(gray2bgr(&gray2bgr(&image).unwrap()).is_err());
    }
}
