//! The register-blocked f32 micro-kernels that convolutions and linear layers share, and the linear layer.
//!
//! A micro-kernel computes one `mr x nr` tile `c (+)= a · b` from `a` packed as `[k][mr]` and rows of `b` that lie `ldb`
//! apart, and can finish the tile (bias, residual, activation) while it is in registers. [`kernel`] picks the widest
//! that the machine runs: AVX-512 (8x48), AVX2 with FMA (6x16), else portable code (4x8).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod linear;
mod matmul;
mod memory;
mod scalar;

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::activate as activate_avx2;
pub use linear::linear;
pub use matmul::{View, matmul};
pub use memory::{Out, Shared, transpose_panel, with_scratch};

/// What is applied to a finished value, after bias and residual.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Act {
    /// Nothing.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x` where positive, else `slope · x`.
    LeakyRelu(f32),
    /// `x · sigmoid(x)`.
    Silu,
}

impl Act {
    /// The activation of one value.
    #[inline(always)]
    pub fn apply(self, v: f32) -> f32 {
        match self {
            Act::None => v,
            Act::Relu => {
                if v < 0.0 {
                    0.0
                } else {
                    v
                }
            }
            Act::Relu6 => v.clamp(0.0, 6.0),
            Act::LeakyRelu(s) => {
                if v < 0.0 {
                    v * s
                } else {
                    v
                }
            }
            Act::Silu => v / (1.0 + (-v).exp()),
        }
    }
}

/// How a tile is finished. Pointers are at the tile's first row (`bias`) and first element (`residual`); null is none.
#[derive(Debug, Clone, Copy)]
pub struct Epilogue {
    /// One value a row.
    pub bias: *const f32,
    /// Added element by element; rows as far apart as the tile's.
    pub residual: *const f32,
    /// Applied last.
    pub act: Act,
}

impl Epilogue {
    /// Leaves the tile as it is.
    pub const NONE: Self = Self { bias: std::ptr::null(), residual: std::ptr::null(), act: Act::None };
}

/// `c[rows x nr] (+)= a[k][mr] · b[k][ldb..]`, then the epilogue.
///
/// # Safety
/// `a` holds `k · mr` values, `b` has `nr` readable values at each of `k` steps of `ldb`, `c` `nr` writable ones at each of
/// `rows` steps of `ldc` (`rows <= mr`), the epilogue's pointers are null or as long; the machine has the kernel's features.
pub type Micro = unsafe fn(
    k: usize,
    a: *const f32,
    b: *const f32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    rows: usize,
    accumulate: bool,
    epilogue: &Epilogue,
);

/// A micro-kernel and its tile's size.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Rows of a tile.
    pub mr: usize,
    /// Columns of a tile.
    pub nr: usize,
    /// The code.
    pub micro: Micro,
    /// For logs: `avx512`, `avx2` or `scalar`.
    pub name: &'static str,
}

/// Upper bounds of `mr` and `nr` over all kernels, for buffers on the stack.
pub const MAX_MR: usize = 8;
/// See [`MAX_MR`].
pub const MAX_NR: usize = 48;

const SCALAR: Kernel = Kernel { mr: 4, nr: 8, micro: scalar::micro, name: "scalar" };
#[cfg(target_arch = "x86_64")]
const AVX2: Kernel = Kernel { mr: 6, nr: 16, micro: avx2::micro, name: "avx2" };
#[cfg(target_arch = "x86_64")]
const AVX512: Kernel = Kernel { mr: 8, nr: 48, micro: avx512::micro, name: "avx512" };

/// The kernels that this machine runs, the fastest first.
pub fn kernels() -> Vec<Kernel> {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            all.push(AVX512);
        }
        if has_avx2() {
            all.push(AVX2);
        }
    }
    all.push(SCALAR);
    all
}

/// The kernel in use: the fastest, or the one that `MMCV_KERNEL` names (`avx512`, `avx2`, `scalar`).
pub fn kernel() -> Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    *KERNEL.get_or_init(|| {
        let all = kernels();
        let wish = std::env::var("MMCV_KERNEL").unwrap_or_default();
        *all.iter().find(|k| k.name == wish).unwrap_or(&all[0])
    })
}

/// Whether AVX2 and FMA code may run.
pub fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kern: Kernel, k: usize, rows: usize, accumulate: bool, act: Act) {
        let (mr, nr, ldb, ldc) = (kern.mr, kern.nr, kern.nr + 3, kern.nr + 5);
        let val = |i: usize| ((i * 2654435761) % 1000) as f32 / 500.0 - 1.0;
        let a: Vec<f32> = (0..k * mr).map(val).collect();
        let b: Vec<f32> = (0..k * ldb).map(|i| val(i + 7)).collect();
        let bias: Vec<f32> = (0..mr).map(|i| val(i + 99)).collect();
        let res: Vec<f32> = (0..mr * ldc).map(|i| val(i + 5)).collect();
        let start: Vec<f32> = (0..mr * ldc).map(|i| val(i + 31)).collect();
        let mut c = start.clone();
        let epi = Epilogue { bias: bias.as_ptr(), residual: res.as_ptr(), act };
        // SAFETY: the vectors above have the sizes that the contract asks for.
        unsafe { (kern.micro)(k, a.as_ptr(), b.as_ptr(), ldb, c.as_mut_ptr(), ldc, rows, accumulate, &epi) };
        for i in 0..mr {
            for j in 0..ldc {
                let at = i * ldc + j;
                if i >= rows || j >= nr {
                    assert_eq!(c[at], start[at], "{} wrote outside its tile", kern.name);
                    continue;
                }
                let dot: f64 = (0..k).map(|q| a[q * mr + i] as f64 * b[q * ldb + j] as f64).sum();
                let v = dot + if accumulate { start[at] as f64 } else { 0.0 } + bias[i] as f64 + res[at] as f64;
                let want = act.apply(v as f32);
                assert!((c[at] - want).abs() < 2e-5, "{} {i} {j}: {} for {want}", kern.name, c[at]);
            }
        }
    }

    #[test]
    fn every_kernel_agrees_with_plain_sums() {
        for kern in kernels() {
            for k in [0, 1, 2, 5, 64, 131] {
                for rows in [1, kern.mr - 1, kern.mr] {
                    for act in [Act::None, Act::Relu, Act::Relu6, Act::LeakyRelu(0.1), Act::Silu] {
                        check(kern, k, rows, k % 2 == 1, act);
                    }
                }
            }
        }
    }

    #[test]
    fn relu_keeps_nan() {
        for kern in kernels() {
            let a = vec![f32::NAN; kern.mr];
            let b = vec![1f32; kern.nr];
            let mut c = vec![0f32; kern.mr * kern.nr];
            let epi = Epilogue { act: Act::Relu, ..Epilogue::NONE };
            // SAFETY: one step of k over vectors of a tile's size.
            unsafe {
                (kern.micro)(1, a.as_ptr(), b.as_ptr(), kern.nr, c.as_mut_ptr(), kern.nr, kern.mr, false, &epi);
            }
            assert!(c.iter().all(|v| v.is_nan()), "{}", kern.name);
        }
    }
}
