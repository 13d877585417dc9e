//! Seesaw Loss for Long-Tailed Instance Segmentation, Wang et al., CVPR 2021 (<https://arxiv.org/abs/2008.10032>): mmdet's
//! `seesaw_loss.py`.

use std::sync::Mutex;

use candle_core::{DType, Result, Tensor, bail};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::cross_entropy_loss::cross_entropy;
use super::utils::{Loss, Reduction, one, weight_reduce_loss};
use crate::registry::LOSSES;

/// `type = "SeesawLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeesawLossConfig {
    /// Must be false, as in mmdet; default false.
    #[serde(default)]
    pub use_sigmoid: bool,
    /// Power of the mitigation, which spares rare classes; default 0.8.
    #[serde(default = "p")]
    pub p: f64,
    /// Power of the compensation, which punishes wrong answers all the same; default 2.
    #[serde(default = "two")]
    pub q: f64,
    /// Classes; default 1203 (LVIS v1).
    #[serde(default = "lvis")]
    pub num_classes: usize,
    /// Least score of the right class that others are divided by; default 0.01.
    #[serde(default = "eps")]
    pub eps: f64,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
    /// Whether a head reports the two losses by name ([`SeesawLoss::losses`]) or their sum; default true.
    #[serde(default = "yes")]
    pub return_dict: bool,
}

fn p() -> f64 {
    0.8
}
fn two() -> f64 {
    2.0
}
fn lvis() -> usize {
    1203
}
fn eps() -> f64 {
    0.01
}
fn yes() -> bool {
    true
}

/// Seesaw loss. It counts the labels it has seen of each class.
#[derive(Debug)]
pub struct SeesawLoss {
    cfg: SeesawLossConfig,
    /// Labels seen of each class and of the background.
    cum_samples: Mutex<Vec<f32>>,
}

impl SeesawLoss {
    /// An error when `use_sigmoid` is true.
    pub fn new(cfg: &SeesawLossConfig) -> Result<Self> {
        if cfg.use_sigmoid {
            bail!("SeesawLoss: use_sigmoid is true, only the softmax loss exists");
        }
        Ok(Self { cfg: cfg.clone(), cum_samples: Mutex::new(vec![0.0; cfg.num_classes + 1]) })
    }

    /// Labels seen of each class and of the background; mmdet's buffer `cum_samples`.
    pub fn cum_samples(&self) -> Vec<f32> {
        self.cum_samples.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Goes on from counts of an earlier run; an error unless there is one for each class and one for the background.
    pub fn set_cum_samples(&self, counts: &[f32]) -> Result<()> {
        if counts.len() != self.cfg.num_classes + 1 {
            bail!("SeesawLoss: {} counts for {} classes and background", counts.len(), self.cfg.num_classes);
        }
        *self.cum_samples.lock().unwrap_or_else(|e| e.into_inner()) = counts.to_vec();
        Ok(())
    }

    /// Channels a classifier needs: the classes, object and no object.
    pub fn cls_channels(&self) -> usize {
        self.cfg.num_classes + 2
    }

    /// Scores `[N, C + 1]` of logits `[N, C + 2]`; the last is the background's.
    pub fn activation(&self, cls_score: &Tensor) -> Result<Tensor> {
        let c = self.cfg.num_classes;
        let rows = self.logits(cls_score)?;
        let mut scores = Vec::with_capacity(rows.len() * (c + 1));
        for row in &rows {
            let object = softmax(&row[c..]);
            scores.extend(softmax(&row[..c]).into_iter().map(|s| s * object[0]));
            scores.push(object[1]);
        }
        Tensor::from_vec(scores, (rows.len(), c + 1), cls_score.device())
    }

    fn logits(&self, cls_score: &Tensor) -> Result<Vec<Vec<f32>>> {
        let (n, channels) = cls_score.dims2()?;
        if channels != self.cls_channels() {
            bail!("SeesawLoss: cls_score is [{n}, {channels}], expected {} channels", self.cls_channels());
        }
        cls_score.detach().to_vec2()
    }

    /// The losses of objectness and of classes; mmdet's `loss_cls_objectness` and `loss_cls_classes`.
    ///
    /// # Shapes
    /// - `cls_score`: `[N, C + 2]` logits
    /// - `labels`: `[N]`, `C` is the background
    /// - `label_weights`: `[N]`
    pub fn losses(
        &self,
        cls_score: &Tensor,
        labels: &Tensor,
        label_weights: Option<&Tensor>,
        avg_factor: Option<f64>,
        reduction_override: Option<Reduction>,
    ) -> Result<(Tensor, Tensor)> {
        let (cfg, c, device) = (&self.cfg, self.cfg.num_classes, cls_score.device());
        let reduction = reduction_override.unwrap_or(cfg.reduction);
        let rows = self.logits(cls_score)?;
        let ids: Vec<i64> = labels.to_dtype(DType::I64)?.to_vec1()?;
        if ids.len() != rows.len() || ids.iter().any(|l| *l < 0 || *l as usize > c) {
            bail!("SeesawLoss: {} predictions, labels {ids:?}, {c} classes", rows.len());
        }
        let seen = {
            let mut seen = self.cum_samples.lock().unwrap_or_else(|e| e.into_inner());
            ids.iter().for_each(|l| seen[*l as usize] += 1.0);
            seen.clone()
        };
        let positives: Vec<u32> = (0..ids.len()).filter(|i| (ids[*i] as usize) < c).map(|i| i as u32).collect();
        let all_classes = cls_score.narrow(1, 0, c)?;
        let classes = if positives.is_empty() {
            (all_classes.sum_all()? * 0.0)?
        } else {
            let mut shift = Vec::with_capacity(positives.len() * c);
            for i in &positives {
                let (row, label) = (&rows[*i as usize][..c], ids[*i as usize] as usize);
                shift.extend(self.shifts(row, label, &seen));
            }
            let k = positives.len();
            let index = Tensor::from_vec(positives, k, device)?;
            let shifted =
                (all_classes.contiguous()?.index_select(&index, 0)? + Tensor::from_vec(shift, (k, c), device)?)?;
            let picked = labels.to_dtype(DType::I64)?.index_select(&index, 0)?;
            let loss = cross_entropy(&shifted, &picked, None, None)?;
            let weight = label_weights.map(|w| w.index_select(&index, 0)).transpose()?;
            (weight_reduce_loss(&loss, weight.as_ref(), reduction, avg_factor)? * cfg.loss_weight)?
        };
        let none: Vec<u32> = ids.iter().map(|l| u32::from(*l as usize == c)).collect();
        let none = Tensor::from_vec(none, ids.len(), device)?;
        let loss = cross_entropy(&cls_score.narrow(1, c, 2)?, &none, None, None)?;
        let objectness = (weight_reduce_loss(&loss, label_weights, reduction, avg_factor)? * cfg.loss_weight)?;
        Ok((objectness, classes))
    }

    /// What is added to the logits of a row: logarithms of mitigation times compensation, 0 at the right class.
    fn shifts(&self, row: &[f32], label: usize, seen: &[f32]) -> Vec<f32> {
        let (p, q) = (self.cfg.p as f32, self.cfg.q as f32);
        let scores = softmax(row);
        let own = scores[label].max(self.cfg.eps as f32);
        let one = |class: usize| {
            let ratio = seen[class].max(1.0) / seen[label].max(1.0);
            let mitigation = if p > 0.0 && ratio < 1.0 { ratio.powf(p) } else { 1.0 };
            let excess = scores[class] / own;
            let compensation = if q > 0.0 && excess > 1.0 { excess.powf(q) } else { 1.0 };
            if class == label { 0.0 } else { (mitigation * compensation).ln() }
        };
        (0..row.len()).map(one).collect()
    }
}

fn softmax(row: &[f32]) -> Vec<f32> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = row.iter().map(|v| (v - max).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|v| v / sum).collect()
}

impl Loss for SeesawLoss {
    /// The sum of [`SeesawLoss::losses`].
    fn forward(
        &self,
        pred: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
        avg_factor: Option<f64>,
        reduction_override: Option<Reduction>,
    ) -> Result<Tensor> {
        if reduction_override.unwrap_or(self.cfg.reduction) == Reduction::None {
            bail!("SeesawLoss: the two losses have different lengths, so reduction 'none' has no sum");
        }
        let (objectness, classes) = self.losses(pred, target, weight, avg_factor, reduction_override)?;
        objectness + classes
    }
}

register!(LOSSES: dyn Loss, "SeesawLoss" => SeesawLoss(SeesawLossConfig));
