//! Operations on values: mmcv's `photometric.py`.
//!
//! Bounds against mmcv 1.7.2 on cv2 4.8: tables ([`iminvert`], [`solarize`], [`posterize`], [`imequalize`],
//! [`auto_contrast`], [`lut_transform`]) are bit-identical; the blends of u8 and [`adjust_hue`] within 1 level, blends
//! of f32 within 1e-3.

use super::colorspace::{bgr2gray, bgr2hsv_full, hsv2bgr_full};
use super::types::{Image, Pixels};
use crate::error::{Error, Result};

/// Each value through `bytes` or `floats`.
fn map(image: &Image, bytes: impl Fn(u8) -> u8, floats: impl Fn(f32) -> f32) -> Image {
    let [h, w, c] = image.shape();
    let pixels = match image.pixels() {
        Pixels::U8(v) => {
            let table: [u8; 256] = std::array::from_fn(|i| bytes(i as u8));
            Pixels::U8(v.iter().map(|&v| table[v as usize]).collect())
        }
        Pixels::F32(v) => Pixels::F32(v.iter().map(|&v| floats(v)).collect()),
    };
    Image::made(h, w, c, pixels)
}

fn need_u8<'a>(image: &'a Image, what: &str) -> Result<&'a [u8]> {
    match image.pixels() {
        Pixels::U8(v) => Ok(v),
        Pixels::F32(_) => Err(Error::Run(format!("{what} needs a u8 image"))),
    }
}

/// 255 minus each value.
#[must_use]
pub fn iminvert(image: &Image) -> Image {
    map(image, |v| 255 - v, |v| 255.0 - v)
}

/// Inverts values of at least `thr` (mmcv's default 128).
#[must_use]
pub fn solarize(image: &Image, thr: f64) -> Image {
    map(image, |v| if f64::from(v) < thr { v } else { 255 - v }, |v| if f64::from(v) < thr { v } else { 255.0 - v })
}

/// Keeps the upper `bits` (0 to 8) of each u8 value.
pub fn posterize(image: &Image, bits: u32) -> Result<Image> {
    need_u8(image, "posterize")?;
    if bits > 8 {
        return Err(Error::config(format!("posterize: bits {bits} is not in 0..=8")));
    }
    let shift = 8 - bits;
    Ok(map(image, |v| ((u32::from(v) >> shift) << shift) as u8, |v| v))
}

/// cv2's `addWeighted` in f32, clipped to 0 to 255 as mmcv does; u8 values are rounded by `to_byte`.
fn blend(image: &Image, alpha: f64, other: &[f32], beta: f64, gamma: f64, to_byte: impl Fn(f32) -> u8) -> Image {
    let [h, w, c] = image.shape();
    let (a, b, g) = (alpha as f32, beta as f32, gamma as f32);
    let one = |v: f32, i: usize| v.mul_add(a, other[if other.len() == 1 { 0 } else { i }].mul_add(b, g));
    let pixels = match image.pixels() {
        Pixels::U8(v) => Pixels::U8(v.iter().enumerate().map(|(i, &v)| to_byte(one(f32::from(v), i))).collect()),
        Pixels::F32(v) => Pixels::F32(v.iter().enumerate().map(|(i, &v)| one(v, i).clamp(0.0, 255.0)).collect()),
    };
    Image::made(h, w, c, pixels)
}

/// cv2's rounding.
fn nearest(v: f32) -> u8 {
    v.round_ties_even() as u8
}

/// numpy's cast after a clip: fractions cut off.
fn cut(v: f32) -> u8 {
    v as u8
}

/// `image * alpha + gray * beta + gamma`, with `beta` 1 - alpha by default. BGR.
pub fn adjust_color(image: &Image, alpha: f64, beta: Option<f64>, gamma: f64) -> Result<Image> {
    let Pixels::F32(gray) = bgr2gray(image)?.into_f32().into_pixels() else { unreachable!("into_f32 gives f32") };
    let gray: Vec<f32> = gray.into_iter().flat_map(|v| [v; 3]).collect();
    Ok(blend(image, alpha, &gray, beta.unwrap_or(1.0 - alpha), gamma, nearest))
}

/// Times `factor`.
#[must_use]
pub fn adjust_brightness(image: &Image, factor: f64) -> Image {
    blend(image, factor, &[0.0], 1.0 - factor, 0.0, cut)
}

/// Away from the mean grey by `factor`. BGR.
pub fn adjust_contrast(image: &Image, factor: f64) -> Result<Image> {
    let gray = bgr2gray(image)?;
    let (sum, n) = match gray.pixels() {
        Pixels::U8(v) => (v.iter().map(|&v| f64::from(v)).sum::<f64>(), v.len()),
        // np.histogram leaves out what lies outside 0 to 255.
        Pixels::F32(v) => {
            (v.iter().map(|&v| f64::from(v)).sum::<f64>(), v.iter().filter(|v| (0.0..=255.0).contains(*v)).count())
        }
    };
    if n == 0 {
        return Err(Error::Run("adjust_contrast: no value of the image lies in 0 to 255".into()));
    }
    let mean = (sum / n as f64).round_ties_even() as f32;
    Ok(blend(image, factor, &[mean], 1.0 - factor, 0.0, cut))
}

/// Away from the smoothed picture by `factor`. `kernel`: rows of a filter, by default Pillow's `SMOOTH`.
pub fn adjust_sharpness(image: &Image, factor: f64, kernel: Option<&[Vec<f64>]>) -> Result<Image> {
    let smooth = [vec![1.0; 3], vec![1.0, 5.0, 1.0], vec![1.0; 3]].map(|r| r.iter().map(|v| v / 13.0).collect());
    let smoothed = filter2d(image, kernel.unwrap_or(&smooth))?.into_f32();
    let Pixels::F32(smoothed) = smoothed.into_pixels() else { unreachable!("into_f32 gives f32") };
    Ok(blend(image, factor, &smoothed, 1.0 - factor, 0.0, cut))
}

/// cv2's `filter2D`: correlation about the middle of `kernel`, mirrored at the edges (`reflect_101`).
pub fn filter2d(image: &Image, kernel: &[Vec<f64>]) -> Result<Image> {
    let (kh, kw) = (kernel.len(), kernel.first().map_or(0, Vec::len));
    if kh == 0 || kw == 0 || kernel.iter().any(|r| r.len() != kw) {
        return Err(Error::config("a filter kernel must be a rectangle of numbers"));
    }
    let [h, w, c] = image.shape();
    let mirrored = |i: isize, n: usize| {
        let last = n as isize - 1;
        if last == 0 {
            return 0;
        }
        let i = i.rem_euclid(2 * last);
        i.min(2 * last - i) as usize
    };
    let weights: Vec<f32> = kernel.iter().flatten().map(|&v| v as f32).collect();
    let columns: Vec<usize> = (0..w + kw).map(|x| mirrored(x as isize - (kw / 2) as isize, w) * c).collect();
    let sums = |value: &dyn Fn(usize) -> f32| -> Vec<f32> {
        let mut out = vec![0f32; h * w * c];
        for y in 0..h {
            for ky in 0..kh {
                let row = mirrored(y as isize + ky as isize - (kh / 2) as isize, h) * w * c;
                for kx in 0..kw {
                    let weight = weights[ky * kw + kx];
                    for x in 0..w {
                        for ch in 0..c {
                            out[(y * w + x) * c + ch] += value(row + columns[x + kx] + ch) * weight;
                        }
                    }
                }
            }
        }
        out
    };
    if h * w * c == 0 {
        return Ok(image.clone());
    }
    let pixels = match image.pixels() {
        Pixels::U8(v) => Pixels::U8(sums(&|i| f32::from(v[i])).into_iter().map(nearest).collect()),
        Pixels::F32(v) => Pixels::F32(sums(&|i| v[i])),
    };
    Ok(Image::made(h, w, c, pixels))
}

/// Turns the hue by `hue_factor` (-0.5 to 0.5) of the circle. f32 values are first cut to u8, as in mmcv. BGR; grey
/// pictures have no hue and are an error.
pub fn adjust_hue(image: &Image, hue_factor: f64) -> Result<Image> {
    if !(-0.5..=0.5).contains(&hue_factor) {
        return Err(Error::config(format!("hue_factor:{hue_factor} is not in [-0.5, 0.5].")));
    }
    let [h, w, c] = image.shape();
    let bytes = match image.pixels() {
        Pixels::U8(_) => image.clone(),
        Pixels::F32(v) => Image::made(h, w, c, Pixels::U8(v.iter().map(|&v| v as i64 as u8).collect())),
    };
    let mut hsv = bgr2hsv_full(&bytes)?;
    // numpy's uint8 of a negative number wraps.
    let turn = (hue_factor * 255.0) as i64 as u8;
    if let Pixels::U8(v) = hsv.pixels_mut() {
        v.iter_mut().step_by(3).for_each(|h| *h = h.wrapping_add(turn));
    }
    let turned = hsv2bgr_full(&hsv)?;
    Ok(if matches!(image.pixels(), Pixels::F32(_)) { turned.into_f32() } else { turned })
}

/// AlexNet's lighting noise: adds `eigvec * (alpha * eigval)` to each pixel, f32 result. mmcv draws the `alpha`s from a
/// normal distribution of deviation 0.1. `eigvec[i]` belongs to channel `i` of the result, which is RGB when `to_rgb`.
pub fn adjust_lighting(
    image: &Image,
    eigval: &[f64],
    eigvec: &[Vec<f64>],
    alpha: &[f64],
    to_rgb: bool,
) -> Result<Image> {
    let n = eigval.len();
    if eigvec.len() != 3 || eigvec.iter().any(|r| r.len() != n) || alpha.len() != n {
        return Err(Error::config(format!(
            "adjust_lighting: {n} eigenvalues need 3 rows of {n} in eigvec and {n} alphas"
        )));
    }
    let mut image = if to_rgb { super::colorspace::bgr2rgb(image)? } else { image.clone() }.into_f32();
    if image.channels() != 3 {
        return Err(Error::Run(format!("adjust_lighting needs an image of 3 channels, not {}", image.channels())));
    }
    let alter: Vec<f64> =
        eigvec.iter().map(|row| row.iter().zip(alpha).zip(eigval).map(|((v, a), e)| v * a * e).sum()).collect();
    if let Pixels::F32(v) = image.pixels_mut() {
        for p in v.chunks_exact_mut(3) {
            p.iter_mut().zip(&alter).for_each(|(p, a)| *p = (f64::from(*p) + a) as f32);
        }
    }
    Ok(image)
}

fn histograms(v: &[u8]) -> [[i64; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for p in v.as_chunks::<3>().0 {
        (0..3).for_each(|c| counts[c][p[c] as usize] += 1);
    }
    counts
}

/// A table per channel, applied to a u8 picture of three channels.
fn per_channel(image: &Image, what: &str, table: impl Fn(&[i64; 256]) -> [u8; 256]) -> Result<Image> {
    let v = need_u8(image, what)?;
    let [h, w, c] = image.shape();
    if c != 3 {
        return Err(Error::Run(format!("{what} needs an image of 3 channels, not {c}")));
    }
    let tables = histograms(v).map(|counts| table(&counts));
    let out = v.as_chunks::<3>().0.iter().flat_map(|p| [0, 1, 2].map(|c| tables[c][p[c] as usize])).collect();
    Ok(Image::made(h, w, 3, Pixels::U8(out)))
}

fn identity() -> [u8; 256] {
    std::array::from_fn(|i| i as u8)
}

/// Spreads each channel's values evenly.
pub fn imequalize(image: &Image) -> Result<Image> {
    per_channel(image, "imequalize", |counts| {
        let last = counts.iter().rev().find(|&&n| n > 0).copied().unwrap_or(0);
        let step = (counts.iter().sum::<i64>() - last) / 255;
        if step == 0 {
            return identity();
        }
        let mut below = step / 2;
        std::array::from_fn(|i| {
            let value = if i == 0 { 0 } else { (below / step).min(255) as u8 };
            below += counts[i];
            value
        })
    })
}

/// Stretches each channel to 0 to 255 after leaving out `cutoff` percent (low, high) of its pixels.
pub fn auto_contrast(image: &Image, cutoff: (f64, f64)) -> Result<Image> {
    per_channel(image, "auto_contrast", |counts| {
        let total = counts.iter().sum::<i64>() as f64;
        let low_cut = (total * cutoff.0 / 100.0).floor();
        let high_cut = total - (total * cutoff.1 / 100.0).floor();
        let mut sum = 0i64;
        let mut kept = [0f64; 256];
        for (k, &n) in kept.iter_mut().zip(counts) {
            sum += n;
            // np.clip: the upper bound wins.
            *k = (sum as f64).max(low_cut).min(high_cut) - low_cut;
        }
        let differs = |i: usize| if i == 0 { kept[0] != 0.0 } else { kept[i] != kept[i - 1] };
        let (low, high) = ((0..256).find(|&i| differs(i)), (0..256).rev().find(|&i| differs(i)));
        let (Some(low), Some(high)) = (low, high) else { return identity() };
        if low >= high {
            return identity();
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        std::array::from_fn(|i| (i as f64 * scale + offset).clamp(0.0, 255.0) as u8)
    })
}

/// Each value by a table. f32 values are cut to u8 first, and must lie in 0 to 255.
pub fn lut_transform(image: &Image, table: &[u8; 256]) -> Result<Image> {
    let [h, w, c] = image.shape();
    let out = match image.pixels() {
        Pixels::U8(v) => v.iter().map(|&v| table[v as usize]).collect(),
        Pixels::F32(v) => {
            if v.iter().any(|v| !(0.0..=255.0).contains(v)) {
                return Err(Error::Run("lut_transform: a value lies outside 0 to 255".into()));
            }
            v.iter().map(|&v| table[v as usize]).collect()
        }
    };
    Ok(Image::made(h, w, c, Pixels::U8(out)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_of_one_changes_nothing() {
        let image = Image::new(4, 4, 3, Pixels::U8((0..48).map(|i| i * 5).collect())).unwrap();
        assert_eq!(adjust_color(&image, 1.0, None, 0.0).unwrap(), image);
        assert_eq!(adjust_brightness(&image, 1.0), image);
        assert_eq!(adjust_contrast(&image, 1.0).unwrap(), image);
        assert_eq!(adjust_sharpness(&image, 1.0, None).unwrap(), image);
        assert_eq!(iminvert(&iminvert(&image)), image);
        assert_eq!(posterize(&image, 8).unwrap(), image);
    }

    #[test]
    fn parameters_out_of_range_are_errors() {
        let image = Image::new(1, 1, 3, Pixels::U8(vec![1, 2, 3])).unwrap();
        assert!(adjust_hue(&image, 0.6).unwrap_err().to_string().contains("0.6"));
        assert!(posterize(&image, 9).is_err());
        assert!(posterize(&image.clone().into_f32(), 4).is_err());
        assert!(filter2d(&image, &[vec![1.0], vec![]]).is_err());
        assert!(adjust_lighting(&image, &[1.0], &[vec![1.0], vec![1.0]], &[1.0], true).is_err());
        assert!(lut_transform(&Image::new(1, 1, 1, Pixels::F32(vec![256.0])).unwrap(), &[0; 256]).is_err());
    }
}
