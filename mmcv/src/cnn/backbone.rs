//! What a backbone is.

use candle_core::{Result, Tensor};

use crate::nn::Ctx;

/// Turns an image into feature maps.
pub trait Backbone: Send + Sync {
    /// # Shapes
    /// - `x`: `[B, C, H, W]`
    /// - output: one `[B, C_l, H_l, W_l]` for each level that the config's `out_indices` names, fine to coarse
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>>;
}
