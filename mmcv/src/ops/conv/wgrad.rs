//! The weight gradient: `dw[o][channel, tap] = Σ over positions of dy[o][position] · unfolded x[channel, tap][position]`.

use rayon::prelude::*;

use super::gather::{AHEAD, Gather, Rows};
use super::geometry::Geometry;
use crate::ops::gemm::{Epilogue, MAX_MR, MAX_NR, Out, kernel, transpose_panel, with_scratch};

/// Positions of a block.
const POSITIONS: usize = 256;
/// Most columns (channel, tap) of a block.
const COLUMNS: usize = 160;

/// `dw`, as long as the weight, of the input `x` and the output's gradient `dy`.
pub(super) fn wgrad(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let kern = kernel();
    let (mr, nr) = (kern.mr, kern.nr);
    let (m, kk, px) = (g.group_out(), g.taps(), g.output_area());
    let cols = g.group_in() * kk;
    let (total, len) = (g.images * px, g.channels_out * cols);
    assert_eq!(x.len(), g.images * g.channels_in * g.input_area());
    assert_eq!(dy.len(), g.images * g.channels_out * px);
    if total == 0 || len == 0 {
        return vec![0.0; len];
    }
    let taps = Gather::forward(g).taps;
    let width = cols.div_ceil(cols.div_ceil((COLUMNS / nr).max(1) * nr)).div_ceil(nr) * nr;
    let col_blocks = cols.div_ceil(width);
    let chunks = total.div_ceil(POSITIONS);
    // Each split of the positions sums into a copy of its own; the copies are added in order.
    let splits = (4 * rayon::current_num_threads()).div_ceil(g.groups * col_blocks).clamp(1, chunks);
    let (panels, out) = (m.div_ceil(mr), Out::new(splits * len));

    (0..g.groups * col_blocks * splits).into_par_iter().for_each(|task| {
        let (block, split) = (task / splits, task % splits);
        let (group, cb) = (block / col_blocks, block % col_blocks);
        let (q0, q1) = (cb * width, ((cb + 1) * width).min(cols));
        let (t0, t1) = (split * chunks / splits, (split + 1) * chunks / splits);
        let sizes = [panels * mr * POSITIONS, width * POSITIONS, nr.max(mr) * POSITIONS];
        with_scratch(sizes.iter().sum(), |scratch| {
            let (a, rest) = scratch.split_at_mut(sizes[0]);
            let (b, rows) = rest.split_at_mut(sizes[1]);
            for chunk in t0..t1 {
                let (n0, n1) = (chunk * POSITIONS, ((chunk + 1) * POSITIONS).min(total));
                let n = n1 - n0;
                // a: [panel][position][mr] of dy.
                for panel in 0..panels {
                    let count = (m - panel * mr).min(mr);
                    for image in n0 / px..=(n1 - 1) / px {
                        let (s, e) = (n0.max(image * px), n1.min((image + 1) * px));
                        let at = (image * g.channels_out + group * m + panel * mr) * px + s - image * px;
                        // SAFETY: `count` rows of e-s values, px apart; the panel's places for them.
                        unsafe {
                            let dst = a.as_mut_ptr().add((panel * POSITIONS + s - n0) * mr);
                            transpose_panel(dy.as_ptr().add(at), px, count, e - s, dst, mr);
                        }
                    }
                }
                // b: [panel][position][nr] of the unfolded input.
                let reads = Rows::new((n0, n1), n, g.output, g.input, g.stride, g.channels_in, &taps);
                for q in (q0..q1).step_by(nr) {
                    let count = (q1 - q).min(nr);
                    for r in 0..count {
                        let (c, tap) = ((q + r) / kk, (q + r) % kk);
                        let plane = x[(group * g.group_in() + c) * g.input_area()..].as_ptr();
                        if tap == kk / 2 {
                            reads.prefetch(tap, plane.wrapping_add(AHEAD * g.input_area()));
                        }
                        // SAFETY: the channel's plane of image 0; n places.
                        unsafe { reads.write(tap, plane, rows[r * POSITIONS..].as_mut_ptr()) };
                    }
                    // SAFETY: `count` rows of n values; a panel has nr·POSITIONS places.
                    unsafe {
                        let dst = b.as_mut_ptr().add((q - q0) * POSITIONS);
                        transpose_panel(rows.as_ptr(), POSITIONS, count, n, dst, nr);
                    }
                }
                for q in (q0..q1).step_by(nr) {
                    let count = (q1 - q).min(nr);
                    for panel in 0..panels {
                        let lines = (m - panel * mr).min(mr);
                        let at = split * len + (group * m + panel * mr) * cols + q;
                        // SAFETY: packed above; only this task writes these columns of this copy.
                        unsafe {
                            let ap = a.as_ptr().add(panel * POSITIONS * mr);
                            let bp = b.as_ptr().add((q - q0) * POSITIONS);
                            let add = chunk > t0;
                            if count == nr {
                                let c = out.ptr().add(at);
                                (kern.micro)(n, ap, bp, nr, c, cols, lines, add, &Epilogue::NONE);
                            } else {
                                let mut tmp = [0f32; MAX_MR * MAX_NR];
                                (kern.micro)(n, ap, bp, nr, tmp.as_mut_ptr(), nr, lines, false, &Epilogue::NONE);
                                for r in 0..lines {
                                    for j in 0..count {
                                        let p = out.ptr().add(at + r * cols + j);
                                        *p = tmp[r * nr + j] + if add { *p } else { 0.0 };
                                    }
                                }
                            }
                        }
                    }
                }
            }
        });
    });
    // SAFETY: the tasks cover every column of every copy (splits <= chunks, so none is empty).
    let mut dw = unsafe { out.into_vec() };
    if splits > 1 {
        let (sum, copies) = dw.split_at_mut(len);
        sum.par_chunks_mut(4096).enumerate().for_each(|(i, sum)| {
            for copy in copies.chunks_exact(len) {
                for (s, v) in sum.iter_mut().zip(&copy[i * 4096..]) {
                    *s += v;
                }
            }
        });
        dw.truncate(len);
    }
    dw
}
