//! Times of iterations.

use std::time::Instant;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::{HOOKS, Hook, RunState};
use crate::{Result, register};

/// `type = "IterTimerHook"`: it has no fields.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IterTimerConfig {}

/// Logs `data_time` (from the end of an iteration to the next batch) and `time` (the whole iteration), in seconds.
#[derive(Debug)]
pub struct IterTimerHook {
    last: Instant,
}

impl IterTimerHook {
    /// From its config.
    pub fn new(_: &IterTimerConfig) -> Result<Self> {
        Ok(Self { last: Instant::now() })
    }
}

impl Hook for IterTimerHook {
    fn before_epoch(&mut self, _: &mut RunState) -> Result<()> {
        self.last = Instant::now();
        Ok(())
    }
    fn before_iter(&mut self, state: &mut RunState) -> Result<()> {
        state.log_buffer.update("data_time", self.last.elapsed().as_secs_f64(), 1);
        Ok(())
    }
    fn after_iter(&mut self, state: &mut RunState) -> Result<()> {
        state.log_buffer.update("time", self.last.elapsed().as_secs_f64(), 1);
        self.last = Instant::now();
        Ok(())
    }
}
register!(HOOKS: dyn Hook, "IterTimerHook" => IterTimerHook(IterTimerConfig));
