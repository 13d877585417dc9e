//! How good detections are.

pub mod coco;
