//! Tensor operations with parallel CPU kernels, forward and backward.
//!
//! There are no CUDA kernels yet. All take f32 tensors of any layout and empty ones; each is one node of the graph with its
//! own backward pass, because candle's either have none, are wrong (nearest upsampling, `max`, ReLU at 0) or take several
//! passes over memory.

#[macro_use]
pub(crate) mod kernel;

mod batch_norm;
mod blocks;
mod carafe;
mod channel_shuffle;
mod check;
#[allow(unsafe_code)] // hand-vectorised kernels over raw pointers
pub mod conv;
mod corner_pool;
mod correlation;
mod cross_entropy;
mod deform_conv;
mod dropout;
mod element_loss;
mod focal_loss;
#[allow(unsafe_code)] // SIMD intrinsics
pub mod gemm;
mod grid_sample;
mod group_norm;
mod interpolate;
mod join;
mod loss_reduction;
mod masked_conv;
mod math;
mod max_pool;
mod multi_scale_deform_attn;
mod nms;
mod pixel_shuffle;
mod point_sample;
pub mod points;
mod psa_mask;
mod reduce;
mod relu;
mod resample;
mod roi_align;
mod roi_align_rotated;
mod roi_pool;
mod rotated;
mod scale_channels;
mod scatter;
mod select;
mod softmax;
mod softmax_focal_loss;
mod sort;
mod target_loss;
mod tin_shift;
mod unary;
mod unfold;
mod upfirdn2d;

pub use batch_norm::{batch_norm, batch_norm_act, batch_norm_train, batch_norm_train_act};
pub use carafe::carafe;
pub use channel_shuffle::channel_shuffle;
pub use conv::set_exact;
pub use conv::{
    Conv1dConfig, Conv2dConfig, Conv3dConfig, PackedCache, PackedConv2d, conv_transpose2d, conv1d, conv2d, conv3d,
    fold_batch_norm,
};
pub use corner_pool::{CornerPoolMode, corner_pool};
pub use correlation::{CorrelationConfig, correlation};
pub use cross_entropy::cross_entropy;
pub use deform_conv::{DeformConvConfig, deform_conv2d, modulated_deform_conv2d};
pub use dropout::{drop_path, dropout, dropout_channels};
pub use element_loss::{bce_with_logits, l1_loss, mse_loss, smooth_l1_loss};
pub use focal_loss::{focal_loss, sigmoid_focal_loss};
pub use gemm::{Act, linear};
pub use grid_sample::{SampleMode, SamplePadding, grid_sample};
pub use group_norm::{group_norm, instance_norm, layer_norm};
pub use interpolate::{interpolate_bilinear, interpolate_nearest};
pub use loss_reduction::LossReduction;
pub use masked_conv::masked_conv2d;
pub use max_pool::{
    MaxPoolConfig, adaptive_max_pool, adaptive_max_pool2d, max_pool, max_pool_with_indices, max_pool2d, max_unpool2d,
};
pub use multi_scale_deform_attn::multi_scale_deform_attn;
pub use nms::{NmsConfig, NmsType, SoftNmsMethod, batched_nms, nms, nms_match, soft_nms};
pub use pixel_shuffle::{pixel_shuffle, pixel_unshuffle};
pub use point_sample::{
    abs_img_point_to_rel_img_point, point_sample, rel_roi_point_to_abs_img_point, rel_roi_point_to_rel_img_point,
};
pub use psa_mask::{PsaMode, psa_mask};
pub use reduce::{Reduction, reduce};
pub use relu::{add_relu, relu};
pub use resample::{
    AvgPoolOptions, adaptive_avg_pool, adaptive_avg_pool2d, avg_pool, avg_pool2d, interpolate_area,
    interpolate_bicubic, interpolate_linear, interpolate_nearest_nd, upsample_bilinear, upsample_nearest,
};
pub use roi_align::{PoolMode, RoiAlignConfig, roi_align};
pub use roi_align_rotated::{RoiAlignRotatedConfig, roi_align_rotated};
pub use roi_pool::roi_pool;
pub use rotated::{RotatedBox, RotatedOverlap, box_iou_rotated, box_iou_rotated_aligned, nms_rotated, rotated_overlap};
pub use scale_channels::scale_channels;
pub use scatter::{ScatterReduce, scatter_reduce};
pub use select::{Unique, masked_select, nonzero, unique};
pub use softmax::{log_softmax, softmax, softmax_last};
pub use softmax_focal_loss::softmax_focal_loss;
pub use sort::{cumsum, sort_desc, topk};
pub use target_loss::{asymmetric_loss, sigmoid_focal_loss_of_targets};
pub use tin_shift::tin_shift;
pub use unary::{
    clamp, elu, gelu, gelu_tanh, hardsigmoid, hardswish, hardtanh, leaky_relu, mish, prelu, relu6, sigmoid, silu,
    softplus, tanh,
};
pub use unfold::{UnfoldConfig, fold, unfold};
pub use upfirdn2d::{UpFirDnConfig, fused_bias_leakyrelu, upfirdn2d};

#[cfg(test)]
pub(crate) mod testing;
