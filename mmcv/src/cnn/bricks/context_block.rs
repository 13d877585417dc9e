//! GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond, Cao et al., ICCVW 2019
//! (<https://arxiv.org/abs/1904.11492>): mmcv's `context_block.py`.

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::conv::{Conv2d, ConvLayer as _, ConvSpec};
use super::norm::NormLayer as _;
use super::norm_groups::{LayerNorm, LayerNormConfig};
use super::plugin::{PLUGIN_LAYERS, PluginArgs, PluginLayer};
use crate::error::Error;
use crate::nn::{Ctx, Init, VarBuilder};
use crate::{ops, register};

/// How the context is gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContextPooling {
    /// Weighted by a learnt attention map.
    #[default]
    Att,
    /// The plain average.
    Avg,
}

/// How the context is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContextFusion {
    /// Added to each channel.
    ChannelAdd,
    /// Each channel multiplied by its sigmoid.
    ChannelMul,
}

/// `type = "ContextBlock"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContextBlockConfig {
    /// Part of the channels that the transform's middle has.
    pub ratio: f64,
    /// How the context is gathered; default `att`.
    #[serde(default)]
    pub pooling_type: ContextPooling,
    /// How the context is put back; default `channel_add` alone.
    #[serde(default = "channel_add")]
    pub fusion_types: Vec<ContextFusion>,
}

fn channel_add() -> Vec<ContextFusion> {
    vec![ContextFusion::ChannelAdd]
}

/// 1x1 convolution, layer norm, ReLU, 1x1 convolution. Keys: `0.*`, `1.*`, `3.*`.
struct Transform {
    squeeze: Conv2d,
    norm: LayerNorm,
    expand: Conv2d,
}

impl Transform {
    fn new(channels: usize, planes: usize, vb: &VarBuilder) -> Result<Self> {
        let zero = Some(Init::Const(0.0));
        Ok(Self {
            squeeze: Conv2d::from_spec(ConvSpec::new(channels, planes, 1).bias(true), &vb.pp(0))?,
            norm: LayerNorm::over(&LayerNormConfig::default(), &[planes, 1, 1], &vb.pp(1))?,
            expand: Conv2d::from_spec(
                ConvSpec { init: zero, ..ConvSpec::new(planes, channels, 1).bias(true) },
                &vb.pp(3),
            )?,
        })
    }

    fn forward(&self, context: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let y = self.norm.forward_fused(&self.squeeze.forward(context, ctx)?, None, true, ctx)?;
        self.expand.forward(&y, ctx)
    }
}

/// Keys: `conv_mask.*`, `channel_add_conv.{0, 1, 3}.*`, `channel_mul_conv.{0, 1, 3}.*`.
pub struct ContextBlock {
    conv_mask: Option<Conv2d>,
    channel_add_conv: Option<Transform>,
    channel_mul_conv: Option<Transform>,
}

impl ContextBlock {
    /// The block at `args.vb`. It starts as identity but for the sigmoid's half.
    pub fn new(cfg: &ContextBlockConfig, args: PluginArgs) -> crate::Result<Self> {
        let PluginArgs { in_channels: c, vb } = args;
        if cfg.fusion_types.is_empty() {
            return Err(Error::config("names no fusion").under("fusion_types"));
        }
        let planes = (c as f64 * cfg.ratio) as usize;
        if planes == 0 {
            return Err(Error::config(format!("is {}, which leaves nothing of {c} channels", cfg.ratio)).under("ratio"));
        }
        let kaiming = Some(Init::Normal(0.0, (2.0 / c as f64).sqrt()));
        let mask = ConvSpec { init: kaiming, ..ConvSpec::new(c, 1, 1).bias(true) };
        let has = |fusion| cfg.fusion_types.contains(&fusion);
        Ok(Self {
            conv_mask: (cfg.pooling_type == ContextPooling::Att)
                .then(|| Conv2d::from_spec(mask, &vb.pp("conv_mask")))
                .transpose()?,
            channel_add_conv: has(ContextFusion::ChannelAdd)
                .then(|| Transform::new(c, planes, &vb.pp("channel_add_conv")))
                .transpose()?,
            channel_mul_conv: has(ContextFusion::ChannelMul)
                .then(|| Transform::new(c, planes, &vb.pp("channel_mul_conv")))
                .transpose()?,
        })
    }

    /// `[B, C, H, W]` to `[B, C, 1, 1]`.
    fn context(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let Some(conv) = &self.conv_mask else { return ops::adaptive_avg_pool2d(x, (1, 1)) };
        let (b, c, h, w) = x.dims4()?;
        let mask = ops::softmax_last(&conv.forward(x, ctx)?.reshape((b, 1, h * w))?)?;
        let values = x.reshape((b, c, h * w))?.contiguous()?;
        values.matmul(&mask.transpose(1, 2)?.contiguous()?)?.reshape((b, c, 1, 1))
    }
}

impl PluginLayer for ContextBlock {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let context = self.context(x, ctx)?;
        let mut y = x.clone();
        if let Some(transform) = &self.channel_mul_conv {
            y = ops::scale_channels(&y, &ops::sigmoid(&transform.forward(&context, ctx)?)?)?;
        }
        if let Some(transform) = &self.channel_add_conv {
            y = y.broadcast_add(&transform.forward(&context, ctx)?)?;
        }
        Ok(y)
    }
}

register!(PLUGIN_LAYERS: dyn PluginLayer, "ContextBlock" => ContextBlock, ContextBlockConfig);

#[cfg(test)]
#[allow(clippy::excessive_precision)] // printed numbers
mod tests {
    use super::super::plugin::testing::run;
    use crate::ops::testing::close;

    // name, l = build_plugin_layer(cfg, in_channels=C) with weights by name; y = l(x = wave(shape)); (y * cos(1.1 i)).sum().backward()
    #[test]
    #[rustfmt::skip]
    fn attention_and_both_fusions() {
        let (y, dx, store) = run(r#"{"type": "ContextBlock", "ratio": 0.5, "fusion_types": ["channel_add", "channel_mul"]}"#, &[1, 4, 2, 2]);
        close(&y, &[0.21172152, 0.395298, 0.46337032, 0.41795892, 0.14472711, -0.14006616, -0.50714046, -0.54660386, 0.28051493, 0.4108732, 0.53404921, 0.57963401, 0.65521634, 0.3421188, -0.079666913, -0.37428528]);
        close(&dx, &[0.30684707, 0.13917845, -0.18059584, -0.30301589, -0.17825077, 0.41120884, 0.55136782, 0.089046143, -0.15398014, -0.16880366, 0.00087289221, 0.1696182, 0.46484596, -0.093560271, -0.54977334, -0.40524164]);
        let keys: Vec<String> = store.entries().into_iter().map(|(name, _)| name).collect();
        assert_eq!(keys, ["context_block.conv_mask.weight", "context_block.conv_mask.bias", "context_block.channel_add_conv.0.weight", "context_block.channel_add_conv.0.bias", "context_block.channel_add_conv.1.weight", "context_block.channel_add_conv.1.bias", "context_block.channel_add_conv.3.weight", "context_block.channel_add_conv.3.bias", "context_block.channel_mul_conv.0.weight", "context_block.channel_mul_conv.0.bias", "context_block.channel_mul_conv.1.weight", "context_block.channel_mul_conv.1.bias", "context_block.channel_mul_conv.3.weight", "context_block.channel_mul_conv.3.bias"]);
    }

    #[test]
    #[rustfmt::skip]
    fn average_and_addition() {
        let (y, dx, store) = run(r#"{"type": "ContextBlock", "ratio": 0.25, "pooling_type": "avg"}"#, &[2, 4, 1, 2]);
        close(&y, &[0.06907393, 0.66732186, 0.89070719, 0.74271816, 0.27476922, -0.21611592, -0.92712921, -0.99515045, -0.62300694, 0.063556433, 0.71384031, 0.9539237, 0.97726065, 0.434495, -0.37498957, -0.88572091]);
        close(&dx, &[1.0, 0.45359612, -0.5885011, -0.98747975, -0.30733287, 0.70866978, 0.95023257, 0.15337387, -0.81109303, -0.88919115, 0.004425698, 0.89320612, 0.80588394, -0.16211444, -0.95295292, -0.70239705]);
        let keys: Vec<String> = store.entries().into_iter().map(|(name, _)| name).collect();
        assert_eq!(keys, ["context_block.channel_add_conv.0.weight", "context_block.channel_add_conv.0.bias", "context_block.channel_add_conv.1.weight", "context_block.channel_add_conv.1.bias", "context_block.channel_add_conv.3.weight", "context_block.channel_add_conv.3.bias"]);
    }
}
