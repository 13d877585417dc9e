//! Where the time of training goes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::super::{HOOKS, Hook, RunState, SpanTime, record_spans, take_spans};
use crate::config::Node;
use crate::fileio::write_atomic;
use crate::{Error, Result, register};

/// `type = "ProfilerHook"`.
///
/// It times the phases of an iteration, and the parts of the model that run in a [`span`](crate::runner::span).
/// PyTorch's profiler looks at single operators: its own settings
/// (`activities` to `with_flops`) are taken and have no effect.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfilerConfig {
    /// Whether `profile_iters` counts epochs.
    #[serde(default = "yes")]
    pub by_epoch: bool,
    /// How many epochs (iterations) from the start are timed.
    #[serde(default = "one")]
    pub profile_iters: usize,
    /// Has no effect.
    #[serde(default)]
    pub activities: Option<Node>,
    /// Has no effect.
    #[serde(default)]
    pub schedule: Option<Node>,
    /// Has no effect.
    #[serde(default)]
    pub on_trace_ready: Option<Node>,
    /// Has no effect.
    #[serde(default)]
    pub record_shapes: bool,
    /// Has no effect.
    #[serde(default)]
    pub profile_memory: bool,
    /// Has no effect.
    #[serde(default)]
    pub with_stack: bool,
    /// Has no effect.
    #[serde(default)]
    pub with_flops: bool,
    /// A file for the phases in Chrome's trace format (`chrome://tracing`, Perfetto).
    #[serde(default)]
    pub json_trace_path: Option<PathBuf>,
}

fn yes() -> bool {
    true
}
fn one() -> usize {
    1
}

/// How long the phases of an iteration took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// Waiting for the batch.
    pub data: Duration,
    /// The model's `train_step`.
    pub forward: Duration,
    /// Gradients.
    pub backward: Duration,
    /// Clipping and the optimizer's step.
    pub optimizer: Duration,
}

impl Timings {
    fn phases(&self) -> [(&'static str, Duration); 4] {
        [("data", self.data), ("forward", self.forward), ("backward", self.backward), ("optimizer", self.optimizer)]
    }
}

/// Sums the phases of the first iterations and the parts of the model, and logs tables of them.
#[derive(Debug)]
pub struct ProfilerHook {
    cfg: ProfilerConfig,
    begin: Instant,
    seen: Vec<(Duration, Timings)>,
    spans: Vec<SpanTime>,
    done: bool,
    start: usize,
}

impl ProfilerHook {
    /// From its config.
    pub fn new(cfg: &ProfilerConfig) -> Result<Self> {
        if cfg.profile_iters == 0 {
            return Err(Error::config("profile_iters: found 0, expected a positive integer"));
        }
        Ok(Self { cfg: cfg.clone(), begin: Instant::now(), seen: Vec::new(), spans: Vec::new(), done: false, start: 0 })
    }

    fn report(&mut self, state: &mut RunState) -> Result<()> {
        self.done = true;
        record_spans(false);
        self.spans.extend(take_spans());
        let n = self.seen.len();
        if n == 0 {
            return Ok(());
        }
        let all: f64 = self.seen.iter().flat_map(|(_, t)| t.phases()).map(|(_, d)| d.as_secs_f64()).sum();
        let mut text =
            format!("profile of {n} iterations:\n{:<10} {:>10} {:>12} {:>7}", "phase", "total s", "mean ms", "%");
        for (i, (name, _)) in Timings::default().phases().iter().enumerate() {
            let sum: f64 = self.seen.iter().map(|(_, t)| t.phases()[i].1.as_secs_f64()).sum();
            let share = if all > 0.0 { 100.0 * sum / all } else { 0.0 };
            text += &format!("\n{name:<10} {sum:>10.3} {:>12.3} {share:>7.1}", 1000.0 * sum / n as f64);
        }
        state.logger.info(&text)?;
        if !self.spans.is_empty() {
            state.logger.info(&self.layers(n))?;
        }
        let Some(path) = &self.cfg.json_trace_path else { return Ok(()) };
        let mut events = Vec::new();
        for (i, (end, timings)) in self.seen.iter().enumerate() {
            // The phases follow each other up to the iteration's end.
            let all: Duration = timings.phases().iter().map(|(_, d)| *d).sum();
            let mut at = end.saturating_sub(all);
            for (name, length) in timings.phases() {
                events.push(json!({
                    "name": name, "ph": "X", "pid": 0, "tid": 0, "args": {"iteration": i + self.start + 1},
                    "ts": at.as_micros() as u64, "dur": length.as_micros() as u64,
                }));
                at += length;
            }
        }
        for s in &self.spans {
            events.push(json!({
                "name": s.name, "ph": "X", "pid": 0, "tid": 1,
                "ts": s.start.saturating_duration_since(self.begin).as_micros() as u64,
                "dur": s.length.as_micros() as u64,
            }));
        }
        let trace = json!({ "traceEvents": events });
        write_atomic(path, |out| serde_json::to_writer(out, &trace).map_err(std::io::Error::from))
    }

    /// The parts of the model, a part in another one behind it.
    fn layers(&self, iterations: usize) -> String {
        let mut sums: IndexMap<&str, (usize, f64)> = IndexMap::new();
        for s in &self.spans {
            let sum = sums.entry(&s.name).or_default();
            *sum = (sum.0 + 1, sum.1 + s.length.as_secs_f64());
        }
        let width = sums.keys().map(|k| k.len()).max().unwrap_or_default().max(5);
        let mut text = format!("{:<width$} {:>7} {:>10} {:>17}", "layer", "calls", "total s", "ms an iteration");
        for (name, (calls, seconds)) in sums {
            let each = 1000.0 * seconds / iterations as f64;
            text += &format!("\n{name:<width$} {calls:>7} {seconds:>10.3} {each:>17.3}");
        }
        text
    }
}

impl Hook for ProfilerHook {
    fn before_run(&mut self, state: &mut RunState) -> Result<()> {
        self.begin = Instant::now();
        self.start = state.iter;
        take_spans();
        record_spans(true);
        Ok(())
    }

    // At the end of the iteration the optimizer's time is known, whatever its hook's priority.
    fn end_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        if self.done {
            return Ok(());
        }
        self.seen.push((self.begin.elapsed(), state.timings));
        self.spans.extend(take_spans());
        if !self.cfg.by_epoch && state.iter + 1 - self.start >= self.cfg.profile_iters {
            self.report(state)?;
        }
        Ok(())
    }

    fn after_train_epoch(&mut self, state: &mut RunState) -> Result<()> {
        if !self.done && self.cfg.by_epoch && state.epoch + 1 >= self.cfg.profile_iters {
            self.report(state)
        } else {
            Ok(())
        }
    }

    fn after_run(&mut self, state: &mut RunState) -> Result<()> {
        if self.done { Ok(()) } else { self.report(state) }
    }
}
register!(HOOKS: dyn Hook, "ProfilerHook" => ProfilerHook(ProfilerConfig));
