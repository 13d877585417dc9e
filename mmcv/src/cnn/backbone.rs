//! What a backbone is.

use candle_core::{Result, Tensor, bail};

use crate::nn::Ctx;

/// Turns an image into feature maps.
pub trait Backbone: Send + Sync {
    /// # Shapes
    /// - `x`: `[B, C, H, W]`
    /// - output: one `[B, C_l, H_l, W_l]` for each level that the config's `out_indices` names, fine to coarse
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>>;

    /// Those of [`Backbone::forward`]'s outputs that come behind stage `stage` (as `out_indices` counts), from that stage's own
    /// output `x`. An error for a backbone that can't be entered there.
    fn forward_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let _ = (x, ctx);
        bail!("this backbone can't be entered behind stage {stage}")
    }
}
