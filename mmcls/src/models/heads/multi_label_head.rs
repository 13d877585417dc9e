//! Heads for images of several classes; mmcls's `multi_label_head.py` and `multi_label_linear_head.py`.

use candle_core::{DType, Result, Tensor};
use mmcv::cnn::Linear;
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::register;
use mmcv::registry::build;
use mmcv::runner::Losses;
use schemars::JsonSchema;
use serde::Deserialize;

use super::linear_head::{init, positive};
use super::{HEADS, Head, last};
use crate::models::losses::{LOSSES, Loss};

/// `type = "MultiLabelClsHead"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MultiLabelClsHeadConfig {
    /// The loss; default `CrossEntropyLoss` of sigmoids, averaged over the images.
    #[serde(default)]
    pub loss: Option<Node>,
    /// Accepted: there is nothing to start.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

struct MultiLabelLoss(Box<dyn Loss>);

impl MultiLabelLoss {
    fn new(loss: Option<&Node>) -> mmcv::Result<Self> {
        let plain = Node::from_json(r#"{"type": "CrossEntropyLoss", "use_sigmoid": true}"#)?;
        let node = loss.filter(|n| !n.is_null()).unwrap_or(&plain);
        Ok(Self(build(&LOSSES, node, ()).map_err(|e| e.under("loss"))?))
    }

    /// Difficult examples (-1) count as yes.
    fn losses(&self, logits: &Tensor, label: &Tensor) -> Result<Losses> {
        let yes = label.to_dtype(DType::F32)?.abs()?;
        let mut losses = Losses::new();
        losses.push("loss", &self.0.forward(logits, &yes, None, Some(logits.dim(0)? as f64))?)?;
        Ok(losses)
    }
}

/// Takes the last output as scores.
pub struct MultiLabelClsHead(MultiLabelLoss);

impl MultiLabelClsHead {
    /// No parameters of its own.
    pub fn new(cfg: &MultiLabelClsHeadConfig, _: VarBuilder) -> mmcv::Result<Self> {
        Ok(Self(MultiLabelLoss::new(cfg.loss.as_ref())?))
    }
}

impl Head for MultiLabelClsHead {
    fn logits(&self, feats: &[Tensor], _: &Ctx) -> Result<Tensor> {
        last(feats)?.flatten_from(1)
    }
    fn loss(&self, logits: &Tensor, label: &Tensor) -> Result<Losses> {
        self.0.losses(logits, label)
    }
    fn num_classes(&self) -> Option<usize> {
        None
    }
    fn multi_label(&self) -> bool {
        true
    }
}

register!(HEADS: dyn Head, "MultiLabelClsHead" => MultiLabelClsHead, MultiLabelClsHeadConfig);

/// `type = "MultiLabelLinearClsHead"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MultiLabelLinearClsHeadConfig {
    /// Classes, at least 1.
    pub num_classes: usize,
    /// Features.
    pub in_channels: usize,
    /// The loss; default `CrossEntropyLoss` of sigmoids, averaged over the images.
    #[serde(default)]
    pub loss: Option<Node>,
    /// How weights start; default normal with deviation 0.01.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

/// Key: `fc.*`.
pub struct MultiLabelLinearClsHead {
    fc: Linear,
    loss: MultiLabelLoss,
    classes: usize,
}

impl MultiLabelLinearClsHead {
    /// An error without classes.
    pub fn new(cfg: &MultiLabelLinearClsHeadConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        positive(cfg.num_classes)?;
        init(cfg.init_cfg.as_ref(), &vb)?;
        Ok(Self {
            fc: Linear::new(cfg.in_channels, cfg.num_classes, true, &vb.pp("fc"))?,
            loss: MultiLabelLoss::new(cfg.loss.as_ref())?,
            classes: cfg.num_classes,
        })
    }
}

impl Head for MultiLabelLinearClsHead {
    fn logits(&self, feats: &[Tensor], _: &Ctx) -> Result<Tensor> {
        self.fc.forward(last(feats)?)
    }
    fn loss(&self, logits: &Tensor, label: &Tensor) -> Result<Losses> {
        self.loss.losses(logits, label)
    }
    fn num_classes(&self) -> Option<usize> {
        Some(self.classes)
    }
    fn multi_label(&self) -> bool {
        true
    }
}

register!(HEADS: dyn Head, "MultiLabelLinearClsHead" => MultiLabelLinearClsHead, MultiLabelLinearClsHeadConfig);
