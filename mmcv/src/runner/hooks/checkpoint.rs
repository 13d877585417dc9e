//! Checkpoints at intervals.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::{HOOKS, Hook, RunState};
use crate::config::Node;
use crate::{Error, Result, register};

/// `type = "CheckpointHook"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointHookConfig {
    /// Epochs (iterations) between two checkpoints; -1 for none but the last.
    #[serde(default = "never")]
    pub interval: i64,
    /// Whether `interval` counts epochs.
    #[serde(default = "yes")]
    pub by_epoch: bool,
    /// Whether the optimizer's state is in it (without it, a run can't be resumed exactly).
    #[serde(default = "yes")]
    pub save_optimizer: bool,
    /// Where it goes: into a folder in there, called as the work folder is. The work folder by default.
    #[serde(default)]
    pub out_dir: Option<String>,
    /// How many are kept; -1 for all.
    #[serde(default = "never")]
    pub max_keep_ckpts: i64,
    /// Whether the last epoch (iteration) is saved whatever the interval.
    #[serde(default = "yes")]
    pub save_last: bool,
    /// Whether buffers are averaged over processes first. There is one process: nothing to do.
    #[serde(default)]
    pub sync_buffer: bool,
    /// The file name, `{}` for the number; its ending chooses the format (`.safetensors`, `.pth`).
    #[serde(default)]
    pub filename_tmpl: Option<String>,
    /// Whether `latest` points to the newest.
    #[serde(default = "yes")]
    pub create_symlink: bool,
    /// Added to the checkpoint's `meta`.
    #[serde(default)]
    pub meta: Option<Node>,
    /// Taken for mmcv's configs; files are written to disk.
    #[serde(default)]
    pub file_client_args: Option<Node>,
}

fn never() -> i64 {
    -1
}
fn yes() -> bool {
    true
}

/// Saves a checkpoint every `interval` epochs or iterations, points `latest` to it and removes the oldest.
#[derive(Debug)]
pub struct CheckpointHook {
    cfg: CheckpointHookConfig,
    dir: PathBuf,
}

impl CheckpointHook {
    /// From its config.
    pub fn new(cfg: &CheckpointHookConfig) -> Result<Self> {
        if let Some(tmpl) = cfg.filename_tmpl.as_ref().filter(|t| !t.contains("{}")) {
            return Err(Error::config(format!("filename_tmpl: '{tmpl}' has no {{}} for the number")));
        }
        Ok(Self { cfg: cfg.clone(), dir: PathBuf::new() })
    }

    fn name(&self, number: usize) -> String {
        let default = if self.cfg.by_epoch { "epoch_{}.safetensors" } else { "iter_{}.safetensors" };
        self.cfg.filename_tmpl.as_deref().unwrap_or(default).replacen("{}", &number.to_string(), 1)
    }

    fn save(&self, state: &mut RunState) -> Result<()> {
        if state.rank != 0 {
            return Ok(());
        }
        let number = if self.cfg.by_epoch { state.epoch + 1 } else { state.iter + 1 };
        let unit = if self.cfg.by_epoch { "epochs" } else { "iterations" };
        state.logger.info(&format!("Saving checkpoint at {number} {unit}"))?;
        if let Some(Ok(serde_json::Value::Object(extra))) = self.cfg.meta.as_ref().map(serde_json::to_value) {
            for (key, value) in extra {
                state.meta.entry(key).or_insert(value);
            }
        }
        let name = self.name(number);
        state.set_hook_msg("last_ckpt", self.dir.join(&name).display().to_string());
        state.save_checkpoint(&self.dir, &name, self.cfg.save_optimizer, self.cfg.create_symlink)?;
        self.remove_old(number, state)
    }

    /// Goes down from the newest that is not to be kept, to the first that isn't there.
    fn remove_old(&self, number: usize, state: &mut RunState) -> Result<()> {
        let (keep, interval) = (self.cfg.max_keep_ckpts, self.cfg.interval);
        if keep <= 0 || interval <= 0 {
            return Ok(());
        }
        let mut old = number as i64 - keep * interval;
        while old > 0 {
            let path = self.dir.join(self.name(old as usize));
            if !path.is_file() {
                break;
            }
            if let Err(e) = std::fs::remove_file(&path) {
                state.logger.warn(&format!("can't remove {}: {e}", path.display()))?;
            }
            old -= interval;
        }
        Ok(())
    }

    fn due(&self, every: impl Fn(usize) -> bool, last: bool) -> bool {
        usize::try_from(self.cfg.interval).is_ok_and(every) || (self.cfg.save_last && last)
    }
}

/// Where checkpoints go: the work folder, or a folder of its name in `out_dir`.
pub(super) fn output_dir(out_dir: Option<&str>, work_dir: &Path) -> PathBuf {
    match out_dir.map(Path::new) {
        Some(dir) if dir != work_dir => dir.join(work_dir.file_name().unwrap_or_default()),
        _ => work_dir.to_owned(),
    }
}

impl Hook for CheckpointHook {
    fn before_run(&mut self, state: &mut RunState) -> Result<()> {
        self.dir = output_dir(self.cfg.out_dir.as_deref(), &state.work_dir);
        state.logger.info(&format!("Checkpoints will be saved to {}", self.dir.display()))
    }

    fn after_train_epoch(&mut self, state: &mut RunState) -> Result<()> {
        if self.cfg.by_epoch && self.due(|n| state.every_n_epochs(n), state.is_last_epoch()) {
            self.save(state)?;
        }
        Ok(())
    }

    // mmcv saves before the hooks that come later in the iteration (a moving average, say) have run.
    fn end_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        if !self.cfg.by_epoch && self.due(|n| state.every_n_iters(n), state.is_last_iter()) {
            self.save(state)?;
        }
        Ok(())
    }
}
register!(HOOKS: dyn Hook, "CheckpointHook" => CheckpointHook(CheckpointHookConfig));
