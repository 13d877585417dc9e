//! Image classification: MMClassification in Rust.

pub mod apis;
pub mod datasets;
pub mod evaluation;
pub mod models;
pub mod tools;
