//! How well scores fit labels.

mod accuracy;
mod evaluate;
mod precision_recall;

pub use mmcv::config::OneOrMany;

pub use accuracy::accuracy;
pub use evaluate::{EvaluateConfig, Metrics, evaluate};
pub use precision_recall::{Averages, precision_recall_f1, support};
