//! Tensor operations with parallel CPU kernels, forward and backward.
//!
//! All take f32 tensors of any layout and empty ones; each is one node of the graph with its own backward pass, because
//! candle's either have none, are wrong (nearest upsampling, `max`, ReLU at 0) or take several passes over memory.

#[macro_use]
mod kernel;

mod activation;
mod batch_norm;
#[allow(unsafe_code)] // hand-vectorised kernels over raw pointers
pub mod conv;
mod focal_loss;
#[allow(unsafe_code)] // SIMD intrinsics
pub mod gemm;
mod interpolate;
mod math;
mod max_pool;
mod nms;

pub use activation::{add_relu, relu};
pub use batch_norm::{batch_norm, batch_norm_act, batch_norm_train, batch_norm_train_act};
pub use conv::{Conv2dConfig, PackedCache, PackedConv2d, conv_transpose2d, conv2d, fold_batch_norm};
pub use focal_loss::{focal_loss, sigmoid_focal_loss};
pub use gemm::{Act, linear};
pub use interpolate::{interpolate_bilinear, interpolate_nearest};
pub use max_pool::max_pool2d;
pub use nms::{NmsConfig, NmsType, SoftNmsMethod, batched_nms, nms, soft_nms};

#[cfg(test)]
mod testing;
