//! Writing images: [`imencode`], [`imwrite`].

use std::io::{Cursor, Write};
use std::path::Path;

use ::image::{ExtendedColorType, ImageEncoder, ImageFormat, codecs};

use super::types::{Image, Pixels};
use crate::error::{Error, Result};
use crate::fileio::write_atomic;

/// cv2's JPEG quality.
pub const JPEG_QUALITY: u8 = 95;

/// Writes a picture by the extension of `path` (jpg, jpeg, png, bmp, tif, tiff, webp), whole or not at all.
///
/// Colour is taken as BGR(A). 8-bit pictures go to any format; f32 pictures of whole numbers 0 to 65535 go to 16-bit
/// PNG or TIFF, so that what [`imread`](super::imread) gave `unchanged` is written back. JPEG is of quality 95 with
/// 4:2:0 chroma as cv2's, and drops alpha.
pub fn imwrite(image: &Image, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let bytes = encode(image, extension).map_err(|message| Error::data(path, message))?;
    write_atomic(path, |out| out.write_all(&bytes))
}

/// The bytes of a file with this extension (without or with its dot); see [`imwrite`].
pub fn imencode(image: &Image, extension: &str) -> Result<Vec<u8>> {
    encode(image, extension.trim_start_matches('.')).map_err(Error::Run)
}

fn encode(image: &Image, extension: &str) -> Result<Vec<u8>, String> {
    let format = match extension.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" | "jpe" => ImageFormat::Jpeg,
        "png" => ImageFormat::Png,
        "bmp" | "dib" => ImageFormat::Bmp,
        "tif" | "tiff" => ImageFormat::Tiff,
        "webp" => ImageFormat::WebP,
        other => {
            return Err(format!(
                "can't write an image as '{other}'; known extensions: jpg, jpeg, png, bmp, tif, tiff, webp"
            ));
        }
    };
    let [h, w, c] = image.shape();
    if h == 0 || w == 0 {
        return Err(format!("can't write an image of {h}x{w} pixels"));
    }
    #[cfg(feature = "opencv")]
    if super::current_backend() == super::ImageBackend::Opencv {
        return super::opencv::encode(image, extension);
    }
    match image.pixels() {
        Pixels::U8(v) if format == ImageFormat::Jpeg => jpeg(v, h, w, c),
        Pixels::U8(v) => {
            let color = match c {
                1 => ExtendedColorType::L8,
                3 => ExtendedColorType::Rgb8,
                4 => ExtendedColorType::Rgba8,
                c => return Err(format!("can't write an image of {c} channels")),
            };
            write(&rgb(v, c), h, w, color, format)
        }
        Pixels::F32(v) => {
            let fits = |v: &f32| (0.0..=65535.0).contains(v) && v.fract() == 0.0;
            if !matches!(format, ImageFormat::Png | ImageFormat::Tiff) || !v.iter().all(fits) {
                return Err("an f32 image is written only as PNG or TIFF, of whole numbers 0 to 65535".into());
            }
            let color = match c {
                1 => ExtendedColorType::L16,
                3 => ExtendedColorType::Rgb16,
                4 => ExtendedColorType::Rgba16,
                c => return Err(format!("can't write an image of {c} channels")),
            };
            let bytes: Vec<u8> = rgb(v, c).iter().flat_map(|&v| (v as u16).to_ne_bytes()).collect();
            write(&bytes, h, w, color, format)
        }
    }
}

/// BGR(A) to RGB(A).
fn rgb<T: Copy>(v: &[T], c: usize) -> Vec<T> {
    let mut v = v.to_vec();
    if c >= 3 {
        v.chunks_exact_mut(c).for_each(|p| p.swap(0, 2));
    }
    v
}

fn write(bytes: &[u8], h: usize, w: usize, color: ExtendedColorType, format: ImageFormat) -> Result<Vec<u8>, String> {
    let size = |n: usize| u32::try_from(n).map_err(|_| format!("an image of {h}x{w} is too large to write"));
    let (width, height) = (size(w)?, size(h)?);
    let mut out = Cursor::new(Vec::new());
    let outcome = match format {
        ImageFormat::Png => {
            let (fast, filter) = (codecs::png::CompressionType::Fast, codecs::png::FilterType::Adaptive);
            codecs::png::PngEncoder::new_with_quality(&mut out, fast, filter).write_image(bytes, width, height, color)
        }
        ImageFormat::Tiff => codecs::tiff::TiffEncoder::new(&mut out).write_image(bytes, width, height, color),
        ImageFormat::WebP => codecs::webp::WebPEncoder::new_lossless(&mut out).write_image(bytes, width, height, color),
        _ => codecs::bmp::BmpEncoder::new(&mut out).write_image(bytes, width, height, color),
    };
    outcome.map_err(|e| e.to_string())?;
    out.flush().map_err(|e| e.to_string())?;
    Ok(out.into_inner())
}

#[cfg(feature = "turbojpeg")]
fn jpeg(v: &[u8], height: usize, width: usize, c: usize) -> Result<Vec<u8>, String> {
    use turbojpeg::{Compressor, Image as Source, PixelFormat, Subsamp};
    let (format, subsamp) = match c {
        1 => (PixelFormat::GRAY, Subsamp::Gray),
        3 => (PixelFormat::BGR, Subsamp::Sub2x2),
        4 => (PixelFormat::BGRX, Subsamp::Sub2x2),
        c => return Err(format!("can't write an image of {c} channels")),
    };
    let mut compressor = Compressor::new().map_err(|e| e.to_string())?;
    compressor.set_quality(i32::from(JPEG_QUALITY)).map_err(|e| e.to_string())?;
    compressor.set_subsamp(subsamp).map_err(|e| e.to_string())?;
    let source = Source { pixels: v, width, pitch: width * c, height, format };
    compressor.compress_to_vec(source).map_err(|e| e.to_string())
}

#[cfg(not(feature = "turbojpeg"))]
fn jpeg(v: &[u8], height: usize, width: usize, c: usize) -> Result<Vec<u8>, String> {
    let (bytes, color) = match c {
        1 => (v.to_vec(), ExtendedColorType::L8),
        3 => (rgb(v, 3), ExtendedColorType::Rgb8),
        4 => (v.chunks_exact(4).flat_map(|p| [p[2], p[1], p[0]]).collect(), ExtendedColorType::Rgb8),
        c => return Err(format!("can't write an image of {c} channels")),
    };
    let size = |n: usize| u16::try_from(n).map_err(|_| format!("an image of {height}x{width} is too large for JPEG"));
    let (width, height) = (size(width)?, size(height)?);
    let mut out = Vec::new();
    codecs::jpeg::JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY)
        .write_image(&bytes, width.into(), height.into(), color)
        .map_err(|e| e.to_string())?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::{ChannelOrder, ColorFlag, imread};
    use super::*;

    #[test]
    fn what_was_written_without_loss_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..5 * 7 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let image = Image::new(5, 7, 3, Pixels::U8(bytes)).unwrap();
        for name in ["a.png", "a.bmp", "a.tiff", "a.webp"] {
            let path = dir.path().join(name);
            imwrite(&image, &path).unwrap();
            assert_eq!(imread(&path, ColorFlag::Unchanged, ChannelOrder::Bgr).unwrap(), image, "{name}");
        }
        let deep: Vec<f32> = (0..5 * 7).map(|i| (i * 1871 % 65536) as f32).collect();
        let deep = Image::new(5, 7, 1, Pixels::F32(deep)).unwrap();
        let path = dir.path().join("deep.png");
        imwrite(&deep, &path).unwrap();
        assert_eq!(imread(&path, ColorFlag::Unchanged, ChannelOrder::Bgr).unwrap(), deep);
    }

    #[test]
    fn an_unknown_extension_is_an_error_that_lists_the_known() {
        let image = Image::new(1, 1, 3, Pixels::U8(vec![0; 3])).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.xyz");
        let message = imwrite(&image, &path).unwrap_err().to_string();
        assert!(message.contains("a.xyz") && message.contains("png"), "{message}");
        assert!(!path.exists());
    }
}
