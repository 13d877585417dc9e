//! Detectors: backbone, neck and head as one model.

mod rpn;
mod single_stage;
mod two_stage;

use candle_core::{Result, Tensor};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::registry::{self, registry};
use mmcv::runner::Losses;

pub use rpn::{Rpn, RpnConfig};
pub use single_stage::{SingleStageConfig, SingleStageDetector};
pub use two_stage::{TwoStageConfig, TwoStageDetector};

use crate::core::{BBox, DetBatch, DetResult, ImgMeta};

/// What a detector is built with beside its own config.
#[derive(Debug, Clone)]
pub struct DetectorArgs {
    /// Where its parameters are.
    pub vb: VarBuilder,
    /// `train_cfg` from beside the model, where old configs keep it.
    pub train_cfg: Option<Node>,
    /// `test_cfg` from beside the model, where old configs keep it.
    pub test_cfg: Option<Node>,
}

/// A detector.
pub trait Detector: Send + Sync {
    /// Feature maps of `[B, 3, H, W]`, after the neck.
    fn extract_feat(&self, img: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>>;

    /// The dense head's raw predictions, `[kind][level]`.
    fn forward_head(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Vec<Tensor>>>;

    /// Raw predictions by the names that golden files give them: `head.{kind}.{level}` and the like. A second stage
    /// looks at the boxes `rois` of the first image.
    fn named_outputs(&self, feats: &[Tensor], _rois: &[BBox], ctx: &Ctx) -> Result<Vec<(String, Tensor)>> {
        Ok(by_level("head", self.forward_head(feats, ctx)?))
    }

    /// Training losses.
    fn forward_train(&self, batch: &DetBatch, ctx: &Ctx) -> Result<Losses>;

    /// Detections of a batch `[B, 3, H, W]`, in the frame of the files when `rescale`.
    fn simple_test(&self, img: &Tensor, metas: &[ImgMeta], rescale: bool) -> Result<Vec<DetResult>>;

    /// [`Detector::simple_test`] of boxes that are proposed from outside, one list per image, in the frame of `img`.
    fn test_proposals(
        &self,
        _img: &Tensor,
        _metas: &[ImgMeta],
        _proposals: &[Vec<BBox>],
        _rescale: bool,
    ) -> Result<Vec<DetResult>> {
        candle_core::bail!("this detector takes no proposals")
    }

    /// Detections of one image from several views of it, `[1, 3, H_i, W_i]` each.
    fn aug_test(&self, views: &[(Tensor, ImgMeta)], rescale: bool) -> Result<DetResult>;

    /// Number of classes.
    fn num_classes(&self) -> usize;
}

/// `prefix.{kind}.{level}` of a head's raw predictions.
fn by_level(prefix: &str, outs: Vec<Vec<Tensor>>) -> Vec<(String, Tensor)> {
    let kind = |(i, levels): (usize, Vec<Tensor>)| {
        levels.into_iter().enumerate().map(|(l, x)| (format!("{prefix}.{i}.{l}"), x)).collect::<Vec<_>>()
    };
    outs.into_iter().enumerate().flat_map(kind).collect()
}

/// The part `key` of a `train_cfg` or `test_cfg`.
fn child(cfg: Option<&Node>, key: &str) -> Option<Node> {
    cfg.and_then(|c| c.get(key)).filter(|n| !n.is_null()).cloned()
}

registry!(
    /// Whole models.
    pub DETECTORS: dyn Detector, DetectorArgs
);

/// The detector that a config's `model` names. `train_cfg` and `test_cfg` are those beside `model`; both there and in
/// `model` is an error, as in mmdet.
pub fn build_detector(
    model: &Node,
    train_cfg: Option<&Node>,
    test_cfg: Option<&Node>,
    vb: VarBuilder,
) -> mmcv::Result<Box<dyn Detector>> {
    let given = |node: Option<&Node>, key: &str| -> mmcv::Result<Option<Node>> {
        let outer = node.filter(|n| !n.is_null());
        match (outer, model.get(key).filter(|n| !n.is_null())) {
            (Some(outer), Some(_)) => {
                Err(outer.error(format!("{key} is given beside the model and inside it")).under(key))
            }
            (outer, _) => Ok(outer.cloned()),
        }
    };
    let args = DetectorArgs { vb, train_cfg: given(train_cfg, "train_cfg")?, test_cfg: given(test_cfg, "test_cfg")? };
    registry::build_at(&DETECTORS, "model", model, args)
}
