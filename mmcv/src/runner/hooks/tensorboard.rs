//! Logs for TensorBoard.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::{HOOKS, Hook, LogValue, RunState};
use super::events::EventWriter;
use super::logger::LogEvery;
use crate::{Error, Result, register};

/// `type = "TensorboardLoggerHook"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorboardConfig {
    /// Where event files go; `tf_logs` in the work folder by default.
    #[serde(default)]
    pub log_dir: Option<PathBuf>,
    /// Iterations between two points.
    #[serde(default = "ten")]
    pub interval: usize,
    /// Whether the iterations behind an epoch's last full interval get no point.
    #[serde(default = "yes")]
    pub ignore_last: bool,
    /// Whether the buffer is emptied after a point (the last logger does it anyway).
    #[serde(default)]
    pub reset_flag: bool,
    /// Whether iterations are counted within their epoch.
    #[serde(default = "yes")]
    pub by_epoch: bool,
}

fn ten() -> usize {
    10
}
fn yes() -> bool {
    true
}

/// Writes `train/loss_cls`, `val/bbox_mAP`, `learning_rate`, `momentum` and their like as TensorBoard events.
#[derive(Debug)]
pub struct TensorboardLoggerHook {
    log_dir: Option<PathBuf>,
    every: LogEvery,
    writer: Option<EventWriter>,
}

impl TensorboardLoggerHook {
    /// From its config.
    pub fn new(cfg: &TensorboardConfig) -> Result<Self> {
        if cfg.interval == 0 {
            return Err(Error::config("interval: found 0, expected a positive integer"));
        }
        let every = LogEvery {
            interval: cfg.interval,
            ignore_last: cfg.ignore_last,
            reset: cfg.reset_flag,
            by_epoch: cfg.by_epoch,
        };
        Ok(Self { log_dir: cfg.log_dir.clone(), every, writer: None })
    }

    fn log(&mut self, state: &mut RunState) -> Result<()> {
        if let Some(writer) = &mut self.writer {
            let (mode, step) = (LogEvery::mode(state), state.iter + 1);
            for (name, value) in &state.log_buffer.output {
                if name == "time" || name == "data_time" {
                    continue;
                }
                let tag = format!("{mode}/{name}");
                match value {
                    LogValue::Number(v) => writer.scalar(&tag, *v, step)?,
                    LogValue::Text(v) => writer.text(&tag, v, step)?,
                }
            }
            writer.scalar("learning_rate", state.lr(), step)?;
            writer.scalar("momentum", state.momentum(), step)?;
        }
        self.every.logged(state);
        Ok(())
    }
}

impl Hook for TensorboardLoggerHook {
    fn before_run(&mut self, state: &mut RunState) -> Result<()> {
        if state.rank == 0 {
            let dir = self.log_dir.clone().unwrap_or_else(|| state.work_dir.join("tf_logs"));
            self.writer = Some(EventWriter::create(&dir)?);
        }
        Ok(())
    }

    fn before_epoch(&mut self, state: &mut RunState) -> Result<()> {
        state.log_buffer.clear();
        Ok(())
    }

    fn after_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        if self.every.after_train_iter(state) { self.log(state) } else { Ok(()) }
    }

    fn after_train_epoch(&mut self, state: &mut RunState) -> Result<()> {
        if state.log_buffer.ready { self.log(state) } else { Ok(()) }
    }

    fn after_val_epoch(&mut self, state: &mut RunState) -> Result<()> {
        state.log_buffer.average(0);
        self.log(state)
    }

    fn after_run(&mut self, _: &mut RunState) -> Result<()> {
        self.writer = None;
        Ok(())
    }

    fn is_logger(&self) -> bool {
        true
    }
    fn clear_after_log(&mut self) {
        self.every.reset = true;
    }
}
register!(HOOKS: dyn Hook, "TensorboardLoggerHook" => TensorboardLoggerHook(TensorboardConfig));
