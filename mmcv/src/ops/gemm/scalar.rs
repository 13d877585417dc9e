//! The portable 4x8 micro-kernel; compilers turn its inner loop into whatever vectors the target has.

use super::Epilogue;

const MR: usize = 4;
const NR: usize = 8;

/// See [`super::Micro`].
pub unsafe fn micro(
    k: usize,
    a: *const f32,
    b: *const f32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    rows: usize,
    accumulate: bool,
    epi: &Epilogue,
) {
    let mut acc = [[0f32; NR]; MR];
    for q in 0..k {
        for i in 0..MR {
            // SAFETY: `a` holds k·MR values, `b` NR at each of k steps.
            let av = unsafe { *a.add(q * MR + i) };
            for j in 0..NR {
                // SAFETY: as above.
                acc[i][j] += av * unsafe { *b.add(q * ldb + j) };
            }
        }
    }
    for i in 0..rows.min(MR) {
        for j in 0..NR {
            // SAFETY: `c` (and the residual) have NR values at each of `rows` steps of ldc, the bias `rows` values.
            unsafe {
                let p = c.add(i * ldc + j);
                let mut v = acc[i][j];
                if accumulate {
                    v += *p;
                }
                if !epi.bias.is_null() {
                    v += *epi.bias.add(i);
                }
                if !epi.residual.is_null() {
                    v += *epi.residual.add(i * ldc + j);
                }
                *p = epi.act.apply(v);
            }
        }
    }
}
