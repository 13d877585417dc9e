//! Models and losses.

pub mod backbones;
pub mod dense_heads;
pub mod detectors;
pub mod losses;
pub mod necks;
pub mod roi_heads;
