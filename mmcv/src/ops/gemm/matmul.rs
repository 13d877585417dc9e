//! Matrix products of strided operands over the micro-kernels, in parallel.

use rayon::prelude::*;

use super::memory::{Out, transpose_panel, with_scratch};
use super::{Epilogue, MAX_MR, MAX_NR, kernel};

/// Rows, columns and inner steps of a task's blocks.
const ROWS: usize = 96;
const COLUMNS: usize = 144;
const DEPTH: usize = 256;

/// A matrix in a slice: element (i, j) lies at `i · row + j · col`. One of the two steps is 1.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The values.
    pub data: &'a [f32],
    /// Step between rows.
    pub row: usize,
    /// Step between columns.
    pub col: usize,
}

impl<'a> View<'a> {
    /// A matrix of `cols` columns, row by row.
    pub fn rows(data: &'a [f32], cols: usize) -> Self {
        Self { data, row: cols, col: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self { row: self.col, col: self.row, ..self }
    }

    fn check(&self, rows: usize, cols: usize) {
        assert!(self.row == 1 || self.col == 1);
        assert!(rows * cols == 0 || (rows - 1) * self.row + (cols - 1) * self.col < self.data.len());
    }

    /// Packs rows `i..i+n` at columns `k0..k1` as `[column][width]`, zeros in places `n..width`.
    ///
    /// # Safety
    /// These are inside the matrix, and `dst` has `(k1 - k0) · width` places.
    unsafe fn pack(&self, i: usize, n: usize, k0: usize, k1: usize, dst: *mut f32, width: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let from = self.data.as_ptr().add(i * self.row + k0 * self.col);
            if self.col == 1 {
                transpose_panel(from, self.row, n, k1 - k0, dst, width);
                return;
            }
            for k in 0..k1 - k0 {
                let to = dst.add(k * width);
                std::ptr::copy_nonoverlapping(from.add(k * self.col), to, n);
                to.add(n).write_bytes(0, width - n);
            }
        }
    }
}

/// `a · b` with `bias` (one a column) added, row by row: `a` is `[m, k]`, `b` `[k, n]`.
pub fn matmul(m: usize, n: usize, k: usize, a: View, b: View, bias: Option<&[f32]>) -> Vec<f32> {
    let kern = kernel();
    let (mr, nr) = (kern.mr, kern.nr);
    a.check(m, k);
    b.check(k, n);
    assert!(bias.is_none_or(|b| b.len() == n));
    let out = Out::new(m * n);
    // Blocks of a size, as many tasks as keep all threads busy.
    let wanted = 4 * rayon::current_num_threads();
    let (mut row_blocks, mut col_blocks) = (m.div_ceil(ROWS), n.div_ceil(COLUMNS));
    if row_blocks * col_blocks < wanted {
        col_blocks = col_blocks.max((wanted / row_blocks.max(1)).min(n.div_ceil(2 * nr)));
    }
    if row_blocks * col_blocks < wanted {
        row_blocks = row_blocks.max((wanted / col_blocks.max(1)).min(m.div_ceil(4 * mr)));
    }
    let rows = m.div_ceil(row_blocks.max(1)).div_ceil(mr) * mr;
    let cols = n.div_ceil(col_blocks.max(1)).div_ceil(nr) * nr;
    if m * n == 0 {
        return Vec::new();
    }
    let (row_blocks, col_blocks) = (m.div_ceil(rows), n.div_ceil(cols));
    let depth = k.clamp(1, DEPTH);
    (0..row_blocks * col_blocks).into_par_iter().for_each(|task| {
        let (i0, j0) = (task / col_blocks * rows, task % col_blocks * cols);
        let (i1, j1) = ((i0 + rows).min(m), (j0 + cols).min(n));
        let (a_len, b_len) = (rows * depth, cols * depth);
        with_scratch(a_len + b_len, |scratch| {
            let (pa, pb) = scratch.split_at_mut(a_len);
            let mut k0 = 0;
            loop {
                let k1 = (k0 + depth).min(k);
                let steps = k1 - k0;
                for i in (i0..i1).step_by(mr) {
                    // SAFETY: rows i.. of `a`; (i - i0) is a multiple of mr, so each panel has its own places.
                    unsafe { a.pack(i, (i1 - i).min(mr), k0, k1, pa.as_mut_ptr().add((i - i0) * depth), mr) };
                }
                for j in (j0..j1).step_by(nr) {
                    // SAFETY: columns j.. of `b` are rows of its transpose; places as above.
                    unsafe { b.t().pack(j, (j1 - j).min(nr), k0, k1, pb.as_mut_ptr().add((j - j0) * depth), nr) };
                }
                for j in (j0..j1).step_by(nr) {
                    for i in (i0..i1).step_by(mr) {
                        let (lines, width) = ((i1 - i).min(mr), (j1 - j).min(nr));
                        // SAFETY: packed above; this tile of the result is this task's alone.
                        unsafe {
                            let (ap, bp) = (pa.as_ptr().add((i - i0) * depth), pb.as_ptr().add((j - j0) * depth));
                            let to = out.ptr().add(i * n + j);
                            if k0 == 0
                                && let Some(bias) = bias
                            {
                                for r in 0..lines {
                                    std::ptr::copy_nonoverlapping(bias.as_ptr().add(j), to.add(r * n), width);
                                }
                            }
                            let add = k0 > 0 || bias.is_some();
                            if width == nr {
                                (kern.micro)(steps, ap, bp, nr, to, n, lines, add, &Epilogue::NONE);
                                continue;
                            }
                            let mut tmp = [0f32; MAX_MR * MAX_NR];
                            (kern.micro)(steps, ap, bp, nr, tmp.as_mut_ptr(), nr, lines, false, &Epilogue::NONE);
                            for r in 0..lines {
                                for c in 0..width {
                                    let p = to.add(r * n + c);
                                    *p = tmp[r * nr + c] + if add { *p } else { 0.0 };
                                }
                            }
                        }
                    }
                }
                if k1 == k {
                    break;
                }
                k0 = k1;
            }
        });
    });
    // SAFETY: the blocks cover the result.
    unsafe { out.into_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_plain_sums_in_every_layout() {
        let values = |n: usize, s: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * 37 + s * 11) % 23) as f32 / 8.0 - 1.375).collect()
        };
        for (m, n, k) in [(1, 1, 1), (7, 17, 5), (130, 33, 300), (5, 200, 64), (97, 145, 257), (3, 4, 0), (0, 5, 3)] {
            let (a, b, bias) = (values(m * k, 1), values(k * n, 2), values(n, 3));
            for layout in 0..4 {
                let (ta, tb) = (layout & 1 == 1, layout & 2 == 2);
                let va = if ta { View::rows(&a, m).t() } else { View::rows(&a, k) };
                let vb = if tb { View::rows(&b, k).t() } else { View::rows(&b, n) };
                for bias in [None, Some(&bias[..])] {
                    let got = matmul(m, n, k, va, vb, bias);
                    assert_eq!(got.len(), m * n);
                    for i in 0..m {
                        for j in 0..n {
                            let at = |v: &View, i: usize, j: usize| v.data[i * v.row + j * v.col] as f64;
                            let dot: f64 = (0..k).map(|q| at(&va, i, q) * at(&vb, q, j)).sum();
                            let want = dot + bias.map_or(0.0, |b| b[j] as f64);
                            let g = got[i * n + j] as f64;
                            assert!((g - want).abs() < 1e-3, "{m} {n} {k} {layout} [{i}, {j}]: {g}, expected {want}");
                        }
                    }
                }
            }
        }
    }
}
