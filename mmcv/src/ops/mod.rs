//! Tensor operations with parallel CPU kernels, forward and backward.
//!
//! All take f32 tensors of any layout and empty ones; each is one node of the graph with its own backward pass, because
//! candle's either have none, are wrong (nearest upsampling, `max`, ReLU at 0) or take several passes over memory.

#[macro_use]
mod kernel;

mod batch_norm;
mod blocks;
mod check;
#[allow(unsafe_code)] // hand-vectorised kernels over raw pointers
pub mod conv;
mod cross_entropy;
mod dropout;
mod element_loss;
mod focal_loss;
#[allow(unsafe_code)] // SIMD intrinsics
pub mod gemm;
mod grid_sample;
mod group_norm;
mod interpolate;
mod math;
mod max_pool;
mod nms;
mod pixel_shuffle;
mod relu;
mod resample;
mod roi_align;
mod roi_pool;
mod softmax;
mod sort;
mod unary;

pub use batch_norm::{batch_norm, batch_norm_act, batch_norm_train, batch_norm_train_act};
pub use conv::{Conv2dConfig, PackedCache, PackedConv2d, conv_transpose2d, conv2d, fold_batch_norm};
pub use cross_entropy::cross_entropy;
pub use dropout::{drop_path, dropout, dropout_channels};
pub use element_loss::{bce_with_logits, l1_loss, mse_loss, smooth_l1_loss};
pub use focal_loss::{focal_loss, sigmoid_focal_loss};
pub use gemm::{Act, linear};
pub use grid_sample::{SampleMode, SamplePadding, grid_sample};
pub use group_norm::{group_norm, instance_norm, layer_norm};
pub use interpolate::{interpolate_bilinear, interpolate_nearest};
pub use max_pool::{
    MaxPoolConfig, adaptive_max_pool, adaptive_max_pool2d, max_pool, max_pool_with_indices, max_pool2d, max_unpool2d,
};
pub use nms::{NmsConfig, NmsType, SoftNmsMethod, batched_nms, nms, soft_nms};
pub use pixel_shuffle::{pixel_shuffle, pixel_unshuffle};
pub use relu::{add_relu, relu};
pub use resample::{
    AvgPoolOptions, adaptive_avg_pool, adaptive_avg_pool2d, avg_pool, avg_pool2d, interpolate_area,
    interpolate_bicubic, interpolate_linear, interpolate_nearest_nd,
};
pub use roi_align::{PoolMode, RoiAlignConfig, roi_align};
pub use roi_pool::roi_pool;
pub use softmax::{log_softmax, softmax, softmax_last};
pub use sort::{cumsum, sort_desc, topk};
pub use unary::{
    clamp, elu, gelu, gelu_tanh, hardsigmoid, hardswish, hardtanh, leaky_relu, mish, prelu, relu6, sigmoid, silu,
    softplus, tanh,
};

#[cfg(test)]
mod testing;
