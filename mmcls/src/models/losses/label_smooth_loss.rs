//! Rethinking the Inception Architecture for Computer Vision, Szegedy et al., CVPR 2016
//! (<https://arxiv.org/abs/1512.00567>); mmcls's `label_smooth_loss.py`.

use candle_core::{Result, Tensor, bail};
use mmcv::ops::LossReduction as Reduction;
use mmcv::{Error, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{CrossEntropyLoss, CrossEntropyLossConfig, LOSSES, Loss, one, one_hot};

/// How labels are smoothed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmoothMode {
    /// `(1 - e) label + e / classes`.
    #[default]
    Original,
    /// As `original` with `e / (1 + e)`.
    ClassyVision,
    /// No is `e`, yes `1 - e`, for sigmoids.
    MultiLabel,
}

/// `type = "LabelSmoothLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelSmoothLossConfig {
    /// How much, at least 0 and less than 1.
    pub label_smooth_val: f64,
    /// Number of classes; default that of the scores.
    #[serde(default)]
    pub num_classes: Option<usize>,
    /// `original`, `classy_vision` or `multi_label`; default `original`.
    #[serde(default)]
    pub mode: SmoothMode,
    /// `none`, `mean` or `sum`; default `mean`. As in the original, nothing uses it.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1. As in the original, nothing uses it.
    #[serde(default = "one")]
    pub loss_weight: f64,
}

/// Cross entropy with smoothed labels.
#[derive(Debug, Clone)]
pub struct LabelSmoothLoss {
    eps: f64,
    num_classes: Option<usize>,
    mode: SmoothMode,
    ce: CrossEntropyLoss,
}

impl LabelSmoothLoss {
    /// An error unless the value is in `[0, 1)`.
    pub fn new(cfg: &LabelSmoothLossConfig) -> mmcv::Result<Self> {
        let e = cfg.label_smooth_val;
        if !(0.0..1.0).contains(&e) {
            return Err(Error::config(format!("is {e}, expected at least 0 and less than 1")).under("label_smooth_val"));
        }
        let multi = cfg.mode == SmoothMode::MultiLabel;
        let ce = CrossEntropyLossConfig { use_sigmoid: multi, use_soft: !multi, ..Default::default() };
        let eps = if cfg.mode == SmoothMode::ClassyVision { e / (1.0 + e) } else { e };
        Ok(Self { eps, num_classes: cfg.num_classes, mode: cfg.mode, ce: CrossEntropyLoss::new(&ce)? })
    }
}

impl Loss for LabelSmoothLoss {
    fn forward(
        &self,
        score: &Tensor,
        label: &Tensor,
        weight: Option<&Tensor>,
        avg_factor: Option<f64>,
    ) -> Result<Tensor> {
        let (_, classes) = score.dims2()?;
        if let Some(n) = self.num_classes.filter(|n| *n != classes) {
            bail!("LabelSmoothLoss: num_classes is {n}, the scores have {classes}");
        }
        let rows = one_hot(label, classes)?;
        let smooth = match self.mode {
            SmoothMode::MultiLabel => {
                let yes = rows.gt(0f32)?.to_dtype(rows.dtype())?;
                ((yes * (1.0 - 2.0 * self.eps))? + self.eps)?
            }
            _ => ((rows * (1.0 - self.eps))? + self.eps / classes as f64)?,
        };
        self.ce.forward(score, &smooth, weight, avg_factor)
    }
}

register!(LOSSES: dyn Loss, "LabelSmoothLoss" => LabelSmoothLoss(LabelSmoothLossConfig));
