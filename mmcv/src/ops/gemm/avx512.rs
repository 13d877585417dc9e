//! The 8x48 micro-kernel for AVX-512: 24 accumulators, three vectors of `b`.

use std::arch::x86_64::*;

use super::{Act, Epilogue};

const MR: usize = 8;
const NV: usize = 3;

/// `e^x`, as [`super::avx2`]'s.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp(x: __m512) -> __m512 {
    let s = |v: f32| _mm512_set1_ps(v);
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    let y = _mm512_min_ps(_mm512_max_ps(x, s(-87.3)), s(88.3));
    let n = _mm512_roundscale_ps::<0>(_mm512_mul_ps(y, s(std::f32::consts::LOG2_E)));
    let r = _mm512_fnmadd_ps(n, s(0.693_359_4), y);
    let r = _mm512_fnmadd_ps(n, s(-2.121_944_4e-4), r);
    let mut p = s(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = _mm512_fmadd_ps(p, r, s(c));
    }
    _mm512_mask_mov_ps(_mm512_scalef_ps(p, n), nan, x)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn activate(v: __m512, act: Act) -> __m512 {
    let zero = _mm512_setzero_ps();
    match act {
        Act::None => v,
        // The second operand is what max gives for NaN.
        Act::Relu => _mm512_max_ps(zero, v),
        Act::Relu6 => _mm512_min_ps(_mm512_set1_ps(6.0), _mm512_max_ps(zero, v)),
        Act::LeakyRelu(s) => _mm512_mask_mul_ps(v, _mm512_cmp_ps_mask::<_CMP_LT_OQ>(v, zero), v, _mm512_set1_ps(s)),
        Act::Silu => _mm512_div_ps(v, _mm512_add_ps(_mm512_set1_ps(1.0), exp(_mm512_sub_ps(zero, v)))),
    }
}

/// See [`super::Micro`].
#[target_feature(enable = "avx512f")]
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
    let mut acc = [[_mm512_setzero_ps(); NV]; MR];
    let (mut ap, mut bp) = (a, b);
    for _ in 0..k {
        // SAFETY: `b` has 48 values at each of k steps, `a` 8.
        unsafe {
            let bv: [__m512; NV] = [_mm512_loadu_ps(bp), _mm512_loadu_ps(bp.add(16)), _mm512_loadu_ps(bp.add(32))];
            for i in 0..MR {
                let av = _mm512_set1_ps(*ap.add(i));
                for j in 0..NV {
                    acc[i][j] = _mm512_fmadd_ps(av, bv[j], acc[i][j]);
                }
            }
            ap = ap.add(MR);
            bp = bp.add(ldb);
        }
    }
    for i in 0..MR {
        if i < rows {
            // SAFETY: `c` (and the residual) have 48 values at each of `rows` steps of ldc, the bias `rows` values.
            unsafe {
                let bias = if epi.bias.is_null() { _mm512_setzero_ps() } else { _mm512_set1_ps(*epi.bias.add(i)) };
                for j in 0..NV {
                    let p = c.add(i * ldc + 16 * j);
                    let mut v = acc[i][j];
                    if accumulate {
                        v = _mm512_add_ps(v, _mm512_loadu_ps(p));
                    }
                    v = _mm512_add_ps(v, bias);
                    if !epi.residual.is_null() {
                        v = _mm512_add_ps(v, _mm512_loadu_ps(epi.residual.add(i * ldc + 16 * j)));
                    }
                    _mm512_storeu_ps(p, activate(v, epi.act));
                }
            }
        }
    }
}
