//! Adagrad (Duchi et al. 2011; `torch.optim.Adagrad`).

use schemars::JsonSchema;
use serde::Deserialize;

use super::grads::Grads;
use super::group::{ParamGroup, ParamSpec};
use super::kernel::{Kernel, fma};
use super::optimizer::{Defaults, OPTIMIZERS, OptimState, Optimizer, Slots, by_slots, non_negative};
use crate::error::Result;
use crate::registry::register;

fn lr() -> f64 {
    1e-2
}
fn eps() -> f64 {
    1e-10
}

/// `type = "Adagrad"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdagradConfig {
    /// Learning rate.
    #[serde(default = "lr")]
    pub lr: f64,
    /// The rate of step `n` is `lr / (1 + (n - 1) * lr_decay)`.
    #[serde(default)]
    pub lr_decay: f64,
    /// L2 penalty.
    #[serde(default)]
    pub weight_decay: f64,
    /// What the sum of squares starts from.
    #[serde(default)]
    pub initial_accumulator_value: f64,
    /// Added to the denominator.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Climbs instead of descending.
    #[serde(default)]
    pub maximize: bool,
}

/// See [`AdagradConfig`].
#[derive(Debug)]
pub struct Adagrad {
    slots: Slots,
    cfg: AdagradConfig,
}

impl Adagrad {
    /// For `params`.
    pub fn new(cfg: &AdagradConfig, params: Vec<ParamSpec>) -> Result<Self> {
        non_negative(&[
            ("lr_decay", cfg.lr_decay),
            ("initial_accumulator_value", cfg.initial_accumulator_value),
            ("eps", cfg.eps),
        ])?;
        let defaults = Defaults { lr: cfg.lr, weight_decay: cfg.weight_decay, momentum: None, betas: None };
        let mut slots = Slots::new(params, defaults, vec![("sum", cfg.initial_accumulator_value)])?;
        slots.fill()?;
        Ok(Self { slots, cfg: cfg.clone() })
    }
}

struct Step {
    sign: f32,
    size: f32,
    decay: f32,
    eps: f32,
}

impl Kernel for Step {
    #[inline(always)]
    fn run<const FMA: bool>(&self, out: &mut [&mut [f32]], grad: &[f32]) {
        let [param, sum] = out else { return };
        for ((p, s), g) in param.iter_mut().zip(sum.iter_mut()).zip(grad) {
            let g = if self.decay == 0.0 { self.sign * g } else { fma::<FMA>(*p, self.decay, self.sign * g) };
            *s += g * g;
            *p += self.size * g / (s.sqrt() + self.eps);
        }
    }
}

impl Optimizer for Adagrad {
    fn step(&mut self, grads: &Grads) -> Result<()> {
        let cfg = &self.cfg;
        self.slots.step(grads, |group, step| Step {
            sign: if cfg.maximize { -1.0 } else { 1.0 },
            size: -(group.lr / (1.0 + (step - 1) as f64 * cfg.lr_decay)) as f32,
            decay: group.weight_decay as f32,
            eps: cfg.eps as f32,
        })
    }
    by_slots!();
}

register!(OPTIMIZERS: dyn Optimizer, "Adagrad" => Adagrad, AdagradConfig);
