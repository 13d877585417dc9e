//! Heads: features to scores and losses.

mod cls_head;
mod linear_head;
mod multi_label_head;
mod stacked_head;

use candle_core::{Result, Tensor};
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::ops;
use mmcv::registry::registry;
use mmcv::runner::Losses;

pub use cls_head::{ClsHead, ClsHeadConfig};
pub use linear_head::{LinearClsHead, LinearClsHeadConfig};
pub use multi_label_head::{
    MultiLabelClsHead, MultiLabelClsHeadConfig, MultiLabelLinearClsHead, MultiLabelLinearClsHeadConfig,
};
pub use stacked_head::{StackedLinearClsHead, StackedLinearClsHeadConfig};

/// A classifier's head.
pub trait Head: Send + Sync {
    /// Scores `[B, classes]` before softmax or sigmoid, from the neck's outputs (of which the last counts).
    fn logits(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Tensor>;

    /// Losses of logits; `label` is `[B]` i64, or `[B, classes]` f32.
    fn loss(&self, logits: &Tensor, label: &Tensor) -> Result<Losses>;

    /// Number of classes, where the head decides it.
    fn num_classes(&self) -> Option<usize>;

    /// Whether an image may be of several classes: scores are sigmoids then.
    fn multi_label(&self) -> bool {
        false
    }

    /// Logits as probabilities, `[B, classes]`.
    fn scores(&self, logits: &Tensor) -> Result<Tensor> {
        if self.multi_label() { ops::sigmoid(logits) } else { ops::softmax(logits, 1) }
    }
}

registry!(
    /// What makes scores and losses of features.
    pub HEADS: dyn Head, VarBuilder
);

/// The last of a backbone's or a neck's outputs.
fn last(feats: &[Tensor]) -> Result<&Tensor> {
    match feats.last() {
        Some(x) => Ok(x),
        None => candle_core::bail!("the backbone gave no output"),
    }
}
