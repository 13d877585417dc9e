//! Boxes, anchors, assigners, samplers, coders, post-processing.

pub mod anchor;
pub mod bbox;
pub mod mask;
pub mod post_processing;
#[cfg(test)]
pub(crate) mod testing;

mod structures;

pub use structures::{AnnInfo, AnnMask, BBox, DetBatch, DetResult, DetSample, ImgMeta, ImgNormCfg, Padding, ScoredBox};
