//! OpenCV itself, under the feature `opencv`: decoding, encoding and resizing by the library that the machine has.
//!
//! Unlike the other backends it behaves as OpenCV does, version by version: a JPEG that ends early is grey below what is
//! there, with a warning of libjpeg's on the standard error, and resizing may round otherwise.

use ::image::{ImageFormat, ImageReader};
use ::opencv::core::{Mat, MatTraitConst as _, MatTraitConstManual as _, Size, Vector};
use ::opencv::{core, imgcodecs, imgproc};

use super::decode::{Decoded, check_size};
use super::options::{ChannelOrder, ColorFlag, Interpolation};
use super::types::{Image, Pixels};

fn text(e: ::opencv::Error) -> String {
    format!("OpenCV: {}", e.message)
}

/// The image in `bytes`, which are of `format`.
pub(super) fn decode(bytes: &[u8], format: ImageFormat, flag: ColorFlag, order: ChannelOrder) -> Decoded<Image> {
    // OpenCV has limits of its own; ours come first.
    if let Ok((w, h)) = ImageReader::with_format(std::io::Cursor::new(bytes), format).into_dimensions() {
        check_size(w as usize, h as usize)?;
    }
    let ignore = imgcodecs::IMREAD_IGNORE_ORIENTATION;
    let flags = match flag {
        ColorFlag::Color => imgcodecs::IMREAD_COLOR,
        ColorFlag::Grayscale => imgcodecs::IMREAD_GRAYSCALE,
        ColorFlag::Unchanged => imgcodecs::IMREAD_UNCHANGED,
        ColorFlag::ColorIgnoreOrientation => imgcodecs::IMREAD_COLOR | ignore,
        ColorFlag::GrayscaleIgnoreOrientation => imgcodecs::IMREAD_GRAYSCALE | ignore,
    };
    let buffer = Mat::from_slice(bytes).map_err(text)?;
    let mat = imgcodecs::imdecode(&buffer, flags).map_err(text)?;
    if mat.empty() {
        let name = format.extensions_str().first().map_or_else(|| "image".into(), |e| e.to_uppercase());
        return Err(format!("a broken {name} file, or one that this OpenCV can't read"));
    }
    let image = from_mat(&mat)?;
    Ok(if order == ChannelOrder::Rgb && flag == ColorFlag::Color { swapped(image) } else { image })
}

/// The bytes of a file with this extension (without its dot).
pub(super) fn encode(image: &Image, extension: &str) -> Decoded<Vec<u8>> {
    let mut out = Vector::<u8>::new();
    let params = Vector::<i32>::from_slice(&[imgcodecs::IMWRITE_JPEG_QUALITY, i32::from(super::JPEG_QUALITY)]);
    with_mat(image, |mat| {
        // 16 bits, as the other backends write f32 of whole numbers.
        let deep = matches!(image.pixels(), Pixels::F32(_)).then(|| {
            let mut deep = Mat::default();
            mat.convert_to(&mut deep, core::CV_16U, 1.0, 0.0).map(|()| deep)
        });
        let deep = deep.transpose()?;
        imgcodecs::imencode(&format!(".{extension}"), deep.as_ref().unwrap_or(mat), &mut out, &params)
    })?
    .then(|| out.to_vec())
    .ok_or_else(|| format!("OpenCV can't write an image as '{extension}'"))
}

/// `cv2.resize` to `(w, h)`.
pub(super) fn resize(image: &Image, (w, h): (usize, usize), interpolation: Interpolation) -> Decoded<Image> {
    let method = match interpolation {
        Interpolation::Nearest => imgproc::INTER_NEAREST,
        Interpolation::Bilinear => imgproc::INTER_LINEAR,
        Interpolation::Bicubic => imgproc::INTER_CUBIC,
        Interpolation::Area => imgproc::INTER_AREA,
        Interpolation::Lanczos => imgproc::INTER_LANCZOS4,
    };
    let side = |n: usize| i32::try_from(n).map_err(|_| format!("OpenCV can't resize to {w}x{h}"));
    let size = Size::new(side(w)?, side(h)?);
    let mut out = Mat::default();
    with_mat(image, |mat| imgproc::resize(mat, &mut out, size, 0.0, 0.0, method))?;
    from_mat(&out)
}

/// Calls `f` with a copy of the pixels.
fn with_mat<T>(image: &Image, f: impl FnOnce(&Mat) -> ::opencv::Result<T>) -> Decoded<T> {
    let [h, _, c] = image.shape();
    let (rows, channels) = i32::try_from(h).ok().zip(i32::try_from(c).ok()).ok_or("an image too large for OpenCV")?;
    let view = || {
        let mat = match image.pixels() {
            Pixels::U8(v) => Mat::from_slice(v)?.reshape(channels, rows)?.try_clone()?,
            Pixels::F32(v) => Mat::from_slice(v)?.reshape(channels, rows)?.try_clone()?,
        };
        f(&mat)
    };
    view().map_err(text)
}

fn from_mat(mat: &Mat) -> Decoded<Image> {
    let size = mat.size().map_err(text)?;
    let (h, w, c) = (size.height.max(0) as usize, size.width.max(0) as usize, mat.channels().max(0) as usize);
    let bytes = mat.data_bytes().map_err(text)?;
    let pixels = match mat.depth() {
        core::CV_8U => Pixels::U8(bytes.to_vec()),
        core::CV_16U => {
            Pixels::F32(bytes.as_chunks::<2>().0.iter().map(|b| f32::from(u16::from_ne_bytes(*b))).collect())
        }
        core::CV_32F => Pixels::F32(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_ne_bytes(*b)).collect()),
        other => return Err(format!("OpenCV gave values of depth {other}, expected 8 or 16 bits or f32")),
    };
    Image::new(h, w, c, pixels).map_err(|e| e.to_string())
}

fn swapped(image: Image) -> Image {
    let [h, w, c] = image.shape();
    match image.into_pixels() {
        Pixels::U8(mut v) if c == 3 => {
            v.chunks_exact_mut(3).for_each(|p| p.swap(0, 2));
            Image::made(h, w, c, Pixels::U8(v))
        }
        other => Image::made(h, w, c, other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ImageBackend, imencode, imfrombytes, imresize};
    use super::*;

    /// Smooth colours: what resizing and JPEG do alike everywhere.
    fn picture(c: usize) -> Image {
        let bytes = (0..40 * 60 * c).map(|i| ((i / c % 60) * 3 + (i / c / 60) * 2 + i % c * 20) as u8).collect();
        Image::new(40, 60, c, Pixels::U8(bytes)).unwrap()
    }

    fn both(bytes: &[u8], flag: ColorFlag, order: ChannelOrder) -> [Image; 2] {
        [ImageBackend::Cv2, ImageBackend::Opencv].map(|b| imfrombytes(bytes, flag, order, Some(b)).unwrap())
    }

    const FLAGS: [ColorFlag; 4] =
        [ColorFlag::Color, ColorFlag::Grayscale, ColorFlag::Unchanged, ColorFlag::ColorIgnoreOrientation];

    #[test]
    fn files_are_read_as_by_the_default_backend() {
        for extension in ["png", "bmp", "tiff", "jpg"] {
            for channels in [1, 3] {
                let bytes = imencode(&picture(channels), extension).unwrap();
                for flag in FLAGS {
                    for order in [ChannelOrder::Bgr, ChannelOrder::Rgb] {
                        let [ours, theirs] = both(&bytes, flag, order);
                        assert_eq!(ours.shape(), theirs.shape(), "{extension} {channels} {flag:?}");
                        // Both JPEG decoders are libjpeg-turbo; Debian's is another release than the vendored one.
                        let bound = if extension == "jpg" { 1 } else { 0 };
                        assert!(worst(&ours, &theirs) <= f64::from(bound), "{extension} {channels} {flag:?} {order:?}");
                    }
                }
            }
        }
    }

    fn values(image: &Image) -> Vec<f64> {
        match image.pixels() {
            Pixels::U8(v) => v.iter().map(|v| f64::from(*v)).collect(),
            Pixels::F32(v) => v.iter().map(|v| f64::from(*v)).collect(),
        }
    }

    fn worst(a: &Image, b: &Image) -> f64 {
        values(a).iter().zip(values(b)).fold(0.0, |m, (a, b)| m.max((a - b).abs()))
    }

    #[test]
    fn deep_images_keep_their_values() {
        let values: Vec<f32> = (0..30).map(|i| (i * 2000) as f32).collect();
        let image = Image::new(5, 6, 1, Pixels::F32(values)).unwrap();
        for extension in ["png", "tiff"] {
            let bytes = encode(&image, extension).unwrap();
            let [ours, theirs] = both(&bytes, ColorFlag::Unchanged, ChannelOrder::Bgr);
            assert_eq!((&ours, &theirs), (&image, &image), "{extension}");
        }
    }

    #[test]
    fn it_writes_what_the_others_read() {
        for extension in ["png", "bmp", "jpg"] {
            let bytes = encode(&picture(3), extension).unwrap();
            let [ours, theirs] = both(&bytes, ColorFlag::Color, ChannelOrder::Bgr);
            assert!(worst(&ours, &theirs) <= 1.0);
            // Chroma of JPEG is halved.
            assert!(worst(&ours, &picture(3)) <= if extension == "jpg" { 12.0 } else { 0.0 }, "{extension}");
        }
        assert!(encode(&picture(3), "xyz").is_err());
    }

    #[test]
    fn it_resizes_as_ours_within_the_bounds_of_imresize() {
        for (method, bound) in [
            (Interpolation::Nearest, 0.0),
            (Interpolation::Bilinear, 1.0),
            (Interpolation::Bicubic, 1.0),
            (Interpolation::Area, 1.0),
            (Interpolation::Lanczos, 1.0),
        ] {
            for size in [(30, 20), (47, 31), (120, 90)] {
                let (ours, theirs) =
                    (imresize(&picture(3), size, method).unwrap(), resize(&picture(3), size, method).unwrap());
                assert_eq!(ours.shape(), theirs.shape());
                assert!(worst(&ours, &theirs) <= bound, "{method:?} {size:?}: {}", worst(&ours, &theirs));
            }
        }
    }

    #[test]
    fn what_is_broken_is_an_error() {
        let png = imencode(&picture(3), "png").unwrap();
        let fails = |b: &[u8]| {
            imfrombytes(b, ColorFlag::Color, ChannelOrder::Bgr, Some(ImageBackend::Opencv)).unwrap_err().to_string()
        };
        assert!(fails(b"").contains("zero bytes"));
        assert!(fails(b"hello there").contains("not an image"));
        assert!(fails(&png[..30]).contains("a broken PNG file"), "{}", fails(&png[..30]));
    }
}
