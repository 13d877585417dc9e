//! How well scores fit labels.

mod accuracy;
mod evaluate;
mod multi_label;
mod precision_recall;

pub use mmcv::config::OneOrMany;

pub use accuracy::accuracy;
pub use evaluate::{EvaluateConfig, Metrics, evaluate, evaluate_dataset};
pub use multi_label::{
    MultiLabelEvaluateConfig, MultiLabelMetricOptions, Performance, average_performance, average_precision,
    evaluate_multi_label, mean_average_precision,
};
pub use precision_recall::{Averages, precision_recall_f1, support};
