//! Losses with mmdet's numerics: element-wise loss, weight, reduction, `loss_weight`.
//!
//! Each element-wise loss is one custom op: a pass over the elements forward and one backward,
//! where a chain of tensor calls would keep every intermediate. Gradients flow to the prediction only;
//! targets are constants in every detector here.

mod ae_loss;
mod balanced_l1_loss;
mod bounded_iou_loss;
mod cross_entropy_loss;
mod dual;
mod element;
mod focal_loss;
mod gaussian_focal_loss;
mod gfocal_loss;
mod ghm_loss;
mod iou_loss;
pub(super) mod pairwise;
mod seesaw_loss;
mod smooth_l1_loss;
#[cfg(test)]
mod tests;
mod utils;
mod varifocal_loss;

pub use ae_loss::{AssociativeEmbeddingLoss, AssociativeEmbeddingLossConfig, Corners};
pub use balanced_l1_loss::{BalancedL1Loss, BalancedL1LossConfig, balanced_l1_loss};
pub use bounded_iou_loss::{BoundedIoULoss, BoundedIoULossConfig, bounded_iou_loss};
pub use cross_entropy_loss::{
    CrossEntropyLoss, CrossEntropyLossConfig, binary_cross_entropy, cross_entropy, mask_cross_entropy,
};
pub use focal_loss::{FocalLoss, FocalLossConfig};
pub use gaussian_focal_loss::{GaussianFocalLoss, GaussianFocalLossConfig, gaussian_focal_loss};
pub use gfocal_loss::{
    DistributionFocalLoss, DistributionFocalLossConfig, QualityFocalLoss, QualityFocalLossConfig,
    distribution_focal_loss, quality_focal_loss,
};
pub use ghm_loss::{GHMC, GHMCConfig, GHMR, GHMRConfig};
pub use iou_loss::{
    BoxLossConfig, CIoULoss, DIoULoss, GIoULoss, IoULoss, IoULossConfig, IoUMode, ciou_loss, diou_loss, giou_loss,
    iou_loss,
};
pub use mmcv::ops::bce_with_logits;
pub use seesaw_loss::{SeesawLoss, SeesawLossConfig};
pub use smooth_l1_loss::{
    L1Loss, L1LossConfig, MSELoss, MSELossConfig, SmoothL1Loss, SmoothL1LossConfig, l1_loss, mse_loss, smooth_l1_loss,
};
pub use utils::{Loss, Reduction, build_loss, weight_reduce_loss, zero_loss};
pub use varifocal_loss::{VarifocalLoss, VarifocalLossConfig, varifocal_loss};
