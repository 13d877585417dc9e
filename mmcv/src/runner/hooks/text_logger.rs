//! The log that people read, and its JSON lines.

use std::io::Write as _;
use std::path::PathBuf;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::super::clock::timedelta;
use super::super::{HOOKS, Hook, LogValue, RunState};
use super::checkpoint::output_dir;
use super::logger::{LogEvery, exp3, python_float, round5};
use crate::config::Node;
use crate::visualization::{Series, plot_curves};
use crate::{Error, Result, register};

/// `type = "TextLoggerHook"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextLoggerConfig {
    /// Whether iterations are counted within their epoch.
    #[serde(default = "yes")]
    pub by_epoch: bool,
    /// Iterations between two lines.
    #[serde(default = "ten")]
    pub interval: usize,
    /// Whether the iterations behind an epoch's last full interval get no line.
    #[serde(default = "yes")]
    pub ignore_last: bool,
    /// Whether the buffer is emptied after a line (the last logger does it anyway).
    #[serde(default)]
    pub reset_flag: bool,
    /// Iterations between two lines with the experiment's name.
    #[serde(default = "thousand")]
    pub interval_exp_name: usize,
    /// Where the logs are copied after the run: into a folder in there, called as the work folder is.
    #[serde(default)]
    pub out_dir: Option<String>,
    /// Endings of the files that are copied.
    #[serde(default = "suffixes")]
    pub out_suffix: Suffixes,
    /// Whether the copied files stay in the work folder too.
    #[serde(default = "yes")]
    pub keep_local: bool,
    /// Taken for mmcv's configs; files are written to disk.
    #[serde(default)]
    pub file_client_args: Option<Node>,
}

/// One ending or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Suffixes {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Suffixes {
    fn fits(&self, name: &str) -> bool {
        match self {
            Self::One(s) => name.ends_with(s),
            Self::Many(list) => list.iter().any(|s| name.ends_with(s)),
        }
    }
}

fn yes() -> bool {
    true
}
fn ten() -> usize {
    10
}
fn thousand() -> usize {
    1000
}
fn suffixes() -> Suffixes {
    Suffixes::Many([".log.json", ".log", ".py"].map(str::to_owned).into())
}

/// Writes `Epoch [1][50/100]  lr: 1.000e-02, eta: ..., loss: ...` to the log, and the same as a line of
/// `<timestamp>.log.json`. At the end of the run the logged losses are plotted to `<timestamp>_loss.png`.
///
/// Differs from mmcv: `memory` (MB) is there without a GPU too; it is then the process's peak.
#[derive(Debug)]
pub struct TextLoggerHook {
    cfg: TextLoggerConfig,
    every: LogEvery,
    start_iter: usize,
    seconds: f64,
    json: PathBuf,
    /// (iteration, value) of each logged loss.
    curves: IndexMap<String, Vec<(f64, f64)>>,
}

impl TextLoggerHook {
    /// From its config.
    pub fn new(cfg: &TextLoggerConfig) -> Result<Self> {
        if cfg.interval == 0 {
            return Err(Error::config("interval: found 0, expected a positive integer"));
        }
        let every = LogEvery {
            interval: cfg.interval,
            ignore_last: cfg.ignore_last,
            reset: cfg.reset_flag,
            by_epoch: cfg.by_epoch,
        };
        Ok(Self { cfg: cfg.clone(), every, start_iter: 0, seconds: 0.0, json: PathBuf::new(), curves: IndexMap::new() })
    }

    fn log(&mut self, state: &mut RunState) -> Result<()> {
        let mode = LogEvery::mode(state);
        let iter = match state.log_buffer.eval_iter_num.take() {
            Some(n) => n,
            None if self.cfg.by_epoch => state.inner_iter + 1,
            None => state.iter + 1,
        };
        let memory = if state.log_buffer.output.contains_key("time") { peak_memory() } else { None };
        if state.rank == 0 {
            self.text(state, mode, iter, memory)?;
            self.line(state, mode, iter, memory)?;
        }
        if mode == "train" {
            let losses = state.log_buffer.output.iter().filter(|(name, _)| name.contains("loss"));
            for (name, value) in losses.filter_map(|(name, v)| Some((name, v.number()?))) {
                self.curves.entry(name.clone()).or_default().push(((state.iter + 1) as f64, value));
            }
        }
        self.every.logged(state);
        Ok(())
    }

    fn text(&mut self, state: &mut RunState, mode: &str, iter: usize, memory: Option<u64>) -> Result<()> {
        if let Some(name) = state.meta.get("exp_name").and_then(Value::as_str)
            && (state.every_n_iters(self.cfg.interval_exp_name) || (self.cfg.by_epoch && state.end_of_epoch()))
        {
            let text = format!("Exp name: {name}");
            state.logger.info(&text)?;
        }
        let epoch = LogEvery::epoch(state);
        let output = &state.log_buffer.output;
        let mut text = if mode == "train" {
            let mut head = if self.cfg.by_epoch {
                format!("Epoch [{epoch}][{iter}/{}]\t", state.epoch_len)
            } else {
                format!("Iter [{iter}/{}]\t", state.max_iters)
            };
            head += &format!("lr: {}, ", exp3(state.lr()));
            if let Some(time) = output.get("time").and_then(LogValue::number) {
                self.seconds += time * self.cfg.interval as f64;
                let each = self.seconds / (state.iter - self.start_iter + 1) as f64;
                let left = state.max_iters.saturating_sub(state.iter + 1);
                let data_time = output.get("data_time").and_then(LogValue::number).unwrap_or_default();
                head +=
                    &format!("eta: {}, time: {time:.3}, data_time: {data_time:.3}, ", timedelta(each * left as f64));
            }
            if let Some(memory) = memory {
                head += &format!("memory: {memory}, ");
            }
            head
        } else if self.cfg.by_epoch {
            format!("Epoch({mode}) [{epoch}][{iter}]\t")
        } else {
            format!("Iter({mode}) [{iter}]\t")
        };
        let items = output.iter().filter(|(name, _)| !["time", "data_time", "memory"].contains(&name.as_str()));
        let items: Vec<String> = items
            .map(|(name, value)| match value {
                LogValue::Number(v) => format!("{name}: {v:.4}"),
                LogValue::Text(v) => format!("{name}: {v}"),
            })
            .collect();
        text += &items.join(", ");
        state.logger.info(&text)
    }

    fn line(&self, state: &RunState, mode: &str, iter: usize, memory: Option<u64>) -> Result<()> {
        let mut line = format!(
            "{{\"mode\": \"{mode}\", \"epoch\": {}, \"iter\": {iter}, \"lr\": {}",
            LogEvery::epoch(state),
            python_float(round5(state.lr()))
        );
        if let Some(memory) = memory {
            line += &format!(", \"memory\": {memory}");
        }
        for (name, value) in &state.log_buffer.output {
            let value = match value {
                LogValue::Number(v) => python_float(round5(*v)),
                LogValue::Text(v) => Value::from(v.as_str()).to_string(),
            };
            line += &format!(", {}: {value}", Value::from(name.as_str()));
        }
        self.append(&(line + "}"))
    }

    /// Draws the losses; a plot that can't be drawn doesn't end a run that is over.
    fn plot(&mut self, state: &mut RunState) -> Result<()> {
        let curves = std::mem::take(&mut self.curves).into_iter().filter(|(_, points)| points.len() > 1);
        let series: Vec<Series> = curves.map(|(name, points)| Series { name, points }).collect();
        if series.is_empty() || state.rank != 0 {
            return Ok(());
        }
        let path = state.work_dir.join(format!("{}_loss.png", state.timestamp));
        match plot_curves(&path, "losses", &series, "iteration", "loss") {
            Ok(()) => Ok(()),
            Err(e) => state.logger.warn(&format!("no plot of the losses: {e}")),
        }
    }

    fn append(&self, line: &str) -> Result<()> {
        let write = || {
            let mut file = std::fs::File::options().create(true).append(true).open(&self.json)?;
            // One write, so that a full disk leaves no half a line that another follows.
            file.write_all(format!("{line}\n").as_bytes())
        };
        write().map_err(|e| Error::io(&self.json, e))
    }
}

/// The most memory the process has held so far, in MB, where the system says.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

impl Hook for TextLoggerHook {
    fn before_run(&mut self, state: &mut RunState) -> Result<()> {
        self.start_iter = state.iter;
        self.seconds = 0.0;
        self.json = state.work_dir.join(format!("{}.log.json", state.timestamp));
        if state.rank == 0 {
            self.append(&serde_json::Value::from(state.meta.clone()).to_string())?;
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

    fn after_run(&mut self, state: &mut RunState) -> Result<()> {
        self.plot(state)?;
        let Some(out_dir) = &self.cfg.out_dir else { return Ok(()) };
        let to = output_dir(Some(out_dir), &state.work_dir);
        let from = &state.work_dir;
        std::fs::create_dir_all(&to).map_err(|e| Error::io(&to, e))?;
        let mut files = Vec::new();
        for entry in std::fs::read_dir(from).map_err(|e| Error::io(from, e))? {
            let path = entry.map_err(|e| Error::io(from, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_file() && self.cfg.out_suffix.fits(&name) {
                files.push((path, name));
            }
        }
        for (path, name) in files {
            let copy = to.join(name);
            std::fs::copy(&path, &copy).map_err(|e| Error::io(&copy, e))?;
            if !self.cfg.keep_local {
                std::fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
            }
        }
        Ok(())
    }

    fn is_logger(&self) -> bool {
        true
    }
    fn clear_after_log(&mut self) {
        self.every.reset = true;
    }
}
register!(HOOKS: dyn Hook, "TextLoggerHook" => TextLoggerHook(TextLoggerConfig));
