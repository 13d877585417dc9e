//! Convolution, norm and activation as one module (mmcv `conv_module.py`).

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::activation::{ActivationLayer, build_activation_layer};
use super::conv::{ConvLayer, ConvSpec, build_conv_layer};
use super::norm::{NormLayer, build_norm_layer, norm_name};
use super::padding::{PaddingMode, pad2d};
use crate::cnn::flops;
use crate::config::Node;
use crate::nn::{Ctx, Init, VarBuilder, grad_enabled};
use crate::ops::{self, Act};

/// Whether the convolution has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(try_from = "BiasText", rename_all = "lowercase")]
pub enum Bias {
    /// Only where no norm follows.
    #[default]
    Auto,
    /// Yes.
    True,
    /// No.
    False,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum BiasText {
    Flag(bool),
    Text(String),
}

impl TryFrom<BiasText> for Bias {
    type Error = String;
    fn try_from(text: BiasText) -> std::result::Result<Self, String> {
        match text {
            BiasText::Flag(true) => Ok(Self::True),
            BiasText::Flag(false) => Ok(Self::False),
            BiasText::Text(t) if t == "auto" => Ok(Self::Auto),
            BiasText::Text(t) => Err(format!("'{t}', expected true, false or 'auto'")),
        }
    }
}

/// A step of a [`ConvModule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The convolution.
    Conv,
    /// The norm, if there is one.
    Norm,
    /// The activation, if there is one.
    Act,
}

/// What a [`ConvModule`] is made of.
#[derive(Debug, Clone)]
pub struct ConvModuleConfig {
    /// Geometry; its `bias` and `init` are set by the module.
    pub spec: ConvSpec,
    /// Bias of the convolution.
    pub bias: Bias,
    /// Kind of convolution; none is `Conv2d`.
    pub conv_cfg: Option<Node>,
    /// Kind of norm; none is no norm.
    pub norm_cfg: Option<Node>,
    /// Kind of activation; none is no activation. [`ConvModuleConfig::new`] sets `ReLU`.
    pub act_cfg: Option<Node>,
    /// Which comes first.
    pub order: [Order; 3],
    /// What stands outside the map.
    pub padding_mode: PaddingMode,
}

impl ConvModuleConfig {
    /// mmcv's defaults: no norm, then ReLU.
    pub fn new(spec: ConvSpec) -> Self {
        let relu = Node::from_json(r#"{"type": "ReLU"}"#).expect("the default is JSON");
        Self {
            spec,
            bias: Bias::Auto,
            conv_cfg: None,
            norm_cfg: None,
            act_cfg: Some(relu),
            order: [Order::Conv, Order::Norm, Order::Act],
            padding_mode: PaddingMode::Zeros,
        }
    }

    /// With this `conv_cfg`.
    #[must_use]
    pub fn conv(self, conv_cfg: Option<&Node>) -> Self {
        Self { conv_cfg: conv_cfg.cloned(), ..self }
    }

    /// With this `norm_cfg`.
    #[must_use]
    pub fn norm(self, norm_cfg: Option<&Node>) -> Self {
        Self { norm_cfg: norm_cfg.filter(|n| !n.is_null()).cloned(), ..self }
    }

    /// With this `act_cfg`.
    #[must_use]
    pub fn act(self, act_cfg: Option<&Node>) -> Self {
        Self { act_cfg: act_cfg.filter(|n| !n.is_null()).cloned(), ..self }
    }

    /// With this bias.
    #[must_use]
    pub fn bias(self, bias: Bias) -> Self {
        Self { bias, ..self }
    }
}

/// Keys: `conv.*`, and the norm's by its kind (`bn.*`, `gn.*`, ...).
pub struct ConvModule {
    conv: Box<dyn ConvLayer>,
    norm: Option<Box<dyn NormLayer>>,
    activate: Option<Box<dyn ActivationLayer>>,
    order: [Order; 3],
    pad: Option<([usize; 2], PaddingMode)>,
}

impl ConvModule {
    /// Weights start as mmcv's: Kaiming normal (fan out) by the activation's slope, bias 0, norm 1 and 0.
    pub fn new(cfg: ConvModuleConfig, vb: VarBuilder) -> crate::Result<Self> {
        let mut spec = cfg.spec;
        spec.bias = match cfg.bias {
            Bias::Auto => cfg.norm_cfg.is_none(),
            Bias::True => true,
            Bias::False => false,
        };
        let slope = match &cfg.act_cfg {
            Some(act) if act.type_name() == Some("LeakyReLU") => {
                act.get("negative_slope").and_then(Node::as_f64).unwrap_or(0.01)
            }
            _ => 0.0,
        };
        let fan_out = spec.out_channels * spec.kernel_size[0] * spec.kernel_size[1];
        spec.init = Some(Init::Normal(0.0, (2.0 / (1.0 + slope * slope) / fan_out.max(1) as f64).sqrt()));
        let pad = (cfg.padding_mode != PaddingMode::Zeros).then_some((spec.padding, cfg.padding_mode));
        if pad.is_some() {
            spec.padding = [0; 2];
        }
        let conv = build_conv_layer(cfg.conv_cfg.as_ref(), spec, vb.pp("conv"))?;
        let norm = match &cfg.norm_cfg {
            Some(norm) => {
                let next = position(&cfg.order, Order::Conv) + 1;
                vb.pp("conv").note("before_norm", f64::from(u8::from(cfg.order.get(next) == Some(&Order::Norm))));
                let after_conv = position(&cfg.order, Order::Norm) > position(&cfg.order, Order::Conv);
                let channels = if after_conv { spec.out_channels } else { spec.in_channels };
                Some(build_norm_layer(norm, channels, vb.pp(norm_name(norm, "")))?)
            }
            None => None,
        };
        let activate = cfg.act_cfg.as_ref().map(|act| build_activation_layer(act, vb.pp("activate"))).transpose()?;
        Ok(Self { conv, norm, activate, order: cfg.order, pad })
    }

    /// The convolution.
    pub fn conv(&self) -> &dyn ConvLayer {
        self.conv.as_ref()
    }

    /// `[B, in, H, W]` to `[B, out, H', W']`.
    pub fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        self.forward_add(x, None, ctx)
    }

    /// [`Self::forward`], with `add` added before the activation (at the end, where there is none).
    pub fn forward_add(&self, x: &Tensor, add: Option<&Tensor>, ctx: &Ctx) -> Result<Tensor> {
        let padded = self.pad.map(|(padding, mode)| pad2d(x, padding, mode)).transpose()?;
        let x = padded.as_ref().unwrap_or(x);
        if self.order == [Order::Conv, Order::Norm, Order::Act] {
            let act = self.activate.as_deref();
            let spec = act.and_then(ActivationLayer::spec);
            let fused = spec.unwrap_or_default();
            let y = conv_norm_act(self.conv.as_ref(), self.norm.as_deref(), x, add, fused, ctx)?;
            return match act {
                Some(act) if spec.is_none() => act.forward(&y, ctx),
                _ => Ok(y),
            };
        }
        let mut y = x.clone();
        for step in self.order {
            if let (Order::Act, Some(add)) = (step, add) {
                y = (y + add)?;
            }
            y = match (step, &self.norm, &self.activate) {
                (Order::Conv, ..) => self.conv.forward(&y, ctx)?,
                (Order::Norm, Some(norm), _) => norm.forward(&y, ctx)?,
                (Order::Act, _, Some(act)) => act.forward(&y, ctx)?,
                _ => y,
            };
        }
        Ok(y)
    }
}

fn position(order: &[Order; 3], step: Order) -> usize {
    order.iter().position(|o| *o == step).unwrap_or(3)
}

/// `act(norm(conv(x)) + add)`, each part where given.
///
/// Without a graph a batch norm with running statistics is folded into the convolution's weights; otherwise norm, sum and
/// ReLU are one pass.
pub fn conv_norm_act(
    conv: &dyn ConvLayer,
    norm: Option<&dyn NormLayer>,
    x: &Tensor,
    add: Option<&Tensor>,
    act: Act,
    ctx: &Ctx,
) -> Result<Tensor> {
    let count = |y: &Tensor| {
        if act != Act::None {
            flops::record("", "activation", || y.elem_count() as u64);
        }
    };
    if let Some(conv) = conv.as_conv2d()
        && !grad_enabled()
        && !x.track_op()
        && norm.is_none_or(|n| n.as_batch_norm().is_some_and(|bn| bn.uses_running(ctx)))
    {
        let y = conv.forward_packed(norm.and_then(NormLayer::as_batch_norm), x, add, act)?;
        count(&y);
        return Ok(y);
    }
    let y = conv.forward(x, ctx)?;
    count(&y);
    let relu = act == Act::Relu;
    let y = match (norm, add) {
        (Some(norm), add) => norm.forward_fused(&y, add, relu, ctx)?,
        (None, Some(add)) if relu => ops::add_relu(&y, add)?,
        (None, Some(add)) => (y + add)?,
        (None, None) if relu => ops::relu(&y)?,
        (None, None) => y,
    };
    match act {
        Act::None | Act::Relu => Ok(y),
        Act::Relu6 => ops::relu6(&y),
        Act::LeakyRelu(slope) => ops::leaky_relu(&y, f64::from(slope)),
        Act::Silu => ops::silu(&y),
    }
}
