//! How good detections are.

pub mod coco;
mod numeric;
#[cfg(test)]
mod synthetic;

pub use numeric::{coco_iou_thrs, linspace};
