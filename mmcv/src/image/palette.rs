//! The indices of files with a palette.

/// The same PNG with colour `i` of its palette set to grey `i` and no transparency, so that any decoder gives the
/// indices; `None` when it has no palette (or is broken: the decoder says how).
pub(crate) fn png_indices(bytes: &[u8]) -> Option<Vec<u8>> {
    const SIGNATURE: usize = 8;
    // IHDR: length, name, width, height, depth, colour type.
    if bytes.get(SIGNATURE + 4..SIGNATURE + 8)? != b"IHDR" || *bytes.get(SIGNATURE + 17)? != 3 {
        return None;
    }
    let mut out = bytes[..SIGNATURE].to_vec();
    let mut at = SIGNATURE;
    while at < bytes.len() {
        let length = u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize;
        let chunk = bytes.get(at..at.checked_add(length)?.checked_add(12)?)?;
        match &chunk[4..8] {
            b"tRNS" => {}
            b"PLTE" => {
                let mut body = b"PLTE".to_vec();
                body.extend((0..=255u8).flat_map(|i| [i, i, i]).take(length / 3 * 3));
                out.extend((length as u32 / 3 * 3).to_be_bytes());
                out.extend(&body);
                out.extend(crc32fast::hash(&body).to_be_bytes());
            }
            _ => out.extend(chunk),
        }
        at += chunk.len();
    }
    Some(out)
}

/// The same for a BMP of at most 8 bits a pixel, and whether its palette was all grey.
pub(crate) fn bmp_indices(bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    let number = |at: usize, n: usize| {
        let bytes = bytes.get(at..at + n)?;
        Some(bytes.iter().rev().fold(0usize, |sum, &b| sum << 8 | usize::from(b)))
    };
    let (pixels, header) = (number(10, 4)?, number(14, 4)?);
    // The header of OS/2 is 12 bytes long and its colours are 3.
    let (bits, entry) = if header == 12 { (number(24, 2)?, 3) } else { (number(28, 2)?, 4) };
    let first = header.checked_add(14)?;
    if bits > 8 || first > pixels || pixels > bytes.len() {
        return None;
    }
    let gray = bytes[first..pixels].chunks_exact(entry).take(256).all(|p| p[0] == p[1] && p[1] == p[2]);
    let mut out = bytes.to_vec();
    for (i, color) in out[first..pixels].chunks_exact_mut(entry).take(256).enumerate() {
        color[..3].fill(i as u8);
    }
    Some((out, gray))
}
