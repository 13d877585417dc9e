//! How good detections are.

mod bbox_overlaps;
pub mod coco;
mod numeric;
mod recall;
mod report;
#[cfg(test)]
mod synthetic;
mod table;

pub use bbox_overlaps::{OverlapMode, bbox_overlaps};
pub use numeric::{coco_iou_thrs, linspace};
pub use recall::{Recalls, eval_recalls};
pub use report::{Evaluation, MetricValue, OneOrMany, TestResults};
