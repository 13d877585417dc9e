//! `PLUGIN_LAYERS`: modules that a config puts between a block's convolutions.

use candle_core::{Result, Tensor};

use crate::config::Node;
use crate::nn::{Ctx, VarBuilder};
use crate::registry::{self, registry};

/// A module that keeps its input's shape.
pub trait PluginLayer: Send + Sync {
    /// `[B, C, H, W]` to the same shape.
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
