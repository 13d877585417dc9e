//! One linear layer; mmcls's `linear_head.py`.

use candle_core::{Result, Tensor};
use mmcv::cnn::Linear;
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::runner::Losses;
use mmcv::{Error, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::cls_head::{ClsLoss, one};
use super::{HEADS, Head, last};
use crate::evaluation::OneOrMany;

/// `type = "LinearClsHead"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinearClsHeadConfig {
    /// Classes, at least 1.
    pub num_classes: usize,
    /// Features.
    pub in_channels: usize,
    /// How weights start; default normal with deviation 0.01.
    #[serde(default)]
    pub init_cfg: Option<Node>,
    /// The loss; default `CrossEntropyLoss`.
    #[serde(default)]
    pub loss: Option<Node>,
    /// A sample counts as right when its class is among the best so many; default 1.
    #[serde(default = "one")]
    pub topk: OneOrMany<usize>,
    /// Whether training logs the accuracy; default false.
    #[serde(default)]
    pub cal_acc: bool,
}

/// Linear layers start normal with deviation 0.01 unless `own` says otherwise.
pub(super) fn init(own: Option<&Node>, vb: &VarBuilder) -> mmcv::Result<()> {
    match own {
        Some(own) if !own.is_null() => vb.init_cfg(own),
        Some(_) => {}
        None => vb.init_cfg(&Node::from_json(r#"{"type": "Normal", "layer": "Linear", "std": 0.01}"#)?),
    }
    Ok(())
}

pub(super) fn positive(classes: usize) -> mmcv::Result<()> {
    if classes == 0 {
        return Err(Error::config("is 0, expected at least 1").under("num_classes"));
    }
    Ok(())
}

/// Key: `fc.*`.
pub struct LinearClsHead {
    fc: Linear,
    loss: ClsLoss,
    classes: usize,
}

impl LinearClsHead {
    /// An error without classes.
    pub fn new(cfg: &LinearClsHeadConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        positive(cfg.num_classes)?;
        init(cfg.init_cfg.as_ref(), &vb)?;
        Ok(Self {
            fc: Linear::new(cfg.in_channels, cfg.num_classes, true, &vb.pp("fc"))?,
            loss: ClsLoss::new(cfg.loss.as_ref(), &cfg.topk, cfg.cal_acc)?,
            classes: cfg.num_classes,
        })
    }
}

impl Head for LinearClsHead {
    fn logits(&self, feats: &[Tensor], _: &Ctx) -> Result<Tensor> {
        self.fc.forward(last(feats)?)
    }
    fn loss(&self, logits: &Tensor, label: &Tensor) -> Result<Losses> {
        self.loss.losses(logits, label)
    }
    fn num_classes(&self) -> Option<usize> {
        Some(self.classes)
    }
}

register!(HEADS: dyn Head, "LinearClsHead" => LinearClsHead, LinearClsHeadConfig);
