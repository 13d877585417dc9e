//! Convolution of volumes: the taps along depth become channels of a convolution of planes.

use candle_core::{DType, Result, Tensor, bail};

use super::{Conv2dConfig, conv2d};
use crate::ops::unfold::{UnfoldConfig, unfold};

/// How a kernel moves over a volume, `[depth, height, width]`. PyTorch's arguments and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv3dConfig {
    /// Steps between neighbouring outputs.
    pub stride: [usize; 3],
    /// Zeros on each side.
    pub padding: [usize; 3],
    /// Steps between neighbouring taps of the kernel.
    pub dilation: [usize; 3],
    /// Input and output channels fall into this many groups that don't see each other.
    pub groups: usize,
}

impl Default for Conv3dConfig {
    fn default() -> Self {
        Self { stride: [1; 3], padding: [0; 3], dilation: [1; 3], groups: 1 }
    }
}

/// `[N, O, OD, OH, OW]` of `x` `[N, C, D, H, W]`, `w` `[O, C/groups, kd, kh, kw]` and `b` `[O]`, as PyTorch's `F.conv3d`;
/// gradients for each input. A kernel deeper than 1 needs its depth times the input's memory.
pub fn conv3d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, cfg: &Conv3dConfig) -> Result<Tensor> {
    const OP: &str = "conv3d";
    let (&[n, c, d, height, width], &[out, per_group, kd, kh, kw]) = (x.dims(), w.dims()) else {
        bail!("{OP}: x is {:?} and w {:?}, expected [N, C, D, H, W] and [O, C/groups, kd, kh, kw]", x.dims(), w.dims());
    };
    if matches!(x.dtype(), DType::F16 | DType::BF16) {
        let to = |t: &Tensor| t.to_dtype(DType::F32);
        return conv3d(&to(x)?, &to(w)?, b.map(to).transpose()?.as_ref(), cfg)?.to_dtype(x.dtype());
    }
    // What the planes' convolution would refuse in terms of the folded channels.
    if cfg.groups == 0 || c != per_group * cfg.groups {
        bail!(
            "{OP}: w {:?} with {} groups expects {} channels, x is {:?}",
            w.dims(),
            cfg.groups,
            per_group * cfg.groups,
            x.dims()
        );
    }
    let [[sd, sh, sw], [pd, ph, pw], [dd, dh, dw]] = [cfg.stride, cfg.padding, cfg.dilation];
    let depth = UnfoldConfig { kernel: [kd, 1], stride: [sd, 1], padding: [pd, 0], dilation: [dd, 1] };
    let (slices, od) = if kd == 1 && sd == 1 && pd == 0 {
        (x.transpose(1, 2)?, d)
    } else {
        let columns =
            unfold(&x.contiguous()?.reshape((n, c, d, height * width))?, &depth).map_err(|e| e.context(OP))?;
        let od = depth.windows([d, 1])?[0];
        (columns.reshape((n, c * kd, od, height, width))?.transpose(1, 2)?, od)
    };
    let slices = slices.contiguous()?.reshape((n * od, c * kd, height, width))?;
    let planes = Conv2dConfig { stride: [sh, sw], padding: [ph, pw], dilation: [dh, dw], groups: cfg.groups };
    let w = w.contiguous()?.reshape((out, per_group * kd, kh, kw))?;
    let y = conv2d(&slices, &w, b, &planes).map_err(|e| e.context(OP))?;
    let (_, _, oh, ow) = y.dims4()?;
    y.reshape((n, od, out, oh, ow))?.transpose(1, 2)?.contiguous()
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{golden, tensor};
    use super::*;

    // tests/golden/ops/make.py conv3d
    #[test]
    fn values_and_gradients_are_torchs() {
        for case in golden("conv3d") {
            let three = |name: &str| <[usize; 3]>::try_from(case.list(name)).unwrap();
            let cfg = Conv3dConfig {
                stride: three("stride"),
                padding: three("padding"),
                dilation: three("dilation"),
                groups: case.size("groups"),
            };
            case.check("y", &["x", "w", "b"], |t| conv3d(&t["x"], &t["w"], Some(&t["b"]), &cfg));
        }
    }

    #[test]
    fn empty_batches_and_wrong_channels() {
        let w = tensor(&[1.0; 2 * 3 * 8], &[2, 3, 2, 2, 2]);
        let y = conv3d(&tensor(&[], &[0, 3, 4, 4, 4]), &w, None, &Conv3dConfig::default()).unwrap();
        assert_eq!(y.dims(), &[0, 2, 3, 3, 3]);
        let e = conv3d(&tensor(&[0.0; 64], &[1, 1, 4, 4, 4]), &w, None, &Conv3dConfig::default()).unwrap_err();
        assert!(e.to_string().contains("expects 3 channels, x is [1, 1, 4, 4, 4]"), "{e}");
    }
}
