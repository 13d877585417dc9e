//! Padding other than by zeros (`padding_mode` of a `ConvModule`).

use candle_core::{Result, Tensor, bail};
use schemars::JsonSchema;
use serde::Deserialize;

/// What stands outside the feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PaddingMode {
    /// Zeros.
    #[default]
    Zeros,
    /// The map mirrored at its border, the border itself not repeated.
    Reflect,
    /// The border's value.
    Replicate,
    /// The map from its other side.
    Circular,
}

/// Pads `[B, C, H, W]` by `[vertical, horizontal]` values at each side.
pub fn pad2d(x: &Tensor, padding: [usize; 2], mode: PaddingMode) -> Result<Tensor> {
    let mut y = x.clone();
    for (dim, pad) in [2, 3].into_iter().zip(padding) {
        if pad == 0 {
            continue;
        }
        if mode == PaddingMode::Zeros {
            y = y.pad_with_zeros(dim, pad, pad)?;
            continue;
        }
        let n = y.dim(dim)? as i64;
        let p = pad as i64;
        let source = |i: i64| match mode {
            PaddingMode::Reflect if i < 0 => -i,
            PaddingMode::Reflect if i >= n => 2 * (n - 1) - i,
            PaddingMode::Circular => i.rem_euclid(n),
            _ => i.clamp(0, n - 1),
        };
        if n == 0 || (mode == PaddingMode::Reflect && p >= n) || (mode == PaddingMode::Circular && p > n) {
            bail!("pad2d: {mode:?} padding of {pad} needs a larger map than {:?}", x.dims());
        }
        let index: Vec<u32> = (-p..n + p).map(|i| source(i) as u32).collect();
        y = y.contiguous()?.index_select(&Tensor::new(index, x.device())?, dim)?;
    }
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    // torch.nn.functional.pad(torch.arange(3.).view(1, 1, 1, 3), (2, 2, 0, 0), mode)
    #[test]
    fn modes_are_torchs() -> Result<()> {
        let x = Tensor::new(&[[[[0f32, 1., 2.]]]], &Device::Cpu)?;
        for (mode, expected) in [
            (PaddingMode::Reflect, [2f32, 1., 0., 1., 2., 1., 0.]),
            (PaddingMode::Replicate, [0., 0., 0., 1., 2., 2., 2.]),
            (PaddingMode::Circular, [1., 2., 0., 1., 2., 0., 1.]),
            (PaddingMode::Zeros, [0., 0., 0., 1., 2., 0., 0.]),
        ] {
            assert_eq!(pad2d(&x, [0, 2], mode)?.flatten_all()?.to_vec1::<f32>()?, expected, "{mode:?}");
        }
        assert!(pad2d(&x, [0, 3], PaddingMode::Reflect).is_err());
        Ok(())
    }
}
