//! COCO annotation files and the COCO metrics.

mod api;
mod json;

pub use api::{BoxFaults, CocoAnn, CocoApi, CocoCategory, CocoImage};
