//! `INTER_CUBIC` and `INTER_LANCZOS4`: separable filters of 4 and 8 taps.

use super::super::simd::vectorised;
use super::Geometry;

/// Which filter.
#[derive(Clone, Copy)]
pub(super) enum Kernel {
    Cubic,
    Lanczos4,
}

const ONE: f32 = 2048.0;

/// A result pixel's taps: where the first lies, and the weights.
struct Taps {
    first: isize,
    weights: [f32; 8],
}

impl Kernel {
    fn size(self) -> usize {
        match self {
            Self::Cubic => 4,
            Self::Lanczos4 => 8,
        }
    }

    fn weights(self, x: f32) -> [f32; 8] {
        match self {
            Self::Cubic => cubic_weights(x),
            Self::Lanczos4 => lanczos4_weights(x),
        }
    }

    fn taps(self, on: usize, scale: f64) -> Vec<Taps> {
        let before = self.size() as isize / 2 - 1;
        let tap = |i: usize| {
            let f = ((i as f64 + 0.5) * scale - 0.5) as f32;
            let whole = f.floor();
            Taps { first: whole as isize - before, weights: self.weights(f - whole) }
        };
        (0..on).map(tap).collect()
    }
}

/// The four weights of `INTER_CUBIC` at `x` past the second of them; the rest are 0.
pub(crate) fn cubic_weights(x: f32) -> [f32; 8] {
    const A: f32 = -0.75;
    let mut w = [0f32; 8];
    w[0] = ((A * (x + 1.0) - 5.0 * A) * (x + 1.0) + 8.0 * A) * (x + 1.0) - 4.0 * A;
    w[1] = ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    w[2] = ((A + 2.0) * (1.0 - x) - (A + 3.0)) * (1.0 - x) * (1.0 - x) + 1.0;
    w[3] = 1.0 - w[0] - w[1] - w[2];
    w
}

/// The eight weights of `INTER_LANCZOS4` at `x` past the fourth of them: sinc(t) * sinc(t / 4), made to sum to one.
pub(crate) fn lanczos4_weights(x: f32) -> [f32; 8] {
    let mut w = [0f32; 8];
    let mut sum = 0.0;
    for (i, w) in w.iter_mut().enumerate() {
        let t = x + 3.0 - i as f32;
        *w = if t.abs() < 1e-6 {
            1.0
        } else {
            let t = f64::from(t) * std::f64::consts::PI;
            (t.sin() * (t / 4.0).sin() / (t * t / 4.0)) as f32
        };
        sum += *w;
    }
    w.iter_mut().for_each(|w| *w /= sum);
    w
}

/// Source index of each tap of each column, clamped to the row.
fn columns(taps: &[Taps], size: usize, n: usize) -> Vec<usize> {
    let clamp = |i: isize| i.clamp(0, n as isize - 1) as usize;
    taps.iter().flat_map(|t| (0..size as isize).map(move |k| clamp(t.first + k))).collect()
}

/// Fixed point with 11 bits per pass, as cv2.
pub(super) fn u8(v: &[u8], g: &Geometry, kernel: Kernel) -> Vec<u8> {
    match kernel {
        Kernel::Cubic => fixed::<4>(v, g, kernel),
        Kernel::Lanczos4 => fixed::<8>(v, g, kernel),
    }
}

fn fixed<const K: usize>(v: &[u8], g: &Geometry, kernel: Kernel) -> Vec<u8> {
    let weights = |t: &Taps| -> [i32; K] { std::array::from_fn(|k| (t.weights[k] * ONE).round_ties_even() as i32) };
    let xs = kernel.taps(g.ow, g.scale_x);
    let ys = kernel.taps(g.oh, g.scale_y);
    let columns = columns(&xs, K, g.w);
    let across: Vec<[i32; K]> = xs.iter().map(weights).collect();
    let horizontal = |y: usize, out: &mut [i32]| {
        let row = &v[y * g.w * g.c..][..g.w * g.c];
        match g.c {
            1 => horizontal::<1, K>(row, columns.as_chunks().0, &across, out),
            3 => horizontal::<3, K>(row, columns.as_chunks().0, &across, out),
            c => {
                for ((o, at), w) in out.chunks_exact_mut(c).zip(columns.chunks_exact(K)).zip(&across) {
                    for (ch, o) in o.iter_mut().enumerate() {
                        *o = at.iter().zip(w).map(|(&x, &w)| i32::from(row[x * c + ch]) * w).sum();
                    }
                }
            }
        }
    };
    let mut rows = Rows::new(g, K, 0i32);
    let mut out = vec![0u8; g.ow * g.oh * g.c];
    for (o, tap) in out.chunks_exact_mut(g.ow * g.c).zip(&ys) {
        let taps = rows.get(tap.first, horizontal);
        vertical::<K>(std::array::from_fn(|k| taps[k]), weights(tap), o);
    }
    out
}

fn horizontal<const C: usize, const K: usize>(
    row: &[u8],
    columns: &[[usize; K]],
    weights: &[[i32; K]],
    out: &mut [i32],
) {
    let row = row.as_chunks::<C>().0;
    for ((o, at), w) in out.as_chunks_mut::<C>().0.iter_mut().zip(columns).zip(weights) {
        *o = [0; C];
        for (&x, &w) in at.iter().zip(w) {
            let p = row[x];
            for ch in 0..C {
                o[ch] += i32::from(p[ch]) * w;
            }
        }
    }
}

vectorised! {
    fn vertical<const K: usize>(rows: [&[i32]; K], weights: [i32; K], out: &mut [u8]) {
        let n = out.len();
        let rows = rows.map(|r| &r[..n]);
        for x in 0..n {
            let mut sum = 1i32 << 21;
            for k in 0..K {
                sum = sum.wrapping_add(rows[k][x].wrapping_mul(weights[k]));
            }
            out[x] = (sum >> 22).clamp(0, 255) as u8;
        }
    }
}

/// f32 throughout.
pub(super) fn f32(v: &[f32], g: &Geometry, kernel: Kernel) -> Vec<f32> {
    let size = kernel.size();
    let xs = kernel.taps(g.ow, g.scale_x);
    let ys = kernel.taps(g.oh, g.scale_y);
    let columns = columns(&xs, size, g.w);
    let horizontal = |row: &[f32], out: &mut [f32]| {
        for ((o, at), t) in out.chunks_exact_mut(g.c).zip(columns.chunks_exact(size)).zip(&xs) {
            for (ch, o) in o.iter_mut().enumerate() {
                *o = at.iter().zip(&t.weights).map(|(&x, &w)| row[x * g.c + ch] * w).sum();
            }
        }
    };
    let mut rows = Rows::new(g, size, 0f32);
    let mut out = vec![0f32; g.ow * g.oh * g.c];
    for (o, tap) in out.chunks_exact_mut(g.ow * g.c).zip(&ys) {
        let taps = rows.get(tap.first, |y, row| horizontal(&v[y * g.w * g.c..][..g.w * g.c], row));
        for (row, &w) in taps.iter().zip(&tap.weights) {
            o.iter_mut().zip(row.iter()).for_each(|(o, &r)| *o += r * w);
        }
    }
    out
}

/// Source rows after the horizontal pass, each made once: a ring of `size` rows.
struct Rows<T> {
    size: usize,
    h: usize,
    held: Vec<Option<usize>>,
    rows: Vec<Vec<T>>,
}

impl<T: Copy> Rows<T> {
    fn new(g: &Geometry, size: usize, zero: T) -> Self {
        Self { size, h: g.h, held: vec![None; size], rows: vec![vec![zero; g.ow * g.c]; size] }
    }

    /// The rows of the taps from `first` on, clamped to the picture.
    fn get(&mut self, first: isize, mut make: impl FnMut(usize, &mut [T])) -> Vec<&[T]> {
        let clamp = |k: usize| (first + k as isize).clamp(0, self.h as isize - 1) as usize;
        let wanted: Vec<usize> = (0..self.size).map(clamp).collect();
        for &y in &wanted {
            let slot = y % self.size;
            if self.held[slot] != Some(y) {
                make(y, &mut self.rows[slot]);
                self.held[slot] = Some(y);
            }
        }
        wanted.iter().map(|y| &self.rows[y % self.size][..]).collect()
    }
}
