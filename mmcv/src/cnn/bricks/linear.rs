//! Linear layers.

use candle_core::{Result, Tensor};

use crate::cnn::flops;
use crate::nn::{Init, Param, VarBuilder};
use crate::ops;

/// PyTorch's `Linear`. Keys: `weight`, `bias`.
pub struct Linear {
    weight: Param,
    bias: Option<Param>,
    path: String,
}

impl Linear {
    /// From `in_features` to `out_features`, with PyTorch's initial weights.
    pub fn new(in_features: usize, out_features: usize, bias: bool, vb: &VarBuilder) -> Result<Self> {
        let vb = vb.layer("Linear");
        let init = Init::torch_default(in_features);
        let weight = vb.param("weight", (out_features, in_features), init)?;
        let bias = bias.then(|| vb.param("bias", out_features, init)).transpose()?;
        Ok(Self { weight, bias, path: vb.path().to_owned() })
    }

    /// `[.., in_features]` to `[.., out_features]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Param::get);
        let y =
            ops::linear(x, &self.weight.get(), bias.as_ref()).map_err(|e| e.context(format!("in {}", self.path)))?;
        flops::record(&self.path, "Linear", || {
            let rows = (y.elem_count() / y.dim(candle_core::D::Minus1).unwrap_or(1).max(1)) as u64;
            rows * self.weight.shape().elem_count() as u64 + if bias.is_some() { y.elem_count() as u64 } else { 0 }
        });
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn keys_shapes_and_errors() {
        let vb = VarBuilder::scratch();
        let layer = Linear::new(3, 2, true, &vb.pp("fc")).unwrap();
        let names: Vec<String> = vb.store().entries().into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["fc.weight", "fc.bias"]);
        let x = Tensor::zeros((4, 5, 3), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(layer.forward(&x).unwrap().dims(), [4, 5, 2]);
        let e = layer.forward(&Tensor::zeros((4, 2), DType::F32, &Device::Cpu).unwrap()).unwrap_err().to_string();
        assert!(e.contains("in fc"), "{e}");
    }
}
