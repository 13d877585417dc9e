//! A head over a backbone that makes scores itself; mmcls's `cls_head.py`.

use candle_core::{DType, Result, Tensor, bail};
use mmcv::config::{Node, Value};
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::registry::build;
use mmcv::runner::Losses;
use mmcv::{Error, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{HEADS, Head, last};
use crate::evaluation::{OneOrMany, accuracy};
use crate::models::losses::{LOSSES, Loss};

/// `type = "ClsHead"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClsHeadConfig {
    /// The loss; default `CrossEntropyLoss`.
    #[serde(default)]
    pub loss: Option<Node>,
    /// A sample counts as right when its class is among the best so many; default 1.
    #[serde(default = "one")]
    pub topk: OneOrMany<usize>,
    /// Whether training logs the accuracy; default false.
    #[serde(default)]
    pub cal_acc: bool,
    /// Accepted: there is nothing to start.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

pub(super) fn one() -> OneOrMany<usize> {
    OneOrMany::One(1)
}

/// The loss and the accuracy that heads for one class an image share.
pub(super) struct ClsLoss {
    loss: Box<dyn Loss>,
    topk: Option<Vec<usize>>,
}

impl ClsLoss {
    pub(super) fn new(loss: Option<&Node>, topk: &OneOrMany<usize>, cal_acc: bool) -> mmcv::Result<Self> {
        let mut plain = Node::from(Value::Dict(Default::default()));
        plain.set("type", "CrossEntropyLoss");
        let node = loss.filter(|n| !n.is_null()).unwrap_or(&plain);
        let topk = topk.to_vec();
        if topk.contains(&0) {
            return Err(Error::config("0 is in it, expected numbers of at least 1").under("topk"));
        }
        Ok(Self { loss: build(&LOSSES, node, ()).map_err(|e| e.under("loss"))?, topk: cal_acc.then_some(topk) })
    }

    pub(super) fn losses(&self, logits: &Tensor, label: &Tensor) -> Result<Losses> {
        let mut losses = Losses::new();
        if let Some(topk) = &self.topk {
            if label.rank() != 1 {
                bail!("cal_acc: the accuracy needs one class an image, not mixed labels (train_cfg.augments)");
            }
            let labels: Vec<i64> = label.to_dtype(DType::I64)?.to_vec1()?;
            let rows: Vec<Vec<f32>> = logits.detach().to_vec2()?;
            for (k, value) in topk.iter().zip(accuracy(&rows, &labels, topk, Some(0.0))) {
                losses.push(format!("accuracy_top-{k}"), &Tensor::new(value as f32, logits.device())?)?;
            }
        }
        let factor = logits.dim(0)? as f64;
        losses.push("loss", &self.loss.forward(logits, label, None, Some(factor))?)?;
        Ok(losses)
    }
}

/// Takes the last output as scores.
pub struct ClsHead(ClsLoss);

impl ClsHead {
    /// No parameters of its own.
    pub fn new(cfg: &ClsHeadConfig, _: VarBuilder) -> mmcv::Result<Self> {
        Ok(Self(ClsLoss::new(cfg.loss.as_ref(), &cfg.topk, cfg.cal_acc)?))
    }
}

impl Head for ClsHead {
    fn logits(&self, feats: &[Tensor], _: &Ctx) -> Result<Tensor> {
        last(feats)?.flatten_from(1)
    }
    fn loss(&self, logits: &Tensor, label: &Tensor) -> Result<Losses> {
        self.0.losses(logits, label)
    }
    fn num_classes(&self) -> Option<usize> {
        None
    }
}

register!(HEADS: dyn Head, "ClsHead" => ClsHead, ClsHeadConfig);
