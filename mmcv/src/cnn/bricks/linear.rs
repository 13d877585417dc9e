//! The linear layer.

use candle_core::{Result, Tensor};

use crate::cnn::flops;
use crate::nn::{Init, Param, VarBuilder};
use crate::ops;

/// `x wᵀ + b`, PyTorch's `Linear`. Keys: `weight` `[out, in]`, `bias` `[out]`.
#[derive(Debug)]
pub struct Linear {
    weight: Param,
    bias: Option<Param>,
    path: String,
}

impl Linear {
    /// A layer at `vb`. Weights start as PyTorch's.
    pub fn new(in_features: usize, out_features: usize, bias: bool, vb: &VarBuilder) -> Result<Self> {
        let vb = vb.layer("Linear");
        let init = Init::torch_default(in_features);
        Ok(Self {
            weight: vb.param("weight", (out_features, in_features), init)?,
            bias: bias.then(|| vb.param("bias", out_features, init)).transpose()?,
            path: vb.path().to_owned(),
        })
    }

    /// `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = self.weight.get();
        let y = ops::linear(x, &weight, self.bias.as_ref().map(Param::get).as_ref())
            .map_err(|e| e.context(format!("in {}", self.path)))?;
        flops::record(&self.path, "Linear", || {
            let per_value = weight.dims()[1] + usize::from(self.bias.is_some());
            (y.elem_count() * per_value) as u64
        });
        Ok(y)
    }
}
