//! 3x3 convolution of stride 1 by Winograd's minimal filtering F(4x4, 3x3): 36 products where direct sums take 144.
//!
//! Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016 (<https://arxiv.org/abs/1509.09308>), at
//! the points 0, 1, -1, 2, -2. Rounding errors are about 2e-5 of the largest output instead of 1e-6; with `MMCV_EXACT=1`
//! in the environment it is never used.

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::exact::is_exact;
use super::gather::Finish;
use super::geometry::Geometry;
use crate::ops::gemm::{
    Act, Epilogue, Kernel, Out, Shared, activate_avx2, has_avx2, kernel, transpose_panel, with_scratch,
};

/// Outputs of a tile along each axis, and inputs.
pub(super) const TILE: usize = 4;
pub(super) const PATCH: usize = 6;
/// Products of a tile.
pub(super) const POINTS: usize = PATCH * PATCH;

pub(super) const G: [[f32; 3]; 6] = [
    [0.25, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// Whether it may be used at all: AVX2 is there and exactness was not asked for.
pub(super) fn allowed() -> bool {
    has_avx2() && !is_exact()
}

/// The sizes of one pass: the forward convolution, or its data gradient, which is a convolution too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub images: usize,
    /// Source channels.
    pub k: usize,
    /// Result channels.
    pub m: usize,
    /// Height and width of a source map.
    pub src: [usize; 2],
    /// Height and width of a result map.
    pub dst: [usize; 2],
    pub padding: [usize; 2],
}

impl Plan {
    fn fits(g: &Geometry) -> bool {
        g.kernel == [3, 3]
            && g.stride == [1, 1]
            && g.dilation == [1, 1]
            && g.groups == 1
            && g.padding[0] <= 2
            && g.padding[1] <= 2
    }

    /// The forward pass, if it can be done this way.
    pub fn forward(g: &Geometry) -> Option<Self> {
        Self::fits(g).then_some(Self {
            images: g.images,
            k: g.channels_in,
            m: g.channels_out,
            src: g.input,
            dst: g.output,
            padding: g.padding,
        })
    }

    /// The data gradient, if it can be done this way.
    pub fn backward(g: &Geometry) -> Option<Self> {
        Self::fits(g).then_some(Self {
            images: g.images,
            k: g.channels_out,
            m: g.channels_in,
            src: g.output,
            dst: g.input,
            padding: [2 - g.padding[0], 2 - g.padding[1]],
        })
    }

    pub fn tiles(&self) -> usize {
        self.images * self.dst[0].div_ceil(TILE) * self.dst[1].div_ceil(TILE)
    }

    /// Whether it is the faster way, by measurement.
    pub fn pays(&self) -> bool {
        if self.k < 16 || self.m < 16 {
            return false;
        }
        let tiles = self.tiles();
        let waste = (tiles * TILE * TILE) as f64 / (self.images * self.dst[0] * self.dst[1]).max(1) as f64;
        tiles >= 16 && waste < 2.5
    }
}

/// Transformed weights: `[point][panel of mr rows][channel][mr]`.
#[derive(Debug, Clone)]
pub(super) struct PackedU<T> {
    data: T,
    kern: Kernel,
}

impl PackedU<Vec<f32>> {
    /// Of `w` `[m, k, 3, 3]`, or with `transposed` of `w` `[k, m, 3, 3]` turned by half a turn (the data gradient's).
    pub fn new(m: usize, k: usize, w: &[f32], transposed: bool) -> Self {
        let kern = kernel();
        let mut data = vec![0.0; packed_len(m, k, kern)];
        pack(m, k, w, transposed, kern, &mut data);
        Self { data, kern }
    }
}

impl PackedU<()> {
    /// [`PackedU::new`] in scratch memory, for one use.
    pub fn with<R>(m: usize, k: usize, w: &[f32], transposed: bool, f: impl FnOnce(&PackedU<&mut [f32]>) -> R) -> R {
        let kern = kernel();
        with_scratch(packed_len(m, k, kern), |data| {
            pack(m, k, w, transposed, kern, data);
            f(&PackedU { data, kern })
        })
    }
}

/// Distance between two points; the odd line keeps points on different cache sets.
fn point_len(m: usize, k: usize, kern: Kernel) -> usize {
    m.div_ceil(kern.mr) * k * kern.mr + 16
}

fn packed_len(m: usize, k: usize, kern: Kernel) -> usize {
    POINTS * point_len(m, k, kern)
}

/// Channels whose kernels are read together.
const READ: usize = 16;

fn pack(m: usize, k: usize, w: &[f32], transposed: bool, kern: Kernel, out: &mut [f32]) {
    assert!(has_avx2() && kern.mr <= 8);
    assert_eq!((w.len(), out.len()), (m * k * 9, packed_len(m, k, kern)));
    let (mr, panels, us) = (kern.mr, m.div_ceil(kern.mr), point_len(m, k, kern));
    let out = Shared::new(out);
    (0..panels).into_par_iter().for_each(|panel| {
        let (first, rows) = (panel * mr, (m - panel * mr).min(mr));
        // Kernels as `[channel][tap][8 rows]`.
        let mut g = [0f32; READ * 9 * 8];
        for c0 in (0..k).step_by(READ) {
            let count = (k - c0).min(READ);
            // SAFETY: `rows` kernels of these channels are there, and 8 · 9 places for each channel.
            unsafe {
                if transposed {
                    for c in 0..count {
                        let from = w.as_ptr().add(((c0 + c) * m + first) * 9);
                        transpose_panel(from, 9, rows, 9, g.as_mut_ptr().add(c * 72), 8);
                    }
                } else {
                    let from = w.as_ptr().add((first * k + c0) * 9);
                    transpose_panel(from, k * 9, rows, count * 9, g.as_mut_ptr(), 8);
                }
            }
            for c in 0..count {
                // SAFETY: AVX2 is there; the place of this channel in this panel of point 0. Eight lanes may be stored
                // where another channel, written after this one, follows.
                unsafe {
                    let to = out.ptr().add((panel * k + c0 + c) * mr);
                    let lanes = if c0 + c + 1 < k { 8 } else { mr };
                    weight_transform(g.as_ptr().add(c * 72), transposed, to, us, lanes);
                }
            }
        }
    });
}

/// `G g Gᵀ` of eight kernels `[tap][8]`, turned by half a turn if `flip`; `lanes` values are stored at each of the 36
/// points, `us` apart.
///
/// # Safety
/// `g` has 72 values, `u` room for `lanes` (up to 8) at each point.
#[target_feature(enable = "avx2,fma")]
unsafe fn weight_transform(g: *const f32, flip: bool, u: *mut f32, us: usize, lanes: usize) {
    let mut half = [[_mm256_setzero_ps(); 3]; 6];
    for b in 0..3 {
        let tap = |a: usize| if flip { 8 - (a + b) } else { a + b };
        // SAFETY: eight values each.
        let col = six(unsafe { [0, 3, 6].map(|a| _mm256_loadu_ps(g.add(8 * tap(a)))) });
        for a in 0..6 {
            half[a][b] = col[a];
        }
    }
    for a in 0..6 {
        let row = six(half[a]);
        for b in 0..6 {
            // SAFETY: the caller's promise.
            unsafe {
                let to = u.add((a * 6 + b) * us);
                if lanes == 8 {
                    _mm256_storeu_ps(to, row[b]);
                } else {
                    let mut tmp = [0f32; 8];
                    _mm256_storeu_ps(tmp.as_mut_ptr(), row[b]);
                    std::ptr::copy_nonoverlapping(tmp.as_ptr(), to, lanes);
                }
            }
        }
    }
}

/// `G g`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn six(g: [__m256; 3]) -> [__m256; 6] {
    let s = |x: f32| _mm256_set1_ps(x);
    let even = _mm256_mul_ps(s(-1.0 / 6.0), _mm256_add_ps(g[0], g[2]));
    let odd = _mm256_mul_ps(s(-1.0 / 6.0), g[1]);
    let far = _mm256_fmadd_ps(s(1.0 / 24.0), g[0], _mm256_mul_ps(s(1.0 / 6.0), g[2]));
    let side = _mm256_mul_ps(s(1.0 / 12.0), g[1]);
    [
        _mm256_mul_ps(s(0.25), g[0]),
        _mm256_add_ps(even, odd),
        _mm256_sub_ps(even, odd),
        _mm256_add_ps(far, side),
        _mm256_sub_ps(far, side),
        g[2],
    ]
}

/// One tile: where its 6x6 patch lies in channel 0 of the source and how much of it is inside, and where its outputs go.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// Offset of the patch's first value that is inside the source.
    src: usize,
    /// Rows and columns `[lo, hi)` of the patch inside the source; empty for a filler.
    rows: [usize; 2],
    cols: [usize; 2],
    pub dst: usize,
    /// Outputs inside the result along each axis.
    pub keep: [usize; 2],
}

impl Place {
    pub fn new(p: &Plan, tile: usize) -> Self {
        let grid = [p.dst[0].div_ceil(TILE), p.dst[1].div_ceil(TILE)];
        let (image, q) = (tile / (grid[0] * grid[1]), tile % (grid[0] * grid[1]));
        let at = [q / grid[1] * TILE, q % grid[1] * TILE];
        let span = |axis: usize| {
            let lo = p.padding[axis].saturating_sub(at[axis]).min(PATCH);
            let hi = (p.src[axis] + p.padding[axis]).saturating_sub(at[axis]).min(PATCH);
            [lo, hi.max(lo)]
        };
        let (rows, cols) = (span(0), span(1));
        let inside = rows[1] > rows[0] && cols[1] > cols[0];
        let src =
            (at[0] + rows[0]).wrapping_sub(p.padding[0]) * p.src[1] + (at[1] + cols[0]).wrapping_sub(p.padding[1]);
        Self {
            src: if inside { image * p.k * p.src[0] * p.src[1] + src } else { 0 },
            rows: if inside { rows } else { [0, 0] },
            cols: if inside { cols } else { [0, 0] },
            dst: image * p.m * p.dst[0] * p.dst[1] + at[0] * p.dst[1] + at[1],
            keep: [(p.dst[0] - at[0]).min(TILE), (p.dst[1] - at[1]).min(TILE)],
        }
    }

    fn is_inner(&self) -> bool {
        self.rows == [0, PATCH] && self.cols == [0, PATCH]
    }
}

/// Stride of the copies of patches that reach over the border.
const COPY: usize = 8;
/// Length of one such copy.
pub(super) const COPY_LEN: usize = PATCH * COPY;

/// The patches of one channel whose `plane` starts there in image 0, with the distance of their rows. Those that reach over
/// the border are copied into `copied`, which has [`COPY_LEN`] places for each and zeros where a patch is outside.
pub(super) fn find_patches(
    plane: &[f32],
    width: usize,
    places: &[Place],
    copied: &mut [f32],
    patches: &mut [(*const f32, usize)],
) {
    let mut copies = copied.chunks_exact_mut(COPY_LEN);
    for (place, patch) in places.iter().zip(patches) {
        if place.is_inner() {
            *patch = (plane[place.src..].as_ptr(), width);
            continue;
        }
        let copy = copies.next().expect("a copy for each border tile");
        let len = place.cols[1] - place.cols[0];
        for (i, r) in (place.rows[0]..place.rows[1]).enumerate() {
            copy_few(&plane[place.src + i * width..][..len], &mut copy[r * COPY + place.cols[0]..]);
        }
        *patch = (copy.as_ptr(), COPY);
    }
}

/// Copies up to eight values without a call.
#[inline(always)]
pub(super) fn copy_few(from: &[f32], to: &mut [f32]) {
    let (n, to) = (from.len(), &mut to[..from.len()]);
    if n >= 4 {
        let (a, b): ([f32; 4], [f32; 4]) = (std::array::from_fn(|i| from[i]), std::array::from_fn(|i| from[n - 4 + i]));
        to[..4].copy_from_slice(&a);
        to[n - 4..].copy_from_slice(&b);
        return;
    }
    if n >= 1 {
        to[0] = from[0];
        to[n - 1] = from[n - 1];
    }
    if n == 3 {
        to[1] = from[1];
    }
}

/// `Bᵀ d`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn bt(d: [__m256; 6]) -> [__m256; 6] {
    let s = |x: f32| _mm256_set1_ps(x);
    let a = _mm256_fnmadd_ps(s(4.0), d[2], d[4]);
    let b = _mm256_fnmadd_ps(s(4.0), d[1], d[3]);
    let c = _mm256_sub_ps(d[4], d[2]);
    let e = _mm256_sub_ps(d[3], d[1]);
    [
        _mm256_fmadd_ps(s(4.0), d[0], _mm256_fnmadd_ps(s(5.0), d[2], d[4])),
        _mm256_add_ps(a, b),
        _mm256_sub_ps(a, b),
        _mm256_fmadd_ps(s(2.0), e, c),
        _mm256_fnmadd_ps(s(2.0), e, c),
        _mm256_fmadd_ps(s(4.0), d[1], _mm256_fnmadd_ps(s(5.0), d[3], d[5])),
    ]
}

/// `Aᵀ m`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn at(m: [__m256; 6]) -> [__m256; 4] {
    let s = |x: f32| _mm256_set1_ps(x);
    let (p, q) = (_mm256_add_ps(m[1], m[2]), _mm256_sub_ps(m[1], m[2]));
    let (r, t) = (_mm256_add_ps(m[3], m[4]), _mm256_sub_ps(m[3], m[4]));
    [
        _mm256_add_ps(_mm256_add_ps(m[0], p), r),
        _mm256_fmadd_ps(s(2.0), t, q),
        _mm256_fmadd_ps(s(4.0), r, p),
        _mm256_add_ps(_mm256_fmadd_ps(s(8.0), t, q), m[5]),
    ]
}

/// Transposes the 4x4 block of each half.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn transpose4(v: [__m256; 4]) -> [__m256; 4] {
    let (a, b) = (_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
    let (c, d) = (_mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3]));
    [
        _mm256_shuffle_ps::<0x44>(a, c),
        _mm256_shuffle_ps::<0xee>(a, c),
        _mm256_shuffle_ps::<0x44>(b, d),
        _mm256_shuffle_ps::<0xee>(b, d),
    ]
}

/// Two 128-bit loads as one vector.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn pair(lo: *const f32, hi: *const f32) -> __m256 {
    // SAFETY: the caller has four values at each.
    unsafe { _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm_loadu_ps(lo)), _mm_loadu_ps(hi)) }
}

/// Values 0 and 1 at `lo` and `hi`: `[lo0 lo1 hi0 hi1]`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn two(lo: *const f32, hi: *const f32) -> __m128 {
    // SAFETY: the caller has two values at each.
    unsafe { _mm_castpd_ps(_mm_loadh_pd(_mm_load_sd(lo.cast()), hi.cast())) }
}

/// Transforms the patches of eight tiles of one channel: `v[point · vs + tile]`.
///
/// # Safety
/// Each pointer has six rows of six values, `step` apart; `v` has room for eight values at each of 36 points.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn input_transform(src: &[(*const f32, usize); 8], v: *mut f32, vs: usize) {
    let mut t = [[_mm256_setzero_ps(); 6]; 6];
    for i in 0..6 {
        // SAFETY: row i of each patch, the caller's promise.
        unsafe {
            let p: [*const f32; 8] = std::array::from_fn(|q| src[q].0.add(i * src[q].1));
            let e = transpose4([pair(p[0], p[4]), pair(p[1], p[5]), pair(p[2], p[6]), pair(p[3], p[7])]);
            let q: [*const f32; 8] = std::array::from_fn(|i| p[i].add(4));
            let lo = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(two(q[0], q[1])), two(q[4], q[5]));
            let hi = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(two(q[2], q[3])), two(q[6], q[7]));
            let (e4, e5) = (_mm256_shuffle_ps::<0x88>(lo, hi), _mm256_shuffle_ps::<0xdd>(lo, hi));
            t[i] = bt([e[0], e[1], e[2], e[3], e4, e5]);
        }
    }
    for j in 0..6 {
        let col = bt([t[0][j], t[1][j], t[2][j], t[3][j], t[4][j], t[5][j]]);
        for i in 0..6 {
            // SAFETY: the caller's promise.
            unsafe { _mm256_storeu_ps(v.add((i * 6 + j) * vs), col[i]) };
        }
    }
}

/// Transforms the products of eight tiles of one channel back and stores what is inside the result.
///
/// # Safety
/// `m` has eight values at each of 36 points `ms` apart; the places are in `out` (and `residual`), whose rows are `width`
/// apart and of which nobody else writes these.
#[target_feature(enable = "avx2,fma")]
unsafe fn output_transform(
    m: *const f32,
    ms: usize,
    places: &[Place],
    out: *mut f32,
    width: usize,
    bias: f32,
    residual: *const f32,
    act: Act,
) {
    let mut t = [[_mm256_setzero_ps(); 6]; 4];
    for j in 0..6 {
        // SAFETY: the caller's promise.
        let col = at(std::array::from_fn(|k| unsafe { _mm256_loadu_ps(m.add((k * 6 + j) * ms)) }));
        for k in 0..4 {
            t[k][j] = col[k];
        }
    }
    let bias = _mm256_set1_ps(bias);
    for k in 0..4 {
        let mut v = at(t[k]);
        for q in 0..4 {
            v[q] = _mm256_add_ps(v[q], bias);
            if residual.is_null() {
                v[q] = activate_avx2(v[q], act);
            }
        }
        let rows = transpose4(v); // tiles q and q + 4
        for (i, p) in places.iter().enumerate() {
            if k >= p.keep[0] {
                continue;
            }
            let r = rows[i % 4];
            let mut r = if i < 4 { _mm256_castps256_ps128(r) } else { _mm256_extractf128_ps::<1>(r) };
            let (to, n) = (p.dst + k * width, p.keep[1]);
            // SAFETY: n values of row k of the tile are inside the result; whole vectors only where n is 4.
            unsafe {
                if !residual.is_null() {
                    let mut tmp = [0f32; 4];
                    std::ptr::copy_nonoverlapping(residual.add(to), tmp.as_mut_ptr(), n);
                    let sum = _mm_add_ps(r, _mm_loadu_ps(tmp.as_ptr()));
                    r = _mm256_castps256_ps128(activate_avx2(_mm256_castps128_ps256(sum), act));
                }
                if n == 4 {
                    _mm_storeu_ps(out.add(to), r);
                } else {
                    let mut tmp = [0f32; 4];
                    _mm_storeu_ps(tmp.as_mut_ptr(), r);
                    (0..n).for_each(|i| out.add(to + i).write(tmp[i]));
                }
            }
        }
    }
}

/// Runs the plan: writes all of `out`, `[images, m, dst]`.
pub(super) fn run<U: std::ops::Deref<Target = [f32]> + Sync>(
    p: &Plan,
    src: &[f32],
    u: &PackedU<U>,
    out: &Out,
    finish: &Finish,
) {
    assert!(has_avx2());
    let kern = u.kern;
    let (mr, nr) = (kern.mr, kern.nr);
    let panels = p.m.div_ceil(mr);
    let (src_area, dst_area) = (p.src[0] * p.src[1], p.dst[0] * p.dst[1]);
    assert_eq!(src.len(), p.images * p.k * src_area);
    let us = point_len(p.m, p.k, kern);
    assert_eq!(u.data.len(), POINTS * us);
    let total = p.tiles();
    if total == 0 {
        return;
    }
    // Tiles of a task: what shares one pass over the weights. Then as many blocks of rows as keep all threads busy.
    let wanted = 3 * rayon::current_num_threads();
    let most = if p.k.max(p.m) >= 256 { 96 } else { 48 };
    let mut block = (most / nr).max(1) * nr;
    while block > nr.max(32) && total.div_ceil(block) < wanted {
        block -= nr;
    }
    let blocks = total.div_ceil(block);
    let splits = wanted.div_ceil(blocks).clamp(1, panels.div_ceil(8));
    let share = panels.div_ceil(splits);
    let splits = panels.div_ceil(share);
    // The odd line at the end of each point keeps the points on different cache sets.
    let (vs, ms) = (p.k * block + 16, share * mr * block + 16);

    (0..blocks * splits).into_par_iter().for_each(|task| {
        let (t0, split) = (task / splits * block, task % splits);
        let count = (total - t0).min(block);
        let (p0, p1) = (split * share, ((split + 1) * share).min(panels));
        let padded = count.div_ceil(nr) * nr;
        let places: Vec<Place> =
            (0..padded).map(|i| if i < count { Place::new(p, t0 + i) } else { Place::default() }).collect();
        let copies = places.iter().filter(|q| !q.is_inner()).count();
        with_scratch(POINTS * (vs + ms) + copies * COPY_LEN, |scratch| {
            let (v, rest) = scratch.split_at_mut(POINTS * vs);
            let (m, copied) = rest.split_at_mut(POINTS * ms);
            copied.fill(0.0);
            let mut patches = vec![(std::ptr::null::<f32>(), 0); padded];
            for c in 0..p.k {
                let plane = &src[c * src_area..];
                find_patches(plane, p.src[1], &places, copied, &mut patches);
                for (i, eight) in patches.as_chunks::<8>().0.iter().enumerate() {
                    // SAFETY: inner patches lie in the plane, the others in their copies; AVX2 is there;
                    // `v` has, at each point, panels of nr tiles of each channel.
                    unsafe {
                        let at = (8 * i / nr * p.k + c) * nr + 8 * i % nr;
                        input_transform(eight, v.as_mut_ptr().add(at), vs);
                    }
                }
            }
            for point in 0..POINTS {
                for j in (0..count).step_by(nr) {
                    for panel in p0..p1 {
                        // SAFETY: packed and transformed above; `m` has `block` places a row.
                        unsafe {
                            let a = u.data.as_ptr().add(point * us + panel * p.k * mr);
                            let b = v.as_ptr().add(point * vs + j * p.k);
                            let c = m.as_mut_ptr().add(point * ms + (panel - p0) * mr * block + j);
                            (kern.micro)(p.k, a, b, nr, c, block, mr, false, &Epilogue::NONE);
                        }
                    }
                }
            }
            for o in p0 * mr..(p1 * mr).min(p.m) {
                let bias = finish.bias.map_or(0.0, |b| b[o]);
                let residual = finish.residual.map_or(std::ptr::null(), |r| r[o * dst_area..].as_ptr());
                for (i, eight) in places[..count].chunks(8).enumerate() {
                    // SAFETY: the places are inside channel 0 of each image, so `o` maps further inside channel o.
                    unsafe {
                        let from = m.as_ptr().add((o - p0 * mr) * block + 8 * i);
                        let to = out.ptr().add(o * dst_area);
                        output_transform(from, ms, eight, to, p.dst[1], bias, residual, finish.act);
                    }
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::super::gather::{Gather, PackedA};
    use super::super::geometry::Conv2dConfig;
    use super::*;

    fn values(n: usize, s: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + s * 11) % 23) as f32 / 8.0 - 1.375).collect()
    }

    fn worst(got: &[f32], want: &[f32]) -> f32 {
        let largest = want.iter().fold(0f32, |a, v| a.max(v.abs()));
        got.iter().zip(want).fold(0f32, |a, (g, w)| a.max((g - w).abs())) / largest.max(1e-3)
    }

    #[test]
    fn agrees_with_direct_sums_in_both_directions() -> candle_core::Result<()> {
        if !has_avx2() {
            return Ok(());
        }
        for (n, c, h, w, o, padding) in [
            (2, 16, 13, 18, 20, [1, 1]),
            (1, 5, 4, 4, 7, [1, 1]),
            (3, 3, 7, 7, 33, [1, 1]),
            (1, 19, 21, 40, 70, [0, 2]),
            (2, 8, 3, 5, 6, [2, 0]),
            (1, 2, 1, 1, 3, [1, 1]),
            (5, 4, 10, 6, 5, [2, 2]),
        ] {
            let cfg = Conv2dConfig { padding, ..Default::default() };
            let g = Geometry::new(&[n, c, h, w], &[o, c, 3, 3], &cfg)?;
            let (x, wt) = (values(n * c * h * w, 1), values(o * c * 9, 2));
            let ys = n * o * g.output_area();
            let (bias, residual) = (values(o, 3), values(ys, 4));
            for (bias, residual, act) in [
                (None, None, Act::None),
                (Some(&bias[..]), None, Act::Silu),
                (Some(&bias[..]), Some(&residual[..]), Act::LeakyRelu(0.1)),
            ] {
                let finish = Finish { bias, residual, act };
                let (fast, plain) = (Out::new(ys), Out::new(ys));
                run(&Plan::forward(&g).unwrap(), &x, &PackedU::new(o, c, &wt, false), &fast, &finish);
                Gather::forward(&g).run(&x, &PackedA::forward(&g, &wt), &plain, &finish);
                // SAFETY: both wrote the whole output.
                let (fast, plain) = unsafe { (fast.into_vec(), plain.into_vec()) };
                assert!(worst(&fast, &plain) < 5e-5, "{n} {c} {h} {w} {o}: {}", worst(&fast, &plain));
            }
            let (dy, xs) = (values(ys, 5), x.len());
            let (fast, plain) = (Out::new(xs), Out::new(xs));
            run(&Plan::backward(&g).unwrap(), &dy, &PackedU::new(c, o, &wt, true), &fast, &Finish::default());
            Finish::default().clear(&plain, c, h * w);
            for (gather, taps) in Gather::backward(&g) {
                PackedA::with_transposed(&g, &wt, &taps, |a| gather.run(&dy, a, &plain, &Finish::default()));
            }
            // SAFETY: both wrote the whole gradient.
            let (fast, plain) = unsafe { (fast.into_vec(), plain.into_vec()) };
            assert!(worst(&fast, &plain) < 5e-5, "{n} {c} {h} {w} {o} back: {}", worst(&fast, &plain));
        }
        Ok(())
    }
}
