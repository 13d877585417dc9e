//! Boxes: overlaps, assignment to ground truth, sampling, coding, transforms (mmdet `core/bbox`).

pub mod assigners;
pub mod coder;
pub mod iou_calculators;
pub mod match_costs;
pub mod samplers;
mod transforms;

pub use transforms::*;
