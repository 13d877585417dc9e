//! Evaluation while training, and the best checkpoint.

use std::path::PathBuf;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::{Hook, LogValue, RunState};
use super::checkpoint::output_dir;
use crate::config::{Node, Value};
use crate::{Error, Result};

/// Metrics by name, in order.
pub type EvalResults = IndexMap<String, LogValue>;

/// The part of a config's `evaluation` that is not the task's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// The first epoch (iteration) after which to evaluate; if the run starts there or later, it is evaluated
    /// before training too.
    #[serde(default)]
    pub start: Option<usize>,
    /// Epochs (iterations) between two evaluations.
    #[serde(default = "one")]
    pub interval: usize,
    /// Whether `start` and `interval` count epochs; as the runner does by default.
    #[serde(default)]
    pub by_epoch: Option<bool>,
    /// The metric whose best checkpoint is kept; `auto` for the first.
    #[serde(default)]
    pub save_best: Option<String>,
    /// Whether the `greater` or the `less` value is better; found from the metric's name by default.
    #[serde(default)]
    pub rule: Option<Rule>,
    /// Names, or parts of names, of metrics that are better when greater.
    #[serde(default)]
    pub greater_keys: Option<Names>,
    /// Names, or parts of names, of metrics that are better when less.
    #[serde(default)]
    pub less_keys: Option<Names>,
    /// Where the best checkpoint goes: into a folder in there, called as the work folder is.
    #[serde(default)]
    pub out_dir: Option<String>,
    /// Other intervals from given epochs (iterations) on: `[(milestone, interval), ...]`.
    #[serde(default)]
    pub dynamic_intervals: Option<Vec<(usize, usize)>>,
    /// Taken for mmcv's configs; files are written to disk.
    #[serde(default)]
    pub file_client_args: Option<Node>,
}

fn one() -> usize {
    1
}

/// Which of two scores is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The greater.
    Greater,
    /// The less.
    Less,
}

/// One name or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Names {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Names {
    fn lower(names: Option<&Self>, default: &[&str]) -> Vec<String> {
        match names {
            None => default.iter().map(|n| n.to_lowercase()).collect(),
            Some(Self::One(n)) => vec![n.to_lowercase()],
            Some(Self::Many(n)) => n.iter().map(|n| n.to_lowercase()).collect(),
        }
    }
}

const GREATER: [&str; 10] = ["acc", "top", "AR@", "auc", "precision", "mAP", "mDice", "mIoU", "mAcc", "aAcc"];
const LESS: [&str; 1] = ["loss"];
const KEYS: [&str; 10] = [
    "start",
    "interval",
    "by_epoch",
    "save_best",
    "rule",
    "greater_keys",
    "less_keys",
    "out_dir",
    "dynamic_intervals",
    "file_client_args",
];

impl EvalConfig {
    /// Parts a config's `evaluation` into the hook's fields and the task's (`metric`, `classwise`, ...).
    pub fn split(node: &Node) -> Result<(Self, Node)> {
        let Some(dict) = node.as_dict() else {
            return Err(node.error(format!("found {}, expected a dict", node.kind())));
        };
        let part = |own: bool| {
            let dict = dict.iter().filter(|(k, _)| KEYS.contains(&k.as_str()) == own);
            let dict = dict.map(|(k, v)| (k.clone(), v.clone())).collect();
            Node { value: Value::Dict(dict), origin: node.origin.clone() }
        };
        Ok((part(true).parse()?, part(false).without("type").without("priority")))
    }

    /// The rule for `key`: by its whole name first, then by a part of it.
    fn rule_for(&self, key: &str) -> Result<Rule> {
        if let Some(rule) = self.rule {
            return Ok(rule);
        }
        let lower = key.to_lowercase();
        let greater = Names::lower(self.greater_keys.as_ref(), &GREATER);
        let less = Names::lower(self.less_keys.as_ref(), &LESS);
        if greater.contains(&lower) {
            Ok(Rule::Greater)
        } else if less.contains(&lower) {
            Ok(Rule::Less)
        } else if greater.iter().any(|k| lower.contains(k)) {
            Ok(Rule::Greater)
        } else if less.iter().any(|k| lower.contains(k)) {
            Ok(Rule::Less)
        } else {
            Err(Error::config(format!(
                "save_best: is '{key}' better when greater or less? Give rule='greater' or 'less'"
            )))
        }
    }
}

type Evaluate = Box<dyn FnMut(&mut RunState) -> Result<EvalResults> + Send>;

/// Evaluates every `interval` epochs or iterations, logs the metrics, and keeps the checkpoint with the best
/// `save_best` as `best_<metric>_epoch_<n>.safetensors`.
pub struct EvalHook {
    cfg: EvalConfig,
    by_epoch: bool,
    num_batches: usize,
    evaluate: Evaluate,
    interval: usize,
    /// The metric that decides, and how; known after the first evaluation for `auto`.
    key: Option<(String, Rule)>,
    initial: bool,
    dir: PathBuf,
}

impl EvalHook {
    /// From a config's `evaluation`; `by_epoch` is for configs that don't say.
    pub fn from_node(node: &Node, by_epoch: bool, num_batches: usize, evaluate: Evaluate) -> Result<Self> {
        let (cfg, _) = EvalConfig::split(node)?;
        Self::new(cfg, by_epoch, num_batches, evaluate).map_err(|e| e.at(&node.origin))
    }

    /// From its config.
    pub fn new(cfg: EvalConfig, by_epoch: bool, num_batches: usize, evaluate: Evaluate) -> Result<Self> {
        let mut intervals =
            std::iter::once(cfg.interval).chain(cfg.dynamic_intervals.iter().flatten().map(|(_, interval)| *interval));
        if intervals.any(|n| n == 0) {
            return Err(Error::config("interval: found 0, expected a positive integer"));
        }
        let key = match cfg.save_best.as_deref() {
            None | Some("auto") => None,
            Some(key) => Some((key.to_owned(), cfg.rule_for(key)?)),
        };
        let (by_epoch, interval) = (cfg.by_epoch.unwrap_or(by_epoch), cfg.interval);
        let dir = PathBuf::new();
        Ok(Self { cfg, by_epoch, num_batches, evaluate, interval, key, initial: true, dir })
    }

    fn done(&self, state: &RunState) -> usize {
        if self.by_epoch { state.epoch } else { state.iter }
    }

    /// The interval of the milestone that the coming epoch (iteration) has reached.
    fn decide_interval(&mut self, state: &RunState) {
        if let Some(dynamic) = &self.cfg.dynamic_intervals {
            let next = self.done(state) + 1;
            let reached = dynamic.iter().take_while(|(milestone, _)| *milestone <= next).last();
            self.interval = reached.map_or(self.cfg.interval, |(_, interval)| *interval);
        }
    }

    fn due(&self, state: &RunState) -> bool {
        let next = self.done(state) + 1;
        match self.cfg.start {
            None => next.is_multiple_of(self.interval),
            Some(start) => next >= start && (next - start).is_multiple_of(self.interval),
        }
    }

    /// Evaluation before training, once, if it is to start that early.
    fn first(&mut self, state: &mut RunState) -> Result<()> {
        self.decide_interval(state);
        let early = self.initial && self.cfg.start.is_some_and(|start| self.done(state) >= start);
        self.initial = false;
        if early && self.due(state) {
            self.run(state)?;
        }
        Ok(())
    }

    fn run(&mut self, state: &mut RunState) -> Result<()> {
        state.logger.end_bar();
        let results = (self.evaluate)(state)?;
        state.log_buffer.eval_iter_num = Some(self.num_batches);
        state.log_buffer.output.extend(results.clone());
        state.log_buffer.ready = true;
        if self.cfg.save_best.is_none() {
            return Ok(());
        }
        let Some((first, _)) = results.first() else {
            return state.logger.warn("the evaluation gave no metric: no best checkpoint is chosen");
        };
        if self.key.is_none() {
            self.key = Some((first.clone(), self.cfg.rule_for(first)?));
        }
        let Some((key, rule)) = self.key.clone() else { return Ok(()) };
        let Some(score) = results.get(&key) else {
            let known: Vec<_> = results.keys().map(String::as_str).collect();
            let hint = crate::error::did_you_mean(&key, known.iter().copied());
            return Err(Error::config(format!(
                "save_best: the evaluation gives no '{key}'{hint} (it gives {})",
                known.join(", ")
            )));
        };
        match score.number() {
            // mmcv takes a score of 0 for none.
            Some(score) if score != 0.0 && !score.is_nan() => self.keep_best(state, &key, rule, score),
            _ => Ok(()),
        }
    }

    fn keep_best(&self, state: &mut RunState, key: &str, rule: Rule, score: f64) -> Result<()> {
        let best = state.hook_msg("best_score").and_then(serde_json::Value::as_f64);
        let better = best.is_none_or(|best| match rule {
            Rule::Greater => score > best,
            Rule::Less => score < best,
        });
        if !better || state.rank != 0 {
            return Ok(());
        }
        let (unit, number) = if self.by_epoch { ("epoch", state.epoch + 1) } else { ("iter", state.iter + 1) };
        let name = format!("best_{}_{unit}_{number}.safetensors", key.replace('/', "_"));
        let path = self.dir.join(&name);
        let old = state.hook_msg("best_ckpt").and_then(|v| v.as_str()).map(PathBuf::from);
        state.set_hook_msg("best_score", score);
        state.set_hook_msg("best_ckpt", path.display().to_string());
        state.save_checkpoint(&self.dir, &name, true, false)?;
        // Differs from mmcv: the old one goes after the new one is there.
        if let Some(old) = old.filter(|old| *old != path && old.is_file()) {
            match std::fs::remove_file(&old) {
                Ok(()) => {
                    state.logger.info(&format!("The previous best checkpoint {} was removed", old.display()))?;
                }
                Err(e) => state.logger.warn(&format!("can't remove {}: {e}", old.display()))?,
            }
        }
        state.logger.info(&format!("Now best checkpoint is saved as {name}."))?;
        state.logger.info(&format!("Best {key} is {score:.4} at {number} {unit}."))
    }
}

impl Hook for EvalHook {
    fn before_run(&mut self, state: &mut RunState) -> Result<()> {
        self.dir = output_dir(self.cfg.out_dir.as_deref(), &state.work_dir);
        Ok(())
    }

    fn before_train_epoch(&mut self, state: &mut RunState) -> Result<()> {
        if self.by_epoch { self.first(state) } else { Ok(()) }
    }

    fn before_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        if self.by_epoch { Ok(()) } else { self.first(state) }
    }

    fn after_train_epoch(&mut self, state: &mut RunState) -> Result<()> {
        if self.by_epoch && self.due(state) { self.run(state) } else { Ok(()) }
    }

    fn after_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        if !self.by_epoch && self.due(state) { self.run(state) } else { Ok(()) }
    }

    // Evaluation in the middle of an epoch: the training log is written before the metrics take its place.
    fn logs_first(&self, state: &RunState) -> bool {
        !self.by_epoch && self.due(state)
    }
}
