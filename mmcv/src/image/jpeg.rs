//! JPEG by libjpeg-turbo, with the settings of cv2: accurate DCT, smooth chroma.

use turbojpeg::{Colorspace, Decompressor, Image as Target, PixelFormat};

use super::decode::{Decoded, check_size, generic};
use super::layout::Raw;

/// BGR, or one channel when the file is grey or `gray` asks for it. Inks become BGR as in cv2, or stay inks for
/// `pillow`.
pub(crate) fn decode(bytes: &[u8], gray: bool, pillow: bool) -> Decoded<Raw> {
    let mut decompressor = Decompressor::new().map_err(|e| e.to_string())?;
    let header = match decompressor.read_header(bytes) {
        Ok(header) => header,
        Err(e) => return without_header(bytes, &e.to_string()),
    };
    let (width, height) = (header.width, header.height);
    check_size(width, height)?;
    let (format, channels) = match header.colorspace {
        Colorspace::CMYK | Colorspace::YCCK => (PixelFormat::CMYK, 4),
        Colorspace::Gray => (PixelFormat::GRAY, 1),
        _ if gray => (PixelFormat::GRAY, 1),
        _ => (PixelFormat::BGR, 3),
    };
    let mut run = |bytes: &[u8]| {
        let mut pixels = vec![0; width * height * channels];
        let target = Target { pixels: &mut pixels[..], width, pitch: width * channels, height, format };
        let outcome = decompressor.decompress(bytes, target);
        (pixels, outcome.err().map(|e| e.to_string()))
    };
    let (mut pixels, problem) = run(bytes);
    if let Some(problem) = problem {
        if problem.contains("Premature end of JPEG file") {
            // Whole but for the end marker? Then with the marker there is nothing to complain of.
            let (again, problem) = run(&[bytes, &[0xff, 0xd9]].concat());
            if problem.is_some() {
                return Err(format!("a truncated JPEG file ({width}x{height}, {} bytes)", bytes.len()));
            }
            pixels = again;
        } else if problem.contains("premature end of data segment") || !problem.contains("Corrupt JPEG data") {
            return Err(format!("a broken JPEG file: {problem}"));
        } else {
            tracing::warn!("{problem}");
        }
    }
    if channels == 4 && pillow {
        // Adobe's files, which is all there are, hold 255 minus the ink.
        pixels.iter_mut().for_each(|v| *v = 255 - *v);
        return Ok(Raw::u8(height, width, 4, pixels).cmyk());
    }
    let raw = Raw::u8(height, width, channels, pixels);
    Ok(if channels == 4 { from_cmyk(&raw, gray) } else { raw.bgr() })
}

/// TurboJPEG gives no header when libjpeg warned about it (stray bytes between markers, say), where cv2 goes on.
fn without_header(bytes: &[u8], problem: &str) -> Decoded<Raw> {
    match generic(bytes, ::image::ImageFormat::Jpeg) {
        Ok(raw) => {
            tracing::warn!("{problem}; decoded without libjpeg, some levels off cv2");
            Ok(raw)
        }
        Err(_) => Err(format!("a broken JPEG file: {problem}")),
    }
}

/// cv2's CMYK to BGR or grey. Adobe stores the inks inverted and cv2 takes the bytes as they are.
fn from_cmyk(raw: &Raw, gray: bool) -> Raw {
    let inks = raw.as_u8();
    let mut out = Vec::with_capacity(inks.len() / 4 * 3);
    for p in inks.chunks_exact(4) {
        let k = i32::from(p[3]);
        let [c, m, y] = [p[0], p[1], p[2]].map(|v| k - (((255 - i32::from(v)) * k) >> 8));
        if gray {
            // Weights of 14 bits: 0.299, 0.587, 0.114.
            out.push(((y * 1868 + m * 9617 + c * 4899 + (1 << 13)) >> 14) as u8);
        } else {
            out.extend([y as u8, m as u8, c as u8]);
        }
    }
    Raw::u8(raw.height, raw.width, if gray { 1 } else { 3 }, out).bgr()
}
