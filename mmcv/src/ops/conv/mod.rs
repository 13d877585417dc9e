//! Convolution, forward and backward: of planes, and by it of lines and volumes.
//!
//! * [`gather`]: the implicit GEMM behind most of it. Weights are packed as `a`; columns of the unfolded input are
//!   gathered straight into packed blocks of `b`, so the unfolded input never exists as a whole. The data gradient is the
//!   same engine over the output's gradient with transposed weights, one pass for each phase of the stride.
//! * [`wgrad`]: the weight gradient as a GEMM whose inner dimension runs over the output positions, block by block.
//! * [`depthwise`]: one input channel a group, by direct loops.
//! * [`winograd`]: 3x3 kernels of stride 1 in fewer products, forward and both gradients.
//! * [`transpose`]: the transposed convolution, whose passes are the convolution's in other roles.
//! * [`conv1d`], [`conv3d`]: by way of planes.
//! * [`op`]: these as one differentiable operation; [`packed`]: for inference, with weights packed once.

mod bias;
mod conv1d;
mod conv3d;
mod depthwise;
mod exact;
mod gather;
mod geometry;
mod op;
mod packed;
mod transpose;
mod wgrad;
#[cfg(target_arch = "x86_64")]
mod winograd;
#[cfg(target_arch = "x86_64")]
mod winograd_wgrad;

#[cfg(test)]
mod tests;

pub use conv1d::{Conv1dConfig, conv1d};
pub use conv3d::{Conv3dConfig, conv3d};
pub use exact::set_exact;
pub use geometry::Conv2dConfig;
pub use op::conv2d;
pub use packed::{PackedCache, PackedConv2d, fold_batch_norm};
pub use transpose::conv_transpose2d;
