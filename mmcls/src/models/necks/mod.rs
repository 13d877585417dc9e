//! Necks: feature maps to feature vectors.

mod gap;
mod gem;

use candle_core::{Result, Tensor};
use mmcv::nn::VarBuilder;
use mmcv::registry::registry;

pub use gap::{GlobalAveragePooling, GlobalAveragePoolingConfig};
pub use gem::{GeneralizedMeanPooling, GeneralizedMeanPoolingConfig};

/// Makes something else of each of a backbone's outputs.
pub trait Neck: Send + Sync {
    /// `[B, C_l, H_l, W_l]` each to `[B, C_l]`, as a rule.
    fn forward(&self, feats: &[Tensor]) -> Result<Vec<Tensor>>;
}

registry!(
    /// What stands between backbone and head.
    pub NECKS: dyn Neck, VarBuilder
);
