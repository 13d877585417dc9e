//! Depthwise convolution: each output channel reads one input channel, map by map.
//!
//! A source map is first laid out with its zeros around it and its columns split by the horizontal step's phases, so that
//! every tap of every row of outputs is a plain run of neighbouring values. Forward and data gradient are the same
//! [`Gather`].

use rayon::prelude::*;

use super::gather::{Finish, Gather};
use super::geometry::Geometry;
use crate::ops::gemm::{Out, has_avx2, with_scratch};

/// Vectors of eight outputs that are computed together, and the values that this reads past a row's end.
const WIDE: usize = 4;
const SLACK: usize = 8 * WIDE;
/// Taps whose gradients are summed together.
const TAPS: usize = 9;

/// A source map laid out for a gather: rows of `step[1]` phases, each `phase` long.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Source coordinates of the first row and column kept.
    first: [isize; 2],
    rows: usize,
    phase: usize,
    step: [usize; 2],
    src: [usize; 2],
}

impl Layout {
    /// What all of `gathers`, which share source and step, read.
    fn new(gathers: &[(Gather, Vec<usize>)]) -> Self {
        let g = &gathers[0].0;
        let bounds = |axis: usize| {
            let reach = |g: &Gather| g.grid[axis].saturating_sub(1) * g.step[axis];
            let offsets = || gathers.iter().flat_map(|(g, _)| g.taps.iter().map(move |t| (t[axis], reach(g) as isize)));
            let lo = offsets().map(|(o, _)| o).min().unwrap_or(0);
            let hi = offsets().map(|(o, reach)| o + reach).max().unwrap_or(0);
            (lo, (hi - lo) as usize + 1)
        };
        let ((y, rows), (x, cols)) = (bounds(0), bounds(1));
        Self { first: [y, x], rows, phase: cols.div_ceil(g.step[1]) + SLACK, step: g.step, src: g.src }
    }

    fn row(&self) -> usize {
        self.phase * self.step[1]
    }

    fn len(&self) -> usize {
        self.rows * self.row()
    }

    /// Where tap `t` of position (0, 0) lies.
    fn at(&self, t: [isize; 2]) -> usize {
        let (y, x) = ((t[0] - self.first[0]) as usize, (t[1] - self.first[1]) as usize);
        y * self.row() + x % self.step[1] * self.phase + x / self.step[1]
    }

    /// Lays out `map`; what is outside it becomes zero.
    fn fill(&self, map: &[f32], to: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if has_avx2() {
            // SAFETY: the features were asked for.
            return unsafe { self.fill_avx2(map, to) };
        }
        self.fill_any(map, to);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn fill_avx2(&self, map: &[f32], to: &mut [f32]) {
        self.fill_any(map, to);
    }

    #[inline(always)]
    fn fill_any(&self, map: &[f32], to: &mut [f32]) {
        let [h, w] = self.src;
        for (r, row) in to.chunks_exact_mut(self.row()).enumerate() {
            let y = r as isize + self.first[0];
            if y < 0 || y >= h as isize {
                row.fill(0.0);
                continue;
            }
            let map = &map[y as usize * w..][..w];
            for (p, row) in row.chunks_exact_mut(self.phase).enumerate() {
                // Value i of this phase is column first + p + i·step.
                let (base, s) = (self.first[1] + p as isize, self.step[1] as isize);
                let lo = if base < 0 { (-base + s - 1) / s } else { 0 };
                let hi = if base < w as isize { (w as isize - 1 - base) / s + 1 } else { 0 };
                let (lo, hi) = (lo.min(self.phase as isize) as usize, hi.clamp(0, self.phase as isize) as usize);
                let hi = hi.max(lo);
                row[..lo].fill(0.0);
                row[hi..].fill(0.0);
                if lo < hi {
                    let map = &map[(base + lo as isize * s) as usize..];
                    match s {
                        1 => row[lo..hi].copy_from_slice(&map[..hi - lo]),
                        2 => {
                            let n = hi - lo - 1;
                            let pairs = map[..2 * n].chunks_exact(2);
                            row[lo..lo + n].iter_mut().zip(pairs).for_each(|(d, p)| *d = p[0]);
                            row[lo + n] = map[2 * n];
                        }
                        _ => row[lo..hi].iter_mut().zip(map.iter().step_by(s as usize)).for_each(|(d, v)| *d = *v),
                    }
                }
            }
        }
    }
}

/// `a · b + c`, fused where that is one instruction.
#[inline(always)]
fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Adds the taps of one source map to all positions of `acc` (rows of `width`), [`WIDE`] vectors at a time.
///
/// # Safety
/// `acc` has `rows` rows of `width` values with [`SLACK`] after each; `src` is laid out as `offsets` (one a tap) and
/// `row_step` say.
#[inline(always)]
unsafe fn gather_rows<const FUSED: bool>(
    src: *const f32,
    row_step: usize,
    offsets: &[usize],
    weights: &[f32],
    acc: *mut f32,
    rows: usize,
    width: usize,
) {
    let stride = width.div_ceil(SLACK) * SLACK;
    for y in 0..rows {
        for x in (0..width).step_by(SLACK) {
            // SAFETY: the caller's promise; reads past the row's last position stay in its slack.
            unsafe {
                let to = acc.add(y * stride + x);
                let mut sum = [[0f32; 8]; WIDE];
                for u in 0..WIDE {
                    for l in 0..8 {
                        sum[u][l] = *to.add(8 * u + l);
                    }
                }
                for (&offset, &w) in offsets.iter().zip(weights) {
                    let from = src.add(y * row_step + offset + x);
                    for u in 0..WIDE {
                        for l in 0..8 {
                            sum[u][l] = fma::<FUSED>(w, *from.add(8 * u + l), sum[u][l]);
                        }
                    }
                }
                for u in 0..WIDE {
                    for l in 0..8 {
                        *to.add(8 * u + l) = sum[u][l];
                    }
                }
            }
        }
    }
}

/// The sums over all positions of `dy` (laid out like `acc` above, zeros in the slack) times each tap, added to `dw`.
///
/// # Safety
/// As [`gather_rows`]; at most [`TAPS`] offsets.
#[inline(always)]
unsafe fn tap_sums<const FUSED: bool>(
    src: *const f32,
    row_step: usize,
    offsets: &[usize],
    dy: *const f32,
    rows: usize,
    width: usize,
    dw: &mut [f64],
) {
    let stride = width.div_ceil(SLACK) * SLACK;
    let mut all = [0usize; TAPS];
    all[..offsets.len()].copy_from_slice(offsets);
    let mut sum = [[0f32; 8]; TAPS];
    for y in 0..rows {
        for x in (0..width).step_by(8) {
            // SAFETY: the caller's promise; unused taps read the first place again.
            unsafe {
                let d = dy.add(y * stride + x);
                let from = src.add(y * row_step + x);
                for t in 0..TAPS {
                    for l in 0..8 {
                        sum[t][l] = fma::<FUSED>(*d.add(l), *from.add(all[t] + l), sum[t][l]);
                    }
                }
            }
        }
    }
    for (d, s) in dw.iter_mut().zip(sum) {
        *d += s.iter().sum::<f32>() as f64;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn gather_rows_avx2(
    src: *const f32,
    row_step: usize,
    offsets: &[usize],
    weights: &[f32],
    acc: *mut f32,
    rows: usize,
    width: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { gather_rows::<true>(src, row_step, offsets, weights, acc, rows, width) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn tap_sums_avx2(
    src: *const f32,
    row_step: usize,
    offsets: &[usize],
    dy: *const f32,
    rows: usize,
    width: usize,
    dw: &mut [f64],
) {
    // SAFETY: the caller's promise.
    unsafe { tap_sums::<true>(src, row_step, offsets, dy, rows, width, dw) }
}

/// One gather made ready: its taps' places in the layout, and where its positions' sums start.
struct Pass<'a> {
    gather: &'a Gather,
    taps: &'a [usize],
    offsets: Vec<usize>,
    stride: usize,
    start: usize,
}

/// Runs gathers that share everything but taps and grid. Result channel `r` of a group sums over its `k` source channels;
/// `weight(source channel of all, result channel of all)` is a kernel, of which each gather comes with its taps.
fn run<'a>(
    gathers: &[(Gather, Vec<usize>)],
    src: &[f32],
    weight: impl Fn(usize, usize) -> &'a [f32] + Sync,
    out: &Out,
    finish: &Finish,
) {
    let Some((g, _)) = gathers.first() else { return };
    let layout = Layout::new(gathers);
    let (k_all, m_all) = (g.groups * g.k, g.groups * g.m);
    let (src_area, dst_area) = (g.src[0] * g.src[1], g.dst[0] * g.dst[1]);
    assert_eq!(src.len(), g.images * k_all * src_area);
    let mut len = 0;
    let passes: Vec<Pass> = gathers
        .iter()
        .map(|(gather, taps)| {
            let offsets = gather.taps.iter().map(|&t| layout.at(t)).collect();
            let (start, stride) = (len, gather.grid[1].div_ceil(SLACK) * SLACK);
            len += gather.grid[0] * stride;
            Pass { gather, taps, offsets, stride, start }
        })
        .collect();
    (0..g.images * g.groups).into_par_iter().for_each(|task| {
        let (image, group) = (task / g.groups, task % g.groups);
        with_scratch(layout.len() + len, |scratch| {
            let (map, acc) = scratch.split_at_mut(layout.len());
            let mut laid = usize::MAX;
            for channel in group * g.m..(group + 1) * g.m {
                acc.fill(finish.bias.map_or(0.0, |b| b[channel]));
                for source in group * g.k..(group + 1) * g.k {
                    if laid != source {
                        layout.fill(&src[(image * k_all + source) * src_area..][..src_area], map);
                        laid = source;
                    }
                    let all = weight(source, channel);
                    for pass in &passes {
                        let weights: Vec<f32> = pass.taps.iter().map(|&t| all[t]).collect();
                        let (p, row_step) = (map.as_ptr(), layout.row() * g.step[0]);
                        let ([rows, width], sums) = (pass.gather.grid, acc[pass.start..].as_mut_ptr());
                        // SAFETY: laid out above: every row of the grid, tap and slack is inside; AVX2 was asked for.
                        unsafe {
                            #[cfg(target_arch = "x86_64")]
                            if has_avx2() {
                                gather_rows_avx2(p, row_step, &pass.offsets, &weights, sums, rows, width);
                                continue;
                            }
                            gather_rows::<false>(p, row_step, &pass.offsets, &weights, sums, rows, width);
                        }
                    }
                }
                let base = (image * m_all + channel) * dst_area;
                if finish.residual.is_some() || finish.act != Default::default() {
                    for pass in &passes {
                        pass.finish(acc, base, finish);
                    }
                }
                // SAFETY: this channel of this image is this task's alone.
                unsafe { store(&passes, acc, out.ptr().add(base)) };
            }
        });
    });
}

impl Pass<'_> {
    fn finish(&self, acc: &mut [f32], base: usize, finish: &Finish) {
        let g = self.gather;
        for y in 0..g.grid[0] {
            let at = base + (g.origin[0] + y * g.spread[0]) * g.dst[1] + g.origin[1];
            for (x, v) in acc[self.start + y * self.stride..][..g.grid[1]].iter_mut().enumerate() {
                *v = finish.act.apply(*v + finish.residual.map_or(0.0, |r| r[at + x * g.spread[1]]));
            }
        }
    }
}

/// Stores the sums of all passes into the map at `to`; two passes that take turns along a row are stored together.
///
/// # Safety
/// The gathers' result maps are at `to`, and nobody else writes them.
unsafe fn store(passes: &[Pass], acc: &[f32], to: *mut f32) {
    let row = |p: &Pass, y: usize| {
        let g = p.gather;
        let at = (g.origin[0] + y * g.spread[0]) * g.dst[1] + g.origin[1];
        (at, p.start + y * p.stride)
    };
    let mut i = 0;
    while i < passes.len() {
        let (p, next) = (&passes[i], passes.get(i + 1));
        let [rows, width] = p.gather.grid;
        let pair = next.filter(|q| {
            let (a, b) = (p.gather.origin, q.gather.origin);
            p.gather.spread[1] == 2 && a[0] == b[0] && (a[1], b[1]) == (0, 1)
        });
        for y in 0..rows {
            let (at, from) = row(p, y);
            let a = &acc[from..][..width];
            // SAFETY: row y of this pass (and of the next) is inside the map.
            unsafe {
                if let Some(q) = pair {
                    let n = q.gather.grid[1];
                    let b = &acc[row(q, y).1..][..n];
                    let both = std::slice::from_raw_parts_mut(to.add(at), width + n);
                    both.chunks_exact_mut(2).zip(a).zip(b).for_each(|((d, &a), &b)| (d[0], d[1]) = (a, b));
                    if width > n {
                        both[2 * n] = a[n];
                    }
                } else if p.gather.spread[1] == 1 {
                    std::ptr::copy_nonoverlapping(a.as_ptr(), to.add(at), width);
                } else {
                    a.iter().enumerate().for_each(|(x, v)| *to.add(at + x * p.gather.spread[1]) = *v);
                }
            }
        }
        i += if pair.is_some() { 2 } else { 1 };
    }
}

/// `y`, every value written.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32], finish: &Finish) -> Vec<f32> {
    let (kk, out) = (g.taps(), Out::new(g.images * g.channels_out * g.output_area()));
    let gather = [(Gather::forward(g), (0..kk).collect())];
    run(&gather, x, |_, o| &w[o * kk..][..kk], &out, finish);
    // SAFETY: the gather's grid is the whole output.
    unsafe { out.into_vec() }
}

/// `dx`.
pub(super) fn dgrad(g: &Geometry, dy: &[f32], w: &[f32], finish: &Finish) -> Vec<f32> {
    let (kk, out) = (g.taps(), Out::new(g.images * g.channels_in * g.input_area()));
    let phases = Gather::backward(g);
    if phases.len() < g.stride[0].min(g.input[0]) * g.stride[1].min(g.input[1]) {
        finish.clear(&out, g.channels_in, g.input_area());
    }
    run(&phases, dy, |o, _| &w[o * kk..][..kk], &out, finish);
    // SAFETY: the phases' grids together are the whole input, or it was cleared.
    unsafe { out.into_vec() }
}

/// `dw`; the maps' sums are added in f64.
pub(super) fn wgrad(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (px, area, kk, m) = (g.output_area(), g.input_area(), g.taps(), g.group_out());
    assert_eq!((x.len(), dy.len()), (g.images * g.channels_in * area, g.images * g.channels_out * px));
    let gather = [(Gather::forward(g), Vec::new())];
    let layout = Layout::new(&gather);
    let offsets: Vec<usize> = gather[0].0.taps.iter().map(|&t| layout.at(t)).collect();
    let [rows, width] = g.output;
    let stride = width.div_ceil(SLACK) * SLACK;
    let mut dw = vec![0f32; g.channels_out * kk];
    dw.par_chunks_mut(m * kk).enumerate().for_each(|(c, dw)| {
        let mut sum = vec![0f64; m * kk];
        with_scratch(layout.len() + rows * stride, |scratch| {
            let (map, grad) = scratch.split_at_mut(layout.len());
            grad.fill(0.0);
            for n in 0..g.images {
                layout.fill(&x[(n * g.channels_in + c) * area..][..area], map);
                for r in 0..m {
                    let dy = &dy[(n * g.channels_out + c * m + r) * px..][..px];
                    for (row, dy) in grad.chunks_exact_mut(stride).zip(dy.chunks_exact(width)) {
                        row[..width].copy_from_slice(dy);
                    }
                    let sums = sum[r * kk..][..kk].chunks_mut(TAPS);
                    for (offsets, sums) in offsets.chunks(TAPS).zip(sums) {
                        let (p, d, step) = (map.as_ptr(), grad.as_ptr(), layout.row() * g.stride[0]);
                        // SAFETY: laid out above; AVX2 was asked for.
                        unsafe {
                            #[cfg(target_arch = "x86_64")]
                            if has_avx2() {
                                tap_sums_avx2(p, step, offsets, d, rows, width, sums);
                                continue;
                            }
                            tap_sums::<false>(p, step, offsets, d, rows, width, sums);
                        }
                    }
                }
            }
        });
        dw.iter_mut().zip(sum).for_each(|(d, s)| *d = s as f32);
    });
    dw
}
