//! A learnt factor (mmcv `scale.py`).

use candle_core::{Result, Tensor};

use crate::nn::{Init, Param, VarBuilder};

/// Key: `scale` `[]`.
#[derive(Debug)]
pub struct Scale {
    scale: Param,
}

impl Scale {
    /// A factor that starts at `scale`.
    pub fn new(scale: f64, vb: &VarBuilder) -> Result<Self> {
        Ok(Self { scale: vb.param("scale", (), Init::Const(scale))? })
    }

    /// Any shape to the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.broadcast_mul(&self.scale.get())
    }
}
