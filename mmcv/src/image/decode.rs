//! Reading images: [`imread`], [`imfrombytes`].
//!
//! JPEG comes out bit-identical to cv2 (feature `turbojpeg`), as do PNG, BMP, TIFF and WebP without loss. What
//! differs from mmcv on purpose:
//!
//! - A truncated file is an error that names it; cv2 gives the rows it has and grey below. A JPEG that lacks
//!   nothing but its end marker is accepted. Other warnings of libjpeg (stray bytes) are logged, as in cv2.
//! - More than 2^28 pixels are refused before anything is allocated; `MMRS_MAX_IMAGE_PIXELS` sets another limit.
//! - GIF is read (first frame), which cv2 4.8 can't.

use std::io::Cursor;
use std::path::Path;

use ::image::{DynamicImage, ImageFormat, ImageReader, Limits};

use super::layout::{Raw, finish};
use super::options::{ChannelOrder, ColorFlag, ImageBackend};
use super::orientation;
use super::types::Image;
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
    decode(bytes, flag, order, backend.unwrap_or_default()).map_err(|message| Error::data(path, message))
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
        _ => {}
    }
    let raw = match format {
        ImageFormat::Jpeg => jpeg(bytes, flag, backend)?,
        ImageFormat::Png if backend == ImageBackend::Pillow && flag == ColorFlag::Unchanged => {
            match super::palette::png_indices(bytes) {
                Some(indices) => generic(&indices, format)?.first_channel(),
                None => generic(bytes, format)?,
            }
        }
        _ => generic(bytes, format)?,
    };
    let image = finish(raw, format, flag, order, backend)?;
    let turns = match backend {
        ImageBackend::Turbojpeg | ImageBackend::Tifffile => false,
        _ => flag.turns() && matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::Tiff),
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
    super::jpeg::decode(bytes, gray)
}

#[cfg(not(feature = "turbojpeg"))]
fn jpeg(bytes: &[u8], _: ColorFlag, _: ImageBackend) -> Decoded<Raw> {
    generic(bytes, ImageFormat::Jpeg)
}

/// Any format by the `image` crate.
pub(crate) fn generic(bytes: &[u8], format: ImageFormat) -> Decoded<Raw> {
    let named = |e: ::image::ImageError| format!("a broken {} file: {e}", name(format));
    let (width, height) = ImageReader::with_format(Cursor::new(bytes), format).into_dimensions().map_err(named)?;
    check_size(width as usize, height as usize)?;
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

/// `PNG` for [`ImageFormat::Png`].
fn name(format: ImageFormat) -> String {
    format.extensions_str().first().map_or_else(|| "image".into(), |e| e.to_uppercase())
}
