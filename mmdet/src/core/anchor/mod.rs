//! Priors: the boxes or points that predictions are relative to (mmdet `core/anchor`).

mod anchor_generator;
mod point_generator;
mod prior_generator;
mod ssd_anchor_generator;
mod utils;
mod yolo_anchor_generator;

pub use anchor_generator::{AnchorGenerator, AnchorGeneratorConfig, LegacyAnchorGenerator};
pub use point_generator::{MlvlPointGenerator, MlvlPointGeneratorConfig};
pub use prior_generator::{PRIOR_GENERATORS, Pair, PriorGenerator};
pub use ssd_anchor_generator::{
    LegacySSDAnchorGenerator, LegacySSDAnchorGeneratorConfig, SSDAnchorGenerator, SSDAnchorGeneratorConfig,
};
pub use utils::{anchor_inside_flags, images_to_levels, unmap};
pub use yolo_anchor_generator::{YOLOAnchorGenerator, YOLOAnchorGeneratorConfig};
