//! Convolution over one axis: a convolution of planes of height 1.

use candle_core::{Result, Tensor, bail};

use super::{Conv2dConfig, conv2d};

/// How a kernel moves along its axis. PyTorch's arguments and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv1dConfig {
    /// Step between neighbouring outputs.
    pub stride: usize,
    /// Zeros at each end.
    pub padding: usize,
    /// Step between neighbouring taps of the kernel.
    pub dilation: usize,
    /// Input and output channels fall into this many groups that don't see each other.
    pub groups: usize,
}

impl Default for Conv1dConfig {
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1, groups: 1 }
    }
}

/// `[N, O, OL]` of `x` `[N, C, L]`, `w` `[O, C/groups, k]` and `b` `[O]`, as PyTorch's `F.conv1d`; gradients for each input.
pub fn conv1d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, cfg: &Conv1dConfig) -> Result<Tensor> {
    if x.rank() != 3 || w.rank() != 3 {
        bail!("conv1d: x is {:?} and w {:?}, expected [N, C, L] and [O, C/groups, k]", x.dims(), w.dims());
    }
    let cfg = Conv2dConfig {
        stride: [1, cfg.stride],
        padding: [0, cfg.padding],
        dilation: [1, cfg.dilation],
        groups: cfg.groups,
    };
    conv2d(&x.unsqueeze(2)?, &w.unsqueeze(2)?, b, &cfg).map_err(|e| e.context("conv1d"))?.squeeze(2)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::golden;
    use super::*;

    // tests/golden/ops/make.py conv1d
    #[test]
    fn values_and_gradients_are_torchs() {
        for case in golden("conv1d") {
            let cfg = Conv1dConfig {
                stride: case.size("stride"),
                padding: case.size("padding"),
                dilation: case.size("dilation"),
                groups: case.size("groups"),
            };
            case.check("y", &["x", "w", "b"], |t| conv1d(&t["x"], &t["w"], Some(&t["b"]), &cfg));
        }
    }
}
