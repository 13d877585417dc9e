//! Boxes, anchors, assigners, samplers, coders, post-processing.

pub mod mask;
