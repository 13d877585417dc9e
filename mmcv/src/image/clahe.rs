//! Contrast limited adaptive histogram equalisation.

use super::types::{Image, Pixels};
use crate::error::{Error, Result};

/// cv2's CLAHE of one channel: `grid` = (columns, rows) of tiles, mmcv's defaults are a limit of 40 and (8, 8). f32
/// values are cut to u8. Bit-identical to cv2 4.8 but for values whose interpolation rounds the other way (1 level).
pub fn clahe(image: &Image, clip_limit: f64, grid: (usize, usize)) -> Result<Image> {
    let [h, w, c] = image.shape();
    let (columns, rows) = grid;
    if c != 1 || h == 0 || w == 0 || columns == 0 || rows == 0 {
        return Err(Error::Run(format!(
            "clahe needs an image of one channel and a grid of tiles, not {h}x{w}x{c} and {columns}x{rows}"
        )));
    }
    let v: Vec<u8> = match image.pixels() {
        Pixels::U8(v) => v.clone(),
        Pixels::F32(v) => v.iter().map(|&v| v as u8).collect(),
    };
    // cv2 pads both sides as soon as one doesn't divide, the other by a whole row of pixels per tile.
    let (eh, ew) =
        if w % columns == 0 && h % rows == 0 { (h, w) } else { (h + rows - h % rows, w + columns - w % columns) };
    let (th, tw) = (eh / rows, ew / columns);
    let area = th * tw;
    let limit = if clip_limit > 0.0 { ((clip_limit * area as f64 / 256.0) as i64).max(1) } else { 0 };
    let mirrored = |i: usize, n: usize| {
        let last = n - 1;
        if last == 0 { 0 } else { (i % (2 * last)).min(2 * last - i % (2 * last)) }
    };
    let mut tables = Vec::with_capacity(columns * rows);
    for ty in 0..rows {
        for tx in 0..columns {
            let mut counts = [0i64; 256];
            for y in ty * th..(ty + 1) * th {
                let row = &v[mirrored(y, h) * w..][..w];
                (tx * tw..(tx + 1) * tw).for_each(|x| counts[row[mirrored(x, w)] as usize] += 1);
            }
            if limit > 0 {
                clip(&mut counts, limit);
            }
            let scale = 255.0 / area as f32;
            let mut sum = 0;
            tables.push(counts.map(|n| {
                sum += n;
                (sum as f32 * scale).round_ties_even() as u8
            }));
        }
    }
    // The two tiles about a pixel and the weight of the second.
    let between = |i: usize, size: usize, n: usize| {
        let f = i as f32 * (1.0 / size as f32) - 0.5;
        let first = f.floor();
        ((first.max(0.0)) as usize, ((first + 1.0) as usize).min(n - 1), f - first)
    };
    let across: Vec<_> = (0..w).map(|x| between(x, tw, columns)).collect();
    let mut out = Vec::with_capacity(h * w);
    for y in 0..h {
        let (above, below, b) = between(y, th, rows);
        for (x, &(left, right, a)) in across.iter().enumerate() {
            let value = v[y * w + x] as usize;
            let at = |ty: usize, tx: usize| f32::from(tables[ty * columns + tx][value]);
            let row = |ty: usize| at(ty, left) * (1.0 - a) + at(ty, right) * a;
            out.push((row(above) * (1.0 - b) + row(below) * b).round_ties_even() as u8);
        }
    }
    Ok(Image::made(h, w, 1, Pixels::U8(out)))
}

/// Cuts counts at `limit` and deals what was cut to all of them, the rest at even steps.
fn clip(counts: &mut [i64; 256], limit: i64) {
    let mut cut = 0;
    for n in counts.iter_mut() {
        cut += (*n - limit).max(0);
        *n = (*n).min(limit);
    }
    counts.iter_mut().for_each(|n| *n += cut / 256);
    let rest = (cut % 256) as usize;
    if let Some(step) = 256usize.checked_div(rest) {
        counts.iter_mut().step_by(step.max(1)).take(rest).for_each(|n| *n += 1);
    }
}
