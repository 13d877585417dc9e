//! `UPSAMPLE_LAYERS`: what `upsample_cfg` chooses from (mmcv `upsample.py`).

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::conv::{Conv2d, ConvLayer as _, ConvSpec};
use super::pair::Pair;
use crate::config::Node;
use crate::error::Error;
use crate::nn::{Ctx, Init, VarBuilder};
use crate::ops;
use crate::registry::{self, register, registry};

/// A layer that enlarges.
pub trait UpsampleLayer: Send + Sync {
    /// `[B, C, H, W]` to `[B, C', H', W']`.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor>;
}

registry!(
    /// Layers that enlarge (`upsample_cfg`).
    pub UPSAMPLE_LAYERS: dyn UpsampleLayer, VarBuilder
);

/// The layer that `upsample_cfg` names.
pub fn build_upsample_layer(cfg: &Node, vb: VarBuilder) -> crate::Result<Box<dyn UpsampleLayer>> {
    registry::build_at(&UPSAMPLE_LAYERS, "upsample_cfg", cfg, vb)
}

/// `type = "nearest"` and `"bilinear"`: PyTorch's `Upsample`. One of `size` and `scale_factor` must be given.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InterpolateConfig {
    /// Height and width that come out.
    #[serde(default)]
    pub size: Option<Pair>,
    /// Factor of height and width, or one for each.
    #[serde(default)]
    pub scale_factor: Option<Factor>,
    /// Whether corner values stay at the corners (`bilinear` only); default false.
    #[serde(default)]
    pub align_corners: Option<bool>,
    /// Whether positions are computed from the sizes in place of the factor; default false.
    #[serde(default)]
    pub recompute_scale_factor: Option<bool>,
}

/// A factor for both axes, or one for each.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Factor {
    /// The same for both.
    Both(f64),
    /// `[vertical, horizontal]`.
    Each([f64; 2]),
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Size([usize; 2]),
    Factor([f64; 2], bool),
}

impl Target {
    fn new(cfg: &InterpolateConfig) -> crate::Result<Self> {
        match (cfg.size, cfg.scale_factor) {
            (Some(size), None) => Ok(Self::Size(size.get())),
            (None, Some(factor)) => {
                let factors = match factor {
                    Factor::Both(f) => [f; 2],
                    Factor::Each(each) => each,
                };
                if factors.iter().any(|f| !(*f > 0.0 && f.is_finite())) {
                    return Err(
                        Error::config(format!("is {factors:?}, expected numbers above 0")).under("scale_factor")
                    );
                }
                Ok(Self::Factor(factors, cfg.recompute_scale_factor.unwrap_or(false)))
            }
            _ => Err(Error::config("one of size and scale_factor must be given, not both")),
        }
    }

    /// The output's size where that decides every position; `None` where the factor does.
    fn size(self, x: &Tensor) -> Result<Option<(usize, usize)>> {
        let (_, _, h, w) = x.dims4()?;
        match self {
            Self::Size([h, w]) => Ok(Some((h, w))),
            Self::Factor([fh, fw], recompute) => {
                let (oh, ow) = (h as f64 * fh, w as f64 * fw);
                let whole = oh.fract() == 0.0 && ow.fract() == 0.0;
                Ok((whole || recompute).then_some((oh as usize, ow as usize)))
            }
        }
    }
}

/// Repeats values.
#[derive(Debug)]
pub struct NearestUpsample(Target);

impl NearestUpsample {
    /// Refuses a config without a size, or with `align_corners`.
    pub fn new(cfg: &InterpolateConfig) -> crate::Result<Self> {
        if cfg.align_corners.is_some() {
            return Err(Error::config("is for bilinear only").under("align_corners"));
        }
        Target::new(cfg).map(Self)
    }
}

impl UpsampleLayer for NearestUpsample {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        match (self.0.size(x)?, self.0) {
            (None, Target::Factor(factors, _)) => ops::upsample_nearest(x, factors),
            (size, _) => ops::interpolate_nearest(x, size.unwrap_or_default()),
        }
    }
}

/// Mixes the four nearest values.
#[derive(Debug)]
pub struct BilinearUpsample(Target, bool);

impl BilinearUpsample {
    /// Refuses a config without a size.
    pub fn new(cfg: &InterpolateConfig) -> crate::Result<Self> {
        Ok(Self(Target::new(cfg)?, cfg.align_corners.unwrap_or(false)))
    }
}

impl UpsampleLayer for BilinearUpsample {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        match (self.0.size(x)?, self.0) {
            (None, Target::Factor(factors, _)) => ops::upsample_bilinear(x, factors, self.1),
            (size, _) => ops::interpolate_bilinear(x, size.unwrap_or_default(), self.1),
        }
    }
}

/// `type = "pixel_shuffle"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PixelShufflePackConfig {
    /// Channels in.
    pub in_channels: usize,
    /// Channels out.
    pub out_channels: usize,
    /// Factor of height and width.
    pub scale_factor: usize,
    /// Kernel of the convolution that makes the channels.
    pub upsample_kernel: usize,
}

/// A convolution to `out * factor²` channels, then pixel shuffle (Shi et al., CVPR 2016). Keys: `upsample_conv.*`.
#[derive(Debug)]
pub struct PixelShufflePack {
    upsample_conv: Conv2d,
    factor: usize,
}

impl PixelShufflePack {
    /// Weights start Xavier uniform, bias 0, as mmcv's.
    pub fn new(cfg: &PixelShufflePackConfig, vb: VarBuilder) -> Result<Self> {
        let (from, to, k) =
            (cfg.in_channels, cfg.out_channels * cfg.scale_factor * cfg.scale_factor, cfg.upsample_kernel);
        let bound = (6.0 / ((from + to) * k * k).max(1) as f64).sqrt();
        let spec = ConvSpec {
            init: Some(Init::Uniform(-bound, bound)),
            ..ConvSpec::new(from, to, k).padding(k.saturating_sub(1) / 2).bias(true)
        };
        Ok(Self { upsample_conv: Conv2d::from_spec(spec, &vb.pp("upsample_conv"))?, factor: cfg.scale_factor })
    }
}

impl UpsampleLayer for PixelShufflePack {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        ops::pixel_shuffle(&self.upsample_conv.forward(x, ctx)?, self.factor)
    }
}

register!(UPSAMPLE_LAYERS: dyn UpsampleLayer, "nearest" => NearestUpsample(InterpolateConfig));
register!(UPSAMPLE_LAYERS: dyn UpsampleLayer, "bilinear" => BilinearUpsample(InterpolateConfig));
register!(UPSAMPLE_LAYERS: dyn UpsampleLayer, "pixel_shuffle" => PixelShufflePack, PixelShufflePackConfig);

#[cfg(test)]
#[allow(clippy::excessive_precision)] // printed numbers
mod tests {
    use super::*;
    use crate::ops::testing::{close, var, wave, weighted_grad};
    use crate::testing::fill_by_name;

    /// Output, and the input's gradient of its sum weighted by `cos(1.1 i)`.
    fn run(cfg: &str, shape: &[usize]) -> (Tensor, Tensor) {
        let vb = VarBuilder::scratch();
        let layer = build_upsample_layer(&Node::from_json(cfg).unwrap(), vb.clone()).unwrap();
        fill_by_name(vb.store()).unwrap();
        let x = var(&wave(shape).flatten_all().unwrap().to_vec1::<f32>().unwrap(), shape);
        let y = layer.forward(&x, &Ctx::eval()).unwrap();
        let dx = weighted_grad(&y, &x);
        (y, dx)
    }

    // l = build_upsample_layer(cfg) with weights by name; y = l(x = wave(shape)); (y * cos(1.1 i)).sum().backward(); x.grad
    #[test]
    #[rustfmt::skip]
    fn nearest_by_a_whole_factor() {
        let (y, dx) = run(r#"{"type": "nearest", "scale_factor": 2}"#, &[1, 2, 2, 2]);
        close(&y, &[0.1, 0.1, 0.69824791, 0.69824791, 0.1, 0.1, 0.69824791, 0.69824791, 0.92008537, 0.92008537, 0.77209634, 0.77209634, 0.92008537, 0.92008537, 0.77209634, 0.77209634, 0.2392222, 0.2392222, -0.25166294, -0.25166294, 0.2392222, 0.2392222, -0.25166294, -0.25166294, -0.88437212, -0.88437212, -0.95239335, -0.95239335, -0.88437212, -0.88437212, -0.95239335, -0.95239335]);
        close(&dx, &[1.854933, -0.47237447, -1.0565147, -0.75771815, -0.14106968, 1.7015343, 1.2853559, -2.0024869]);
    }

    #[test]
    #[rustfmt::skip]
    fn nearest_by_a_broken_factor() {
        let (y, dx) = run(r#"{"type": "nearest", "scale_factor": 1.7}"#, &[1, 1, 3, 4]);
        close(&y, &[0.1, 0.1, 0.69824791, 0.69824791, 0.92008537, 0.92008537, 0.1, 0.1, 0.69824791, 0.69824791, 0.92008537, 0.92008537, 0.2392222, 0.2392222, -0.25166294, -0.25166294, -0.88437212, -0.88437212, 0.2392222, 0.2392222, -0.25166294, -0.25166294, -0.88437212, -0.88437212, -0.59208089, -0.59208089, 0.094482496, 0.094482496, 0.74321848, 0.74321848]);
        close(&dx, &[2.5572026, -3.2762651, 1.2989688, 0.0, 0.76362467, -3.1010008, 2.8862603, 0.0, -0.41598907, -1.0920591, 1.701345, 0.0]);
    }

    #[test]
    #[rustfmt::skip]
    fn bilinear_by_a_whole_factor() {
        let (y, dx) = run(r#"{"type": "bilinear", "scale_factor": 2, "align_corners": true}"#, &[1, 1, 2, 3]);
        close(&y, &[0.1, 0.33929917, 0.57859832, 0.7426154, 0.83135039, 0.92008537, 0.32403213, 0.41251501, 0.50099784, 0.54209191, 0.53579724, 0.52950257, 0.54806423, 0.48573086, 0.42339745, 0.34156853, 0.24024418, 0.13891982, 0.77209634, 0.55894673, 0.34579703, 0.14104515, -0.055308897, -0.25166297]);
        close(&dx, &[1.9138244, -2.4879603, 1.151391, 0.74314559, -2.3771081, 2.185498]);
    }

    #[test]
    #[rustfmt::skip]
    fn bilinear_by_broken_factors() {
        let (y, dx) = run(r#"{"type": "bilinear", "scale_factor": [1.7, 2.3]}"#, &[1, 1, 3, 2]);
        close(&y, &[0.1, 0.19103771, 0.4511455, 0.69824791, 0.41356209, 0.46118063, 0.59723371, 0.72648412, 0.89596528, 0.87678516, 0.82198477, 0.76992434, 0.53960299, 0.48792359, 0.34026816, 0.1999955, 0.2392222, 0.16452229, -0.048906017, -0.25166294]);
        close(&dx, &[1.5192149, -0.73568302, -1.1336344, 0.48372349, 1.5477974, -0.68865633]);
    }

    #[test]
    #[rustfmt::skip]
    fn bilinear_to_a_size() {
        let (y, dx) = run(r#"{"type": "bilinear", "size": [3, 5]}"#, &[1, 1, 2, 3]);
        close(&y, &[0.1, 0.33929917, 0.69824791, 0.83135039, 0.92008537, 0.43604818, 0.44912294, 0.46873504, 0.38802075, 0.33421123, 0.77209634, 0.55894661, 0.23922215, -0.055308923, -0.25166294]);
        close(&dx, &[1.9115622, -0.69753951, -1.5877444, 1.179754, 1.2028354, -1.7381449]);
    }

    #[test]
    #[rustfmt::skip]
    fn pixel_shuffle() {
        let (y, dx) = run(r#"{"type": "pixel_shuffle", "in_channels": 2, "out_channels": 1, "scale_factor": 2, "upsample_kernel": 3}"#, &[1, 2, 2, 3]);
        close(&y, &[1.065766, 0.66954374, 1.1727614, 0.64615405, 0.32822376, 0.34876445, -0.37190872, -0.6584993, -0.12462501, -0.52301198, -0.4871321, -0.54819107, 0.28899467, -0.48872074, -0.10738967, -1.1459658, 0.07022202, -0.58697194, -0.64289296, -0.71373129, -0.36010945, -0.55246937, 0.62304628, -0.054313272]);
        close(&dx, &[0.79413193, 0.29224133, -0.0014763623, 0.96847194, -0.96735114, 0.44051492, -0.073487729, -0.64192289, 0.53226906, 0.39575815, -0.74542081, 0.83068937]);
    }

    #[test]
    #[rustfmt::skip]
    fn deconv() {
        let (y, dx) = run(r#"{"type": "deconv", "in_channels": 2, "out_channels": 2, "kernel_size": 2, "stride": 2}"#, &[1, 2, 2, 2]);
        close(&y, &[-0.020213399, -0.12806113, -0.41723216, 0.014367864, 0.021197394, -0.038217749, 0.30203295, 0.4976545, -0.6288532, 0.28055975, -0.55771482, 0.33502361, 0.44262308, 0.87596416, 0.38847616, 0.81890357, -0.00072181225, -0.12579843, 0.35370246, -0.00039081275, 0.05067189, -0.13479348, -0.36318225, -0.24241674, 0.63787258, 0.32061291, 0.6144073, 0.4049817, -0.61614203, -0.049847245, -0.55559206, 0.074501187]);
        close(&dx, &[0.25634035, 0.35804451, 0.16025525, -0.62830079, -1.0295634, -0.047637939, 0.36226177, 0.80377209]);
    }

    #[test]
    fn a_layer_without_a_size_is_refused() {
        let built = |cfg: &str| build_upsample_layer(&Node::from_json(cfg).unwrap(), VarBuilder::scratch());
        for (cfg, expected) in [
            (r#"{"type": "nearest"}"#, "one of size and scale_factor"),
            (r#"{"type": "nearest", "scale_factor": 2, "align_corners": true}"#, "upsample_cfg.align_corners"),
            (r#"{"type": "bilinear", "scale_factor": -1}"#, "upsample_cfg.scale_factor"),
            (r#"{"type": "bicubic", "scale_factor": 2}"#, "UPSAMPLE_LAYERS"),
        ] {
            let e = built(cfg).err().unwrap().to_string();
            assert!(e.contains(expected), "{e}");
        }
    }
}
