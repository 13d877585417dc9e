//! Models and losses.

pub mod augments;
pub mod backbones;
pub mod classifiers;
pub mod heads;
pub mod losses;
pub mod necks;
