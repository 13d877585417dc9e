//! `CONV_LAYERS`: what `conv_cfg` chooses from.

use candle_core::{Result, Tensor, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use super::norm::BatchNorm2d;
use crate::cnn::flops;
use crate::config::Node;
use crate::nn::{Ctx, Init, Param, VarBuilder, grad_enabled};
use crate::ops::{Act, Conv2dConfig, PackedCache, PackedConv2d, conv2d};
use crate::registry::{self, register, registry};

/// The geometry of a 2-D convolution, `[vertical, horizontal]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvSpec {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Size of the window.
    pub kernel_size: [usize; 2],
    /// Step.
    pub stride: [usize; 2],
    /// Zeros at each side.
    pub padding: [usize; 2],
    /// Distance of the window's taps.
    pub dilation: [usize; 2],
    /// Channel groups.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// How weights start; `None` is PyTorch's default.
    pub init: Option<Init>,
}

impl ConvSpec {
    /// A square kernel with stride 1, no padding, no bias.
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: usize) -> Self {
        Self {
            in_channels,
            out_channels,
            kernel_size: [kernel_size; 2],
            stride: [1; 2],
            padding: [0; 2],
            dilation: [1; 2],
            groups: 1,
            bias: false,
            init: None,
        }
    }

    /// With this stride.
    #[must_use]
    pub fn stride(self, stride: usize) -> Self {
        Self { stride: [stride; 2], ..self }
    }

    /// With this padding.
    #[must_use]
    pub fn padding(self, padding: usize) -> Self {
        Self { padding: [padding; 2], ..self }
    }

    /// With this dilation.
    #[must_use]
    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilation: [dilation; 2], ..self }
    }

    /// In this many groups.
    #[must_use]
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// With a bias or without.
    #[must_use]
    pub fn bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    /// What the op takes.
    pub fn op(&self) -> Conv2dConfig {
        Conv2dConfig { stride: self.stride, padding: self.padding, dilation: self.dilation, groups: self.groups }
    }
}

/// A convolution.
pub trait ConvLayer: Send + Sync {
    /// `[B, in, H, W]` to `[B, out, H', W']`.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor>;

    /// The plain convolution that it is, if it is one: norms are folded into those in evaluation.
    fn as_conv2d(&self) -> Option<&Conv2d> {
        None
    }
}

/// What a convolution layer's `new` takes beside its config.
#[derive(Debug, Clone)]
pub struct ConvArgs {
    /// Geometry.
    pub spec: ConvSpec,
    /// Where its parameters are.
    pub vb: VarBuilder,
}

registry!(
    /// Convolution layers (`conv_cfg`).
    pub CONV_LAYERS: dyn ConvLayer, ConvArgs
);

/// The convolution that `conv_cfg` names; `None` or null is `Conv2d`.
pub fn build_conv_layer(cfg: Option<&Node>, spec: ConvSpec, vb: VarBuilder) -> crate::Result<Box<dyn ConvLayer>> {
    match cfg {
        Some(node) if !node.is_null() => registry::build_at(&CONV_LAYERS, "conv_cfg", node, ConvArgs { spec, vb }),
        _ => Ok(Box::new(Conv2d::from_spec(spec, &vb)?)),
    }
}

/// A 2-D convolution. Keys: `weight` `[out, in / groups, kh, kw]`, `bias` `[out]`.
#[derive(Debug)]
pub struct Conv2d {
    weight: Param,
    bias: Option<Param>,
    spec: ConvSpec,
    path: String,
    packed: PackedCache,
}

/// `type = "Conv2d"`: no fields of its own.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conv2dLayerConfig {}

impl Conv2d {
    /// A layer of `args.spec`.
    pub fn new(_: &Conv2dLayerConfig, args: ConvArgs) -> Result<Self> {
        Self::from_spec(args.spec, &args.vb)
    }

    /// A layer of `spec`. Weights start as PyTorch's unless the spec says otherwise.
    pub fn from_spec(spec: ConvSpec, vb: &VarBuilder) -> Result<Self> {
        let ConvSpec { in_channels, out_channels, kernel_size: [kh, kw], groups, .. } = spec;
        if groups == 0 || in_channels % groups != 0 || out_channels % groups != 0 {
            bail!("{}: {in_channels} to {out_channels} channels can't be split into {groups} groups", vb.path());
        }
        let fan_in = in_channels / groups * kh * kw;
        let vb = vb.layer("Conv2d");
        let weight = vb.param(
            "weight",
            (out_channels, in_channels / groups, kh, kw),
            spec.init.unwrap_or(Init::torch_default(fan_in)),
        )?;
        let bias_init = if spec.init.is_some() { Init::Const(0.0) } else { Init::torch_default(fan_in) };
        let bias = spec.bias.then(|| vb.param("bias", out_channels, bias_init)).transpose()?;
        Ok(Self { weight, bias, spec, path: vb.path().to_owned(), packed: PackedCache::new() })
    }

    /// The weight.
    pub fn weight(&self) -> &Param {
        &self.weight
    }

    /// The bias.
    pub fn bias(&self) -> Option<&Param> {
        self.bias.as_ref()
    }

    /// The geometry.
    pub fn spec(&self) -> &ConvSpec {
        &self.spec
    }

    /// Without a graph: the convolution, the batch norm behind it (if any, by its running statistics), a sum and an
    /// activation in one pass over packed weights, which are made once for each state of the parameters.
    pub(super) fn forward_packed(
        &self,
        norm: Option<&BatchNorm2d>,
        x: &Tensor,
        add: Option<&Tensor>,
        act: Act,
    ) -> Result<Tensor> {
        let key = [
            self.weight.version(),
            self.bias.as_ref().map_or(0, Param::version),
            norm.map_or(0, BatchNorm2d::version),
            // Several norms may share one convolution (`RetinaSepBNHead`).
            norm.map_or(0, BatchNorm2d::identity),
        ];
        let packed = self.packed.get(&key, || {
            let (weight, bias) = (self.weight.value(), self.bias.as_ref().map(Param::value));
            match norm {
                Some(norm) => {
                    let (weight, bias) = norm.fold_into(weight, bias)?;
                    PackedConv2d::new(&weight, Some(&bias), &self.spec.op())
                }
                None => PackedConv2d::new(weight, bias, &self.spec.op()),
            }
        })?;
        let y = packed.forward(x, add, act).map_err(|e| e.context(format!("in {}", self.path)))?;
        self.count(&y);
        if let Some(norm) = norm {
            norm.count(&y);
        }
        Ok(y)
    }

    /// Counts a pass that made `y`.
    pub(super) fn count(&self, y: &Tensor) {
        flops::record(&self.path, "Conv2d", || {
            let ConvSpec { in_channels, kernel_size: [kh, kw], groups, .. } = self.spec;
            let per_value = kh * kw * in_channels / groups + usize::from(self.bias.is_some());
            (y.elem_count() * per_value) as u64
        });
    }
}

impl ConvLayer for Conv2d {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        if !grad_enabled() && !x.track_op() {
            return self.forward_packed(None, x, None, Act::None);
        }
        let y = conv2d(x, &self.weight.get(), self.bias.as_ref().map(Param::get).as_ref(), &self.spec.op())
            .map_err(|e| e.context(format!("in {}", self.path)))?;
        self.count(&y);
        Ok(y)
    }

    fn as_conv2d(&self) -> Option<&Conv2d> {
        Some(self)
    }
}

register!(CONV_LAYERS: dyn ConvLayer, "Conv2d" => Conv2d, Conv2dLayerConfig);
register!(CONV_LAYERS: dyn ConvLayer, "Conv" => Conv2d, Conv2dLayerConfig);
