//! A check of the loss at intervals.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::{HOOKS, Hook, RunState};
use crate::{Error, Result, register};

/// `type = "CheckInvalidLossHook"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckInvalidLossConfig {
    /// Iterations between two checks.
    #[serde(default = "fifty")]
    pub interval: usize,
}

fn fifty() -> usize {
    50
}

/// Ends the run when the loss is not finite. The runner itself looks at every iteration, before the weights are
/// changed, so this one is for configs that name it.
#[derive(Debug)]
pub struct CheckInvalidLossHook {
    interval: usize,
}

impl CheckInvalidLossHook {
    /// From its config.
    pub fn new(cfg: &CheckInvalidLossConfig) -> Result<Self> {
        Ok(Self { interval: cfg.interval })
    }
}

impl Hook for CheckInvalidLossHook {
    fn after_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        let loss = state.outputs.log_vars.get("loss").copied().unwrap_or_default();
        if state.every_n_iters(self.interval) && !loss.is_finite() {
            return Err(Error::Run(format!(
                "loss is {loss} at iteration {}, on {}",
                state.iter + 1,
                state.batch_label()
            )));
        }
        Ok(())
    }
}
register!(HOOKS: dyn Hook, "CheckInvalidLossHook" => CheckInvalidLossHook(CheckInvalidLossConfig));
