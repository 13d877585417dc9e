//! Tensor operations with parallel CPU kernels, forward and backward.

#[allow(unsafe_code)] // hand-vectorised kernels over raw pointers
pub mod conv;
#[allow(unsafe_code)] // SIMD intrinsics
pub mod gemm;

pub use conv::{Conv2dConfig, conv2d};
