//! `INTER_LINEAR`, and `INTER_AREA` for enlarging.
//!
//! u8 follows cv2's fixed point: 11 bits of weight per pass; the horizontal sums lose 4 bits, each vertical product
//! 16, and the rest is rounded. Each source row is filtered once and at most two are held, so memory is read and
//! written once. The inner loops are written for AVX2 where the machine has it, with the same integers.

#![allow(unsafe_code)] // AVX2 kernels

use super::super::simd::vectorised;
use super::Geometry;

/// How a result pixel's place in the source is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// Pixel centres on pixel centres.
    Centred,
    /// cv2's `INTER_AREA` when a side grows.
    Area,
}

/// Two neighbours and the weight of the second.
#[derive(Clone, Copy)]
struct Pair {
    first: isize,
    weight: f32,
}

impl Axis {
    fn pairs(self, n: usize, on: usize, scale: f64) -> Vec<Pair> {
        let inverse = on as f64 / n as f64;
        let pair = |i: usize| match self {
            Self::Centred => {
                let f = ((i as f64 + 0.5) * scale - 0.5) as f32;
                Pair { first: f.floor() as isize, weight: f - f.floor() }
            }
            Self::Area => {
                let first = (i as f64 * scale).floor();
                let f = ((i as f64 + 1.0) - (first + 1.0) * inverse) as f32;
                Pair { first: first as isize, weight: if f <= 0.0 { 0.0 } else { f - f.floor() } }
            }
        };
        (0..on).map(pair).collect()
    }
}

/// Columns: both neighbours inside the row, as cv2 clamps them.
fn columns(pairs: Vec<Pair>, n: usize) -> Vec<Pair> {
    let last = n as isize - 1;
    let inside = |p: Pair| {
        if p.first < 0 {
            Pair { first: 0, weight: 0.0 }
        } else if p.first >= last {
            Pair { first: last, weight: 0.0 }
        } else {
            p
        }
    };
    pairs.into_iter().map(inside).collect()
}

fn fixed(weight: f32) -> [i16; 2] {
    [1.0 - weight, weight].map(|w| (w * 2048.0).round_ties_even() as i16)
}

/// One column of the u8 horizontal pass: byte offset of the left neighbour, and both weights.
#[derive(Clone, Copy)]
struct Column {
    at: u32,
    weights: [i16; 2],
}

pub(super) fn u8(v: &[u8], g: &Geometry, axis: Axis) -> Vec<u8> {
    let (pitch, out_pitch) = (g.w * g.c, g.ow * g.c);
    let columns: Vec<Column> = columns(axis.pairs(g.w, g.ow, g.scale_x), g.w)
        .into_iter()
        .map(|p| Column { at: p.first as u32 * g.c as u32, weights: fixed(p.weight) })
        .collect();
    let rows = axis.pairs(g.h, g.oh, g.scale_y);
    // Room behind each row for the last vector store.
    let mut held = [vec![0i16; out_pitch + 16], vec![0i16; out_pitch + 16]];
    let mut which = [usize::MAX; 2];
    let mut out = vec![0u8; out_pitch * g.oh];
    let clamp = |y: isize| y.clamp(0, g.h as isize - 1) as usize;
    for (o, pair) in out.chunks_exact_mut(out_pitch).zip(&rows) {
        let (y0, y1) = (clamp(pair.first), clamp(pair.first + 1));
        if which[1] == y0 {
            held.swap(0, 1);
            which.swap(0, 1);
        }
        for (slot, y) in [y0, y1].into_iter().enumerate() {
            if which[slot] != y {
                if slot == 1 && y == y0 {
                    let [a, b] = &mut held;
                    b.copy_from_slice(a);
                } else {
                    horizontal(&v[y * pitch..(y + 1) * pitch], &columns, g.c, &mut held[slot]);
                }
                which[slot] = y;
            }
        }
        let [w0, w1] = fixed(pair.weight);
        vertical(&held[0][..out_pitch], &held[1][..out_pitch], w0, w1, o);
    }
    out
}

fn horizontal(row: &[u8], columns: &[Column], c: usize, out: &mut [i16]) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if c == 3 && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has AVX2. The callee checks its own bounds.
        done = unsafe { horizontal3_avx2(row, columns, out) };
    }
    match c {
        1 => horizontal_n::<1>(row, &columns[done..], &mut out[done..]),
        3 => horizontal_n::<3>(row, &columns[done..], &mut out[done * 3..]),
        _ => {
            for (o, column) in out.chunks_exact_mut(c).zip(columns) {
                for (ch, o) in o.iter_mut().enumerate() {
                    *o = blend(row, column, ch, c);
                }
            }
        }
    }
}

fn blend(row: &[u8], column: &Column, ch: usize, c: usize) -> i16 {
    let at = column.at as usize + ch;
    let [w0, w1] = column.weights.map(i32::from);
    // The weight of a neighbour past the end is 0.
    let next = row.get(at + c).copied().unwrap_or(0);
    ((i32::from(row[at]) * w0 + i32::from(next) * w1) >> 4) as i16
}

fn horizontal_n<const C: usize>(row: &[u8], columns: &[Column], out: &mut [i16]) {
    for (o, column) in out.as_chunks_mut::<C>().0.iter_mut().zip(columns) {
        for (ch, o) in o.iter_mut().enumerate() {
            *o = blend(row, column, ch, C);
        }
    }
}

/// Two columns a step; returns how many columns were done. Stops where an 8-byte load would leave the row or a
/// 16-byte store would leave `out`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn horizontal3_avx2(row: &[u8], columns: &[Column], out: &mut [i16]) -> usize {
    use std::arch::x86_64::*;
    // Bytes b0 g0 r0 b1 g1 r1 to the words b0 b1 g0 g1 r0 r1 0 0.
    let spread = _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
    // Words b g r 0 b g r 0 to b g r b g r 0 0.
    let tight = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, -1, -1, -1, -1);
    let mut done = 0;
    while done + 2 <= columns.len() {
        let (a, b) = (columns[done], columns[done + 1]);
        if b.at as usize + 8 > row.len() || a.at as usize + 8 > row.len() || done * 3 + 8 > out.len() {
            break;
        }
        let weights = |c: Column| _mm_set1_epi32(i32::from(c.weights[0] as u16) | (i32::from(c.weights[1]) << 16));
        // SAFETY: both loads are of 8 bytes that lie inside `row`, checked above.
        let (pa, pb) = unsafe {
            (
                _mm_loadl_epi64(row.as_ptr().add(a.at as usize).cast()),
                _mm_loadl_epi64(row.as_ptr().add(b.at as usize).cast()),
            )
        };
        let sa = _mm_srai_epi32::<4>(_mm_madd_epi16(_mm_shuffle_epi8(pa, spread), weights(a)));
        let sb = _mm_srai_epi32::<4>(_mm_madd_epi16(_mm_shuffle_epi8(pb, spread), weights(b)));
        let both = _mm_shuffle_epi8(_mm_packs_epi32(sa, sb), tight);
        // SAFETY: 8 words from `done * 3` lie inside `out`, checked above; the last two are written again later.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().add(done * 3).cast(), both) };
        done += 2;
    }
    done
}

vectorised! {
    /// `pmulhw` twice, as cv2.
    fn vertical<>(r0: &[i16], r1: &[i16], w0: i16, w1: i16, out: &mut [u8]) {
        let high = |a: i16, b: i16| ((i32::from(a) * i32::from(b)) >> 16) as i16;
        for ((o, &a), &b) in out.iter_mut().zip(r0).zip(r1) {
            *o = ((high(a, w0) + high(b, w1) + 2) >> 2) as u8;
        }
    }
}

pub(super) fn f32(v: &[f32], g: &Geometry, axis: Axis) -> Vec<f32> {
    let (pitch, out_pitch, c) = (g.w * g.c, g.ow * g.c, g.c);
    let columns = columns(axis.pairs(g.w, g.ow, g.scale_x), g.w);
    let rows = axis.pairs(g.h, g.oh, g.scale_y);
    let mut held = [vec![0f32; out_pitch], vec![0f32; out_pitch]];
    let mut which = [usize::MAX; 2];
    let mut out = vec![0f32; out_pitch * g.oh];
    let clamp = |y: isize| y.clamp(0, g.h as isize - 1) as usize;
    let horizontal = |y: usize, out: &mut [f32]| {
        let row = &v[y * pitch..(y + 1) * pitch];
        for (o, p) in out.chunks_exact_mut(c).zip(&columns) {
            let at = p.first as usize * c;
            let next = if p.first as usize + 1 < g.w { at + c } else { at };
            for (ch, o) in o.iter_mut().enumerate() {
                *o = row[at + ch] * (1.0 - p.weight) + row[next + ch] * p.weight;
            }
        }
    };
    for (o, pair) in out.chunks_exact_mut(out_pitch).zip(&rows) {
        let wanted = [clamp(pair.first), clamp(pair.first + 1)];
        if which[1] == wanted[0] {
            held.swap(0, 1);
            which.swap(0, 1);
        }
        for (slot, y) in wanted.into_iter().enumerate() {
            if which[slot] != y {
                horizontal(y, &mut held[slot]);
                which[slot] = y;
            }
        }
        let (w0, w1) = (1.0 - pair.weight, pair.weight);
        for ((o, a), b) in o.iter_mut().zip(&held[0]).zip(&held[1]) {
            *o = a * w0 + b * w1;
        }
    }
    out
}
