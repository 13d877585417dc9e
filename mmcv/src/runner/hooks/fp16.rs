//! Training in mixed precision: `fp16 = dict(loss_scale=512.)` of a config (mmcv's `Fp16OptimizerHook`).
//!
//! Mixed Precision Training, Micikevicius et al., ICLR 2018 (<https://arxiv.org/abs/1710.03740>).

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::{HOOKS, Hook, RunState};
use super::optimizer::{GradClip, OptimizerHook, OptimizerHookConfig};
use crate::{Error, Result, register};

/// `type = "Fp16OptimizerHook"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fp16OptimizerHookConfig {
    /// Clips the norm of the gradients, and logs it as `grad_norm`.
    #[serde(default)]
    pub grad_clip: Option<GradClip>,
    /// Logs the trainable parameters that took no part in the loss (slow: for debugging).
    #[serde(default)]
    pub detect_anomalous_params: bool,
    /// A number, `dynamic`, or torch's `GradScaler` arguments; default 512.
    #[serde(default)]
    pub loss_scale: LossScale,
    /// Accepted; there is one process.
    #[serde(default)]
    pub coalesce: bool,
    /// Accepted; there is one process.
    #[serde(default)]
    pub bucket_size_mb: i64,
    /// Accepted; there is one process.
    #[serde(default)]
    pub distributed: bool,
}

/// What the loss is multiplied by.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LossScale {
    /// Always this.
    Fixed(f64),
    /// `dynamic`.
    Named(String),
    /// Dynamic, with these numbers.
    Dynamic(DynamicScale),
}

impl Default for LossScale {
    fn default() -> Self {
        Self::Fixed(512.0)
    }
}

/// A scale that halves when gradients overflow and doubles when they haven't for long; torch's `GradScaler`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DynamicScale {
    /// First value.
    pub init_scale: f64,
    /// Factor after `growth_interval` iterations without an overflow.
    pub growth_factor: f64,
    /// Factor at an overflow.
    pub backoff_factor: f64,
    /// See `growth_factor`.
    pub growth_interval: u64,
}

impl Default for DynamicScale {
    fn default() -> Self {
        Self { init_scale: 65536.0, growth_factor: 2.0, backoff_factor: 0.5, growth_interval: 2000 }
    }
}

/// The key of `meta.fp16`'s place in `hook_msgs`.
const MESSAGE: &str = "fp16.loss_scaler";

/// [`OptimizerHook`] with a scaled loss. Activations of the model's regions are kept in half precision, which is where memory
/// goes; sums are in f32, weights and gradients too. A step whose gradients overflow is left out.
#[derive(Debug)]
pub struct Fp16OptimizerHook {
    inner: OptimizerHook,
    rule: DynamicScale,
    fixed: bool,
    scale: f64,
    /// Iterations since the last overflow or growth.
    good: u64,
}

impl Fp16OptimizerHook {
    /// An error for a scale that isn't positive, or a name other than `dynamic`.
    pub fn new(cfg: &Fp16OptimizerHookConfig) -> Result<Self> {
        let (rule, fixed) = match &cfg.loss_scale {
            LossScale::Fixed(scale) => (DynamicScale { init_scale: *scale, ..DynamicScale::default() }, true),
            LossScale::Named(name) if name == "dynamic" => (DynamicScale::default(), false),
            LossScale::Named(name) => {
                return Err(Error::config(format!("is '{name}', expected a number or 'dynamic'")).under("loss_scale"));
            }
            LossScale::Dynamic(rule) => (rule.clone(), false),
        };
        let positive =
            [rule.init_scale, rule.growth_factor, rule.backoff_factor].iter().all(|v| *v > 0.0 && v.is_finite());
        if !positive || rule.growth_interval == 0 {
            return Err(Error::config(format!("{rule:?}: its numbers must be positive")).under("loss_scale"));
        }
        let inner = OptimizerHookConfig {
            grad_clip: cfg.grad_clip.clone(),
            detect_anomalous_params: cfg.detect_anomalous_params,
        };
        let scale = rule.init_scale;
        Ok(Self { inner: OptimizerHook::new(&inner)?, rule, fixed, scale, good: 0 })
    }

    /// Takes in whether a step's gradients were finite.
    fn update(&mut self, finite: bool) {
        self.good = if finite { self.good + 1 } else { 0 };
        if self.fixed {
            return;
        }
        if !finite {
            self.scale *= self.rule.backoff_factor;
        } else if self.good == self.rule.growth_interval {
            (self.scale, self.good) = (self.scale * self.rule.growth_factor, 0);
        }
    }
}

impl Hook for Fp16OptimizerHook {
    fn before_run(&mut self, state: &mut RunState) -> Result<()> {
        state.half = true;
        if let Some(message) = state.hook_msg(MESSAGE).filter(|_| !self.fixed) {
            let number = |key: &str| message.get(key).and_then(serde_json::Value::as_f64);
            self.scale = number("scale").unwrap_or(self.scale);
            self.good = number("_growth_tracker").unwrap_or(0.0) as u64;
        }
        Ok(())
    }

    fn after_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        let Some(loss) = state.outputs.loss.take() else { return Ok(()) };
        let mut grads = self.inner.backward(&(loss * self.scale)?, state)?;
        let finite = grads.is_finite()?;
        if finite {
            grads.scale(1.0 / self.scale)?;
            self.inner.step(grads, state)?;
        } else {
            let text = format!("gradients overflowed with loss scale {}: the step is left out", self.scale);
            state.logger.warn(&text)?;
        }
        self.update(finite);
        let message = serde_json::json!({"scale": self.scale, "_growth_tracker": self.good});
        state.set_hook_msg(MESSAGE, message);
        state.log_buffer.update("loss_scale", self.scale, 1);
        Ok(())
    }
}
register!(HOOKS: dyn Hook, "Fp16OptimizerHook" => Fp16OptimizerHook(Fp16OptimizerHookConfig));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Node;

    fn hook(json: &str) -> Result<Fp16OptimizerHook> {
        Fp16OptimizerHook::new(&Node::from_json(json)?.parse()?)
    }

    // torch.cuda.amp.GradScaler(init_scale=8, growth_interval=2): 8, 8 -> 16 after two good steps; halved at each overflow
    #[test]
    fn the_scale_moves_as_torchs() {
        let mut hook = hook(r#"{"loss_scale": {"init_scale": 8, "growth_interval": 2}}"#).unwrap();
        let mut seen = Vec::new();
        for finite in [true, true, true, false, true, true, false, false] {
            hook.update(finite);
            seen.push(hook.scale);
        }
        assert_eq!(seen, [8.0, 16.0, 16.0, 8.0, 8.0, 16.0, 8.0, 4.0]);
    }

    #[test]
    fn a_number_stays_and_mistakes_are_named() {
        let mut fixed = hook(r#"{"loss_scale": 32}"#).unwrap();
        fixed.update(false);
        assert_eq!(fixed.scale, 32.0);
        assert_eq!(hook("{}").unwrap().scale, 512.0);
        assert_eq!(hook(r#"{"loss_scale": "dynamic"}"#).unwrap().scale, 65536.0);
        for (json, words) in [
            (r#"{"loss_scale": "dynamo"}"#, "dynamo"),
            (r#"{"loss_scale": -1}"#, "positive"),
            (r#"{"loss_scale": {"growth_interval": 0}}"#, "positive"),
        ] {
            let e = hook(json).unwrap_err();
            assert!(e.is_usage() && e.to_string().contains(words), "{e}");
        }
    }
}
