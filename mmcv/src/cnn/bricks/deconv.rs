//! Transposed convolution: `deconv` of `CONV_LAYERS` and `UPSAMPLE_LAYERS`.

use candle_core::{Result, Tensor, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use super::conv::{CONV_LAYERS, ConvArgs, ConvLayer, ConvSpec};
use super::pair::Pair;
use super::upsample::{UPSAMPLE_LAYERS, UpsampleLayer};
use crate::cnn::flops;
use crate::nn::{Ctx, Init, Param, VarBuilder};
use crate::ops::conv_transpose2d;
use crate::registry::register;

/// PyTorch's `ConvTranspose2d`. Keys: `weight` `[in, out / groups, kh, kw]`, `bias` `[out]`.
#[derive(Debug)]
pub struct ConvTranspose2d {
    weight: Param,
    bias: Option<Param>,
    spec: ConvSpec,
    output_padding: [usize; 2],
    path: String,
}

/// `type = "deconv"` as `conv_cfg`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeconvConvConfig {
    /// Rows and columns added at the bottom and right; default 0.
    #[serde(default = "Pair::zero")]
    pub output_padding: Pair,
}

/// `type = "deconv"` as `upsample_cfg`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeconvUpsampleConfig {
    /// Channels in.
    pub in_channels: usize,
    /// Channels out.
    pub out_channels: usize,
    /// Size of the window.
    pub kernel_size: Pair,
    /// Step; default 1.
    #[serde(default = "Pair::one")]
    pub stride: Pair,
    /// Taken off at each side; default 0.
    #[serde(default = "Pair::zero")]
    pub padding: Pair,
    /// Rows and columns added at the bottom and right; default 0.
    #[serde(default = "Pair::zero")]
    pub output_padding: Pair,
    /// Channel groups; default 1.
    #[serde(default = "one")]
    pub groups: usize,
    /// Whether a bias is added; default true.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Distance of the window's taps; default 1.
    #[serde(default = "Pair::one")]
    pub dilation: Pair,
}

fn one() -> usize {
    1
}
fn yes() -> bool {
    true
}

impl ConvTranspose2d {
    /// A layer of `args.spec`, for a `conv_cfg`.
    pub fn new(cfg: &DeconvConvConfig, args: ConvArgs) -> Result<Self> {
        Self::from_spec(args.spec, cfg.output_padding.get(), &args.vb)
    }

    /// A layer of `spec`. Weights start as PyTorch's unless the spec says otherwise.
    pub fn from_spec(spec: ConvSpec, output_padding: [usize; 2], vb: &VarBuilder) -> Result<Self> {
        let ConvSpec { in_channels, out_channels, kernel_size: [kh, kw], groups, .. } = spec;
        if groups == 0 || in_channels % groups != 0 || out_channels % groups != 0 {
            bail!("{}: {in_channels} to {out_channels} channels can't be split into {groups} groups", vb.path());
        }
        // PyTorch takes the fan-in from the weight's second axis, which here is the output's.
        let fan_in = out_channels / groups * kh * kw;
        let vb = vb.layer("ConvTranspose2d");
        let init = spec.init.unwrap_or(Init::torch_default(fan_in));
        let weight = vb.param("weight", (in_channels, out_channels / groups, kh, kw), init)?;
        let bias_init = if spec.init.is_some() { Init::Const(0.0) } else { Init::torch_default(fan_in) };
        let bias = spec.bias.then(|| vb.param("bias", out_channels, bias_init)).transpose()?;
        Ok(Self { weight, bias, spec, output_padding, path: vb.path().to_owned() })
    }

    fn run(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Param::get);
        let y = conv_transpose2d(x, &self.weight.get(), bias.as_ref(), &self.spec.op(), self.output_padding)
            .map_err(|e| e.context(format!("in {}", self.path)))?;
        flops::record(&self.path, "ConvTranspose2d", || {
            let ConvSpec { out_channels, kernel_size: [kh, kw], groups, .. } = self.spec;
            let bias = if self.bias.is_some() { y.elem_count() } else { 0 };
            (x.elem_count() * kh * kw * out_channels / groups + bias) as u64
        });
        Ok(y)
    }
}

impl ConvLayer for ConvTranspose2d {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        self.run(x)
    }
}

register!(CONV_LAYERS: dyn ConvLayer, "deconv" => ConvTranspose2d, DeconvConvConfig);

/// The same as an upsampling layer.
#[derive(Debug)]
pub struct DeconvUpsample(ConvTranspose2d);

impl DeconvUpsample {
    /// The layer at `vb`.
    pub fn new(cfg: &DeconvUpsampleConfig, vb: VarBuilder) -> Result<Self> {
        let spec = ConvSpec {
            in_channels: cfg.in_channels,
            out_channels: cfg.out_channels,
            kernel_size: cfg.kernel_size.get(),
            stride: cfg.stride.get(),
            padding: cfg.padding.get(),
            dilation: cfg.dilation.get(),
            groups: cfg.groups,
            bias: cfg.bias,
            init: None,
        };
        Ok(Self(ConvTranspose2d::from_spec(spec, cfg.output_padding.get(), &vb)?))
    }
}

impl UpsampleLayer for DeconvUpsample {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        self.0.run(x)
    }
}

register!(UPSAMPLE_LAYERS: dyn UpsampleLayer, "deconv" => DeconvUpsample, DeconvUpsampleConfig);
