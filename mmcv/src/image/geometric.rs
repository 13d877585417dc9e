//! Flips, crops, padding, cut-outs: operations that move pixels and make none.

use super::options::PadMode;
use super::types::{FlipDirection, Image, Pixels};
use crate::error::{Error, Result};

/// Mirrors a picture.
#[must_use]
pub fn imflip(image: &Image, direction: FlipDirection) -> Image {
    let [h, w, c] = image.shape();
    let pixels = match image.pixels() {
        Pixels::U8(v) => Pixels::U8(flip(v, w, c, direction, mirror_u8)),
        Pixels::F32(v) => Pixels::F32(flip(v, w, c, direction, mirror)),
    };
    Image::made(h, w, c, pixels)
}

fn flip<T: Copy>(v: &[T], w: usize, c: usize, direction: FlipDirection, mirror: fn(&[T], &mut [T], usize)) -> Vec<T> {
    if v.is_empty() {
        return Vec::new();
    }
    let mut out = v.to_vec();
    let rows = v.chunks_exact(w * c);
    match direction {
        FlipDirection::Horizontal => rows.zip(out.chunks_exact_mut(w * c)).for_each(|(row, o)| mirror(row, o, c)),
        FlipDirection::Vertical => {
            rows.rev().zip(out.chunks_exact_mut(w * c)).for_each(|(row, o)| o.copy_from_slice(row))
        }
        FlipDirection::Diagonal => rows.rev().zip(out.chunks_exact_mut(w * c)).for_each(|(row, o)| mirror(row, o, c)),
    }
    out
}

/// The pixels of `row` from right to left.
fn mirror<T: Copy>(row: &[T], out: &mut [T], c: usize) {
    match c {
        1 => out.iter_mut().rev().zip(row).for_each(|(o, p)| *o = *p),
        3 => mirror_n::<T, 3>(row, out),
        4 => mirror_n::<T, 4>(row, out),
        _ => out.chunks_exact_mut(c).rev().zip(row.chunks_exact(c)).for_each(|(o, p)| o.copy_from_slice(p)),
    }
}

fn mirror_n<T: Copy, const C: usize>(row: &[T], out: &mut [T]) {
    out.as_chunks_mut::<C>().0.iter_mut().rev().zip(row.as_chunks::<C>().0).for_each(|(o, p)| *o = *p);
}

#[allow(unsafe_code)] // a byte shuffle for the common case
fn mirror_u8(row: &[u8], out: &mut [u8], c: usize) {
    #[cfg(target_arch = "x86_64")]
    if c == 3 && std::arch::is_x86_feature_detected!("ssse3") {
        // SAFETY: the machine has SSSE3. The callee checks its own bounds.
        let done = unsafe { mirror3_ssse3(row, out) };
        let left = out.len() - done;
        return mirror(&row[done..], &mut out[..left], c);
    }
    mirror(row, out, c);
}

/// Five pixels a step from the left of `row` to the right of `out`; returns how many bytes were done.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "ssse3")]
#[allow(unsafe_code)] // vector loads and stores
fn mirror3_ssse3(row: &[u8], out: &mut [u8]) -> usize {
    use std::arch::x86_64::*;
    // A byte that is written again, then the five pixels from the last to the first.
    let order = _mm_setr_epi8(15, 12, 13, 14, 9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2);
    let n = row.len().min(out.len());
    let mut done = 0;
    while done + 16 <= n {
        // SAFETY: 16 bytes from `done` lie inside `row`; the 16 that end `done` bytes before the end of the first `n`
        // lie inside `out`.
        unsafe {
            let pixels = _mm_loadu_si128(row.as_ptr().add(done).cast());
            _mm_storeu_si128(out.as_mut_ptr().add(n - done - 16).cast(), _mm_shuffle_epi8(pixels, order));
        }
        done += 15;
    }
    done
}

/// Crops `[x1, y1, x2, y2]` in whole pixels with **both ends inside**, as mmcv does, after scaling the box about its
/// centre by `scale` (fractions cut off). Without `pad_fill` the box is clipped to the picture; with it the patch is
/// as large as the scaled box and filled with those values outside.
pub fn imcrop(image: &Image, bbox: [f64; 4], scale: f64, pad_fill: Option<&[f64]>) -> Result<Image> {
    let [h, w, c] = image.shape();
    let [x1, y1, x2, y2] = bbox;
    let (dx, dy) = if scale == 1.0 {
        (0.0, 0.0)
    } else {
        ((x2 - x1 + 1.0) * (scale - 1.0) * 0.5, (y2 - y1 + 1.0) * (scale - 1.0) * 0.5)
    };
    let scaled = [x1 - dx, y1 - dy, x2 + dx, y2 + dy].map(|v| v as i64);
    if h == 0 || w == 0 {
        return Err(Error::Run(format!("can't crop an image of {h}x{w}")));
    }
    let clip = |v: i64, n: usize| v.clamp(0, n as i64 - 1);
    let [cx1, cx2] = [scaled[0], scaled[2]].map(|v| clip(v, w));
    let [cy1, cy2] = [scaled[1], scaled[3]].map(|v| clip(v, h));
    let inside =
        crop(image, cy1 as usize, cx1 as usize, (cy2 - cy1 + 1).max(0) as usize, (cx2 - cx1 + 1).max(0) as usize);
    let Some(fill) = pad_fill else { return Ok(inside) };
    let (ph, pw) = (scaled[3] - scaled[1] + 1, scaled[2] - scaled[0] + 1);
    let (top, left) = ((-scaled[1]).max(0), (-scaled[0]).max(0));
    let (below, right) = (ph - top - inside.height() as i64, pw - left - inside.width() as i64);
    if below < 0 || right < 0 {
        return Err(Error::Run(format!("the box {bbox:?} does not touch the image of {h}x{w}")));
    }
    let padding = [left, top, right, below].map(|v| v as usize);
    if let Some(v) = check_fill(fill, c)? {
        return pad(&inside, padding, &v, PadMode::Constant);
    }
    pad(&inside, padding, fill, PadMode::Constant)
}

/// The rectangle of `h` x `w` pixels whose first is at (`y`, `x`), cut where the picture ends.
#[must_use]
pub fn crop(image: &Image, y: usize, x: usize, h: usize, w: usize) -> Image {
    let (y, x) = (y.min(image.height()), x.min(image.width()));
    let (h, w) = (h.min(image.height() - y), w.min(image.width() - x));
    let (pitch, c) = (image.width(), image.channels());
    fn rows<T: Copy>(v: &[T], pitch: usize, c: usize, [y, x, h, w]: [usize; 4]) -> Vec<T> {
        let mut out = Vec::with_capacity(h * w * c);
        for row in y..y + h {
            let at = (row * pitch + x) * c;
            out.extend_from_slice(&v[at..at + w * c]);
        }
        out
    }
    let pixels = match image.pixels() {
        Pixels::U8(v) => Pixels::U8(rows(v, pitch, c, [y, x, h, w])),
        Pixels::F32(v) => Pixels::F32(rows(v, pitch, c, [y, x, h, w])),
    };
    Image::made(h, w, c, pixels)
}

/// `None` when `fill` has a value per channel; a single value repeated otherwise.
fn check_fill(fill: &[f64], c: usize) -> Result<Option<Vec<f64>>> {
    match fill.len() {
        n if n == c => Ok(None),
        1 => Ok(Some(vec![fill[0]; c])),
        n => Err(Error::Run(format!("{n} fill values don't fit {c} channels: give one, or one per channel"))),
    }
}

/// Pads on the right and below up to `shape` = (h, w); a side that is larger already stays. `pad_val` holds one value
/// per channel; a single one is, as cv2 takes a plain number, the first channel's, and the others are filled with 0.
pub fn impad(image: &Image, shape: (usize, usize), pad_val: &[f64], mode: PadMode) -> Result<Image> {
    let right = shape.1.saturating_sub(image.width());
    let below = shape.0.saturating_sub(image.height());
    pad(image, [0, 0, right, below], pad_val, mode)
}

/// Pads by `[left, top, right, bottom]` pixels; `pad_val` as in [`impad`].
pub fn pad(image: &Image, padding: [usize; 4], pad_val: &[f64], mode: PadMode) -> Result<Image> {
    let [left, top, right, bottom] = padding;
    if padding == [0; 4] {
        return Ok(image.clone());
    }
    let [h, w, c] = image.shape();
    if mode != PadMode::Constant && (h == 0 || w == 0) {
        return Err(Error::Run("an empty image has no edge to pad with".into()));
    }
    let first_only = (pad_val.len() == 1).then(|| (0..c).map(|i| if i == 0 { pad_val[0] } else { 0.0 }).collect());
    let filled: Option<Vec<f64>> = if first_only.is_some() { first_only } else { check_fill(pad_val, c)? };
    let fill = filled.as_deref().unwrap_or(pad_val);
    let frame = Frame { h, w, c, left, top, right, bottom, mode };
    let pixels = match image.pixels() {
        Pixels::U8(v) => Pixels::U8(frame.fill(v, &fill.iter().map(|&f| to_u8(f)).collect::<Vec<_>>())),
        Pixels::F32(v) => Pixels::F32(frame.fill(v, &fill.iter().map(|&f| f as f32).collect::<Vec<_>>())),
    };
    Ok(Image::made(h + top + bottom, w + left + right, c, pixels))
}

/// Pads on the right and below up to the next multiples of `divisor`.
pub fn impad_to_multiple(image: &Image, divisor: usize, pad_val: &[f64]) -> Result<Image> {
    if divisor == 0 {
        return Err(Error::Run("the divisor of padding is 0".into()));
    }
    let up = |n: usize| n.div_ceil(divisor) * divisor;
    impad(image, (up(image.height()), up(image.width())), pad_val, PadMode::Constant)
}

/// cv2's `saturate_cast<uchar>`: to the nearest whole number, halves to even.
pub(crate) fn to_u8(v: f64) -> u8 {
    v.round_ties_even().clamp(0.0, 255.0) as u8
}

struct Frame {
    h: usize,
    w: usize,
    c: usize,
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
    mode: PadMode,
}

impl Frame {
    fn fill<T: Copy>(&self, v: &[T], fill: &[T]) -> Vec<T> {
        let &Self { h, w, c, left, top, right, bottom, mode } = self;
        let (oh, ow) = (h + top + bottom, w + left + right);
        let mut out = Vec::with_capacity(oh * ow * c);
        let constant = |out: &mut Vec<T>, n: usize| (0..n).for_each(|_| out.extend_from_slice(fill));
        for y in 0..oh {
            if mode == PadMode::Constant {
                if y < top || y >= top + h {
                    constant(&mut out, ow);
                    continue;
                }
                constant(&mut out, left);
                out.extend_from_slice(&v[(y - top) * w * c..(y - top + 1) * w * c]);
                constant(&mut out, right);
                continue;
            }
            let row = &v[border(y as isize - top as isize, h, mode) * w * c..][..w * c];
            for x in (0..left).map(|x| x as isize - left as isize) {
                out.extend_from_slice(&row[border(x, w, mode) * c..][..c]);
            }
            out.extend_from_slice(row);
            for x in w..w + right {
                out.extend_from_slice(&row[border(x as isize, w, mode) * c..][..c]);
            }
        }
        out
    }
}

/// The index inside `0..n` that stands for `i` outside; mirrors as often as it takes.
fn border(i: isize, n: usize, mode: PadMode) -> usize {
    let last = n as isize - 1;
    let at = match mode {
        PadMode::Constant | PadMode::Edge => i.clamp(0, last),
        PadMode::Reflect if n == 1 => 0,
        PadMode::Reflect => {
            let i = i.rem_euclid(2 * last);
            i.min(2 * last - i)
        }
        PadMode::Symmetric => {
            let i = i.rem_euclid(2 * last + 2);
            i.min(2 * last + 1 - i)
        }
    };
    at as usize
}

/// mmcv's cut-out of `shape` = (h, w) about (`y0`, `x0`): the corner is clipped at 0 and cut to whole pixels, and the
/// far side where the picture ends. mmcv draws `y0` from `0..h` and `x0` from `0..w`, uniformly.
pub fn cutout(image: &Image, shape: (usize, usize), centre: (f64, f64), pad_val: &[f64]) -> Result<Image> {
    let [h, w, c] = image.shape();
    let repeated = check_fill(pad_val, c)?;
    let fill = repeated.as_deref().unwrap_or(pad_val);
    let y1 = ((centre.0 - shape.0 as f64 / 2.0).max(0.0) as usize).min(h);
    let x1 = ((centre.1 - shape.1 as f64 / 2.0).max(0.0) as usize).min(w);
    let (y2, x2) = ((y1 + shape.0).min(h), (x1 + shape.1).min(w));
    let mut image = image.clone();
    for y in y1..y2 {
        for x in x1..x2 {
            for ch in 0..c {
                let at = (y * w + x) * c + ch;
                match image.pixels_mut() {
                    Pixels::U8(v) => v[at] = fill[ch] as u8,
                    Pixels::F32(v) => v[at] = fill[ch] as f32,
                }
            }
        }
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[u8]) -> Image {
        Image::new(1, values.len(), 1, Pixels::U8(values.to_vec())).unwrap()
    }

    #[test]
    fn padding_modes_are_those_of_mmcvs_docstring() {
        let image = row(&[1, 2, 3, 4]);
        let padded = |mode| pad(&image, [2, 0, 2, 0], &[9.0], mode).unwrap().into_pixels();
        assert_eq!(padded(PadMode::Reflect), Pixels::U8(vec![3, 2, 1, 2, 3, 4, 3, 2]));
        assert_eq!(padded(PadMode::Symmetric), Pixels::U8(vec![2, 1, 1, 2, 3, 4, 4, 3]));
        assert_eq!(padded(PadMode::Edge), Pixels::U8(vec![1, 1, 1, 2, 3, 4, 4, 4]));
        assert_eq!(padded(PadMode::Constant), Pixels::U8(vec![9, 9, 1, 2, 3, 4, 9, 9]));
    }

    #[test]
    fn fill_values_that_fit_no_channel_count_are_an_error() {
        let image = Image::new(1, 1, 3, Pixels::U8(vec![0; 3])).unwrap();
        assert!(impad(&image, (2, 2), &[1.0, 2.0], PadMode::Constant).is_err());
        let padded = impad_to_multiple(&image, 4, &[1.0, 2.0, 3.0]).unwrap();
        assert_eq!(padded.shape(), [4, 4, 3]);
        // mmcv.impad(np.zeros((1, 1, 3), np.uint8), shape=(1, 2), pad_val=7)
        let padded = impad(&image, (1, 2), &[7.0], PadMode::Constant).unwrap();
        assert_eq!(padded.pixels(), &Pixels::U8(vec![0, 0, 0, 7, 0, 0]));
        assert_eq!(impad_to_multiple(&image, 0, &[0.0]).unwrap_err().to_string(), "the divisor of padding is 0");
    }

    #[test]
    fn flips_keep_the_order_of_channels() {
        let image = Image::new(2, 2, 3, Pixels::U8((0..12).collect())).unwrap();
        let flipped = |d| imflip(&image, d).into_pixels();
        assert_eq!(flipped(FlipDirection::Horizontal), Pixels::U8(vec![3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]));
        assert_eq!(flipped(FlipDirection::Vertical), Pixels::U8(vec![6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5]));
        assert_eq!(flipped(FlipDirection::Diagonal), Pixels::U8(vec![9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2]));
    }

    #[test]
    fn wide_rows_are_mirrored_pixel_by_pixel() {
        for w in 1..24 {
            let image = Image::new(1, w, 3, Pixels::U8((0..w as u8 * 3).collect())).unwrap();
            let expected: Vec<u8> = (0..w as u8).rev().flat_map(|x| [3 * x, 3 * x + 1, 3 * x + 2]).collect();
            assert_eq!(imflip(&image, FlipDirection::Horizontal).into_pixels(), Pixels::U8(expected), "{w}");
        }
    }

    #[test]
    fn crops_hold_both_ends_and_may_reach_outside() {
        let image = Image::new(3, 4, 1, Pixels::U8((0..12).collect())).unwrap();
        let patch = imcrop(&image, [1.0, 0.0, 2.0, 1.0], 1.0, None).unwrap();
        assert_eq!(patch.pixels(), &Pixels::U8(vec![1, 2, 5, 6]));
        // mmcv.imcrop(np.arange(12, dtype=np.uint8).reshape(3, 4), np.array([-1, 1, 1, 4]), pad_fill=99)
        let patch = imcrop(&image, [-1.0, 1.0, 1.0, 4.0], 1.0, Some(&[99.0])).unwrap();
        assert_eq!(patch.pixels(), &Pixels::U8(vec![99, 4, 5, 99, 8, 9, 99, 99, 99, 99, 99, 99]));
        assert!(imcrop(&image, [8.0, 8.0, 9.0, 9.0], 1.0, Some(&[0.0])).is_ok());
    }
}
