//! `INTER_AREA` for shrinking.

use super::Geometry;

/// Whole factors, u8: sums in integers. Halving rounds halves up, other factors round halves to even.
pub(super) fn fast_u8(v: &[u8], g: &Geometry) -> Vec<u8> {
    let (sx, sy) = (g.scale_x.round() as usize, g.scale_y.round() as usize);
    let scale = 1.0 / (sx * sy) as f32;
    blocks(v, g, sx, sy, |values| {
        let sum: u32 = values.map(u32::from).sum();
        if sx == 2 && sy == 2 { ((sum + 2) >> 2) as u8 } else { (sum as f32 * scale).round_ties_even() as u8 }
    })
}

/// Whole factors, f32.
pub(super) fn fast_f32(v: &[f32], g: &Geometry) -> Vec<f32> {
    let (sx, sy) = (g.scale_x.round() as usize, g.scale_y.round() as usize);
    let scale = 1.0 / (sx * sy) as f32;
    blocks(v, g, sx, sy, |values| values.sum::<f32>() * scale)
}

fn blocks<T: Copy>(
    v: &[T],
    g: &Geometry,
    sx: usize,
    sy: usize,
    mean: impl Fn(&mut dyn Iterator<Item = T>) -> T,
) -> Vec<T> {
    let pitch = g.w * g.c;
    let mut out = Vec::with_capacity(g.ow * g.oh * g.c);
    for y in 0..g.oh {
        for x in 0..g.ow {
            for ch in 0..g.c {
                let first = y * sy * pitch + x * sx * g.c + ch;
                let mut values = (0..sx * sy).map(|i| v[first + i / sx * pitch + i % sx * g.c]);
                out.push(mean(&mut values));
            }
        }
    }
    out
}

/// A source pixel's part in a result pixel.
struct Part {
    to: usize,
    from: usize,
    weight: f32,
}

fn parts(n: usize, on: usize, scale: f64) -> Vec<Part> {
    let mut parts = Vec::new();
    for to in 0..on {
        let start = to as f64 * scale;
        let end = start + scale;
        let cell = scale.min(n as f64 - start);
        let last = (end.floor() as usize).min(n - 1);
        let first = (start.ceil() as usize).min(last);
        if first as f64 - start > 1e-3 {
            parts.push(Part { to, from: first - 1, weight: ((first as f64 - start) / cell) as f32 });
        }
        parts.extend((first..last).map(|from| Part { to, from, weight: (1.0 / cell) as f32 }));
        if end - last as f64 > 1e-3 {
            parts.push(Part { to, from: last, weight: ((end - last as f64).min(1.0).min(cell) / cell) as f32 });
        }
    }
    parts
}

/// A kind of pixel value.
pub(super) trait Value: Copy {
    fn to(self) -> f32;
    fn from(v: f32) -> Self;
}

impl Value for u8 {
    fn to(self) -> f32 {
        self.into()
    }
    fn from(v: f32) -> Self {
        v.round_ties_even() as u8
    }
}

impl Value for f32 {
    fn to(self) -> f32 {
        self
    }
    fn from(v: f32) -> Self {
        v
    }
}

/// Any factors of at least 1.
pub(super) fn any<T: Value>(v: &[T], g: &Geometry) -> Vec<T> {
    let (xs, ys) = (parts(g.w, g.ow, g.scale_x), parts(g.h, g.oh, g.scale_y));
    let (pitch, c) = (g.ow * g.c, g.c);
    let mut out = Vec::with_capacity(pitch * g.oh);
    let (mut row, mut sum) = (vec![0f32; pitch], vec![0f32; pitch]);
    let mut current = 0;
    for y in &ys {
        let source = &v[y.from * g.w * c..][..g.w * c];
        row.fill(0.0);
        match c {
            1 => add::<T, 1>(source, &xs, &mut row),
            3 => add::<T, 3>(source, &xs, &mut row),
            _ => {
                for x in &xs {
                    for (o, s) in row[x.to * c..][..c].iter_mut().zip(&source[x.from * c..][..c]) {
                        *o += s.to() * x.weight;
                    }
                }
            }
        }
        if y.to != current {
            out.extend(sum.iter().map(|&s| T::from(s)));
            sum.iter_mut().zip(&row).for_each(|(s, r)| *s = y.weight * r);
            current = y.to;
        } else {
            sum.iter_mut().zip(&row).for_each(|(s, r)| *s += y.weight * r);
        }
    }
    out.extend(sum.iter().map(|&s| T::from(s)));
    out
}

fn add<T: Value, const C: usize>(source: &[T], xs: &[Part], row: &mut [f32]) {
    let (source, row) = (source.as_chunks::<C>().0, row.as_chunks_mut::<C>().0);
    for x in xs {
        let (o, s) = (&mut row[x.to], source[x.from]);
        for ch in 0..C {
            o[ch] += s[ch].to() * x.weight;
        }
    }
}
