//! Backbones, necks, heads, losses, detectors.

pub mod losses;
