//! Gradient Harmonized Single-stage Detector, Li et al., AAAI 2019 (<https://arxiv.org/abs/1811.05181>): mmdet's `ghm_loss.py`.
//!
//! Elements are weighted by how rare their gradient's length is.

use candle_core::{DType, Result, Tensor, bail};
use mmcv::nn::{Init, Param, VarBuilder};
use mmcv::ops::bce_with_logits;
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::pairwise::{pairwise, sigmoid};
use super::utils::{Loss, Reduction, one, weight_reduce_loss};
use crate::registry::LOSSES;

/// Counts of gradient lengths by bin.
#[derive(Debug)]
struct Bins {
    /// Lower edges, and an upper one.
    edges: Vec<f32>,
    momentum: f64,
    /// Moving averages of the counts, with `momentum`.
    counts: Param,
}

impl Bins {
    fn new(bins: usize, momentum: f64, last: impl Fn(f32) -> f32) -> Result<Self> {
        if bins == 0 {
            bail!("gradient harmonized loss: bins is 0");
        }
        let mut edges: Vec<f32> = (0..=bins).map(|i| i as f32 / bins as f32).collect();
        edges[bins] = last(edges[bins]);
        Ok(Self { edges, momentum, counts: VarBuilder::scratch().buffer("acc_sum", bins, Init::Const(0.0))? })
    }

    fn register(&mut self, vb: &VarBuilder) -> Result<()> {
        let edges = vb.buffer("edges", self.edges.len(), Init::Const(0.0))?;
        edges.set(&Tensor::new(self.edges.as_slice(), vb.device())?)?;
        if self.momentum > 0.0 {
            self.counts = vb.buffer("acc_sum", self.edges.len() - 1, Init::Const(0.0))?;
        }
        Ok(())
    }

    /// Weights of elements whose gradients are `lengths` long; 0 for those that don't count.
    fn weights(&self, lengths: &[f32], counts: &[bool], total: f64) -> Result<Vec<f32>> {
        let bins = self.edges.len() - 1;
        let bin = |g: f32| (0..bins).find(|i| g >= self.edges[*i] && g < self.edges[i + 1]);
        let places: Vec<Option<usize>> =
            lengths.iter().zip(counts).map(|(g, c)| c.then(|| bin(*g)).flatten()).collect();
        let mut found = vec![0f64; bins];
        places.iter().flatten().for_each(|i| found[*i] += 1.0);
        let valid = found.iter().filter(|n| **n > 0.0).count().max(1) as f32;
        let mut averages = self.counts.value().to_vec1::<f32>()?;
        let mut of_bin = vec![0f32; bins];
        for i in (0..bins).filter(|i| found[*i] > 0.0) {
            of_bin[i] = if self.momentum > 0.0 {
                let m = self.momentum as f32;
                averages[i] = m * averages[i] + ((1.0 - self.momentum) * found[i]) as f32;
                total as f32 / averages[i] / valid
            } else {
                (total / found[i]) as f32 / valid
            };
        }
        if self.momentum > 0.0 {
            self.counts.set(&Tensor::from_vec(averages, bins, self.counts.value().device())?)?;
        }
        Ok(places.iter().map(|p| p.map_or(0.0, |i| of_bin[i])).collect())
    }
}

/// `type = "GHMC"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GHMCConfig {
    /// Number of bins; default 10.
    #[serde(default = "ten")]
    pub bins: usize,
    /// Of the moving average of the counts; default 0: none.
    #[serde(default)]
    pub momentum: f64,
    /// Must be true, as in mmdet; default true.
    #[serde(default = "yes")]
    pub use_sigmoid: bool,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
    /// `none` or `mean`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
}

/// `type = "GHMR"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GHMRConfig {
    /// Width of the rounding at 0; default 0.02.
    #[serde(default = "mu")]
    pub mu: f64,
    /// Number of bins; default 10.
    #[serde(default = "ten")]
    pub bins: usize,
    /// Of the moving average of the counts; default 0: none.
    #[serde(default)]
    pub momentum: f64,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
    /// `none` or `mean`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
}

fn ten() -> usize {
    10
}
fn yes() -> bool {
    true
}
fn mu() -> f64 {
    0.02
}

/// Gradient harmonized classification: sigmoid cross entropy by class.
#[derive(Debug)]
pub struct GHMC {
    cfg: GHMCConfig,
    bins: Bins,
}

/// Gradient harmonized regression: a smooth L1.
#[derive(Debug)]
pub struct GHMR {
    cfg: GHMRConfig,
    bins: Bins,
}

impl GHMC {
    /// An error when `use_sigmoid` is false or there are no bins.
    pub fn new(cfg: &GHMCConfig) -> Result<Self> {
        if !cfg.use_sigmoid {
            bail!("GHMC: use_sigmoid is false, only the sigmoid loss exists");
        }
        Ok(Self { cfg: cfg.clone(), bins: Bins::new(cfg.bins, cfg.momentum, |v| v + 1e-6)? })
    }
}

impl GHMR {
    /// An error when there are no bins.
    pub fn new(cfg: &GHMRConfig) -> Result<Self> {
        Ok(Self { cfg: cfg.clone(), bins: Bins::new(cfg.bins, cfg.momentum, |_| 1e3)? })
    }
}

fn flat(t: &Tensor) -> Result<Vec<f32>> {
    t.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

impl Loss for GHMC {
    /// `target` and the needed `weight` (0: ignored) are `[N, C]`, or labels and weights `[N]`. As in mmdet `avg_factor`
    /// counts nothing: the result is over the elements that count.
    fn forward(
        &self,
        pred: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
        _: Option<f64>,
        reduction_override: Option<Reduction>,
    ) -> Result<Tensor> {
        let Some(weight) = weight else { bail!("GHMC: needs a weight") };
        let (n, classes) = pred.dims2()?;
        let (target, weight) = if target.rank() == 1 {
            if target.dims() != [n] || weight.dims() != [n] {
                bail!("GHMC: target {:?} and weight {:?} for {n} predictions", target.dims(), weight.dims());
            }
            let mut rows = vec![0f32; n * classes];
            for (i, label) in target.to_dtype(DType::I64)?.to_vec1::<i64>()?.into_iter().enumerate() {
                if let Some(class) = usize::try_from(label).ok().filter(|l| *l < classes) {
                    rows[i * classes + class] = 1.0;
                }
            }
            let weight = weight.reshape((n, 1))?.broadcast_as((n, classes))?;
            (Tensor::from_vec(rows, (n, classes), pred.device())?, weight)
        } else {
            (target.to_dtype(DType::F32)?, weight.clone())
        };
        let counts: Vec<bool> = flat(&weight)?.into_iter().map(|w| w > 0.0).collect();
        if counts.len() != n * classes {
            bail!("GHMC: weight {:?} for predictions of [{n}, {classes}]", weight.dims());
        }
        let total = counts.iter().filter(|c| **c).count().max(1) as f64;
        let lengths: Vec<f32> =
            flat(pred)?.into_iter().zip(flat(&target)?).map(|(x, t)| (sigmoid(x) - t).abs()).collect();
        let weights = self.bins.weights(&lengths, &counts, total)?;
        let weights = Tensor::from_vec(weights, (n, classes), pred.device())?;
        let loss = bce_with_logits(pred, &target, None)?;
        let reduction = reduction_override.unwrap_or(self.cfg.reduction);
        weight_reduce_loss(&loss, Some(&weights), reduction, Some(total))? * self.cfg.loss_weight
    }

    /// Keys: `edges` `[bins + 1]`, with `momentum` `acc_sum` `[bins]`.
    fn register(&mut self, vb: &VarBuilder) -> Result<()> {
        self.bins.register(vb)
    }
}

impl Loss for GHMR {
    /// `pred`, `target` and the needed `weight` (0: ignored) have one shape. As in mmdet `avg_factor` counts nothing.
    fn forward(
        &self,
        pred: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
        _: Option<f64>,
        reduction_override: Option<Reduction>,
    ) -> Result<Tensor> {
        let Some(weight) = weight.filter(|w| w.dims() == pred.dims()) else {
            bail!("GHMR: needs a weight in the shape of the prediction, {:?}", pred.dims());
        };
        let mu = self.cfg.mu as f32;
        let loss = pairwise("ghmr", pred, target, move |p, t| {
            let d = p - t;
            let root = (d * d + mu * mu).sqrt();
            (root - mu, d / root)
        })?;
        let weight = flat(weight)?;
        let counts: Vec<bool> = weight.iter().map(|w| *w > 0.0).collect();
        let total = f64::from(weight.iter().sum::<f32>()).max(1.0);
        let length = |(p, t): (f32, f32)| {
            let d = p - t;
            (d / (mu * mu + d * d).sqrt()).abs()
        };
        let lengths: Vec<f32> = flat(pred)?.into_iter().zip(flat(target)?).map(length).collect();
        let weights = Tensor::from_vec(self.bins.weights(&lengths, &counts, total)?, pred.dims(), pred.device())?;
        let reduction = reduction_override.unwrap_or(self.cfg.reduction);
        weight_reduce_loss(&loss, Some(&weights), reduction, Some(total))? * self.cfg.loss_weight
    }

    /// Keys: `edges` `[bins + 1]`, with `momentum` `acc_sum` `[bins]`.
    fn register(&mut self, vb: &VarBuilder) -> Result<()> {
        self.bins.register(vb)
    }
}

register!(LOSSES: dyn Loss, "GHMC" => GHMC(GHMCConfig));
register!(LOSSES: dyn Loss, "GHMR" => GHMR(GHMRConfig));
