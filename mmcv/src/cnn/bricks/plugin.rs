//! `PLUGIN_LAYERS`: modules that a config puts between a block's convolutions.

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::conv::ConvSpec;
use super::conv_module::{Bias, ConvModule, ConvModuleConfig, Order};
use super::padding::PaddingMode;
use super::pair::Pair;
use crate::config::Node;
use crate::error::Error;
use crate::nn::{Ctx, VarBuilder};
use crate::registry::{self, register, registry};

/// A module between convolutions. Most keep their input's shape.
pub trait PluginLayer: Send + Sync {
    /// `[B, C, H, W]` to `[B, C', H', W']`.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor>;
}

/// What a plugin's `new` takes beside its config.
#[derive(Debug, Clone)]
pub struct PluginArgs {
    /// Channels.
    pub in_channels: usize,
    /// Where its parameters are.
    pub vb: VarBuilder,
}

registry!(
    /// Plugin layers (`plugins`).
    pub PLUGIN_LAYERS: dyn PluginLayer, PluginArgs
);

/// The child's name that a plugin has, without its postfix: mmcv's `_abbr_`, else the type in snake case.
pub fn plugin_name(cfg: &Node) -> String {
    match cfg.type_name().unwrap_or_default() {
        "NonLocal2d" => "nonlocal_block".into(),
        "ContextBlock" => "context_block".into(),
        "GeneralizedAttention" => "gen_attention_block".into(),
        "ConvModule" => "conv_block".into(),
        other => {
            let mut name = String::new();
            for (i, c) in other.chars().enumerate() {
                if c.is_uppercase() && i > 0 {
                    name.push('_');
                }
                name.extend(c.to_lowercase());
            }
            name
        }
    }
}

/// The plugin that `cfg` names (its `postfix` taken off), under `vb`.
pub fn build_plugin_layer(cfg: &Node, in_channels: usize, vb: &VarBuilder) -> crate::Result<Box<dyn PluginLayer>> {
    let postfix = match cfg.get("postfix") {
        Some(p) => p.as_str().map(str::to_owned).or_else(|| p.as_i64().map(|i| i.to_string())).unwrap_or_default(),
        None => String::new(),
    };
    let vb = vb.pp(format!("{}{postfix}", plugin_name(cfg)));
    registry::build(&PLUGIN_LAYERS, &cfg.without("postfix"), PluginArgs { in_channels, vb })
}

/// `type = "ConvModule"` as a plugin.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvPluginConfig {
    /// Channels out.
    pub out_channels: usize,
    /// Size of the window.
    pub kernel_size: Pair,
    /// Step; default 1.
    #[serde(default = "Pair::one")]
    pub stride: Pair,
    /// Padding at each side; default 0.
    #[serde(default = "Pair::zero")]
    pub padding: Pair,
    /// Distance of the window's taps; default 1.
    #[serde(default = "Pair::one")]
    pub dilation: Pair,
    /// Channel groups; default 1.
    #[serde(default = "one")]
    pub groups: usize,
    /// Whether the convolution has a bias; default `auto`.
    #[serde(default)]
    pub bias: Bias,
    /// Kind of convolution; default `Conv2d`.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default none.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// Kind of activation; default `ReLU`.
    #[serde(default = "relu")]
    pub act_cfg: Option<Node>,
    /// Accepted for configs of the original.
    #[serde(default = "yes", rename = "inplace")]
    pub _inplace: bool,
    /// Must be false.
    #[serde(default)]
    pub with_spectral_norm: bool,
    /// What stands outside the map; default zeros.
    #[serde(default)]
    pub padding_mode: PaddingMode,
    /// Which comes first; default `conv`, `norm`, `act`.
    #[serde(default = "order")]
    pub order: [Order; 3],
}

fn one() -> usize {
    1
}
fn yes() -> bool {
    true
}
fn relu() -> Option<Node> {
    Some(Node::from_json(r#"{"type": "ReLU"}"#).expect("the default is JSON"))
}
fn order() -> [Order; 3] {
    [Order::Conv, Order::Norm, Order::Act]
}

/// A [`ConvModule`] as a plugin. Keys as there.
pub struct ConvPlugin(ConvModule);

impl ConvPlugin {
    /// The module at `args.vb`.
    pub fn new(cfg: &ConvPluginConfig, args: PluginArgs) -> crate::Result<Self> {
        if cfg.with_spectral_norm {
            return Err(Error::config("spectral norm is not there").under("with_spectral_norm"));
        }
        let spec = ConvSpec {
            in_channels: args.in_channels,
            out_channels: cfg.out_channels,
            kernel_size: cfg.kernel_size.get(),
            stride: cfg.stride.get(),
            padding: cfg.padding.get(),
            dilation: cfg.dilation.get(),
            groups: cfg.groups,
            bias: false,
            init: None,
        };
        let made = ConvModuleConfig { order: cfg.order, padding_mode: cfg.padding_mode, ..ConvModuleConfig::new(spec) };
        let made = made.conv(cfg.conv_cfg.as_ref()).norm(cfg.norm_cfg.as_ref()).act(cfg.act_cfg.as_ref());
        Ok(Self(ConvModule::new(made.bias(cfg.bias), args.vb)?))
    }
}

impl PluginLayer for ConvPlugin {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        self.0.forward(x, ctx)
    }
}

register!(PLUGIN_LAYERS: dyn PluginLayer, "ConvModule" => ConvPlugin, ConvPluginConfig);

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::nn::ParamStore;
    use crate::ops::testing::{var, wave, weighted_grad};
    use crate::testing::fill_by_name;

    /// A plugin's output with weights by name, the gradient by its input of its sum weighted by `cos(1.1 i)`, the store.
    pub fn run(cfg: &str, shape: &[usize]) -> (Tensor, Tensor, ParamStore) {
        let vb = VarBuilder::scratch();
        let layer = build_plugin_layer(&Node::from_json(cfg).unwrap(), shape[1], &vb).unwrap();
        fill_by_name(vb.store()).unwrap();
        let x = var(&wave(shape).flatten_all().unwrap().to_vec1::<f32>().unwrap(), shape);
        let y = layer.forward(&x, &Ctx::eval()).unwrap();
        let dx = weighted_grad(&y, &x);
        (y, dx, vb.store().clone())
    }
}

#[cfg(test)]
#[allow(clippy::excessive_precision)] // printed numbers
mod tests {
    use super::testing::run;
    use crate::ops::testing::close;

    // name, l = build_plugin_layer(cfg, in_channels=C) with weights by name; y = l(x = wave(shape)); (y * cos(1.1 i)).sum().backward()
    #[test]
    #[rustfmt::skip]
    fn a_conv_module_is_a_plugin() {
        let (y, dx, store) = run(r#"{"type": "ConvModule", "postfix": 2, "out_channels": 1, "kernel_size": [1, 3], "padding": [0, 1], "norm_cfg": {"type": "GN", "num_groups": 1}, "act_cfg": {"type": "Tanh"}}"#, &[1, 2, 2, 3]);
        close(&y, &[0.42087689, -0.69785267, -0.83845073, -0.42534599, 0.22296003, 0.9308967]);
        close(&dx, &[-0.63327682, -0.30717698, -0.020102253, 0.59443301, 0.25069952, 0.11650429, 0.62322986, -0.16851915, -0.16731697, -0.5522812, 0.096596271, 0.080040701]);
        let keys: Vec<String> = store.entries().into_iter().map(|(name, _)| name).collect();
        assert_eq!(keys, ["conv_block2.conv.weight", "conv_block2.gn.weight", "conv_block2.gn.bias"]);
    }
}
