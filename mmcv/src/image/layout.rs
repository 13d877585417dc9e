//! From what a file holds to what a flag asks for.

use ::image::ImageFormat;

use super::options::{ChannelOrder, ColorFlag, ImageBackend};
use super::types::{Image, Pixels};

/// Values of a decoder.
enum Values {
    U8(Vec<u8>),
    U16(Vec<u16>),
    F32(Vec<f32>),
}

/// A decoded file: 1 (grey), 2 (grey, alpha), 3 or 4 channels, RGB unless `bgr`.
pub(crate) struct Raw {
    pub(crate) height: usize,
    pub(crate) width: usize,
    channels: usize,
    values: Values,
    bgr: bool,
    cmyk: bool,
}

impl Raw {
    pub(crate) fn u8(height: usize, width: usize, channels: usize, values: Vec<u8>) -> Self {
        Self { height, width, channels, values: Values::U8(values), bgr: false, cmyk: false }
    }

    pub(crate) fn u16(height: usize, width: usize, channels: usize, values: Vec<u16>) -> Self {
        Self { height, width, channels, values: Values::U16(values), bgr: false, cmyk: false }
    }

    pub(crate) fn f32(height: usize, width: usize, channels: usize, values: Vec<f32>) -> Self {
        Self { height, width, channels, values: Values::F32(values), bgr: false, cmyk: false }
    }

    /// The same, known to be BGR.
    pub(crate) fn bgr(self) -> Self {
        Self { bgr: true, ..self }
    }

    /// The same, known to be inks as Pillow has them (255 is full).
    pub(crate) fn cmyk(self) -> Self {
        Self { cmyk: true, ..self }
    }

    /// libtiff's way to give colours with unassociated alpha: times alpha, rounded.
    pub(crate) fn premultiplied(mut self) -> Self {
        if let (Values::U8(v), 4) = (&mut self.values, self.channels) {
            for p in v.chunks_exact_mut(4) {
                let alpha = u32::from(p[3]);
                p[..3].iter_mut().for_each(|v| *v = ((u32::from(*v) * alpha + 127) / 255) as u8);
            }
        }
        self
    }

    /// The bytes; none when the values aren't bytes.
    pub(crate) fn as_u8(&self) -> &[u8] {
        match &self.values {
            Values::U8(v) => v,
            _ => &[],
        }
    }

    /// The first channel alone.
    pub(crate) fn first_channel(self) -> Self {
        let c = self.channels;
        let values = match self.values {
            Values::U8(v) => Values::U8(v.into_iter().step_by(c).collect()),
            Values::U16(v) => Values::U16(v.into_iter().step_by(c).collect()),
            Values::F32(v) => Values::F32(v.into_iter().step_by(c).collect()),
        };
        Self { channels: 1, values, ..self }
    }
}

/// Applies `flag` and `order` with the conventions of `backend`.
pub(crate) fn finish(
    raw: Raw,
    format: ImageFormat,
    flag: ColorFlag,
    order: ChannelOrder,
    backend: ImageBackend,
) -> Result<Image, String> {
    if flag == ColorFlag::Unchanged || backend == ImageBackend::Tifffile {
        return Ok(unchanged(raw, backend));
    }
    let rgb = match backend {
        ImageBackend::Cv2 | ImageBackend::Image => flag == ColorFlag::Color && order == ChannelOrder::Rgb,
        _ => order == ChannelOrder::Rgb,
    };
    let raw = if raw.cmyk { pillow_rgb(raw) } else { raw };
    let (h, w, c, bgr) = (raw.height, raw.width, raw.channels, raw.bgr);
    let deep = if format == ImageFormat::Tiff && c >= 3 { |v| ((u32::from(v) + 128) / 257) as u8 } else { high_byte };
    if flag.is_gray() {
        let gray = match raw.values {
            Values::U8(v) if c == 1 => v,
            Values::U8(v) if c == 2 && backend == ImageBackend::Pillow => {
                let rgb: Vec<u8> = v.chunks_exact(2).flat_map(|p| over_background(p[0], p[1])).collect();
                gray_u8(&rgb, 3, false, format, backend)
            }
            Values::U8(v) => gray_u8(&v, c, bgr, format, backend),
            Values::U16(v) if format == ImageFormat::Tiff => {
                let v: Vec<u8> = v.into_iter().map(deep).collect();
                if c == 1 { v } else { gray_u8(&v, c, bgr, format, backend) }
            }
            Values::U16(v) => v.chunks_exact(c).map(|p| high_byte(gray_u16(p))).collect(),
            Values::F32(_) => return Err("floating point values don't fit 8 bits; read it 'unchanged'".into()),
        };
        return Ok(Image::made(h, w, 1, Pixels::U8(gray)));
    }
    let bytes = match raw.values {
        Values::U8(v) => v,
        Values::U16(v) => v.into_iter().map(deep).collect(),
        Values::F32(_) => return Err("floating point values don't fit 8 bits; read it 'unchanged'".into()),
    };
    if c == 3 && bgr != rgb {
        return Ok(Image::made(h, w, 3, Pixels::U8(bytes)));
    }
    let mut out = Vec::with_capacity(h * w * 3);
    for p in bytes.chunks_exact(c) {
        let mut p3 = if c < 3 { [p[0]; 3] } else { [p[0], p[1], p[2]] };
        if c == 2 && backend == ImageBackend::Pillow {
            p3 = over_background(p[0], p[1]);
        }
        if bgr == rgb {
            p3.reverse();
        }
        out.extend(p3);
    }
    Ok(Image::made(h, w, 3, Pixels::U8(out)))
}

/// libpng's 8 bits of 16.
fn high_byte(v: u16) -> u8 {
    (v >> 8) as u8
}

/// Pillow's RGB of inks.
fn pillow_rgb(raw: Raw) -> Raw {
    let mut out = Vec::with_capacity(raw.as_u8().len() / 4 * 3);
    for p in raw.as_u8().chunks_exact(4) {
        let light = 255 - i32::from(p[3]);
        for &ink in &p[..3] {
            let t = i32::from(ink) * light + 128;
            out.push((light - (((t >> 8) + t) >> 8)).clamp(0, 255) as u8);
        }
    }
    Raw::u8(raw.height, raw.width, 3, out)
}

/// mmcv's Pillow backend puts grey with alpha on (124, 117, 104), in RGB.
fn over_background(gray: u8, alpha: u8) -> [u8; 3] {
    [124u32, 117, 104].map(|b| {
        let a = u32::from(alpha);
        let t = u32::from(gray) * a + b * (255 - a) + 128;
        (((t >> 8) + t) >> 8) as u8
    })
}

/// Everything kept; colour to BGR (tifffile: as stored).
fn unchanged(raw: Raw, backend: ImageBackend) -> Image {
    let (h, w, c) = (raw.height, raw.width, raw.channels);
    let swap = c >= 3 && !raw.bgr && backend != ImageBackend::Tifffile;
    // cv2 knows no grey with alpha and makes it four channels.
    let widen = c == 2 && matches!(backend, ImageBackend::Cv2 | ImageBackend::Image);
    let pixels = match raw.values {
        Values::U8(v) => Pixels::U8(rearrange(v, c, swap, widen)),
        Values::U16(v) => Pixels::F32(rearrange(v, c, swap, widen).into_iter().map(f32::from).collect()),
        Values::F32(v) => Pixels::F32(rearrange(v, c, swap, widen)),
    };
    Image::made(h, w, if widen { 4 } else { c }, pixels)
}

fn rearrange<T: Copy>(mut v: Vec<T>, c: usize, swap: bool, widen: bool) -> Vec<T> {
    if widen {
        return v.chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).collect();
    }
    if swap {
        v.chunks_exact_mut(c).for_each(|p| p.swap(0, 2));
    }
    v
}

/// libpng's grey of a 16-bit pixel: weights of 15 bits, rounded.
fn gray_u16(p: &[u16]) -> u16 {
    if p.len() < 3 {
        return p[0];
    }
    let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
    ((r * 9797 + g * 19234 + b * 3737 + 16384) >> 15) as u16
}

/// Grey of 8-bit pixels, by the weights that each library uses for the format.
fn gray_u8(v: &[u8], c: usize, bgr: bool, format: ImageFormat, backend: ImageBackend) -> Vec<u8> {
    if c == 2 {
        return v.iter().step_by(2).copied().collect();
    }
    // (red, green, blue, half, bits)
    let (wr, wg, wb, half, bits) = match (backend, format) {
        (ImageBackend::Pillow, _) => (19595, 38470, 7471, 0x8000, 16),
        // libpng cuts here, and rounds at 16 bits.
        (_, ImageFormat::Png) => (9797, 19234, 3737, 0, 15),
        (_, ImageFormat::WebP) => (9798, 19235, 3735, 1 << 14, 15),
        _ => (4899, 9617, 1868, 1 << 13, 14),
    };
    let (red, blue) = if bgr { (2, 0) } else { (0, 2) };
    v.chunks_exact(c)
        .map(|p| {
            let sum = u32::from(p[red]) * wr + u32::from(p[1]) * wg + u32::from(p[blue]) * wb;
            ((sum + half) >> bits) as u8
        })
        .collect()
}
