//! Exponential moving averages of the weights.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::super::{HOOKS, Hook, RunState};
use crate::nn::{Param, ParamKind};
use crate::{Error, Result, register};

/// `type = "EMAHook"` of mmcv.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmaHookConfig {
    /// The weight of a new value.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Iterations between two updates.
    #[serde(default = "one")]
    pub interval: usize,
    /// The larger, the slower the weight of a new value falls to `momentum`.
    #[serde(default = "hundred")]
    pub warm_up: usize,
    /// A checkpoint to resume from, with the averages.
    #[serde(default)]
    pub resume_from: Option<String>,
}

/// `type = "ExpMomentumEMAHook"` of mmdet.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpMomentumEmaConfig {
    /// The weight of a new value in the end.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Iterations between two updates.
    #[serde(default = "one")]
    pub interval: usize,
    /// Whether buffers (BatchNorm's running statistics) are not averaged.
    #[serde(default)]
    pub skip_buffers: bool,
    /// How slowly the weight of a new value falls to `momentum`, in iterations.
    #[serde(default = "two_thousand")]
    pub total_iter: usize,
    /// A checkpoint to resume from, with the averages.
    #[serde(default)]
    pub resume_from: Option<String>,
}

/// `type = "LinearMomentumEMAHook"` of mmdet.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinearMomentumEmaConfig {
    /// The weight of a new value in the end.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Iterations between two updates.
    #[serde(default = "one")]
    pub interval: usize,
    /// Whether buffers (BatchNorm's running statistics) are not averaged.
    #[serde(default)]
    pub skip_buffers: bool,
    /// The larger, the slower the weight of a new value falls to `momentum`.
    #[serde(default = "hundred")]
    pub warm_up: usize,
    /// A checkpoint to resume from, with the averages.
    #[serde(default)]
    pub resume_from: Option<String>,
}

fn momentum() -> f64 {
    0.0002
}
fn one() -> usize {
    1
}
fn hundred() -> usize {
    100
}
fn two_thousand() -> usize {
    2000
}

/// How much a new value weighs at an iteration.
#[derive(Debug, Clone, Copy)]
enum Weight {
    /// `min(momentum ^ interval, (1 + i) / (warm_up + i))`
    Linear { warm_up: usize },
    /// `(1 - momentum) * exp(-(1 + i) / total) + momentum`
    Exp { total: usize },
}

/// Keeps a moving average of every parameter. At the end of an epoch the model gets the averages, for evaluation
/// and checkpoints, and its own weights back before the next epoch.
///
/// The averages are in the checkpoint as `ema_<name with _ for .>`, as mmcv writes them; a resume takes them up.
#[derive(Debug)]
pub struct EmaHook {
    momentum: f64,
    interval: usize,
    skip_buffers: bool,
    weight: Weight,
    /// mmcv updates at iterations 0, n, 2n, mmdet's hooks at n - 1, 2n - 1, ...
    from_zero: bool,
    resume_from: Option<String>,
    params: Vec<(Param, String)>,
}

/// mmdet's `ExpMomentumEMAHook`.
pub struct ExpMomentumEmaHook;
/// mmdet's `LinearMomentumEMAHook`.
pub struct LinearMomentumEmaHook;

const SWAPPED: &str = "ema_swapped";

impl EmaHook {
    /// From its config.
    pub fn new(cfg: &EmaHookConfig) -> Result<Self> {
        let weight = Weight::Linear { warm_up: cfg.warm_up };
        Self::with(cfg.momentum, cfg.interval, true, weight, true, cfg.resume_from.clone())
    }

    fn with(
        momentum: f64,
        interval: usize,
        skip_buffers: bool,
        weight: Weight,
        from_zero: bool,
        resume_from: Option<String>,
    ) -> Result<Self> {
        if !(momentum > 0.0 && momentum < 1.0) {
            return Err(Error::config(format!("momentum: found {momentum}, expected a value in (0, 1)")));
        }
        if interval == 0 {
            return Err(Error::config("interval: found 0, expected a positive integer"));
        }
        Ok(Self { momentum, interval, skip_buffers, weight, from_zero, resume_from, params: Vec::new() })
    }

    fn weight(&self, iter: usize) -> f64 {
        let i = iter as f64;
        match self.weight {
            Weight::Linear { warm_up } => {
                self.momentum.powf(self.interval as f64).min((1.0 + i) / (warm_up as f64 + i))
            }
            Weight::Exp { total } => (1.0 - self.momentum) * (-(1.0 + i) / total as f64).exp() + self.momentum,
        }
    }

    /// Exchanges the model's values and the averages.
    fn swap(&self, state: &mut RunState, swapped: bool) -> Result<()> {
        for (param, key) in &self.params {
            if let Some(average) = state.buffers.get_mut(key) {
                let own = param.value().copy()?;
                param.set(average)?;
                *average = own;
            }
        }
        state.set_hook_msg(SWAPPED, swapped);
        Ok(())
    }
}

impl ExpMomentumEmaHook {
    /// From its config.
    #[allow(clippy::new_ret_no_self)] // one hook with another weight
    pub fn new(cfg: &ExpMomentumEmaConfig) -> Result<EmaHook> {
        let weight = Weight::Exp { total: cfg.total_iter };
        EmaHook::with(cfg.momentum, cfg.interval, cfg.skip_buffers, weight, false, cfg.resume_from.clone())
    }
}

impl LinearMomentumEmaHook {
    /// From its config.
    #[allow(clippy::new_ret_no_self)] // one hook with another weight
    pub fn new(cfg: &LinearMomentumEmaConfig) -> Result<EmaHook> {
        let weight = Weight::Linear { warm_up: cfg.warm_up };
        EmaHook::with(cfg.momentum, cfg.interval, cfg.skip_buffers, weight, false, cfg.resume_from.clone())
    }
}

impl Hook for EmaHook {
    fn before_run(&mut self, state: &mut RunState) -> Result<()> {
        if let Some(path) = self.resume_from.take()
            && state.iter == 0
        {
            state.resume(path.as_ref())?;
        }
        let params = state.store.all().into_iter().filter(|p| !self.skip_buffers || p.kind() == ParamKind::Param);
        // Counters of batches are integers in PyTorch and not averaged.
        let params = params.filter(|p| !p.name().ends_with("num_batches_tracked"));
        self.params = params.map(|p| (p.clone(), format!("ema_{}", p.name().replace('.', "_")))).collect();
        for (param, key) in &self.params {
            match state.buffers.get(key) {
                Some(kept) if kept.shape() == param.shape() => {}
                _ => {
                    state.buffers.insert(key.clone(), param.value().copy()?);
                }
            }
        }
        // Whoever resumes a checkpoint of mmcv finds the averages in the model at an epoch's start.
        if state.hook_msg(SWAPPED).is_none() {
            state.set_hook_msg(SWAPPED, state.iter > 0 && state.cursor.batch == 0);
        }
        Ok(())
    }

    fn after_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        let step = if self.from_zero { state.iter } else { state.iter + 1 };
        if !step.is_multiple_of(self.interval) {
            return Ok(());
        }
        let weight = self.weight(state.iter);
        for (param, key) in &self.params {
            if let Some(average) = state.buffers.get_mut(key) {
                *average = mix(average, param.value(), weight)?;
            }
        }
        Ok(())
    }

    fn after_train_epoch(&mut self, state: &mut RunState) -> Result<()> {
        self.swap(state, true)
    }

    fn before_train_epoch(&mut self, state: &mut RunState) -> Result<()> {
        if state.hook_msg(SWAPPED).and_then(Value::as_bool) == Some(true) { self.swap(state, false) } else { Ok(()) }
    }
}

/// `average * (1 - weight) + value * weight`
fn mix(average: &Tensor, value: &Tensor, weight: f64) -> candle_core::Result<Tensor> {
    (average * (1.0 - weight))? + (value * weight)?
}

register!(HOOKS: dyn Hook, "EMAHook" => EmaHook(EmaHookConfig));
register!(HOOKS: dyn Hook, "ExpMomentumEMAHook" => ExpMomentumEmaHook(ExpMomentumEmaConfig));
register!(HOOKS: dyn Hook, "LinearMomentumEMAHook" => LinearMomentumEmaHook(LinearMomentumEmaConfig));
