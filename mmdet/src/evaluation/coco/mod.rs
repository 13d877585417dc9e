//! COCO annotation files and the COCO metrics.

mod api;
mod eval;
#[cfg(test)]
mod golden;
mod json;
mod matching;
mod params;
mod summary;

pub use api::{BoxFaults, CocoAnn, CocoApi, CocoCategory, CocoImage};
pub use eval::{CocoDet, CocoEval};
pub use params::{CocoEvalParams, IouType};
pub use summary::CocoSummary;
