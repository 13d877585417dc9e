//! mmcls's `gap.py`.

use candle_core::{Result, Tensor};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{NECKS, Neck};

/// `type = "GlobalAveragePooling"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GlobalAveragePoolingConfig {
    /// Axes of space, 1 to 3; default 2.
    #[serde(default = "two")]
    pub dim: usize,
}

fn two() -> usize {
    2
}

/// The mean over space of each channel.
pub struct GlobalAveragePooling(usize);

impl GlobalAveragePooling {
    /// An error unless there are 1 to 3 axes.
    pub fn new(cfg: &GlobalAveragePoolingConfig) -> mmcv::Result<Self> {
        if !(1..=3).contains(&cfg.dim) {
            return Err(mmcv::Error::config(format!("is {}, expected 1, 2 or 3", cfg.dim)).under("dim"));
        }
        Ok(Self(cfg.dim))
    }
}

impl Neck for GlobalAveragePooling {
    fn forward(&self, feats: &[Tensor]) -> Result<Vec<Tensor>> {
        let one = |x: &Tensor| {
            if x.rank() != self.0 + 2 {
                candle_core::bail!("GlobalAveragePooling: {:?} has not {} axes of space", x.dims(), self.0);
            }
            x.flatten_from(2)?.mean(2)
        };
        feats.iter().map(one).collect()
    }
}

register!(NECKS: dyn Neck, "GlobalAveragePooling" => GlobalAveragePooling(GlobalAveragePoolingConfig));
