//! Dense heads: a prediction at every position of every level.

mod anchor_free_head;
mod anchor_head;
mod base_dense_head;
mod fcos_head;
mod free_anchor_retina_head;
mod retina_head;
mod retina_sepbn_head;
mod rpn_head;
mod ssd_head;

use candle_core::{Result, Tensor};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::registry::registry;
use mmcv::runner::Losses;

pub use anchor_free_head::{PointOuts, TowerArgs, Towers, point_candidates, predictor};
pub use anchor_head::{AnchorHead, AnchorHeadArgs, AnchorTrainConfig};
pub use base_dense_head::{Candidates, DenseTestConfig};
pub use fcos_head::{FcosHead, FcosHeadConfig};
pub use free_anchor_retina_head::{FreeAnchorRetinaHead, FreeAnchorRetinaHeadConfig};
pub use retina_head::{RetinaHead, RetinaHeadConfig};
pub use retina_sepbn_head::{RetinaSepBNHead, RetinaSepBNHeadConfig};
pub use rpn_head::{ProposalConfig, ProposalHead, RPN_HEADS, RpnHead, RpnHeadConfig};
pub use ssd_head::{SsdHead, SsdHeadConfig};

use crate::core::post_processing::Detections;
use crate::core::{DetBatch, ImgMeta};

/// What a head is built with beside its own config.
#[derive(Debug, Clone)]
pub struct HeadArgs {
    /// Where its parameters are.
    pub vb: VarBuilder,
    /// The detector's `train_cfg`; none for a model that only tests.
    pub train_cfg: Option<Node>,
    /// The detector's `test_cfg`.
    pub test_cfg: Option<Node>,
}

/// A head over all levels.
///
/// `outs[kind][level]` are its raw predictions: class scores, boxes, ... in the original's order.
pub trait DenseHead: Send + Sync {
    /// Raw predictions of levels `[B, C, H_l, W_l]`.
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Vec<Tensor>>>;

    /// Training losses.
    fn loss(&self, outs: &[Vec<Tensor>], batch: &DetBatch, ctx: &Ctx) -> Result<Losses>;

    /// Final boxes of each image, in the frame of the file when `rescale`.
    fn get_bboxes(&self, outs: &[Vec<Tensor>], metas: &[ImgMeta], rescale: bool) -> Result<Vec<Detections>>;

    /// Boxes of one image that was seen several times (`outs` and `meta` of each view), merged before NMS.
    fn aug_test_bboxes(&self, views: &[(Vec<Vec<Tensor>>, ImgMeta)], rescale: bool) -> Result<Detections>;

    /// Number of classes.
    fn num_classes(&self) -> usize;
}

registry!(
    /// Heads.
    pub HEADS: dyn DenseHead, HeadArgs
);
