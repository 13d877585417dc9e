//! Cross entropy with classes, probabilities or yes and no as labels; mmcls's `cross_entropy_loss.py`.

use candle_core::{DType, Result, Tensor, bail};
use mmcv::ops::{self, LossReduction as Reduction};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{LOSSES, Loss, column, one, reduce};

/// `type = "CrossEntropyLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropyLossConfig {
    /// A sigmoid for each class in place of one softmax (labels are `[N, C]` of 0 and 1); default false.
    #[serde(default)]
    pub use_sigmoid: bool,
    /// Labels must be `[N, C]` probabilities (mixup, label smoothing); default false, which takes classes and such rows.
    #[serde(default)]
    pub use_soft: bool,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
    /// Factor of each class; default none.
    #[serde(default)]
    pub class_weight: Option<Vec<f32>>,
    /// Factor of each class's yes, with `use_sigmoid`; default none.
    #[serde(default)]
    pub pos_weight: Option<Vec<f32>>,
}

impl Default for CrossEntropyLossConfig {
    fn default() -> Self {
        Self {
            use_sigmoid: false,
            use_soft: false,
            reduction: Reduction::Mean,
            loss_weight: 1.0,
            class_weight: None,
            pos_weight: None,
        }
    }
}

/// The loss.
#[derive(Debug, Clone)]
pub struct CrossEntropyLoss(CrossEntropyLossConfig);

impl CrossEntropyLoss {
    /// An error when both `use_sigmoid` and `use_soft` are set.
    pub fn new(cfg: &CrossEntropyLossConfig) -> Result<Self> {
        if cfg.use_sigmoid && cfg.use_soft {
            bail!("CrossEntropyLoss: use_sigmoid and use_soft exclude each other");
        }
        Ok(Self(cfg.clone()))
    }

    fn factors(&self, score: &Tensor) -> Result<Option<Tensor>> {
        let Some(factors) = &self.0.class_weight else { return Ok(None) };
        let classes = score.dim(1)?;
        if factors.len() != classes {
            bail!("CrossEntropyLoss: class_weight has {} values for {classes} classes", factors.len());
        }
        Tensor::new(factors.as_slice(), score.device()).map(Some)
    }
}

impl Loss for CrossEntropyLoss {
    fn forward(
        &self,
        score: &Tensor,
        label: &Tensor,
        weight: Option<&Tensor>,
        avg_factor: Option<f64>,
    ) -> Result<Tensor> {
        let cfg = &self.0;
        let (n, classes) = score.dims2()?;
        let rows = cfg.use_sigmoid || cfg.use_soft || label.rank() == 2;
        if rows && label.dims() != [n, classes] {
            bail!("CrossEntropyLoss: the labels are {:?}, the scores [{n}, {classes}]", label.dims());
        }
        let loss = if cfg.use_sigmoid {
            let loss = ops::bce_with_logits(score, &label.to_dtype(DType::F32)?, cfg.pos_weight.as_deref())?;
            let loss = match self.factors(score)? {
                Some(factors) => loss.broadcast_mul(&factors)?,
                None => loss,
            };
            reduce(&loss, column(weight)?.as_ref(), cfg.reduction, avg_factor)?
        } else if cfg.use_soft || label.rank() == 2 {
            // torch's cross entropy takes rows as probabilities too.
            let loss = (ops::log_softmax(score, 1)? * label.to_dtype(DType::F32)?)?.neg()?;
            let loss = match self.factors(score)? {
                Some(factors) => loss.broadcast_mul(&factors)?,
                None => loss,
            };
            reduce(&loss.sum(1)?, weight, cfg.reduction, avg_factor)?
        } else {
            // torch's default index to ignore.
            let loss = ops::cross_entropy(score, label, cfg.class_weight.as_deref(), -100)?;
            reduce(&loss, weight, cfg.reduction, avg_factor)?
        };
        loss * cfg.loss_weight
    }
}

register!(LOSSES: dyn Loss, "CrossEntropyLoss" => CrossEntropyLoss(CrossEntropyLossConfig));

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use mmcv::config::Node;
    use mmcv::registry::build;

    use super::*;

    fn loss(cfg: &str, label: &Tensor, weight: Option<&[f32]>, avg_factor: Option<f64>) -> Vec<f32> {
        let score = Tensor::new(&[[1f32, -2., 0.5], [0.1, 0.2, 3.]], &Device::Cpu).unwrap();
        let weight = weight.map(|w| Tensor::new(w, &Device::Cpu).unwrap());
        let loss = build(&LOSSES, &Node::from_json(cfg).unwrap(), ()).unwrap();
        let value = loss.forward(&score, label, weight.as_ref(), avg_factor).unwrap();
        value.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn close(ours: &[f32], theirs: &[f32]) {
        assert!(ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 2e-6), "{ours:?}");
    }

    // s = tensor([[1., -2, .5], [.1, .2, 3]]); CrossEntropyLoss(...), LabelSmoothLoss(...)(s, label, weight, avg_factor) of mmcls 0.25
    #[test]
    fn values_are_mmcls() {
        let hard = Tensor::new(&[0i64, 1], &Device::Cpu).unwrap();
        let soft = Tensor::new(&[[0.9f32, 0., 0.1], [0., 1., 0.]], &Device::Cpu).unwrap();
        let cases: [(&str, &Tensor, Option<&[f32]>, Option<f64>, &[f32]); 13] = [
            (r#"{"type": "CrossEntropyLoss"}"#, &hard, None, None, &[1.707099]),
            (
                r#"{"type": "CrossEntropyLoss", "reduction": "none", "class_weight": [1, 2, 3]}"#,
                &hard,
                None,
                None,
                &[0.504597, 5.819203],
            ),
            (r#"{"type": "CrossEntropyLoss", "loss_weight": 2}"#, &hard, Some(&[1.0, 0.5][..]), Some(4.0), &[0.979699]),
            (r#"{"type": "CrossEntropyLoss", "use_soft": true}"#, &soft, None, None, &[1.732099]),
            (r#"{"type": "CrossEntropyLoss"}"#, &soft, None, None, &[1.732099]),
            (
                r#"{"type": "CrossEntropyLoss", "class_weight": [1, 2, 3], "reduction": "none"}"#,
                &soft,
                None,
                None,
                &[0.755516, 5.819203],
            ),
            (
                r#"{"type": "CrossEntropyLoss", "use_soft": true, "class_weight": [1, 2, 3], "reduction": "sum"}"#,
                &soft,
                Some(&[1.0, 0.5][..]),
                None,
                &[3.665118],
            ),
            (r#"{"type": "CrossEntropyLoss", "use_sigmoid": true}"#, &soft, None, None, &[0.975898]),
            (
                r#"{"type": "CrossEntropyLoss", "use_sigmoid": true, "pos_weight": [1, 2, 3], "class_weight": [3, 2, 1]}"#,
                &soft,
                Some(&[1.0, 0.5][..]),
                Some(2.0),
                &[3.17485],
            ),
            (
                r#"{"type": "LabelSmoothLoss", "label_smooth_val": 0.1, "mode": "original"}"#,
                &hard,
                Some(&[1.0, 0.5][..]),
                Some(2.0),
                &[1.015532],
            ),
            (
                r#"{"type": "LabelSmoothLoss", "label_smooth_val": 0.1, "mode": "classy_vision"}"#,
                &hard,
                Some(&[1.0, 0.5][..]),
                Some(2.0),
                &[1.012275],
            ),
            (
                r#"{"type": "LabelSmoothLoss", "label_smooth_val": 0.1, "mode": "multi_label"}"#,
                &hard,
                Some(&[1.0, 0.5][..]),
                Some(2.0),
                &[1.857414],
            ),
            (r#"{"type": "LabelSmoothLoss", "label_smooth_val": 0.1}"#, &hard, None, None, &[1.720433]),
        ];
        for (cfg, label, weight, avg_factor, theirs) in cases {
            close(&loss(cfg, label, weight, avg_factor), theirs);
        }
    }

    #[test]
    fn labels_of_another_shape_are_refused() {
        let soft = CrossEntropyLoss::new(&CrossEntropyLossConfig { use_soft: true, ..Default::default() }).unwrap();
        let score = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let e = soft.forward(&score, &Tensor::new(&[0i64, 1], &Device::Cpu).unwrap(), None, None).unwrap_err();
        assert!(e.to_string().contains("[2], the scores [2, 3]"), "{e}");
        let both = CrossEntropyLossConfig { use_soft: true, use_sigmoid: true, ..Default::default() };
        assert!(CrossEntropyLoss::new(&both).is_err());
    }
}
