//! Mean and standard deviation; from HWC pixels to a CHW tensor.

use candle_core::{Device, Tensor};

use super::types::{Image, Pixels};
use crate::error::{Error, Result};

/// What each channel's values become: cv2 subtracts the mean in f32, multiplies by `1 / std` in f64 and rounds to f32.
struct Channel {
    /// The input channel.
    from: usize,
    mean: f32,
    stdinv: f64,
}

impl Channel {
    fn apply(&self, v: f32) -> f32 {
        (f64::from(v - self.mean) * self.stdinv) as f32
    }
}

fn channels(image: &Image, mean: &[f64], std: &[f64], to_rgb: bool) -> Result<Vec<Channel>> {
    let c = image.channels();
    let fits = |v: &[f64]| v.len() == c || v.len() == 1;
    if !fits(mean) || !fits(std) {
        return Err(Error::config(format!(
            "mean has {} values and std has {}, but the image has {c} channels",
            mean.len(),
            std.len()
        )));
    }
    if to_rgb && c != 3 {
        return Err(Error::config(format!("to_rgb needs an image of 3 channels, not {c}")));
    }
    let at = |v: &[f64], i: usize| if v.len() == 1 { v[0] } else { v[i] };
    let channel =
        |i| Channel { from: if to_rgb { c - 1 - i } else { i }, mean: at(mean, i) as f32, stdinv: 1.0 / at(std, i) };
    Ok((0..c).map(channel).collect())
}

/// `(image - mean) / std` per channel, after BGR to RGB when `to_rgb`; mean and std are in the order of the result.
/// f32 result, bit-identical to mmcv.
pub fn imnormalize(image: &Image, mean: &[f64], std: &[f64], to_rgb: bool) -> Result<Image> {
    let channels = channels(image, mean, std, to_rgb)?;
    let [h, w, c] = image.shape();
    let mut out = vec![0f32; h * w * c];
    match image.pixels() {
        Pixels::U8(v) => {
            let tables = tables(&channels);
            if let ([a, b, d], 3) = (&tables[..], c) {
                let from = [channels[0].from, channels[1].from, channels[2].from];
                for (o, p) in out.as_chunks_mut::<3>().0.iter_mut().zip(v.as_chunks::<3>().0) {
                    *o = [a[p[from[0]] as usize], b[p[from[1]] as usize], d[p[from[2]] as usize]];
                }
            } else {
                for (o, p) in out.chunks_exact_mut(c).zip(v.chunks_exact(c)) {
                    for (o, (table, channel)) in o.iter_mut().zip(tables.iter().zip(&channels)) {
                        *o = table[p[channel.from] as usize];
                    }
                }
            }
        }
        Pixels::F32(v) => {
            for (o, p) in out.chunks_exact_mut(c).zip(v.chunks_exact(c)) {
                for (o, channel) in o.iter_mut().zip(&channels) {
                    *o = channel.apply(p[channel.from]);
                }
            }
        }
    }
    Ok(Image::made(h, w, c, Pixels::F32(out)))
}

/// Undoes [`imnormalize`]: `image * std + mean`, then RGB to BGR when `to_bgr`. f32 result, bit-identical to mmcv.
pub fn imdenormalize(image: &Image, mean: &[f64], std: &[f64], to_bgr: bool) -> Result<Image> {
    let channels = channels(image, mean, std, to_bgr)?;
    let [h, w, c] = image.shape();
    let Pixels::F32(v) = image.pixels() else {
        return Err(Error::Run("only an f32 image can be denormalized".into()));
    };
    let mut out = vec![0f32; v.len()];
    let at = |v: &[f64], i: usize| if v.len() == 1 { v[0] } else { v[i] };
    for (o, p) in out.chunks_exact_mut(c).zip(v.chunks_exact(c)) {
        for i in 0..c {
            // `from` mirrors the channels, so it serves in both directions.
            o[channels[i].from] = (f64::from(p[i]) * at(std, i)) as f32 + at(mean, i) as f32;
        }
    }
    Ok(Image::made(h, w, c, Pixels::F32(out)))
}

/// Each channel's result for each of the 256 values a byte can have.
fn tables(channels: &[Channel]) -> Vec<[f32; 256]> {
    channels.iter().map(|c| std::array::from_fn(|v| c.apply(v as f32))).collect()
}

/// [`imnormalize`] of a u8 or f32 picture, written as planes, padded with zeros on the right and below: one pass over
/// the pixels in place of four. `pad_to` = (h, w) at least the picture's size.
///
/// # Shapes
/// Output: `[C, pad_to.0, pad_to.1]`, f32, on the CPU.
pub fn normalize_to_chw(
    image: &Image,
    mean: &[f64],
    std: &[f64],
    to_rgb: bool,
    pad_to: (usize, usize),
) -> Result<Tensor> {
    let mut out = vec![0f32; image.channels() * pad_to.0 * pad_to.1];
    normalize_to_chw_into(image, mean, std, to_rgb, pad_to, &mut out)?;
    Ok(Tensor::from_vec(out, (image.channels(), pad_to.0, pad_to.1), &Device::Cpu)?)
}

/// [`normalize_to_chw`] into a part of a batch. `out` holds `C * pad_to.0 * pad_to.1` values; those outside the picture
/// are left as they are (so: zeros in a fresh batch).
pub fn normalize_to_chw_into(
    image: &Image,
    mean: &[f64],
    std: &[f64],
    to_rgb: bool,
    pad_to: (usize, usize),
    out: &mut [f32],
) -> Result<()> {
    let channels = channels(image, mean, std, to_rgb)?;
    let [h, w, c] = image.shape();
    let (ph, pw) = pad_to;
    if ph < h || pw < w || out.len() != c * ph * pw {
        return Err(Error::Run(format!(
            "an image of {h}x{w}x{c} can't be padded to {ph}x{pw} in {} values",
            out.len()
        )));
    }
    if h * w * c == 0 {
        return Ok(());
    }
    let mut planes: Vec<&mut [f32]> = out.chunks_exact_mut(ph * pw).collect();
    match image.pixels() {
        Pixels::U8(v) => {
            let tables = tables(&channels);
            for (y, row) in v.chunks_exact(w * c).enumerate() {
                let at = y * pw..y * pw + w;
                if let ([p0, p1, p2], 3) = (&mut planes[..], c) {
                    let (p0, p1, p2) = (&mut p0[at.clone()], &mut p1[at.clone()], &mut p2[at]);
                    let [a, b, d] = [&tables[0], &tables[1], &tables[2]];
                    if to_rgb {
                        for (x, p) in row.as_chunks::<3>().0.iter().enumerate().take(w) {
                            (p0[x], p1[x], p2[x]) = (a[p[2] as usize], b[p[1] as usize], d[p[0] as usize]);
                        }
                    } else {
                        for (x, p) in row.as_chunks::<3>().0.iter().enumerate().take(w) {
                            (p0[x], p1[x], p2[x]) = (a[p[0] as usize], b[p[1] as usize], d[p[2] as usize]);
                        }
                    }
                    continue;
                }
                for ((plane, table), channel) in planes.iter_mut().zip(&tables).zip(&channels) {
                    for (o, p) in plane[at.clone()].iter_mut().zip(row.chunks_exact(c)) {
                        *o = table[p[channel.from] as usize];
                    }
                }
            }
        }
        Pixels::F32(v) => {
            for (y, row) in v.chunks_exact(w * c).enumerate() {
                for (plane, channel) in planes.iter_mut().zip(&channels) {
                    for (o, p) in plane[y * pw..y * pw + w].iter_mut().zip(row.chunks_exact(c)) {
                        *o = channel.apply(p[channel.from]);
                    }
                }
            }
        }
    }
    Ok(())
}

impl Image {
    /// The values as a tensor.
    ///
    /// # Shapes
    /// Output: `[C, H, W]`, f32, on the CPU.
    pub fn to_chw_tensor(&self) -> Result<Tensor> {
        let [h, w, c] = self.shape();
        let mut out = vec![0f32; h * w * c];
        fn planes<T: Copy>(v: &[T], c: usize, n: usize, out: &mut [f32], f: impl Fn(T) -> f32) {
            if n * c == 0 {
                return;
            }
            for (ch, plane) in out.chunks_exact_mut(n).enumerate() {
                for (o, p) in plane.iter_mut().zip(v.chunks_exact(c)) {
                    *o = f(p[ch]);
                }
            }
        }
        match self.pixels() {
            Pixels::U8(v) => planes(v, c, h * w, &mut out, f32::from),
            Pixels::F32(v) => planes(v, c, h * w, &mut out, |v| v),
        }
        Ok(Tensor::from_vec(out, (c, h, w), &Device::Cpu)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEAN: [f64; 3] = [123.675, 116.28, 103.53];
    const STD: [f64; 3] = [58.395, 57.12, 57.375];

    #[test]
    fn the_fused_pass_gives_what_the_steps_give() {
        let bytes: Vec<u8> = (0..5 * 7 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let image = Image::new(5, 7, 3, Pixels::U8(bytes)).unwrap();
        for to_rgb in [false, true] {
            let steps = imnormalize(&image, &MEAN, &STD, to_rgb).unwrap();
            let steps = super::super::impad(&steps, (8, 8), &[0.0], Default::default()).unwrap();
            let steps = steps.to_chw_tensor().unwrap();
            for image in [image.clone(), image.clone().into_f32()] {
                let fused = normalize_to_chw(&image, &MEAN, &STD, to_rgb, (8, 8)).unwrap();
                assert_eq!(fused.dims(), [3, 8, 8]);
                let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert_eq!(values(&fused), values(&steps));
            }
        }
    }

    #[test]
    fn denormalizing_undoes_normalizing() {
        let bytes: Vec<u8> = (0..27).map(|i| i * 9).collect();
        let image = Image::new(3, 3, 3, Pixels::U8(bytes)).unwrap();
        let back = imdenormalize(&imnormalize(&image, &MEAN, &STD, true).unwrap(), &MEAN, &STD, true).unwrap();
        let (Pixels::F32(back), Pixels::U8(v)) = (back.pixels(), image.pixels()) else { panic!() };
        assert!(back.iter().zip(v).all(|(a, b)| (a - f32::from(*b)).abs() < 1e-4));
    }

    #[test]
    fn a_mean_of_the_wrong_length_is_an_error_that_says_so() {
        let image = Image::new(1, 1, 3, Pixels::U8(vec![0; 3])).unwrap();
        let message = imnormalize(&image, &[0.0, 0.0], &[1.0], true).unwrap_err().to_string();
        assert!(message.contains("mean has 2 values"), "{message}");
        let gray = Image::new(1, 1, 1, Pixels::U8(vec![0])).unwrap();
        assert!(imnormalize(&gray, &[0.0], &[1.0], true).is_err());
    }
}
