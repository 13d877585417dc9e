//! Linear layers one after the other; mmcls's `stacked_head.py`.

use candle_core::{Result, Tensor};
use mmcv::cnn::{ActivationLayer, Linear, build_activation_layer};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::runner::Losses;
use mmcv::{Error, ops, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::cls_head::{ClsLoss, one};
use super::linear_head::positive;
use super::{HEADS, Head, last};
use crate::evaluation::OneOrMany;

/// `type = "StackedLinearClsHead"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StackedLinearClsHeadConfig {
    /// Classes, at least 1.
    pub num_classes: usize,
    /// Features.
    pub in_channels: usize,
    /// Widths of the hidden layers, at least one.
    pub mid_channels: Vec<usize>,
    /// Probability that a hidden value is left out in training; default 0.
    #[serde(default)]
    pub dropout_rate: f64,
    /// A norm behind each hidden layer; none so far.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// The activation behind each hidden layer; default `ReLU`.
    #[serde(default = "relu")]
    pub act_cfg: Option<Node>,
    /// The loss; default `CrossEntropyLoss`.
    #[serde(default)]
    pub loss: Option<Node>,
    /// A sample counts as right when its class is among the best so many; default 1.
    #[serde(default = "one")]
    pub topk: OneOrMany<usize>,
    /// Whether training logs the accuracy; default false.
    #[serde(default)]
    pub cal_acc: bool,
    /// How weights start; default PyTorch's.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

fn relu() -> Option<Node> {
    Node::from_json(r#"{"type": "ReLU"}"#).ok()
}

/// Keys: `layers.{i}.fc.*`.
pub struct StackedLinearClsHead {
    layers: Vec<Linear>,
    act: Option<Box<dyn ActivationLayer>>,
    dropout: f64,
    loss: ClsLoss,
    classes: usize,
}

impl StackedLinearClsHead {
    /// An error without classes or hidden layers, and for a norm.
    pub fn new(cfg: &StackedLinearClsHeadConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        positive(cfg.num_classes)?;
        if cfg.mid_channels.is_empty() {
            return Err(Error::config("is empty, expected the widths of the hidden layers").under("mid_channels"));
        }
        if let Some(norm) = cfg.norm_cfg.as_ref().filter(|n| !n.is_null()) {
            return Err(norm.error("norms between linear layers are not there yet").under("norm_cfg"));
        }
        if let Some(init) = cfg.init_cfg.as_ref().filter(|n| !n.is_null()) {
            vb.init_cfg(init);
        }
        let widths: Vec<usize> =
            [cfg.in_channels].into_iter().chain(cfg.mid_channels.iter().copied()).chain([cfg.num_classes]).collect();
        let layers = vb.pp("layers");
        let linear = |(i, w): (usize, &[usize])| Linear::new(w[0], w[1], true, &layers.pp(i).pp("fc"));
        let act = cfg.act_cfg.as_ref().filter(|a| !a.is_null());
        Ok(Self {
            layers: widths.windows(2).enumerate().map(linear).collect::<Result<_>>()?,
            act: act.map(|a| build_activation_layer(a, layers.pp("0").pp("act"))).transpose()?,
            dropout: cfg.dropout_rate,
            loss: ClsLoss::new(cfg.loss.as_ref(), &cfg.topk, cfg.cal_acc)?,
            classes: cfg.num_classes,
        })
    }
}

impl Head for StackedLinearClsHead {
    fn logits(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Tensor> {
        let mut x = last(feats)?.clone();
        let hidden = self.layers.len() - 1;
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x)?;
            if i == hidden {
                break;
            }
            if let Some(act) = &self.act {
                x = act.forward(&x, ctx)?;
            }
            if ctx.drops() && self.dropout > 0.0 {
                x = ctx.rng(|rng| ops::dropout(&x, self.dropout, rng))?;
            }
        }
        Ok(x)
    }
    fn loss(&self, logits: &Tensor, label: &Tensor) -> Result<Losses> {
        self.loss.losses(logits, label)
    }
    fn num_classes(&self) -> Option<usize> {
        Some(self.classes)
    }
}

register!(HEADS: dyn Head, "StackedLinearClsHead" => StackedLinearClsHead, StackedLinearClsHeadConfig);
