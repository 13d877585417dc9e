//! Sampling a picture at positions of 1/32 pixel.

use std::sync::OnceLock;

use super::super::options::Interpolation;
use super::BorderMode;

/// Bits below the pixel.
pub(super) const TAB_BITS: u32 = 5;
const TAB: usize = 1 << TAB_BITS;
const ONE: f32 = 32768.0;

/// A source position: the pixel and, for all but nearest, the 1/32ths beyond it.
pub(super) struct Tap {
    x: i16,
    y: i16,
    /// Index into the table of weights.
    fraction: u16,
}

impl Tap {
    /// From whole pixels (nearest) or 1/32ths; the pixel is kept in 16 bits as in cv2.
    pub(super) fn new(x: i32, y: i32, interpolation: Interpolation) -> Self {
        let short = |v: i32| v.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        if interpolation == Interpolation::Nearest {
            return Self { x: short(x), y: short(y), fraction: 0 };
        }
        let mask = TAB as i32 - 1;
        Self {
            x: short(x >> TAB_BITS),
            y: short(y >> TAB_BITS),
            fraction: ((y & mask) << TAB_BITS | (x & mask)) as u16,
        }
    }
}

/// Weights of an interpolation for each of the 32x32 fractions, `size * size` each.
struct Table {
    size: usize,
    floats: Vec<f32>,
    fixed: Vec<i32>,
}

fn table(interpolation: Interpolation) -> &'static Table {
    static TABLES: [OnceLock<Table>; 3] = [const { OnceLock::new() }; 3];
    match interpolation {
        Interpolation::Bicubic => TABLES[1].get_or_init(|| make(4, cubic)),
        Interpolation::Lanczos => TABLES[2].get_or_init(|| make(8, lanczos4)),
        _ => TABLES[0].get_or_init(|| make(2, |x, w| (w[0], w[1]) = (1.0 - x, x))),
    }
}

fn cubic(x: f32, w: &mut [f32]) {
    w.copy_from_slice(&super::super::resize::cubic_weights(x)[..4]);
}

fn lanczos4(x: f32, w: &mut [f32]) {
    w.copy_from_slice(&super::super::resize::lanczos4_weights(x));
}

fn make(size: usize, weights: impl Fn(f32, &mut [f32])) -> Table {
    let mut lines = vec![0f32; TAB * size];
    for (i, line) in lines.chunks_exact_mut(size).enumerate() {
        weights(i as f32 / TAB as f32, line);
    }
    let (mut floats, mut fixed) = (Vec::new(), Vec::new());
    for y in lines.chunks_exact(size) {
        for x in lines.chunks_exact(size) {
            let start = fixed.len();
            for wy in y {
                for wx in x {
                    floats.push(wy * wx);
                    fixed.push((wy * wx * ONE).round_ties_even() as i32);
                }
            }
            // What rounding lost goes to the largest of the four middle weights, what it gained from the smallest.
            let block = &mut fixed[start..];
            let excess = block.iter().sum::<i32>() - ONE as i32;
            if excess != 0 {
                let middle = size / 2;
                let four = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(a, b)| (middle + a) * size + middle + b);
                let four = four.into_iter().filter(|&i| i < block.len());
                let pick = if excess < 0 {
                    four.reduce(|a, b| if block[b] > block[a] { b } else { a })
                } else {
                    four.reduce(|a, b| if block[b] < block[a] { b } else { a })
                };
                if let Some(i) = pick {
                    block[i] -= excess;
                }
            }
        }
    }
    Table { size, floats, fixed }
}

/// A picture to sample.
pub(super) struct Sampler<'a, T> {
    pub(super) v: &'a [T],
    pub(super) w: usize,
    pub(super) h: usize,
    pub(super) c: usize,
    pub(super) border: &'a [T],
    pub(super) mode: BorderMode,
}

impl<T: Copy> Sampler<'_, T> {
    fn nearest(&self, taps: &[Tap], out: &mut [T]) {
        for (o, tap) in out.chunks_exact_mut(self.c).zip(taps) {
            match (self.mode.index(tap.x.into(), self.w), self.mode.index(tap.y.into(), self.h)) {
                (Some(x), Some(y)) => o.copy_from_slice(&self.v[(y * self.w + x) * self.c..][..self.c]),
                _ => o.copy_from_slice(self.border),
            }
        }
    }

    /// Calls `f` with the offset of each of the `size * size` neighbours, none for the border, row by row.
    fn neighbours(&self, tap: &Tap, size: usize, mut f: impl FnMut(usize, Option<usize>)) {
        let first = size as i64 / 2 - 1;
        let mut columns = [None; 8];
        for (i, column) in columns[..size].iter_mut().enumerate() {
            *column = self.mode.index(i64::from(tap.x) - first + i as i64, self.w);
        }
        for j in 0..size {
            let row = self.mode.index(i64::from(tap.y) - first + j as i64, self.h);
            for (i, column) in columns[..size].iter().enumerate() {
                let at = row.zip(*column).map(|(y, x)| (y * self.w + x) * self.c);
                f(j * size + i, at);
            }
        }
    }

    fn inside(&self, tap: &Tap) -> bool {
        tap.x >= 0 && tap.y >= 0 && (tap.x as usize) + 1 < self.w && (tap.y as usize) + 1 < self.h
    }
}

fn round(sum: i32) -> u8 {
    ((sum + (1 << 14)) >> 15).clamp(0, 255) as u8
}

impl Sampler<'_, u8> {
    pub(super) fn u8(&self, taps: &[Tap], interpolation: Interpolation, out: &mut [u8]) {
        if interpolation == Interpolation::Nearest {
            return self.nearest(taps, out);
        }
        let table = table(interpolation);
        match (table.size, self.c) {
            (2, 1) => self.linear::<1>(table, taps, out),
            (2, 3) => self.linear::<3>(table, taps, out),
            _ => self.any(table, taps, out),
        }
    }

    /// Bilinear; taps near the edge go the general way.
    fn linear<const C: usize>(&self, table: &Table, taps: &[Tap], out: &mut [u8]) {
        let (pixels, weights) = (self.v.as_chunks::<C>().0, table.fixed.as_chunks::<4>().0);
        for (o, tap) in out.as_chunks_mut::<C>().0.iter_mut().zip(taps) {
            if !self.inside(tap) {
                self.any(table, std::slice::from_ref(tap), o);
                continue;
            }
            let at = tap.y as usize * self.w + tap.x as usize;
            let (above, below) = (&pixels[at..at + 2], &pixels[at + self.w..at + self.w + 2]);
            let w = weights[usize::from(tap.fraction)];
            for ch in 0..C {
                let [a, b, d, e] = [above[0][ch], above[1][ch], below[0][ch], below[1][ch]].map(i32::from);
                o[ch] = round(a * w[0] + b * w[1] + d * w[2] + e * w[3]);
            }
        }
    }

    fn any(&self, table: &Table, taps: &[Tap], out: &mut [u8]) {
        let (size, n, c) = (table.size, table.size * table.size, self.c);
        let mut sums = vec![0i32; c];
        for (o, tap) in out.chunks_exact_mut(c).zip(taps) {
            let weights = &table.fixed[usize::from(tap.fraction) * n..][..n];
            sums.fill(0);
            self.neighbours(tap, size, |i, at| {
                let p = at.map_or(self.border, |at| &self.v[at..at + c]);
                sums.iter_mut().zip(p).for_each(|(s, &p)| *s += i32::from(p) * weights[i]);
            });
            o.iter_mut().zip(&sums).for_each(|(o, &s)| *o = round(s));
        }
    }
}

impl Sampler<'_, f32> {
    pub(super) fn f32(&self, taps: &[Tap], interpolation: Interpolation, out: &mut [f32]) {
        if interpolation == Interpolation::Nearest {
            return self.nearest(taps, out);
        }
        let table = table(interpolation);
        let (n, c) = (table.size * table.size, self.c);
        for (o, tap) in out.chunks_exact_mut(c).zip(taps) {
            let weights = &table.floats[usize::from(tap.fraction) * n..][..n];
            o.fill(0.0);
            self.neighbours(tap, table.size, |i, at| {
                let p = at.map_or(self.border, |at| &self.v[at..at + c]);
                o.iter_mut().zip(p).for_each(|(o, p)| *o += p * weights[i]);
            });
        }
    }
}
