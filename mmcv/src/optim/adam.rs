//! Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), with `torch.optim`'s numerics.

use schemars::JsonSchema;
use serde::Deserialize;

use super::grads::Grads;
use super::group::{ParamGroup, ParamSpec};
use super::kernel::{Kernel, fma};
use super::optimizer::{Defaults, OPTIMIZERS, OptimState, Optimizer, Slots, by_slots, non_negative};
use crate::error::Result;
use crate::registry::register;

fn lr() -> f64 {
    1e-3
}
fn betas() -> [f64; 2] {
    [0.9, 0.999]
}
fn eps() -> f64 {
    1e-8
}
fn decay() -> f64 {
    1e-2
}

/// `type = "Adam"`: weight decay is an L2 penalty, part of the gradient.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdamConfig {
    /// Learning rate.
    #[serde(default = "lr")]
    pub lr: f64,
    /// Decay of the running averages of the gradient and its square.
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    /// Added to the denominator.
    #[serde(default = "eps")]
    pub eps: f64,
    /// L2 penalty.
    #[serde(default)]
    pub weight_decay: f64,
    /// Divides by the largest running average so far (Reddi et al. 2018).
    #[serde(default)]
    pub amsgrad: bool,
    /// Climbs instead of descending.
    #[serde(default)]
    pub maximize: bool,
}

/// `type = "AdamW"`: weight decay shrinks the parameter itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdamWConfig {
    /// Learning rate.
    #[serde(default = "lr")]
    pub lr: f64,
    /// Decay of the running averages of the gradient and its square.
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    /// Added to the denominator.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Decoupled weight decay.
    #[serde(default = "decay")]
    pub weight_decay: f64,
    /// Divides by the largest running average so far (Reddi et al. 2018).
    #[serde(default)]
    pub amsgrad: bool,
    /// Climbs instead of descending.
    #[serde(default)]
    pub maximize: bool,
}

/// See [`AdamConfig`].
#[derive(Debug)]
pub struct Adam(Core);

/// See [`AdamWConfig`].
#[derive(Debug)]
pub struct AdamW(Core);

#[derive(Debug)]
struct Core {
    slots: Slots,
    eps: f64,
    maximize: bool,
    decoupled: bool,
}

impl Adam {
    /// For `params`.
    pub fn new(cfg: &AdamConfig, params: Vec<ParamSpec>) -> Result<Self> {
        let AdamConfig { lr, betas, eps, weight_decay, amsgrad, maximize } = *cfg;
        Ok(Self(Core::new(params, lr, betas, eps, weight_decay, amsgrad, maximize, false)?))
    }
}

impl AdamW {
    /// For `params`.
    pub fn new(cfg: &AdamWConfig, params: Vec<ParamSpec>) -> Result<Self> {
        let AdamWConfig { lr, betas, eps, weight_decay, amsgrad, maximize } = *cfg;
        Ok(Self(Core::new(params, lr, betas, eps, weight_decay, amsgrad, maximize, true)?))
    }
}

impl Core {
    fn new(
        params: Vec<ParamSpec>,
        lr: f64,
        betas: [f64; 2],
        eps: f64,
        weight_decay: f64,
        amsgrad: bool,
        maximize: bool,
        decoupled: bool,
    ) -> Result<Self> {
        non_negative(&[("eps", eps)])?;
        let mut names = vec![("exp_avg", 0.0), ("exp_avg_sq", 0.0)];
        if amsgrad {
            names.push(("max_exp_avg_sq", 0.0));
        }
        let defaults = Defaults { lr, weight_decay, momentum: None, betas: Some(betas) };
        Ok(Self { slots: Slots::new(params, defaults, names)?, eps, maximize, decoupled })
    }

    fn step(&mut self, grads: &Grads) -> Result<()> {
        let (eps, decoupled) = (self.eps as f32, self.decoupled);
        let sign = if self.maximize { -1.0 } else { 1.0 };
        self.slots.step(grads, |group, step| {
            let [beta1, beta2] = group.betas.unwrap_or_else(betas);
            let step = step as f64;
            let (correction1, correction2) = (1.0 - beta1.powf(step), 1.0 - beta2.powf(step));
            Step {
                sign,
                l2: if decoupled { 0.0 } else { group.weight_decay as f32 },
                shrink: if decoupled { (1.0 - group.lr * group.weight_decay) as f32 } else { 1.0 },
                beta1: beta1 as f32,
                intake1: (1.0 - beta1) as f32,
                beta2: beta2 as f32,
                intake2: (1.0 - beta2) as f32,
                root: correction2.sqrt() as f32,
                eps,
                size: -(group.lr / correction1) as f32,
            }
        })
    }
}

struct Step {
    sign: f32,
    l2: f32,
    shrink: f32,
    beta1: f32,
    intake1: f32,
    beta2: f32,
    intake2: f32,
    root: f32,
    eps: f32,
    size: f32,
}

impl Step {
    /// The parameter and the running averages after the step; `seen` gives the second average to divide by.
    #[inline(always)]
    fn one<const FMA: bool>(&self, p: &mut f32, m: &mut f32, v: &mut f32, g: f32, seen: impl FnOnce(f32) -> f32) {
        let g = if self.l2 == 0.0 { self.sign * g } else { fma::<FMA>(*p, self.l2, self.sign * g) };
        let start = *p * self.shrink;
        *m = fma::<FMA>(g, self.intake1, *m * self.beta1);
        *v = *v * self.beta2 + self.intake2 * g * g;
        let denom = seen(*v).sqrt() / self.root + self.eps;
        *p = start + self.size * *m / denom;
    }
}

impl Kernel for Step {
    #[inline(always)]
    fn run<const FMA: bool>(&self, out: &mut [&mut [f32]], grad: &[f32]) {
        match out {
            [param, avg, sq] => {
                for (((p, m), v), g) in param.iter_mut().zip(avg.iter_mut()).zip(sq.iter_mut()).zip(grad) {
                    self.one::<FMA>(p, m, v, *g, |v| v);
                }
            }
            [param, avg, sq, max] => {
                let rest = avg.iter_mut().zip(sq.iter_mut()).zip(max.iter_mut()).zip(grad);
                for (p, (((m, v), x), g)) in param.iter_mut().zip(rest) {
                    self.one::<FMA>(p, m, v, *g, |v| {
                        *x = if v > *x || v.is_nan() { v } else { *x };
                        *x
                    });
                }
            }
            _ => {}
        }
    }
}

macro_rules! by_core {
    ($t:ty) => {
        impl Optimizer for $t {
            fn step(&mut self, grads: &Grads) -> Result<()> {
                self.0.step(grads)
            }
            fn groups(&self) -> Vec<&ParamGroup> {
                self.0.groups()
            }
            fn groups_mut(&mut self) -> Vec<&mut ParamGroup> {
                self.0.groups_mut()
            }
            fn state(&self) -> OptimState {
                self.0.state()
            }
            fn load_state(&mut self, state: &OptimState) -> Result<()> {
                self.0.load_state(state)
            }
        }
    };
}
impl Core {
    by_slots!();
}
by_core!(Adam);
by_core!(AdamW);

register!(OPTIMIZERS: dyn Optimizer, "Adam" => Adam, AdamConfig);
register!(OPTIMIZERS: dyn Optimizer, "AdamW" => AdamW, AdamWConfig);
