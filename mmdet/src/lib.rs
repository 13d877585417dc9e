//! Object detection: MMDetection in Rust.

pub mod apis;
pub mod core;
pub mod datasets;
pub mod evaluation;
pub mod models;
pub mod registry;
pub mod tools;

pub use registry::LOSSES;
