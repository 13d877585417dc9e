//! Backbones, necks, heads, losses, detectors.
