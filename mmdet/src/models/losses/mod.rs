//! Losses with mmdet's numerics: element-wise loss, weight, reduction, `loss_weight`.
//!
//! Each element-wise loss is one custom op: a pass over the elements forward and one backward,
//! where a chain of tensor calls would keep every intermediate. Gradients flow to the prediction only;
//! targets are constants in every detector here.

mod cross_entropy_loss;
mod dual;
mod element;
mod focal_loss;
mod iou_loss;
mod smooth_l1_loss;
mod utils;

pub use cross_entropy_loss::{
    CrossEntropyLoss, CrossEntropyLossConfig, binary_cross_entropy, cross_entropy, mask_cross_entropy,
};
pub use focal_loss::{FocalLoss, FocalLossConfig};
pub use iou_loss::{
    BoxLossConfig, CIoULoss, DIoULoss, GIoULoss, IoULoss, IoULossConfig, IoUMode, ciou_loss, diou_loss, giou_loss,
    iou_loss,
};
pub use mmcv::ops::bce_with_logits;
pub use smooth_l1_loss::{
    L1Loss, L1LossConfig, MSELoss, MSELossConfig, SmoothL1Loss, SmoothL1LossConfig, l1_loss, mse_loss, smooth_l1_loss,
};
pub use utils::{Loss, Reduction, weight_reduce_loss};
