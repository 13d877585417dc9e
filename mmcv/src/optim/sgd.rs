//! Stochastic gradient descent (`torch.optim.SGD`).

use schemars::JsonSchema;
use serde::Deserialize;

use super::grads::Grads;
use super::group::{ParamGroup, ParamSpec};
use super::kernel::{Kernel, fma};
use super::optimizer::{Defaults, OPTIMIZERS, OptimState, Optimizer, Slots, by_slots};
use crate::error::{Error, Result};
use crate::registry::register;

/// `type = "SGD"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SgdConfig {
    /// Learning rate.
    pub lr: f64,
    /// Momentum.
    #[serde(default)]
    pub momentum: f64,
    /// Dampening of the gradient that enters the momentum, from the second step on.
    #[serde(default)]
    pub dampening: f64,
    /// L2 penalty.
    #[serde(default)]
    pub weight_decay: f64,
    /// Nesterov's momentum.
    #[serde(default)]
    pub nesterov: bool,
    /// Climbs instead of descending.
    #[serde(default)]
    pub maximize: bool,
}

/// See [`SgdConfig`].
#[derive(Debug)]
pub struct Sgd {
    slots: Slots,
    cfg: SgdConfig,
}

impl Sgd {
    /// For `params`.
    pub fn new(cfg: &SgdConfig, params: Vec<ParamSpec>) -> Result<Self> {
        if cfg.nesterov && (cfg.momentum <= 0.0 || cfg.dampening != 0.0) {
            return Err(Error::config("nesterov needs a momentum and zero dampening").under("nesterov"));
        }
        let defaults =
            Defaults { lr: cfg.lr, weight_decay: cfg.weight_decay, momentum: Some(cfg.momentum), betas: None };
        let names = if cfg.momentum == 0.0 { vec![] } else { vec![("momentum_buffer", 0.0)] };
        Ok(Self { slots: Slots::new(params, defaults, names)?, cfg: cfg.clone() })
    }
}

struct Step {
    sign: f32,
    lr: f32,
    decay: f32,
    momentum: f32,
    /// How much of the gradient enters the momentum.
    intake: f32,
    nesterov: bool,
}

impl Kernel for Step {
    #[inline(always)]
    fn run<const FMA: bool>(&self, out: &mut [&mut [f32]], grad: &[f32]) {
        let Self { sign, lr, decay, momentum, intake, nesterov } = *self;
        match out {
            [param] => {
                for (p, g) in param.iter_mut().zip(grad) {
                    let d = if decay == 0.0 { sign * g } else { fma::<FMA>(*p, decay, sign * g) };
                    *p = fma::<FMA>(d, -lr, *p);
                }
            }
            [param, buf] => {
                for ((p, b), g) in param.iter_mut().zip(buf.iter_mut()).zip(grad) {
                    let d = if decay == 0.0 { sign * g } else { fma::<FMA>(*p, decay, sign * g) };
                    *b = fma::<FMA>(d, intake, *b * momentum);
                    let d = if nesterov { fma::<FMA>(*b, momentum, d) } else { *b };
                    *p = fma::<FMA>(d, -lr, *p);
                }
            }
            _ => {}
        }
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, grads: &Grads) -> Result<()> {
        let cfg = &self.cfg;
        self.slots.step(grads, |group, step| Step {
            sign: if cfg.maximize { -1.0 } else { 1.0 },
            lr: group.lr as f32,
            decay: group.weight_decay as f32,
            momentum: group.momentum.unwrap_or(0.0) as f32,
            // The first step copies the gradient, whatever the dampening.
            intake: if step == 1 { 1.0 } else { (1.0 - cfg.dampening) as f32 },
            nesterov: cfg.nesterov,
        })
    }
    by_slots!();
}

register!(OPTIMIZERS: dyn Optimizer, "SGD" => Sgd, SgdConfig);
