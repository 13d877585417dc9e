//! The 6x16 micro-kernel for AVX2 with FMA: 12 accumulators, two vectors of `b`, one broadcast of `a`.

use std::arch::x86_64::*;

use super::{Act, Epilogue};

const MR: usize = 6;

/// `e^x`, relative error below 2e-7 between -87 and 88 (clamped outside).
#[inline]
#[target_feature(enable = "avx2,fma")]
fn exp(x: __m256) -> __m256 {
    let s = |v: f32| _mm256_set1_ps(v);
    let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x);
    let y = _mm256_min_ps(_mm256_max_ps(x, s(-87.3)), s(88.3));
    let n = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm256_mul_ps(
        y,
        s(std::f32::consts::LOG2_E),
    ));
    // ln 2 in two parts, so that the remainder keeps its bits.
    let r = _mm256_fnmadd_ps(n, s(0.693_359_4), y);
    let r = _mm256_fnmadd_ps(n, s(-2.121_944_4e-4), r);
    // The series of e^r on |r| <= ln 2 / 2.
    let mut p = s(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = _mm256_fmadd_ps(p, r, s(c));
    }
    let e = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)));
    _mm256_blendv_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(e)), x, nan)
}

/// One activation on eight values.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(crate) fn activate(v: __m256, act: Act) -> __m256 {
    let zero = _mm256_setzero_ps();
    match act {
        Act::None => v,
        // The second operand is what max gives for NaN.
        Act::Relu => _mm256_max_ps(zero, v),
        Act::Relu6 => _mm256_min_ps(_mm256_set1_ps(6.0), _mm256_max_ps(zero, v)),
        Act::LeakyRelu(s) => _mm256_blendv_ps(v, _mm256_mul_ps(v, _mm256_set1_ps(s)), v),
        Act::Silu => _mm256_div_ps(v, _mm256_add_ps(_mm256_set1_ps(1.0), exp(_mm256_sub_ps(zero, v)))),
    }
}

/// See [`super::Micro`].
#[target_feature(enable = "avx2,fma")]
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
    let mut acc = [[_mm256_setzero_ps(); 2]; MR];
    let (mut ap, mut bp) = (a, b);
    for _ in 0..k {
        // SAFETY: `b` has 16 values at each of k steps, `a` 6.
        unsafe {
            let b0 = _mm256_loadu_ps(bp);
            let b1 = _mm256_loadu_ps(bp.add(8));
            for i in 0..MR {
                let av = _mm256_broadcast_ss(&*ap.add(i));
                acc[i][0] = _mm256_fmadd_ps(av, b0, acc[i][0]);
                acc[i][1] = _mm256_fmadd_ps(av, b1, acc[i][1]);
            }
            ap = ap.add(MR);
            bp = bp.add(ldb);
        }
    }
    for i in 0..MR {
        if i < rows {
            // SAFETY: `c` (and the residual) have 16 values at each of `rows` steps of ldc, the bias `rows` values.
            unsafe {
                let bias =
                    if epi.bias.is_null() { _mm256_setzero_ps() } else { _mm256_broadcast_ss(&*epi.bias.add(i)) };
                for j in 0..2 {
                    let p = c.add(i * ldc + 8 * j);
                    let mut v = acc[i][j];
                    if accumulate {
                        v = _mm256_add_ps(v, _mm256_loadu_ps(p));
                    }
                    v = _mm256_add_ps(v, bias);
                    if !epi.residual.is_null() {
                        v = _mm256_add_ps(v, _mm256_loadu_ps(epi.residual.add(i * ldc + 8 * j)));
                    }
                    _mm256_storeu_ps(p, activate(v, epi.act));
                }
            }
        }
    }
}
