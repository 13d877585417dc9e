//! A backbone of a few strided convolutions.

use candle_core::{Result, Tensor};
use mmcv::cnn::{Backbone, ConvModule, ConvModuleConfig, ConvSpec};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::register;
use mmdet::models::backbones::BACKBONES;
use schemars::JsonSchema;
use serde::Deserialize;

/// `type = "TinyNet"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TinyNetConfig {
    /// Channels of each stage; each halves the map.
    pub channels: Vec<usize>,
    /// Stages whose maps come out.
    pub out_indices: Vec<usize>,
    /// Norm behind each convolution; default `BN`.
    #[serde(default = "bn")]
    pub norm_cfg: Node,
}

fn bn() -> Node {
    Node::from_json(r#"{"type": "BN"}"#).expect("the default is JSON")
}

/// Keys: `stages.{i}.{conv, bn}.*`.
pub struct TinyNet {
    stages: Vec<ConvModule>,
    out_indices: Vec<usize>,
}

impl TinyNet {
    /// The backbone at `vb`.
    pub fn new(cfg: &TinyNetConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        if let Some(i) = cfg.out_indices.iter().find(|i| **i >= cfg.channels.len()) {
            let message = format!("{i} is no stage, there are {}", cfg.channels.len());
            return Err(mmcv::Error::config(message).under("out_indices"));
        }
        let mut from = 3;
        let mut stages = Vec::new();
        for (i, to) in cfg.channels.iter().enumerate() {
            let spec = ConvSpec::new(from, *to, 3).stride(2).padding(1);
            let module = ConvModuleConfig::new(spec).norm(Some(&cfg.norm_cfg));
            stages.push(ConvModule::new(module, vb.pp("stages").pp(i))?);
            from = *to;
        }
        Ok(Self { stages, out_indices: cfg.out_indices.clone() })
    }
}

impl Backbone for TinyNet {
    /// Stage `i` of `[B, 3, H, W]` is `[B, channels[i], H / 2^(i+1), W / 2^(i+1)]`, rounded up.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let mut x = x.clone();
        let mut outs = Vec::with_capacity(self.out_indices.len());
        for (i, stage) in self.stages.iter().enumerate() {
            x = stage.forward(&x, ctx)?;
            if self.out_indices.contains(&i) {
                outs.push(x.clone());
            }
        }
        Ok(outs)
    }
}

register!(BACKBONES: dyn Backbone, "TinyNet" => TinyNet, TinyNetConfig);
