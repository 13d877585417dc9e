//! Classifiers: backbone, neck and head as one model.

mod image;

use candle_core::{Result, Tensor, bail};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::registry::{self, registry};
use mmcv::runner::Losses;

pub use image::{ImageClassifier, ImageClassifierConfig};

use crate::datasets::ClsBatch;

/// A classifier.
pub trait Classifier: Send + Sync {
    /// What backbone and neck make of `[B, C, H, W]`.
    fn extract_feat(&self, img: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>>;

    /// Scores `[B, classes]` before softmax or sigmoid.
    fn logits(&self, img: &Tensor, ctx: &Ctx) -> Result<Tensor>;

    /// Training losses.
    fn forward_train(&self, batch: &ClsBatch, ctx: &Ctx) -> Result<Losses>;

    /// Probabilities `[B, classes]`, without a graph.
    fn simple_test(&self, img: &Tensor) -> Result<Tensor>;

    /// Number of classes, where the config decides it.
    fn num_classes(&self) -> Option<usize>;

    /// What the backbone alone makes of `[B, C, H, W]`. An error for a classifier that has none to look into.
    fn backbone_feats(&self, img: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let _ = (img, ctx);
        bail!("this classifier doesn't show what its backbone puts out")
    }

    /// The backbone's outputs behind its stage `stage`, from that stage's output ([`mmcv::cnn::Backbone::forward_behind`]).
    fn feats_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let _ = (x, ctx);
        bail!("this classifier can't be entered behind stage {stage}")
    }

    /// [`Classifier::logits`] from the backbone's outputs.
    fn logits_of(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Tensor> {
        let _ = (feats, ctx);
        bail!("this classifier doesn't take what a backbone puts out")
    }
}

registry!(
    /// Whole models.
    pub CLASSIFIERS: dyn Classifier, VarBuilder
);

/// The classifier that a config's `model` names.
pub fn build_classifier(model: &Node, vb: VarBuilder) -> mmcv::Result<Box<dyn Classifier>> {
    registry::build_at(&CLASSIFIERS, "model", model, vb)
}
