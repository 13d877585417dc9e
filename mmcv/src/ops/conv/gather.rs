//! The implicit GEMM: `out[m][position] = Σ over (channel, tap) of a[m][channel, tap] · src[channel][position · step + tap]`.

use std::mem::MaybeUninit;
use std::ops::Deref;

use rayon::prelude::*;

use super::geometry::{Geometry, inside};
use crate::ops::gemm::{Act, Epilogue, Kernel, MAX_MR, MAX_NR, Out, has_avx2, kernel, transpose_panel, with_scratch};

/// Columns of a task; an odd number of cache lines, so that the rows of a block fall on different cache sets.
const COLUMNS: usize = 144;
/// Rows of `b` (channels times taps) of a block: 256 rows of a 16-column panel fill half of the first-level cache.
const DEPTH: usize = 256;
/// Channels that are fetched ahead.
pub(super) const AHEAD: usize = 4;
/// Panels of `a` that stay in the second-level cache while the panels of `b` pass.
const A_PANELS: usize = 32;

/// A gather and where its results go.
#[derive(Debug, Clone)]
pub(super) struct Gather {
    pub images: usize,
    pub groups: usize,
    /// Source channels of a group.
    pub k: usize,
    /// Result channels of a group.
    pub m: usize,
    /// Height and width of a source map.
    pub src: [usize; 2],
    /// Rows and columns of positions.
    pub grid: [usize; 2],
    /// Source step between neighbouring positions.
    pub step: [usize; 2],
    /// Source offset of each tap.
    pub taps: Vec<[isize; 2]>,
    /// Height and width of a result map.
    pub dst: [usize; 2],
    /// Result of position (0, 0), and the result step between neighbouring positions.
    pub origin: [usize; 2],
    pub spread: [usize; 2],
}

/// Weights as the kernel reads them: `[group][panel of mr rows][channel, tap][mr]`, the last panel filled with zeros.
#[derive(Debug, Clone)]
pub(super) struct PackedA<T> {
    data: T,
    panels: usize,
    depth: usize,
    kern: Kernel,
}

impl PackedA<Vec<f32>> {
    /// The forward pass's: rows are output channels, as they lie in `w`.
    pub fn forward(g: &Geometry, w: &[f32]) -> Self {
        let (depth, kern) = (g.group_in() * g.taps(), kernel());
        let panels = g.group_out().div_ceil(kern.mr);
        let mut data = vec![0.0; g.groups * panels * depth * kern.mr];
        pack_forward(g, w, kern, &mut data);
        Self { data, panels, depth, kern }
    }
}

impl PackedA<()> {
    /// [`PackedA::forward`] in scratch memory, for one use.
    pub fn with_forward<R>(g: &Geometry, w: &[f32], f: impl FnOnce(&PackedA<&mut [f32]>) -> R) -> R {
        let (depth, kern) = (g.group_in() * g.taps(), kernel());
        let panels = g.group_out().div_ceil(kern.mr);
        with_scratch(g.groups * panels * depth * kern.mr, |data| {
            pack_forward(g, w, kern, data);
            f(&PackedA { data, panels, depth, kern })
        })
    }

    /// The data gradient's: rows are input channels, the inner dimension is (output channel, one of `taps`).
    pub fn with_transposed<R>(g: &Geometry, w: &[f32], taps: &[usize], f: impl FnOnce(&PackedA<&mut [f32]>) -> R) -> R {
        let (depth, kern) = (g.group_out() * taps.len(), kernel());
        let panels = g.group_in().div_ceil(kern.mr);
        with_scratch(g.groups * panels * depth * kern.mr, |data| {
            pack_transposed(g, w, taps, kern, data);
            f(&PackedA { data, panels, depth, kern })
        })
    }
}

impl<T: Deref<Target = [f32]>> PackedA<T> {
    fn panel(&self, group: usize, panel: usize, row: usize) -> *const f32 {
        self.data[((group * self.panels + panel) * self.depth + row) * self.kern.mr..].as_ptr()
    }
}

fn pack_forward(g: &Geometry, w: &[f32], kern: Kernel, data: &mut [f32]) {
    let (m, depth) = (g.group_out(), g.group_in() * g.taps());
    let (len, panels) = (depth * kern.mr, m.div_ceil(kern.mr));
    assert_eq!(w.len(), g.channels_out * depth);
    data.par_chunks_exact_mut(len).enumerate().for_each(|(i, panel)| {
        let (group, first) = (i / panels, i % panels * kern.mr);
        let rows = (m - first).min(kern.mr);
        // SAFETY: `rows` rows of `depth` weights start there; the panel has depth·mr places.
        unsafe {
            let from = w.as_ptr().add((group * m + first) * depth);
            transpose_panel(from, depth, rows, depth, panel.as_mut_ptr(), kern.mr);
        }
    });
}

fn pack_transposed(g: &Geometry, w: &[f32], taps: &[usize], kern: Kernel, data: &mut [f32]) {
    let (m, k, kk) = (g.group_in(), g.group_out(), g.taps());
    let (len, panels) = (k * taps.len() * kern.mr, m.div_ceil(kern.mr));
    assert_eq!(w.len(), g.channels_out * m * kk);
    data.par_chunks_exact_mut(len).enumerate().for_each(|(i, panel)| {
        let (group, first) = (i / panels, i % panels * kern.mr);
        let rows = (m - first).min(kern.mr);
        let mut places = panel.chunks_exact_mut(kern.mr);
        for o in 0..k {
            let row = &w[((group * k + o) * m + first) * kk..][..rows * kk];
            for (&t, place) in taps.iter().zip(&mut places) {
                for (r, p) in place.iter_mut().enumerate() {
                    *p = if r < rows { row[r * kk + t] } else { 0.0 };
                }
            }
        }
    });
}

/// What finishes the result: added to it (`bias` a channel, `residual` in its shape), then the activation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Finish<'a> {
    pub bias: Option<&'a [f32]>,
    pub residual: Option<&'a [f32]>,
    pub act: Act,
}

impl Finish<'_> {
    /// Sets all of `out`, maps of `area` values of `channels` channels, to what it is where nothing is added up: the
    /// bias, through the activation. There must be no residual.
    pub fn clear(&self, out: &Out, channels: usize, area: usize) {
        assert!(self.residual.is_none());
        let rest = self.act.apply(0.0);
        match self.bias {
            Some(bias) => out.fill_with(area, |map| self.act.apply(bias[map % channels])),
            None => out.fill_with(area, |_| rest),
        }
    }
}

/// Neighbouring positions of one source row: `lead` zeros, `len` values from `src` on, `trail` zeros.
#[derive(Debug, Clone, Copy)]
struct Run {
    lead: u32,
    len: u32,
    trail: u32,
    src: usize,
}

/// How the positions `n0..n1` read the source: for each tap the runs that make up a row of `b`, relative to a channel.
pub(super) struct Rows {
    runs: Vec<Run>,
    per_tap: usize,
    step: usize,
    /// Zeros that fill a row up to whole panels.
    fill: usize,
}

impl Rows {
    /// `channels` is the number of channels of the whole source tensor.
    pub fn new(
        (n0, n1): (usize, usize),
        width: usize,
        grid: [usize; 2],
        src: [usize; 2],
        step: [usize; 2],
        channels: usize,
        taps: &[[isize; 2]],
    ) -> Self {
        let (px, area) = (grid[0] * grid[1], src[0] * src[1]);
        let mut segments = Vec::new();
        let mut n = n0;
        while n < n1 {
            let (image, q) = (n / px, n % px);
            let (y, x) = (q / grid[1], q % grid[1]);
            let len = (grid[1] - x).min(n1 - n);
            segments.push((image, y, x, len));
            n += len;
        }
        let mut runs = Vec::with_capacity(taps.len() * segments.len());
        for &[oy, ox] in taps {
            let (ylo, yhi) = inside(oy, step[0], src[0], grid[0]);
            let (xlo, xhi) = inside(ox, step[1], src[1], grid[1]);
            for &(image, y, x, len) in &segments {
                let (lo, hi) = (xlo.max(x), xhi.min(x + len));
                runs.push(if y < ylo || y >= yhi || lo >= hi {
                    Run { lead: len as u32, len: 0, trail: 0, src: 0 }
                } else {
                    let iy = (y * step[0]) as isize + oy;
                    let ix = (lo * step[1]) as isize + ox;
                    Run {
                        lead: (lo - x) as u32,
                        len: (hi - lo) as u32,
                        trail: (x + len - hi) as u32,
                        src: image * channels * area + iy as usize * src[1] + ix as usize,
                    }
                });
            }
        }
        Self { runs, per_tap: segments.len(), step: step[1], fill: width - (n1 - n0) }
    }

    /// Writes one row of `width` values: tap `tap` of the channel at `src`.
    ///
    /// # Safety
    /// `src` is the start of that channel in image 0 of the tensor that the runs were made for; `dst` has `width` places.
    pub unsafe fn write(&self, tap: usize, src: *const f32, dst: *mut f32) {
        #[cfg(target_arch = "x86_64")]
        if has_avx2() {
            // SAFETY: the caller's promise; the features were asked for.
            return unsafe { self.write_avx2(tap, src, dst) };
        }
        // SAFETY: the caller's promise.
        unsafe { self.write_any(tap, src, dst) };
    }

    /// Asks for the lines that [`Rows::write`] will read of the channel at `src`: rows are too short for the processor to
    /// see the next channel coming.
    #[inline(always)]
    pub fn prefetch(&self, tap: usize, src: *const f32) {
        #[cfg(target_arch = "x86_64")]
        for run in &self.runs[tap * self.per_tap..(tap + 1) * self.per_tap] {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            for i in (0..run.len as usize * self.step).step_by(16) {
                // SAFETY: a prefetch reads nothing, whatever the address.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(src.wrapping_add(run.src + i).cast()) };
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn write_avx2(&self, tap: usize, src: *const f32, dst: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { self.write_any(tap, src, dst) };
    }

    #[inline(always)]
    unsafe fn write_any(&self, tap: usize, src: *const f32, mut dst: *mut f32) {
        for run in &self.runs[tap * self.per_tap..(tap + 1) * self.per_tap] {
            let (lead, len, trail) = (run.lead as usize, run.len as usize, run.trail as usize);
            // SAFETY: runs stay inside the source map, and together are as long as the row.
            unsafe {
                zero(dst, lead);
                dst = dst.add(lead);
                copy(dst, src.add(run.src), len, self.step);
                dst = dst.add(len);
                zero(dst, trail);
                dst = dst.add(trail);
            }
        }
        // SAFETY: the rest of the row.
        unsafe { zero(dst, self.fill) };
    }
}

#[inline(always)]
unsafe fn zero(dst: *mut f32, len: usize) {
    if len > 8 {
        // SAFETY: the caller's promise; zero bytes are the number 0.
        unsafe { dst.write_bytes(0, len) };
        return;
    }
    for i in 0..len {
        // SAFETY: the caller's promise.
        unsafe { *dst.add(i) = 0.0 };
    }
}

/// Short rows are what there is most of, so lengths known to the compiler instead of a call: eights, then the last
/// eight or four once more from the end.
#[inline(always)]
unsafe fn copy(dst: *mut f32, src: *const f32, len: usize, step: usize) {
    // SAFETY: the caller's promise: `len` values `step` apart are there.
    unsafe {
        match step {
            1 if len >= 8 => {
                let mut i = 0;
                while i + 8 <= len {
                    std::ptr::copy_nonoverlapping(src.add(i), dst.add(i), 8);
                    i += 8;
                }
                std::ptr::copy_nonoverlapping(src.add(len - 8), dst.add(len - 8), 8);
            }
            1 if len >= 4 => {
                std::ptr::copy_nonoverlapping(src, dst, 4);
                std::ptr::copy_nonoverlapping(src.add(len - 4), dst.add(len - 4), 4);
            }
            1 => {
                for i in 0..len {
                    *dst.add(i) = *src.add(i);
                }
            }
            2 => {
                for i in 0..len {
                    *dst.add(i) = *src.add(2 * i);
                }
            }
            _ => {
                for i in 0..len {
                    *dst.add(i) = *src.add(step * i);
                }
            }
        }
    }
}

impl Gather {
    /// The forward pass of `g`.
    pub fn forward(g: &Geometry) -> Self {
        let mut taps = Vec::with_capacity(g.taps());
        for i in 0..g.kernel[0] {
            for j in 0..g.kernel[1] {
                taps.push([
                    (i * g.dilation[0]) as isize - g.padding[0] as isize,
                    (j * g.dilation[1]) as isize - g.padding[1] as isize,
                ]);
            }
        }
        Self {
            images: g.images,
            groups: g.groups,
            k: g.group_in(),
            m: g.group_out(),
            src: g.input,
            grid: g.output,
            step: g.stride,
            taps,
            dst: g.output,
            origin: [0, 0],
            spread: [1, 1],
        }
    }

    /// The data gradient of `g`: one gather for each phase of the stride, with the kernel's taps that reach the phase.
    /// Phases that no tap reaches are left out; their gradient is zero.
    pub fn backward(g: &Geometry) -> Vec<(Self, Vec<usize>)> {
        let axis_taps = |axis: usize, phase: usize| -> Vec<(usize, isize)> {
            let s = g.stride[axis] as isize;
            (0..g.kernel[axis])
                .filter_map(|k| {
                    let at = (phase + g.padding[axis]) as isize - (k * g.dilation[axis]) as isize;
                    (at.rem_euclid(s) == 0).then(|| (k, at.div_euclid(s)))
                })
                .collect()
        };
        let mut all = Vec::new();
        for py in 0..g.stride[0].min(g.input[0]) {
            for px in 0..g.stride[1].min(g.input[1]) {
                let (ty, tx) = (axis_taps(0, py), axis_taps(1, px));
                let (mut taps, mut index) = (Vec::new(), Vec::new());
                for &(i, oy) in &ty {
                    for &(j, ox) in &tx {
                        taps.push([oy, ox]);
                        index.push(i * g.kernel[1] + j);
                    }
                }
                if taps.is_empty() {
                    continue;
                }
                let gather = Self {
                    images: g.images,
                    groups: g.groups,
                    k: g.group_out(),
                    m: g.group_in(),
                    src: g.output,
                    grid: [(g.input[0] - py).div_ceil(g.stride[0]), (g.input[1] - px).div_ceil(g.stride[1])],
                    step: [1, 1],
                    taps,
                    dst: g.input,
                    origin: [py, px],
                    spread: g.stride,
                };
                all.push((gather, index));
            }
        }
        all
    }

    /// Runs it: writes every position of `out`, which is `[images, groups · m, dst]`.
    pub fn run<T: Deref<Target = [f32]> + Sync>(&self, src: &[f32], a: &PackedA<T>, out: &Out, finish: &Finish) {
        let (kern, kk) = (a.kern, self.taps.len());
        let (mr, nr) = (kern.mr, kern.nr);
        let px = self.grid[0] * self.grid[1];
        let total = self.images * px;
        let (k_all, m_all) = (self.groups * self.k, self.groups * self.m);
        assert_eq!(src.len(), self.images * k_all * self.src[0] * self.src[1]);
        assert_eq!(a.depth, self.k * kk);
        assert!(kk > 0);
        if total == 0 || m_all == 0 {
            return;
        }
        // Where results are scattered, blocks twice as deep save half of the scattering.
        let depth = if self.spread == [1, 1] { DEPTH } else { 2 * DEPTH };
        let channels = (depth / kk).clamp(1, self.k);
        // Balanced blocks of channels.
        let channels = self.k.div_ceil(self.k.div_ceil(channels));

        // Enough tasks for every thread: blocks of rows first, as their weights are then read once, then narrower blocks
        // of columns.
        let wanted = 4 * rayon::current_num_threads();
        let mut col_blocks = total.div_ceil((COLUMNS / nr).max(1) * nr);
        let row_blocks = wanted.div_ceil(self.groups * col_blocks).clamp(1, (a.panels / 16).max(1));
        let panels = a.panels.div_ceil(row_blocks);
        let row_blocks = a.panels.div_ceil(panels);
        col_blocks = col_blocks.max((wanted / (self.groups * row_blocks)).min(total.div_ceil(3 * nr)));
        let columns = total.div_ceil(col_blocks).div_ceil(nr) * nr;
        let col_blocks = total.div_ceil(columns);

        (0..self.groups * col_blocks * row_blocks).into_par_iter().for_each(|task| {
            let (block, rb) = (task / row_blocks, task % row_blocks);
            let (group, cb) = (block / col_blocks, block % col_blocks);
            let (n0, n1) = (cb * columns, ((cb + 1) * columns).min(total));
            let width = (n1 - n0).div_ceil(nr) * nr;
            let rows = Rows::new((n0, n1), width, self.grid, self.src, self.step, k_all, &self.taps);
            let (p0, p1) = (rb * panels, ((rb + 1) * panels).min(a.panels));
            with_scratch(channels * kk * columns, |b| {
                let mut c0 = 0;
                loop {
                    let c1 = (c0 + channels).min(self.k);
                    for c in c0..c1 {
                        let area = self.src[0] * self.src[1];
                        let plane = src[(group * self.k + c) * area..].as_ptr();
                        rows.prefetch(kk / 2, plane.wrapping_add(AHEAD * area));
                        for t in 0..kk {
                            let at = ((c - c0) * kk + t) * columns;
                            // SAFETY: the channel's plane of image 0; a row of `width <= columns` places.
                            unsafe { rows.write(t, plane, b[at..].as_mut_ptr()) };
                        }
                    }
                    let (depth, last) = ((c1 - c0) * kk, c1 == self.k);
                    let mut pa = p0;
                    while pa < p1 {
                        let pb = (pa + A_PANELS).min(p1);
                        for j in (0..n1 - n0).step_by(nr) {
                            let tile = Tile::new(self, n0 + j, (n1 - n0 - j).min(nr));
                            for panel in pa..pb {
                                let channel = group * self.m + panel * mr;
                                let rows = (self.m - panel * mr).min(mr);
                                // SAFETY: panels, block and result have the sizes checked above, and no other task
                                // writes these channels at these positions.
                                unsafe {
                                    let ap = a.panel(group, panel, c0 * kk);
                                    let bp = b.as_ptr().add(j);
                                    tile.compute(
                                        kern,
                                        depth,
                                        ap,
                                        bp,
                                        columns,
                                        out,
                                        channel,
                                        rows,
                                        c0 > 0,
                                        last,
                                        finish,
                                    );
                                }
                            }
                        }
                        pa = pb;
                    }
                    if last {
                        break;
                    }
                    c0 = c1;
                }
            });
        });
    }
}

/// Where the columns of one tile go.
struct Tile {
    /// Pieces of neighbouring columns: first column, count, place in channel 0 of the result.
    pieces: [(u32, u32, usize); MAX_NR],
    count: usize,
    cols: usize,
    /// Values between two channels of the result.
    area: usize,
    step: usize,
}

impl Tile {
    fn new(g: &Gather, n: usize, cols: usize) -> Self {
        let area = g.dst[0] * g.dst[1];
        let (px, m_all) = (g.grid[0] * g.grid[1], g.groups * g.m);
        let dense = g.spread == [1, 1] && g.grid == g.dst;
        let mut tile = Self { pieces: [(0, 0, 0); MAX_NR], count: 0, cols, area, step: g.spread[1] };
        let mut j = 0;
        while j < cols {
            let (image, q) = ((n + j) / px, (n + j) % px);
            let base = image * m_all * area;
            let (len, at) = if dense {
                (px - q, base + q)
            } else {
                let (y, x) = (q / g.grid[1], q % g.grid[1]);
                let row = (g.origin[0] + y * g.spread[0]) * g.dst[1];
                (g.grid[1] - x, base + row + g.origin[1] + x * g.spread[1])
            };
            let len = len.min(cols - j);
            tile.pieces[tile.count] = (j as u32, len as u32, at);
            tile.count += 1;
            j += len;
        }
        tile
    }

    /// One tile of `rows` channels from `channel` on: straight into the result if its columns are neighbours there.
    ///
    /// # Safety
    /// As the micro-kernel's for `a` and `b`; the result has these channels, and nobody else writes these places.
    unsafe fn compute(
        &self,
        kern: Kernel,
        depth: usize,
        a: *const f32,
        b: *const f32,
        ldb: usize,
        out: &Out,
        channel: usize,
        rows: usize,
        accumulate: bool,
        last: bool,
        finish: &Finish,
    ) {
        let bias = finish.bias.filter(|_| last).map_or(std::ptr::null(), |b| b[channel..].as_ptr());
        let residual = finish.residual.filter(|_| last);
        let act = if last { finish.act } else { Act::None };
        if self.count == 1 && self.cols == kern.nr && self.step == 1 {
            let at = self.pieces[0].2 + channel * self.area;
            let residual = residual.map_or(std::ptr::null(), |r| r[at..].as_ptr());
            let epi = Epilogue { bias, residual, act };
            // SAFETY: the caller's promise.
            unsafe { (kern.micro)(depth, a, b, ldb, out.ptr().add(at), self.area, rows, accumulate, &epi) };
            return;
        }
        let mut tmp = [MaybeUninit::<f32>::uninit(); MAX_MR * MAX_NR];
        // SAFETY: a tile fits into `tmp`, of which `rows` rows are written; the rest is the caller's promise.
        unsafe {
            let t = tmp.as_mut_ptr().cast();
            (kern.micro)(depth, a, b, ldb, t, kern.nr, rows, false, &Epilogue { bias, ..Epilogue::NONE });
        }
        let plain = residual.is_none() && act == Act::None;
        for r in 0..rows {
            for &(j, len, at) in &self.pieces[..self.count] {
                let (at, len) = (at + (channel + r) * self.area, len as usize);
                // SAFETY: written by the micro-kernel; places of this tile in the result, which the earlier blocks wrote
                // if there were any.
                unsafe {
                    let from: *const f32 = tmp.as_ptr().add(r * kern.nr + j as usize).cast();
                    let to = out.ptr().add(at);
                    match (plain, accumulate) {
                        (true, false) => (0..len).for_each(|i| *to.add(i * self.step) = *from.add(i)),
                        (true, true) => (0..len).for_each(|i| *to.add(i * self.step) += *from.add(i)),
                        (false, _) => {
                            for i in 0..len {
                                let (p, res) = (to.add(i * self.step), residual.map_or(0.0, |r| r[at + i * self.step]));
                                let sum = *from.add(i) + if accumulate { *p } else { 0.0 } + res;
                                *p = act.apply(sum);
                            }
                        }
                    }
                }
            }
        }
    }
}
