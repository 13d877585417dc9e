//! From scored boxes to detections: thresholds, suppression, merging of test-time augmentation (mmdet `core/post_processing`).

mod bbox_nms;
mod matrix_nms;
mod merge_augs;
#[cfg(test)]
mod tests;
mod topk;

pub use bbox_nms::{Detections, FastNms, fast_nms, multiclass_nms};
pub use matrix_nms::{MatrixKernel, MatrixNms, mask_matrix_nms};
pub use merge_augs::{map_back, merge_aug_bboxes, merge_aug_masks, merge_aug_proposals, merge_aug_scores};
pub use topk::{TopK, filter_scores_and_topk, sort_descending};
pub(crate) use topk::{largest, smallest};
