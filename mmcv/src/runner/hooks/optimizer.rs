//! Gradients and the optimizer's step.

use std::time::Instant;

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::{HOOKS, Hook, RunState};
use crate::nn::backward;
use crate::optim::Grads;
use crate::{Error, Result, register};

/// `torch.nn.utils.clip_grad_norm_`'s arguments.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GradClip {
    /// The largest norm of all gradients together.
    pub max_norm: f64,
    /// Which norm: 2, 1, infinity, ...
    #[serde(default = "two")]
    pub norm_type: f64,
}

fn two() -> f64 {
    2.0
}

/// `type = "OptimizerHook"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimizerHookConfig {
    /// Clips the norm of the gradients, and logs it as `grad_norm`.
    #[serde(default)]
    pub grad_clip: Option<GradClip>,
    /// Logs the trainable parameters that took no part in the loss (slow: for debugging).
    #[serde(default)]
    pub detect_anomalous_params: bool,
}

/// Backward and one optimizer step for each iteration.
#[derive(Debug)]
pub struct OptimizerHook(OptimizerHookConfig);

impl OptimizerHook {
    /// From its config.
    pub fn new(cfg: &OptimizerHookConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }

    /// The gradients of `loss`.
    pub(super) fn backward(&self, loss: &Tensor, state: &mut RunState) -> Result<Grads> {
        let start = Instant::now();
        let grads = Grads::from_store(&backward(loss)?, &state.store)?;
        state.timings.backward = start.elapsed();
        if self.0.detect_anomalous_params {
            for p in state.store.trainable().iter().filter(|p| grads.get(p.name()).is_none()) {
                let text = format!("{} with shape {:?} is not in the computational graph", p.name(), p.shape().dims());
                state.logger.warn(&text)?;
            }
        }
        Ok(grads)
    }

    /// Clips, checks and applies.
    pub(super) fn step(&self, mut grads: Grads, state: &mut RunState) -> Result<()> {
        let start = Instant::now();
        let finite = match &self.0.grad_clip {
            Some(clip) if !grads.is_empty() => {
                let norm = grads.clip_norm(clip.max_norm, clip.norm_type)?;
                state.log_buffer.update("grad_norm", norm, state.outputs.num_samples);
                norm.is_finite()
            }
            _ => grads.is_finite()?,
        };
        // Differs from mmcv: it would go on with weights that are no numbers.
        if !finite {
            return Err(Error::Run(format!(
                "the gradients are not finite at iteration {}, on {} (the weights are as before it)",
                state.iter + 1,
                state.batch_label()
            )));
        }
        state.optimizer.step(&grads)?;
        state.timings.optimizer = start.elapsed();
        Ok(())
    }
}

impl Hook for OptimizerHook {
    fn after_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        let Some(loss) = state.outputs.loss.take() else { return Ok(()) };
        let grads = self.backward(&loss, state)?;
        self.step(grads, state)
    }
}
register!(HOOKS: dyn Hook, "OptimizerHook" => OptimizerHook(OptimizerHookConfig));

/// `type = "GradientCumulativeOptimizerHook"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GradientCumulativeConfig {
    /// Iterations for each step of the optimizer.
    #[serde(default = "one")]
    pub cumulative_iters: usize,
    /// Clips the norm of the gradients, and logs it as `grad_norm`.
    #[serde(default)]
    pub grad_clip: Option<GradClip>,
    /// Logs the trainable parameters that took no part in the loss (slow: for debugging).
    #[serde(default)]
    pub detect_anomalous_params: bool,
}

fn one() -> usize {
    1
}

/// Sums the gradients of several iterations for each optimizer step: a large batch in pieces. A checkpoint
/// keeps the sum, so that a resume between two steps is exact.
#[derive(Debug)]
pub struct GradientCumulativeOptimizerHook {
    inner: OptimizerHook,
    iters: usize,
    sum: Option<Grads>,
}

const CARRIED: &str = "accumulated_grads.";

impl GradientCumulativeOptimizerHook {
    /// From its config.
    pub fn new(cfg: &GradientCumulativeConfig) -> Result<Self> {
        if cfg.cumulative_iters == 0 {
            return Err(Error::config("cumulative_iters: found 0, expected a positive integer"));
        }
        let inner = OptimizerHookConfig {
            grad_clip: cfg.grad_clip.clone(),
            detect_anomalous_params: cfg.detect_anomalous_params,
        };
        Ok(Self { inner: OptimizerHook(inner), iters: cfg.cumulative_iters, sum: None })
    }

    /// What the loss is divided by: the number of iterations that share its step.
    fn factor(&self, state: &RunState) -> usize {
        let rest = state.max_iters % self.iters;
        if state.iter < state.max_iters - rest { self.iters } else { rest }
    }
}

impl Hook for GradientCumulativeOptimizerHook {
    fn before_run(&mut self, state: &mut RunState) -> Result<()> {
        let mut sum = Grads::new();
        for (key, tensor) in &state.carried {
            if let Some(name) = key.strip_prefix(CARRIED) {
                sum.insert(name, tensor)?;
            }
        }
        if sum.is_empty() && !state.iter.is_multiple_of(self.iters) {
            let text = "the resumed iteration is between two steps of GradientCumulativeOptimizerHook, and the \
                checkpoint has no gradients: those of some iterations are lost";
            state.logger.warn(text)?;
        }
        self.sum = (!sum.is_empty()).then_some(sum);
        if self.iters > 1 && state.store.all().iter().any(|p| p.layer() == "_BatchNorm") {
            state.logger.warn("GradientCumulativeOptimizerHook may be worse with BatchNorm layers")?;
        }
        Ok(())
    }

    fn after_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        let Some(loss) = state.outputs.loss.take() else { return Ok(()) };
        let loss = (loss / self.factor(state) as f64)?;
        let grads = self.inner.backward(&loss, state)?;
        let mut sum = self.sum.take().unwrap_or_default();
        sum.add(grads)?;
        state.carried.retain(|key, _| !key.starts_with(CARRIED));
        if state.every_n_iters(self.iters) || state.is_last_iter() {
            return self.inner.step(sum, state);
        }
        for (name, tensor) in sum.iter() {
            state.carried.insert(format!("{CARRIED}{name}"), tensor.clone());
        }
        self.sum = Some(sum);
        Ok(())
    }
}
register!(HOOKS: dyn Hook, "GradientCumulativeOptimizerHook" => GradientCumulativeOptimizerHook(GradientCumulativeConfig));
