//! Squeeze-and-Excitation Networks, Hu et al., CVPR 2018 (<https://arxiv.org/abs/1709.01507>).

use candle_core::{Result, Tensor};

use super::{ConvModule, ConvSpec, Kinds};
use crate::config::Node;
use crate::nn::{Ctx, VarBuilder};
use crate::ops;

/// The multiple of `divisor` nearest to `value`, which may not be a tenth below it; mmcls's `make_divisible`.
pub fn make_divisible(value: usize, divisor: usize) -> usize {
    let divisor = divisor.max(1);
    let near = ((value + divisor / 2) / divisor * divisor).max(divisor);
    if (near as f64) < 0.9 * value as f64 { near + divisor } else { near }
}

/// Weighs each channel by what two 1x1s make of the channels' means. Keys: `conv1.conv.*`, `conv2.conv.*`.
pub struct SeLayer {
    squeeze: ConvModule,
    excite: ConvModule,
}

impl SeLayer {
    /// Of `channels`, with `squeezed` in between; the activations are those behind the two 1x1s.
    pub fn new(channels: usize, squeezed: usize, [first, last]: [&Node; 2], vb: &VarBuilder) -> crate::Result<Self> {
        let kinds = Kinds::default();
        Ok(Self {
            squeeze: kinds.with_act(ConvSpec::new(channels, squeezed, 1), Some(first), vb.pp("conv1"))?,
            excite: kinds.with_act(ConvSpec::new(squeezed, channels, 1), Some(last), vb.pp("conv2"))?,
        })
    }

    /// `[B, C, H, W]` to the same shape.
    pub fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let means = ops::adaptive_avg_pool2d(x, (1, 1))?;
        let weights = self.excite.forward(&self.squeeze.forward(&means, ctx)?, ctx)?;
        ops::scale_channels(x, &weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // [make_divisible(v, 8) for v in (1, 4, 12, 16, 20, 21, 30, 66, 256)]
    #[test]
    fn widths_are_mmcls() {
        let widths = [1, 4, 12, 16, 20, 21, 30, 66, 256].map(|v| make_divisible(v, 8));
        assert_eq!(widths, [8, 8, 16, 16, 24, 24, 32, 64, 256]);
    }
}
