//! Data sets and their pipelines.
pub mod shapes;
