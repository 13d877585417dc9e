//! Necks: from a backbone's levels to the head's.

mod fpn;
mod hrfpn;
mod nas_fpn;
mod pafpn;
mod ssd_neck;

use candle_core::{Result, Tensor};
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::registry::registry;

pub use fpn::{AddExtraConvs, Fpn, FpnConfig, UpsampleConfig, UpsampleMode};
pub use hrfpn::{HrFpn, HrFpnConfig, HrPooling};
pub use nas_fpn::{NasFpn, NasFpnConfig};
pub use pafpn::{PaFpn, PaFpnConfig};
pub use ssd_neck::{L2Norm, SsdNeck, SsdNeckConfig};

/// Turns a backbone's levels into the head's.
pub trait Neck: Send + Sync {
    /// Levels `[B, C_l, H_l, W_l]`, fine to coarse, in and out.
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Tensor>>;
}

registry!(
    /// What stands between backbone and head.
    pub NECKS: dyn Neck, VarBuilder
);
