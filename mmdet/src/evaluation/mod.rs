//! How good detections are: COCO's metrics ([`coco`]), PASCAL VOC's mean average precision and its kin
//! ([`eval_map`]), and the recall of proposals ([`eval_recalls`]).
//!
//! A closer look: [`confusion_matrix`], [`good_and_bad`] images, and the curves of [`MapResult`] and of COCO's evaluation.
//!
//! [`evaluate`] picks what a data set's kind calls for; its options are those of a config's `evaluation`.

mod analyze;
mod bbox_overlaps;
pub mod coco;
mod confusion_matrix;
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

pub use analyze::{good_and_bad, image_map};
pub use bbox_overlaps::{OverlapMode, bbox_overlaps};
pub use confusion_matrix::{ConfusionOptions, confusion_matrix};
pub use custom::{MapDataset, MapEvaluateConfig, evaluate_map};
pub use evaluate::evaluate;
pub use mean_ap::{ApMode, ClassMap, EvalMapOptions, MapResult, MapRules, average_precision, eval_map};
pub use numeric::{coco_iou_thrs, linspace};
pub use recall::{Recalls, eval_recalls};
pub use report::{Evaluation, MetricValue, OneOrMany, TestResults};
