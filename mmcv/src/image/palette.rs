//! The indices of a palette PNG.

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
