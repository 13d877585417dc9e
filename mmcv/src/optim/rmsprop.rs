//! RMSprop (`torch.optim.RMSprop`).

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
fn alpha() -> f64 {
    0.99
}
fn eps() -> f64 {
    1e-8
}

/// `type = "RMSprop"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RmspropConfig {
    /// Learning rate.
    #[serde(default = "lr")]
    pub lr: f64,
    /// Decay of the running averages.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// Added to the denominator.
    #[serde(default = "eps")]
    pub eps: f64,
    /// L2 penalty.
    #[serde(default)]
    pub weight_decay: f64,
    /// Momentum.
    #[serde(default)]
    pub momentum: f64,
    /// Divides by the running deviation rather than the root of the mean square.
    #[serde(default)]
    pub centered: bool,
    /// Climbs instead of descending.
    #[serde(default)]
    pub maximize: bool,
}

/// See [`RmspropConfig`].
#[derive(Debug)]
pub struct Rmsprop {
    slots: Slots,
    cfg: RmspropConfig,
}

impl Rmsprop {
    /// For `params`.
    pub fn new(cfg: &RmspropConfig, params: Vec<ParamSpec>) -> Result<Self> {
        non_negative(&[("eps", cfg.eps), ("alpha", cfg.alpha)])?;
        let mut names = vec![("square_avg", 0.0)];
        if cfg.momentum > 0.0 {
            names.push(("momentum_buffer", 0.0));
        }
        if cfg.centered {
            names.push(("grad_avg", 0.0));
        }
        let defaults =
            Defaults { lr: cfg.lr, weight_decay: cfg.weight_decay, momentum: Some(cfg.momentum), betas: None };
        Ok(Self { slots: Slots::new(params, defaults, names)?, cfg: cfg.clone() })
    }
}

struct Step {
    sign: f32,
    lr: f32,
    decay: f32,
    alpha: f32,
    intake: f32,
    eps: f32,
    momentum: f32,
    centered: bool,
}

impl Step {
    /// The gradient with its penalty, and its deviation, from the running averages after this step.
    #[inline(always)]
    fn scaled<const FMA: bool>(&self, p: f32, sq: &mut f32, g: f32, mean: Option<&mut f32>) -> (f32, f32) {
        let g = if self.decay == 0.0 { self.sign * g } else { fma::<FMA>(p, self.decay, self.sign * g) };
        *sq = *sq * self.alpha + self.intake * g * g;
        let spread = match mean {
            Some(m) => {
                *m = fma::<FMA>(g, self.intake, *m * self.alpha);
                *sq - *m * *m
            }
            None => *sq,
        };
        (g, spread.sqrt() + self.eps)
    }
}

impl Kernel for Step {
    #[inline(always)]
    fn run<const FMA: bool>(&self, out: &mut [&mut [f32]], grad: &[f32]) {
        let (lr, momentum) = (self.lr, self.momentum);
        match out {
            [param, sq] => {
                for ((p, s), g) in param.iter_mut().zip(sq.iter_mut()).zip(grad) {
                    let (g, avg) = self.scaled::<FMA>(*p, s, *g, None);
                    *p += -lr * g / avg;
                }
            }
            [param, sq, mean] if self.centered => {
                for (((p, s), m), g) in param.iter_mut().zip(sq.iter_mut()).zip(mean.iter_mut()).zip(grad) {
                    let (g, avg) = self.scaled::<FMA>(*p, s, *g, Some(m));
                    *p += -lr * g / avg;
                }
            }
            [param, sq, buf] => {
                for (((p, s), b), g) in param.iter_mut().zip(sq.iter_mut()).zip(buf.iter_mut()).zip(grad) {
                    let (g, avg) = self.scaled::<FMA>(*p, s, *g, None);
                    *b = *b * momentum + g / avg;
                    *p = fma::<FMA>(*b, -lr, *p);
                }
            }
            [param, sq, buf, mean] => {
                let rest = sq.iter_mut().zip(buf.iter_mut()).zip(mean.iter_mut()).zip(grad);
                for (p, (((s, b), m), g)) in param.iter_mut().zip(rest) {
                    let (g, avg) = self.scaled::<FMA>(*p, s, *g, Some(m));
                    *b = *b * momentum + g / avg;
                    *p = fma::<FMA>(*b, -lr, *p);
                }
            }
            _ => {}
        }
    }
}

impl Optimizer for Rmsprop {
    fn step(&mut self, grads: &Grads) -> Result<()> {
        let cfg = &self.cfg;
        self.slots.step(grads, |group, _| Step {
            sign: if cfg.maximize { -1.0 } else { 1.0 },
            lr: group.lr as f32,
            decay: group.weight_decay as f32,
            alpha: cfg.alpha as f32,
            intake: (1.0 - cfg.alpha) as f32,
            eps: cfg.eps as f32,
            momentum: group.momentum.unwrap_or(0.0) as f32,
            centered: cfg.centered,
        })
    }
    by_slots!();
}

register!(OPTIMIZERS: dyn Optimizer, "RMSprop" => Rmsprop, RmspropConfig);
