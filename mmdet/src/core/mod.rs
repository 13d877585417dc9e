//! Boxes, anchors, assigners, samplers, coders, post-processing.
