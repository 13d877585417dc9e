//! COCO annotation files and the COCO metrics.

mod api;
mod eval;
mod evaluate;
#[cfg(test)]
mod golden;
mod json;
mod matching;
mod params;
mod results;
mod summary;

pub use api::{BoxFaults, CocoAnn, CocoApi, CocoCategory, CocoImage};
pub use eval::{CocoDet, CocoEval};
pub use evaluate::{CocoEvaluateConfig, evaluate_coco};
pub use params::{CocoEvalParams, IouType};
pub(crate) use results::has_masks;
pub use results::{coco_records, read_results, results_of_records, results2json, write_records};
pub use summary::CocoSummary;
