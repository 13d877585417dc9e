//! How good detections are: COCO's metrics ([`coco`]), PASCAL VOC's mean average precision and its kin
//! ([`eval_map`]), and the recall of proposals ([`eval_recalls`]).
//!
//! [`evaluate`] picks what a data set's kind calls for; its options are those of a config's `evaluation`.

mod bbox_overlaps;
pub mod coco;
mod custom;
mod evaluate;
#[cfg(test)]
mod map_golden;
mod mean_ap;
mod numeric;
mod recall;
mod report;
#[cfg(test)]
mod synthetic;
mod table;
mod tpfp;
mod tpfp_openimages;

pub use bbox_overlaps::{OverlapMode, bbox_overlaps};
pub use custom::{MapDataset, MapEvaluateConfig, evaluate_map};
pub use evaluate::evaluate;
pub use mean_ap::{ApMode, ClassMap, EvalMapOptions, MapResult, MapRules, average_precision, eval_map};
pub use numeric::{coco_iou_thrs, linspace};
pub use recall::{Recalls, eval_recalls};
pub use report::{Evaluation, MetricValue, OneOrMany, TestResults};
