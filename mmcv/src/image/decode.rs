//! Reading images: [`imread`], [`imfrombytes`].
//!
//! JPEG comes out bit-identical to cv2 (feature `turbojpeg`), as do PNG, BMP, TIFF and WebP without loss. The decoder in
//! Rust alone ([`ImageBackend::Image`], or every JPEG without that feature) is a few levels off in most places and more
//! where colours change sharply. What differs from mmcv on purpose:
//!
//! - A truncated file is an error that names it; cv2 gives the rows it has and grey below. A JPEG that lacks
//!   nothing but its end marker is accepted (not by the decoder in Rust). Other warnings of libjpeg (stray bytes) are
//!   logged and the picture used, as in cv2.
//! - More than 2^28 pixels are refused before anything is allocated; `MMRS_MAX_IMAGE_PIXELS` sets another limit.
//! - GIF is read (first frame), which cv2 4.8 can't.

use std::io::Cursor;
use std::path::Path;

use ::image::{DynamicImage, ImageFormat, ImageReader, Limits};

use super::layout::{Raw, finish};
use super::options::{ChannelOrder, ColorFlag, ImageBackend};
use super::types::Image;
use super::{orientation, palette};
use crate::error::{Error, Result};

/// Pixels a file may have when `MMRS_MAX_IMAGE_PIXELS` doesn't say otherwise.
pub const MAX_PIXELS: usize = 1 << 28;

/// What is wrong with a file, without its name.
pub(crate) type Decoded<T> = Result<T, String>;

fn max_pixels() -> usize {
    static LIMIT: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *LIMIT
        .get_or_init(|| std::env::var("MMRS_MAX_IMAGE_PIXELS").ok().and_then(|v| v.parse().ok()).unwrap_or(MAX_PIXELS))
}

/// An error when `width` x `height` is empty or more than the limit.
pub(crate) fn check_size(width: usize, height: usize) -> Decoded<()> {
    if width == 0 || height == 0 {
        return Err(format!("an image of {width}x{height} has no pixels"));
    }
    match width.checked_mul(height) {
        Some(n) if n <= max_pixels() => Ok(()),
        _ => Err(format!(
            "an image of {width}x{height} has more than {} pixels; set MMRS_MAX_IMAGE_PIXELS to read it",
            max_pixels()
        )),
    }
}

/// Reads a file from disk. Other backends of files: read the bytes through
/// [`FileClient`](crate::fileio::FileClient), then [`imfrombytes`].
pub fn imread(path: impl AsRef<Path>, flag: ColorFlag, order: ChannelOrder) -> Result<Image> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    imfrombytes_of(path, &bytes, flag, order, None)
}

/// [`imfrombytes`] of bytes that came from `path`, so that errors say which file.
pub fn imfrombytes_of(
    path: impl AsRef<Path>,
    bytes: &[u8],
    flag: ColorFlag,
    order: ChannelOrder,
    backend: Option<ImageBackend>,
) -> Result<Image> {
    decode(bytes, flag, order, backend.unwrap_or_else(super::current_backend))
        .map_err(|message| Error::data(path, message))
}

/// Decodes an image. As in mmcv 1.7.2, `order` is heeded by cv2's backend for [`ColorFlag::Color`] alone:
/// `color_ignore_orientation` is BGR whatever it says.
pub fn imfrombytes(bytes: &[u8], flag: ColorFlag, order: ChannelOrder, backend: Option<ImageBackend>) -> Result<Image> {
    imfrombytes_of("<image bytes>", bytes, flag, order, backend)
}

fn decode(bytes: &[u8], flag: ColorFlag, order: ChannelOrder, backend: ImageBackend) -> Decoded<Image> {
    if bytes.is_empty() {
        return Err("the file has zero bytes".into());
    }
    let format = ::image::guess_format(bytes).map_err(|_| {
        let head: Vec<String> = bytes.iter().take(4).map(|b| format!("{b:02x}")).collect();
        format!("not an image of a known format (it starts with {})", head.join(" "))
    })?;
    match backend {
        ImageBackend::Turbojpeg if format != ImageFormat::Jpeg => {
            return Err("the backend 'turbojpeg' reads JPEG alone".into());
        }
        ImageBackend::Turbojpeg if !matches!(flag, ColorFlag::Color | ColorFlag::Grayscale) => {
            return Err("the backend 'turbojpeg' knows the flags 'color' and 'grayscale' alone".into());
        }
        ImageBackend::Tifffile if format != ImageFormat::Tiff => {
            return Err("the backend 'tifffile' reads TIFF alone".into());
        }
        ImageBackend::Opencv => {
            #[cfg(feature = "opencv")]
            return super::opencv::decode(bytes, format, flag, order);
            #[cfg(not(feature = "opencv"))]
            return Err(super::backend::WITHOUT_OPENCV.into());
        }
        _ => {}
    }
    let raw = match format {
        ImageFormat::Jpeg => jpeg(bytes, flag, backend)?,
        ImageFormat::Png | ImageFormat::Bmp if flag == ColorFlag::Unchanged => palette(bytes, format, backend)?,
        ImageFormat::Tiff if !matches!(backend, ImageBackend::Pillow | ImageBackend::Tifffile) => {
            let raw = generic(bytes, format)?;
            if orientation::has_unassociated_alpha(bytes) { raw.premultiplied() } else { raw }
        }
        _ => generic(bytes, format)?,
    };
    let image = finish(raw, format, flag, order, backend)?;
    let turns = match backend {
        ImageBackend::Turbojpeg | ImageBackend::Tifffile => false,
        // libtiff turns while it reads, whatever the flag.
        _ if format == ImageFormat::Tiff => true,
        _ => flag.turns() && matches!(format, ImageFormat::Jpeg | ImageFormat::Png),
    };
    Ok(if turns { orientation::turn(image, orientation::of(bytes)) } else { image })
}

/// JPEG by libjpeg-turbo, falling back on the pure decoder for what TurboJPEG's interface can't give.
#[cfg(feature = "turbojpeg")]
fn jpeg(bytes: &[u8], flag: ColorFlag, backend: ImageBackend) -> Decoded<Raw> {
    if backend == ImageBackend::Image {
        return generic(bytes, ImageFormat::Jpeg);
    }
    // Pillow decodes to RGB and then weighs; cv2 and PyTurboJPEG take the stored luminance.
    let gray = flag.is_gray() && backend != ImageBackend::Pillow;
    super::jpeg::decode(bytes, gray, backend == ImageBackend::Pillow)
}

#[cfg(not(feature = "turbojpeg"))]
fn jpeg(bytes: &[u8], _: ColorFlag, _: ImageBackend) -> Decoded<Raw> {
    generic(bytes, ImageFormat::Jpeg)
}

/// A file with a palette, read `unchanged`: Pillow gives indices, cv2 colours, but one channel for a BMP of greys.
fn palette(bytes: &[u8], format: ImageFormat, backend: ImageBackend) -> Decoded<Raw> {
    let indices = match format {
        ImageFormat::Png => palette::png_indices(bytes).map(|indices| (indices, false)),
        _ => palette::bmp_indices(bytes),
    };
    let Some((indices, gray)) = indices else { return generic(bytes, format) };
    if backend == ImageBackend::Pillow {
        return Ok(generic(&indices, format)?.first_channel());
    }
    let raw = generic(bytes, format)?;
    Ok(if gray { raw.first_channel() } else { raw })
}

/// Any format by the `image` crate.
pub(crate) fn generic(bytes: &[u8], format: ImageFormat) -> Decoded<Raw> {
    let named = |e: ::image::ImageError| format!("a broken {} file: {e}", name(format));
    let (width, height) = ImageReader::with_format(Cursor::new(bytes), format).into_dimensions().map_err(named)?;
    check_size(width as usize, height as usize)?;
    if format == ImageFormat::Jpeg && !jpeg_ends(bytes) {
        // The decoder would fill the rest with grey.
        return Err(format!("a truncated JPEG file ({width}x{height}, {} bytes)", bytes.len()));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some((max_pixels() as u64).saturating_mul(16));
    reader.limits(limits);
    let image = reader.decode().map_err(named)?;
    let (h, w) = (image.height() as usize, image.width() as usize);
    Ok(match image {
        DynamicImage::ImageLuma8(i) => Raw::u8(h, w, 1, i.into_raw()),
        DynamicImage::ImageLumaA8(i) => Raw::u8(h, w, 2, i.into_raw()),
        DynamicImage::ImageRgb8(i) => Raw::u8(h, w, 3, i.into_raw()),
        DynamicImage::ImageRgba8(i) => Raw::u8(h, w, 4, i.into_raw()),
        DynamicImage::ImageLuma16(i) => Raw::u16(h, w, 1, i.into_raw()),
        DynamicImage::ImageLumaA16(i) => Raw::u16(h, w, 2, i.into_raw()),
        DynamicImage::ImageRgb16(i) => Raw::u16(h, w, 3, i.into_raw()),
        DynamicImage::ImageRgba16(i) => Raw::u16(h, w, 4, i.into_raw()),
        DynamicImage::ImageRgb32F(i) => Raw::f32(h, w, 3, i.into_raw()),
        DynamicImage::ImageRgba32F(i) => Raw::f32(h, w, 4, i.into_raw()),
        other => return Err(format!("a {} file of unknown layout {:?}", name(format), other.color())),
    })
}

/// Whether a JPEG's segments lead to its end marker.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[first, marker]) = bytes.get(at..at + 2) {
        match (first, marker) {
            (0xff, 0xd9) => return true,
            // Fill bytes, and markers without a length.
            (0xff, 0xff) => at += 1,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, _) => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2),
                _ => return false,
            },
            // Compressed data: on to the next marker.
            _ => at += 1,
        }
    }
    false
}

/// `PNG` for [`ImageFormat::Png`].
fn name(format: ImageFormat) -> String {
    format.extensions_str().first().map_or_else(|| "image".into(), |e| e.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::super::types::Pixels;
    use super::super::{imencode, imwrite};
    use super::*;

    fn picture() -> Image {
        let bytes = (0..40 * 60 * 3).map(|i| (i * 7919 % 251) as u8).collect();
        Image::new(40, 60, 3, Pixels::U8(bytes)).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Image> {
        imfrombytes(bytes, ColorFlag::Color, ChannelOrder::Bgr, None)
    }

    #[test]
    fn a_truncated_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["cut.jpg", "cut.png", "cut.bmp", "cut.tiff", "cut.webp"] {
            let path = dir.path().join(name);
            imwrite(&picture(), &path).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            for keep in [bytes.len() / 2, bytes.len() - bytes.len() / 8, 20] {
                std::fs::write(&path, &bytes[..keep]).unwrap();
                let message = imread(&path, ColorFlag::Color, ChannelOrder::Bgr).unwrap_err().to_string();
                assert!(message.contains(name), "{keep}: {message}");
            }
        }
    }

    #[test]
    fn what_is_no_image_is_an_error_that_says_so() {
        let message = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert!(message(b"").contains("zero bytes"));
        assert!(
            message(b"hello, this is text").contains("not an image of a known format (it starts with 68 65 6c 6c)")
        );
        let path = Path::new("/nowhere/a.jpg");
        let error = imread(path, ColorFlag::Color, ChannelOrder::Bgr).unwrap_err();
        assert!(matches!(&error, Error::Io { path: p, .. } if p == path), "{error}");
    }

    #[test]
    fn the_decoder_in_rust_alone_refuses_a_truncated_jpeg_too() {
        let bytes = imencode(&picture(), "jpg").unwrap();
        let read = |bytes: &[u8]| {
            imfrombytes(bytes, ColorFlag::Color, ChannelOrder::Bgr, Some(ImageBackend::Image))
                .map_err(|e| e.to_string())
        };
        assert_eq!(read(&bytes).unwrap().shape(), [40, 60, 3]);
        assert!(read(&bytes[..bytes.len() / 2]).unwrap_err().contains("a truncated JPEG file (60x40"));
        assert!(read(&bytes[..bytes.len() - 2]).is_err());
    }

    #[cfg(feature = "turbojpeg")]
    #[test]
    fn a_jpeg_that_lacks_only_its_end_marker_is_read() {
        let bytes = imencode(&picture(), "jpg").unwrap();
        assert_eq!(read(&bytes[..bytes.len() - 2]).unwrap(), read(&bytes).unwrap());
    }

    #[test]
    fn a_file_that_claims_too_many_pixels_is_refused_before_any_is_allocated() {
        // A PNG header of 65536 x 65536 with nothing behind it.
        let mut header = b"IHDR".to_vec();
        header.extend([0, 1, 0, 0, 0, 1, 0, 0, 8, 2, 0, 0, 0]);
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
        png.extend(&header);
        png.extend(crc32fast::hash(&header).to_be_bytes());
        png.extend([0, 0, 0, 1]);
        png.extend(b"IDAT\0\0\0\0\0");
        let message = read(&png).unwrap_err().to_string();
        assert!(message.contains("65536x65536") && message.contains("MMRS_MAX_IMAGE_PIXELS"), "{message}");
    }

    #[test]
    fn a_backend_refuses_what_it_does_not_read() {
        let png = imencode(&picture(), "png").unwrap();
        let jpeg = imencode(&picture(), "jpg").unwrap();
        let message = |bytes: &[u8], flag, backend| {
            imfrombytes(bytes, flag, ChannelOrder::Bgr, Some(backend)).unwrap_err().to_string()
        };
        assert!(message(&png, ColorFlag::Color, ImageBackend::Turbojpeg).contains("JPEG alone"));
        assert!(message(&jpeg, ColorFlag::Unchanged, ImageBackend::Turbojpeg).contains("'grayscale' alone"));
        assert!(message(&png, ColorFlag::Color, ImageBackend::Tifffile).contains("TIFF alone"));
        #[cfg(not(feature = "opencv"))]
        assert!(message(&png, ColorFlag::Color, ImageBackend::Opencv).contains("cargo feature `opencv`"));
    }

    #[test]
    fn broken_bytes_never_panic() {
        for extension in ["jpg", "png", "bmp", "tiff", "webp"] {
            let bytes = imencode(&picture(), extension).unwrap();
            for at in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
                let mut broken = bytes.clone();
                broken[at] ^= 0x5a;
                let _ = read(&broken);
                let _ = imfrombytes(&broken, ColorFlag::Unchanged, ChannelOrder::Bgr, Some(ImageBackend::Pillow));
            }
        }
    }
}
