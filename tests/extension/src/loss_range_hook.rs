//! The least and the greatest loss of a run.

use mmcv::fileio::write_atomic;
use mmcv::runner::{HOOKS, Hook, RunState};
use mmcv::{Result, register};
use schemars::JsonSchema;
use serde::Deserialize;

/// `type = "LossRangeHook"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LossRangeHookConfig {
    /// The file in the work dir.
    pub file: String,
}

/// Writes them as JSON at the end of the run.
pub struct LossRangeHook {
    file: String,
    range: Option<[f64; 2]>,
    iters: usize,
}

impl LossRangeHook {
    /// Nothing can go wrong.
    pub fn new(cfg: &LossRangeHookConfig) -> Result<Self> {
        Ok(Self { file: cfg.file.clone(), range: None, iters: 0 })
    }
}

impl Hook for LossRangeHook {
    fn after_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        if let Some(loss) = state.outputs.log_vars.get("loss").copied() {
            let [low, high] = self.range.unwrap_or([loss; 2]);
            self.range = Some([low.min(loss), high.max(loss)]);
            self.iters += 1;
        }
        Ok(())
    }

    fn after_run(&mut self, state: &mut RunState) -> Result<()> {
        let text = serde_json::json!({ "iters": self.iters, "range": self.range }).to_string();
        write_atomic(&state.work_dir.join(&self.file), |w| w.write_all(text.as_bytes()))
    }
}

register!(HOOKS: dyn Hook, "LossRangeHook" => LossRangeHook(LossRangeHookConfig));
