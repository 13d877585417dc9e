//! Boxes, anchors, assigners, samplers, coders, post-processing.

pub mod mask;

mod structures;

pub use structures::{AnnInfo, AnnMask, BBox, DetBatch, DetResult, DetSample, ImgMeta, ImgNormCfg, Padding, ScoredBox};
