//! The weight gradient of a 3x3 convolution of stride 1 through Winograd's transform: the derivative of
//! [`super::winograd`], `dW = Gᵀ (Σ over tiles of A dY Aᵀ ⊙ Bᵀ X B) G`, as one GEMM a point whose inner dimension runs
//! over the tiles.

use std::arch::x86_64::*;

use rayon::prelude::*;

use super::winograd::{
    COPY_LEN, G, POINTS, Place, Plan, TILE, copy_few, find_patches, input_transform, pair, transpose4,
};
use crate::ops::gemm::{Epilogue, Out, Shared, has_avx2, kernel, transpose_panel, with_scratch};

/// Memory for the transformed maps of one pass, in values: what the caches hold, by measurement.
const PASS: usize = 1 << 19;
/// Tiles of a block of the inner dimension.
const DEPTH: usize = 256;
/// Tiles that are transformed together.
const GROUP: usize = 8;

/// `A d`: the six sums of four outputs.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn spread(d: [__m256; 4]) -> [__m256; 6] {
    let s = |x: f32| _mm256_set1_ps(x);
    let (p, q) = (_mm256_add_ps(d[0], d[2]), _mm256_add_ps(d[1], d[3]));
    let r = _mm256_fmadd_ps(s(4.0), d[2], d[0]);
    let t = _mm256_fmadd_ps(s(4.0), d[3], d[1]);
    [
        d[0],
        _mm256_add_ps(p, q),
        _mm256_sub_ps(p, q),
        _mm256_fmadd_ps(s(2.0), t, r),
        _mm256_fnmadd_ps(s(2.0), t, r),
        d[3],
    ]
}

/// Transforms eight 4x4 tiles of the output's gradient: `m[point · ms + tile]`.
///
/// # Safety
/// Each pointer has four rows of four values, `step` apart; `m` has room for eight values at each of 36 points.
#[target_feature(enable = "avx2,fma")]
unsafe fn grad_transform(src: &[(*const f32, usize); GROUP], m: *mut f32, ms: usize) {
    let mut t = [[_mm256_setzero_ps(); 6]; 4];
    for i in 0..4 {
        // SAFETY: row i of each tile, the caller's promise.
        unsafe {
            let p: [*const f32; 8] = std::array::from_fn(|q| src[q].0.add(i * src[q].1));
            t[i] = spread(transpose4([pair(p[0], p[4]), pair(p[1], p[5]), pair(p[2], p[6]), pair(p[3], p[7])]));
        }
    }
    for j in 0..6 {
        let col = spread([t[0][j], t[1][j], t[2][j], t[3][j]]);
        for i in 0..6 {
            // SAFETY: the caller's promise.
            unsafe { _mm256_storeu_ps(m.add((i * 6 + j) * ms), col[i]) };
        }
    }
}

/// Whether it is the faster way, by measurement.
pub(super) fn pays(p: &Plan) -> bool {
    let tiles = p.tiles();
    let waste = (tiles * TILE * TILE) as f64 / (p.images * p.dst[0] * p.dst[1]).max(1) as f64;
    p.k >= 16 && p.m >= 16 && tiles >= 32 && waste < 2.5
}

/// `dw` `[m, k, 3, 3]` of the input `x` and the output's gradient `dy`; `p` is the forward pass's plan.
pub(super) fn wgrad(p: &Plan, x: &[f32], dy: &[f32]) -> Vec<f32> {
    wgrad_in(p, x, dy, PASS)
}

/// [`wgrad`] in passes of as many tiles as fit into `memory` values (at least [`DEPTH`]).
fn wgrad_in(p: &Plan, x: &[f32], dy: &[f32], memory: usize) -> Vec<f32> {
    assert!(has_avx2());
    let kern = kernel();
    let (mr, nr) = (kern.mr, kern.nr);
    let (src_area, dst_area, total) = (p.src[0] * p.src[1], p.dst[0] * p.dst[1], p.tiles());
    assert_eq!(x.len(), p.images * p.k * src_area);
    assert_eq!(dy.len(), p.images * p.m * dst_area);
    if total == 0 {
        return vec![0.0; p.m * p.k * 9];
    }
    let (rows, cols) = (p.m.div_ceil(mr), p.k.div_ceil(nr));
    let (wide, len) = (cols * nr, rows * mr * cols * nr);
    // Whole groups of tiles, as many as the memory of a pass holds.
    let pass = (memory / (POINTS * (rows * mr + wide))).clamp(DEPTH, 4096) / GROUP * GROUP;
    let pass = pass.min(total.div_ceil(GROUP) * GROUP);
    // Distances between points and panels: an odd number of lines more.
    let (v_panel, m_panel) = (pass * nr, pass * mr);
    let (v_point, m_point) = (cols * v_panel + 16, rows * m_panel + 16);

    let out = Out::new(p.m * p.k * 9);
    with_scratch(POINTS * (v_point + m_point + len), |scratch| {
        let (v, rest) = scratch.split_at_mut(POINTS * v_point);
        let (m, du) = rest.split_at_mut(POINTS * m_point);
        let (v, m, du) = (Shared::new(v), Shared::new(m), Shared::new(du));
        for first in (0..total).step_by(pass) {
            let groups = (total - first).min(pass).div_ceil(GROUP);
            let depth = groups * GROUP;
            (0..groups).into_par_iter().for_each(|group| {
                let t0 = first + group * GROUP;
                let places: [Place; GROUP] =
                    std::array::from_fn(|i| if t0 + i < total { Place::new(p, t0 + i) } else { Place::default() });
                with_scratch(POINTS * GROUP * nr.max(mr) + GROUP * COPY_LEN, |scratch| {
                    let (tmp, copied) = scratch.split_at_mut(POINTS * GROUP * nr.max(mr));
                    copied.fill(0.0);
                    let mut patches = [(std::ptr::null::<f32>(), 0); GROUP];
                    for panel in 0..cols {
                        let count = (p.k - panel * nr).min(nr);
                        for c in 0..count {
                            let plane = &x[(panel * nr + c) * src_area..];
                            find_patches(plane, p.src[1], &places, copied, &mut patches);
                            // SAFETY: patches lie in the plane or their copies; AVX2 is there.
                            unsafe { input_transform(&patches, tmp.as_mut_ptr().add(c * GROUP), GROUP * nr) };
                        }
                        for point in 0..POINTS {
                            // SAFETY: `count` rows of eight tiles; the panel's places for them, this task's alone.
                            unsafe {
                                let from = tmp.as_ptr().add(point * GROUP * nr);
                                let to = v.ptr().add(point * v_point + panel * v_panel + group * GROUP * nr);
                                transpose_panel(from, GROUP, count, GROUP, to, nr);
                            }
                        }
                    }
                    copied.fill(0.0);
                    for panel in 0..rows {
                        let count = (p.m - panel * mr).min(mr);
                        for r in 0..count {
                            let plane = &dy[(panel * mr + r) * dst_area..];
                            find_tiles(plane, p.dst[1], &places, copied, &mut patches);
                            // SAFETY: as above.
                            unsafe { grad_transform(&patches, tmp.as_mut_ptr().add(r * GROUP), GROUP * mr) };
                        }
                        for point in 0..POINTS {
                            // SAFETY: as above.
                            unsafe {
                                let from = tmp.as_ptr().add(point * GROUP * mr);
                                let to = m.ptr().add(point * m_point + panel * m_panel + group * GROUP * mr);
                                transpose_panel(from, GROUP, count, GROUP, to, mr);
                            }
                        }
                    }
                });
            });
            // du[point] (+)= m[point] · v[point]ᵀ, a task for each point and share of the columns.
            let shares = (4 * rayon::current_num_threads()).div_ceil(POINTS).clamp(1, cols);
            (0..POINTS * shares).into_par_iter().for_each(|task| {
                let (point, share) = (task / shares, task % shares);
                for k0 in (0..depth).step_by(DEPTH) {
                    let k = (depth - k0).min(DEPTH);
                    for j in share * cols / shares..(share + 1) * cols / shares {
                        for i in 0..rows {
                            // SAFETY: packed above; `du` has `len` places for each point, these this task's alone.
                            unsafe {
                                let a = m.ptr().add(point * m_point + i * m_panel + k0 * mr);
                                let b = v.ptr().add(point * v_point + j * v_panel + k0 * nr);
                                let c = du.ptr().add(point * len + i * mr * wide + j * nr);
                                let add = first + k0 > 0;
                                (kern.micro)(k, a, b, nr, c, wide, mr, add, &Epilogue::NONE);
                            }
                        }
                    }
                }
            });
        }
        (0..p.m).into_par_iter().with_min_len(4).for_each(|o| {
            // SAFETY: row o of each point, and of dw; rows are `wide` long, `wide` being a multiple of eight.
            unsafe { back_to_kernel(du.ptr().add(o * wide), len, p.k, out.ptr().add(o * p.k * 9)) };
        });
    });
    // SAFETY: every kernel was written.
    unsafe { out.into_vec() }
}

/// The tiles of one channel of the output's gradient; those that reach over its end are copied, with zeros there.
fn find_tiles(
    plane: &[f32],
    width: usize,
    places: &[Place; GROUP],
    copied: &mut [f32],
    tiles: &mut [(*const f32, usize); GROUP],
) {
    for ((place, tile), copy) in places.iter().zip(tiles).zip(copied.chunks_exact_mut(COPY_LEN)) {
        if place.keep == [TILE; 2] {
            *tile = (plane[place.dst..].as_ptr(), width);
            continue;
        }
        for r in 0..place.keep[0] {
            copy_few(&plane[place.dst + r * width..][..place.keep[1]], &mut copy[r * TILE..]);
        }
        *tile = (copy.as_ptr(), TILE);
    }
}

/// `Gᵀ du G` for `k` channels: `du[point · len + channel]` to `dw[channel · 9 + tap]`.
///
/// # Safety
/// Rows of `du` are readable up to the next multiple of eight channels; `dw` has `9 k` places.
#[target_feature(enable = "avx2,fma")]
unsafe fn back_to_kernel(du: *const f32, len: usize, k: usize, dw: *mut f32) {
    for c in (0..k).step_by(8) {
        let mut half = [[_mm256_setzero_ps(); 6]; 3];
        for i in 0..6 {
            for j in 0..6 {
                // SAFETY: the caller's promise.
                let u = unsafe { _mm256_loadu_ps(du.add((i * 6 + j) * len + c)) };
                for a in 0..3 {
                    half[a][j] = _mm256_fmadd_ps(_mm256_set1_ps(G[i][a]), u, half[a][j]);
                }
            }
        }
        let mut taps = [[0f32; 8]; 9];
        for a in 0..3 {
            for b in 0..3 {
                let mut sum = _mm256_setzero_ps();
                for j in 0..6 {
                    sum = _mm256_fmadd_ps(_mm256_set1_ps(G[j][b]), half[a][j], sum);
                }
                // SAFETY: eight places.
                unsafe { _mm256_storeu_ps(taps[a * 3 + b].as_mut_ptr(), sum) };
            }
        }
        for q in 0..(k - c).min(8) {
            for t in 0..9 {
                // SAFETY: channel c + q < k.
                unsafe { *dw.add((c + q) * 9 + t) = taps[t][q] };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::geometry::{Conv2dConfig, Geometry};
    use super::super::wgrad;
    use super::*;

    #[test]
    fn agrees_with_direct_sums() -> candle_core::Result<()> {
        if !has_avx2() {
            return Ok(());
        }
        let values = |n: usize, s: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * 37 + s * 11) % 23) as f32 / 8.0 - 1.375).collect()
        };
        for (n, c, h, w, o, padding) in [
            (2, 16, 13, 18, 20, [1, 1]),
            (1, 5, 4, 4, 7, [1, 1]),
            (3, 3, 7, 7, 33, [1, 1]),
            (1, 19, 21, 40, 70, [0, 2]),
            (2, 8, 3, 5, 6, [2, 0]),
            (1, 2, 1, 1, 3, [1, 1]),
            (4, 3, 70, 75, 5, [1, 1]), // more than one block of the inner dimension
        ] {
            let g = Geometry::new(&[n, c, h, w], &[o, c, 3, 3], &Conv2dConfig { padding, ..Default::default() })?;
            let (x, dy) = (values(n * c * h * w, 1), values(n * o * g.output_area(), 2));
            let plain = wgrad::wgrad(&g, &x, &dy);
            let largest = plain.iter().fold(1e-3f32, |a, v| a.max(v.abs()));
            for memory in [PASS, 0] {
                let fast = wgrad_in(&Plan::forward(&g).unwrap(), &x, &dy, memory);
                for (i, (f, d)) in fast.iter().zip(&plain).enumerate() {
                    assert!((f - d).abs() / largest < 5e-5, "{n} {c} {h} {w} {o} [{i}]: {f}, direct {d}");
                }
            }
        }
        Ok(())
    }
}
