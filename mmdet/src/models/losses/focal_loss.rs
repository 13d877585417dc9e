//! Focal Loss for Dense Object Detection, Lin et al., ICCV 2017 (<https://arxiv.org/abs/1708.02002>): mmdet's `focal_loss.py`.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::element::{GRAIN, values};
use super::utils::{Loss, Reduction, one, weight_reduce_loss};

/// The loss of `[N, C]` scores where each row's label makes one positive or, at `C`, none.
#[derive(Debug, Clone)]
struct Op {
    labels: Vec<usize>,
    classes: usize,
    gamma: f32,
    alpha: f32,
    /// Scores are probabilities, not logits.
    activated: bool,
}

impl Op {
    /// Value and derivative by the score. With `q` the probability of the wrong answer, the loss is
    /// `a q^gamma (-ln(1 - q))`, for positives and negatives alike.
    fn pair(&self, x: f32, positive: bool) -> (f32, f32) {
        let (alpha, sign) = if positive { (self.alpha, -1.0) } else { (1.0 - self.alpha, 1.0) };
        if self.activated {
            let q = if positive { 1.0 - x } else { x };
            let focus = q.powf(self.gamma);
            // torch's bounds of the logarithm and of its derivative.
            let entropy = (-(1.0 - q).ln()).min(100.0);
            let slope = q / (q * (1.0 - q)).max(1e-12);
            let by_focus = if self.gamma == 0.0 { 0.0 } else { self.gamma * q.powf(self.gamma - 1.0) };
            return (alpha * focus * entropy, sign * alpha * (by_focus * entropy + focus * slope));
        }
        let z = sign * x;
        let q = 1.0 / (1.0 + (-z).exp());
        let focus = alpha * q.powf(self.gamma);
        let entropy = z.max(0.0) + (-z.abs()).exp().ln_1p();
        (focus * entropy, sign * focus * (self.gamma * (1.0 - q) * entropy + q))
    }

    fn map(&self, storage: &CpuStorage, layout: &Layout, pick: fn((f32, f32)) -> f32) -> Result<(CpuStorage, Shape)> {
        let x = values("focal_loss", storage, layout)?;
        let mut out = vec![0.0f32; x.len()];
        (out.par_chunks_exact_mut(self.classes), x.par_chunks_exact(self.classes), &self.labels)
            .into_par_iter()
            .with_min_len((GRAIN / self.classes).max(1))
            .for_each(|(out, row, label)| {
                for (c, (o, x)) in out.iter_mut().zip(row).enumerate() {
                    *o = pick(self.pair(*x, c == *label));
                }
            });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "focal_loss"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.map(storage, layout, |pair| pair.0)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some((x.apply_op1_no_bwd(&Slopes(self.clone()))? * grad)?))
    }
}

/// The derivatives of [`Op`].
struct Slopes(Op);

impl CustomOp1 for Slopes {
    fn name(&self) -> &'static str {
        "focal_loss_backward"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.map(storage, layout, |pair| pair.1)
    }
}

/// Focal loss, unreduced `[N, C]`.
///
/// # Shapes
/// - `pred`: `[N, C]` logits, or probabilities when `activated`
/// - `target`: `[N]` integers up to `C`, which is the background
pub fn focal_loss(pred: &Tensor, target: &Tensor, gamma: f64, alpha: f64, activated: bool) -> Result<Tensor> {
    let (n, classes) = pred.dims2()?;
    if target.dims() != [n] || classes == 0 {
        bail!("focal_loss: pred is [{n}, {classes}] and target {:?}, expected [N, C] and [N]", target.dims());
    }
    let labels = target
        .to_dtype(DType::I64)?
        .to_vec1::<i64>()?
        .into_iter()
        .map(|label| match usize::try_from(label) {
            Ok(l) if l <= classes => Ok(l),
            _ => bail!("focal_loss: label {label} is not in 0..={classes}"),
        })
        .collect::<Result<Vec<_>>>()?;
    pred.contiguous()?.apply_op1(Op { labels, classes, gamma: gamma as f32, alpha: alpha as f32, activated })
}

fn yes() -> bool {
    true
}
fn two() -> f64 {
    2.0
}
fn quarter() -> f64 {
    0.25
}

/// `type = "FocalLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FocalLossConfig {
    /// Must be true, as in mmdet; default true.
    #[serde(default = "yes")]
    pub use_sigmoid: bool,
    /// How much easy examples are played down; default 2.
    #[serde(default = "two")]
    pub gamma: f64,
    /// Factor of the positives, 1 less it that of the negatives; default 0.25.
    #[serde(default = "quarter")]
    pub alpha: f64,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
    /// Predictions are probabilities already; default false.
    #[serde(default)]
    pub activated: bool,
}

/// Sigmoid focal loss.
#[derive(Debug, Clone)]
pub struct FocalLoss(FocalLossConfig);

impl FocalLoss {
    /// An error when `use_sigmoid` is false.
    pub fn new(cfg: &FocalLossConfig) -> Result<Self> {
        if !cfg.use_sigmoid {
            bail!("FocalLoss: use_sigmoid is false, only the sigmoid focal loss exists");
        }
        Ok(Self(cfg.clone()))
    }
}

impl Loss for FocalLoss {
    /// `weight` is `[N]`, `[N, C]` or `[N * C]`.
    fn forward(
        &self,
        pred: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
        avg_factor: Option<f64>,
        reduction_override: Option<Reduction>,
    ) -> Result<Tensor> {
        let cfg = &self.0;
        let loss = focal_loss(pred, target, cfg.gamma, cfg.alpha, cfg.activated)?;
        let (n, classes) = loss.dims2()?;
        let weight = match weight {
            Some(w) if w.dims() == loss.dims() => Some(w.clone()),
            Some(w) if w.dim(0)? == n => Some(w.reshape((n, 1))?),
            Some(w) => Some(w.reshape((n, classes))?),
            None => None,
        };
        let reduction = reduction_override.unwrap_or(cfg.reduction);
        weight_reduce_loss(&loss, weight.as_ref(), reduction, avg_factor)? * cfg.loss_weight
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::utils::testing::{close, grad, tensor, var};
    use super::*;

    const X: &[f32] = &[1., -2., 0.5, 3., 0., -1., 0.1, 0.2, 0.3, -4., 5., 20.];
    const PROB: &[f32] = &[0.1, 0.7, 0.5, 0.9, 0.05, 0.3, 0.6, 0.2, 0.99, 0.4, 0.8, 0.01];

    /// (config, scores, whether weighted with avg_factor 3, mmdet's value, mmdet's gradient)
    #[rustfmt::skip]
    const CASES: &[(&str, &[f32], bool, &[f32], &[f32])] = &[
        (r#"{}"#, X, true, &[1.9656949], &[-0.00438176002, 0.00121773535, 0.131537959, 0.140843734, 0.0372858495, 0.0065726419, 0.169797301, -0.0374199077, 0.21475324, 4.33763807e-06, 0.261544943, 0.0]),
        (r#"{"reduction": "none"}"#, X, false, &[0.00566451298, 0.00135267235, 0.283058703, 2.07471037, 0.129965097, 0.0169935431, 0.153868541, 0.0303031355, 0.211442798, 4.40368512e-06, 3.70494127, 0.0], &[-0.0131452791, 0.0036532057, 0.394613862, 0.845062435, 0.223715097, 0.0394358486, 0.254695952, -0.0561298653, 0.322129846, 1.30129147e-05, 0.784634769, 0.0]),
        (r#"{"gamma": 1.5, "alpha": 0.4, "loss_weight": 2.0}"#, X, false, &[0.936791956], &[-0.00569473067, 0.00118075684, 0.0576591007, 0.108724825, 0.0360575095, 0.00854209904, 0.0401443206, -0.0189977139, 0.0487543792, 1.07876203e-05, 0.103311181, 0.0]),
        (r#"{"activated": true}"#, PROB, true, &[3.8308382], &[-1.02038777, 0.829723775, 0.298286796, 1.53058124, 0.000970113731, 0.0428220555, 0.999774575, -0.962516844, 53.5641708, 0.168831795, 1.4437753, -8.92735481]),
    ];

    // mmdet.models.losses.FocalLoss of these configs on labels [0, 3, 1, 2] (3 is the background), weights [1, .5, 2, 1].
    #[test]
    fn values_and_gradients_are_mmdets() {
        let y = Tensor::from_slice(&[0u32, 3, 1, 2], 4, &Device::Cpu).unwrap();
        let w = tensor(&[1., 0.5, 2., 1.], &[4]);
        for (json, scores, weighted, value, gradient) in CASES {
            let module = FocalLoss::new(&serde_json::from_str(json).unwrap()).unwrap();
            let x = var(scores, &[4, 3]);
            let (weight, factor) = if *weighted { (Some(&w), Some(3.0)) } else { (None, None) };
            let loss = module.forward(&x, &y, weight, factor, None).unwrap();
            close(&loss, value);
            close(&grad(&loss, &x), gradient);
        }
    }

    #[test]
    fn labels_past_the_background_and_softmax_are_refused_and_no_rows_give_zero() {
        let y = Tensor::from_slice(&[0u32, 4, 1, 2], 4, &Device::Cpu).unwrap();
        assert!(focal_loss(&tensor(X, &[4, 3]), &y, 2.0, 0.25, false).is_err());
        let softmax: FocalLossConfig = serde_json::from_str(r#"{"use_sigmoid": false}"#).unwrap();
        assert!(FocalLoss::new(&softmax).is_err());
        let module = FocalLoss::new(&serde_json::from_str("{}").unwrap()).unwrap();
        let none = Tensor::from_slice(&[0u32; 0], 0, &Device::Cpu).unwrap();
        close(&module.forward(&tensor(&[], &[0, 3]), &none, None, Some(1.0), None).unwrap(), &[0.0]);
    }
}
