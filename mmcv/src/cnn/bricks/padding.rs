//! Padding layers (`PADDING_LAYERS`) and a `ConvModule`'s `padding_mode`.

use candle_core::{Result, Tensor, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::Node;
use crate::registry::{self, register, registry};

/// What stands outside the feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PaddingMode {
    /// Zeros.
    #[default]
    #[serde(alias = "zero")]
    Zeros,
    /// The map mirrored at its border, the border itself not repeated.
    Reflect,
    /// The border's value.
    Replicate,
    /// The map from its other side.
    Circular,
}

/// Pads `[B, C, H, W]` by `[vertical, horizontal]` values at each side.
pub fn pad2d(x: &Tensor, [v, h]: [usize; 2], mode: PaddingMode) -> Result<Tensor> {
    pad2d_sides(x, [[v, v], [h, h]], mode)
}

/// Pads `[B, C, H, W]` by `[[top, bottom], [left, right]]` values.
pub fn pad2d_sides(x: &Tensor, padding: [[usize; 2]; 2], mode: PaddingMode) -> Result<Tensor> {
    let mut y = x.clone();
    for (dim, [before, after]) in [2, 3].into_iter().zip(padding) {
        let pad = before.max(after);
        if pad == 0 {
            continue;
        }
        if mode == PaddingMode::Zeros {
            y = y.pad_with_zeros(dim, before, after)?;
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
        let index: Vec<u32> = (-(before as i64)..n + after as i64).map(|i| source(i) as u32).collect();
        y = y.contiguous()?.index_select(&Tensor::new(index, x.device())?, dim)?;
    }
    Ok(y)
}

/// A layer that widens a map.
pub trait PaddingLayer: Send + Sync {
    /// `[B, C, H, W]` to `[B, C, H + top + bottom, W + left + right]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor>;
}

registry!(
    /// Padding layers; built with `[[top, bottom], [left, right]]`.
    pub PADDING_LAYERS: dyn PaddingLayer, [[usize; 2]; 2]
);

/// The padding layer that `cfg` names (`zero`, `reflect`, `replicate`).
pub fn build_padding_layer(cfg: &Node, padding: [[usize; 2]; 2]) -> crate::Result<Box<dyn PaddingLayer>> {
    registry::build(&PADDING_LAYERS, cfg, padding)
}

/// A padding layer's config: no fields of its own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PaddingConfig {}

macro_rules! layers {
    ($($(#[$doc:meta])* $name:ident: $registered:literal => $mode:ident;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $name([[usize; 2]; 2]);

            impl $name {
                /// A layer of this padding.
                pub fn new(_: &PaddingConfig, padding: [[usize; 2]; 2]) -> Result<Self> {
                    Ok(Self(padding))
                }
            }

            impl PaddingLayer for $name {
                fn forward(&self, x: &Tensor) -> Result<Tensor> {
                    pad2d_sides(x, self.0, PaddingMode::$mode)
                }
            }

            register!(PADDING_LAYERS: dyn PaddingLayer, $registered => $name, PaddingConfig);
        )*
    };
}

layers! {
    /// `type = "zero"`.
    ZeroPad2d: "zero" => Zeros;
    /// `type = "reflect"`.
    ReflectionPad2d: "reflect" => Reflect;
    /// `type = "replicate"`.
    ReplicationPad2d: "replicate" => Replicate;
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

    // build_padding_layer(dict(type='reflect'), (2, 1, 1, 0))(torch.arange(6.).view(1, 1, 2, 3))
    #[test]
    fn layers_pad_each_side_by_its_own() -> crate::Result<()> {
        let x = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((1, 1, 2, 3))?;
        let layer = build_padding_layer(&Node::from_json(r#"{"type": "reflect"}"#)?, [[1, 0], [2, 1]])?;
        let expected = [[5f32, 4., 3., 4., 5., 4.], [2., 1., 0., 1., 2., 1.], [5., 4., 3., 4., 5., 4.]];
        assert_eq!(layer.forward(&x)?.flatten_all()?.to_vec1::<f32>()?, expected.concat());
        let e =
            build_padding_layer(&Node::from_json(r#"{"type": "reflekt"}"#)?, [[0; 2]; 2]).err().unwrap().to_string();
        assert!(e.contains("did you mean 'reflect'"), "{e}");
        Ok(())
    }
}
