//! Classifiers: backbone, neck and head as one model.

mod image;

use candle_core::{Result, Tensor};
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
}

registry!(
    /// Whole models.
    pub CLASSIFIERS: dyn Classifier, VarBuilder
);

/// The classifier that a config's `model` names.
pub fn build_classifier(model: &Node, vb: VarBuilder) -> mmcv::Result<Box<dyn Classifier>> {
    registry::build_at(&CLASSIFIERS, "model", model, vb)
}
