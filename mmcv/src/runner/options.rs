//! What a run is told besides its hooks.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Mode;
use crate::config::Node;
use crate::error::{Result, did_you_mean};

/// How long a run is, and what it counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunLength {
    /// `EpochBasedRunner`.
    Epochs(usize),
    /// `IterBasedRunner`.
    Iters(usize),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunnerConfig {
    #[serde(default)]
    max_epochs: Option<usize>,
    #[serde(default)]
    max_iters: Option<usize>,
}

impl RunLength {
    /// From a config's `runner`, or the older `total_epochs`/`total_iters`.
    pub fn from_config(cfg: &Node) -> Result<Self> {
        let set = |key: &str| cfg.get(key).filter(|n| !n.is_null());
        let number = |key: &str| set(key).map(Node::parse::<usize>).transpose().map_err(|e| e.under(key));
        let Some(runner) = set("runner") else {
            return match (number("total_epochs")?, number("total_iters")?) {
                (Some(n), None) => Ok(Self::Epochs(n)),
                (None, Some(n)) => Ok(Self::Iters(n)),
                _ => Err(cfg.error("give runner=dict(type='EpochBasedRunner', max_epochs=...) (or total_epochs)")),
            };
        };
        Self::from_runner(runner).map_err(|e| e.under("runner"))
    }

    fn from_runner(runner: &Node) -> Result<Self> {
        const NAMES: [&str; 3] = ["EpochBasedRunner", "IterBasedRunner", "Runner"];
        let Some(kind) = runner.type_name() else { return Err(runner.error("missing required field 'type'")) };
        let limits: RunnerConfig = runner.without("type").parse()?;
        match (kind, limits.max_epochs, limits.max_iters) {
            ("EpochBasedRunner" | "Runner", Some(n), None) => Ok(Self::Epochs(n)),
            ("IterBasedRunner", None, Some(n)) => Ok(Self::Iters(n)),
            ("EpochBasedRunner" | "Runner", ..) => Err(runner.error(format!("{kind} takes max_epochs alone"))),
            ("IterBasedRunner", ..) => Err(runner.error("IterBasedRunner takes max_iters alone")),
            _ => {
                let hint = did_you_mean(kind, NAMES);
                let message = format!("'{kind}' is not a runner{hint} (known: {})", NAMES.join(", "));
                Err(runner.get("type").unwrap_or(runner).error(message).under("type"))
            }
        }
    }
}

/// What a run is told besides its model, optimizer and hooks.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// How long it is.
    pub length: RunLength,
    /// What it does in turn, and how often (epochs or iterations).
    pub workflow: Vec<(Mode, usize)>,
    /// Where checkpoints and logs go. It is made if it isn't there.
    pub work_dir: PathBuf,
    /// The seed of everything random.
    pub seed: u64,
    /// Kept in checkpoints and at the head of the JSON log.
    pub meta: Map<String, Value>,
    /// The name in front of the log's lines (`mmdet`).
    pub name: String,
    /// The name of the log files; the time of day by default.
    pub timestamp: Option<String>,
    /// Whether the log is written to standard error too.
    pub console: bool,
    /// Whether SIGINT and SIGTERM end the run with a checkpoint.
    pub signals: bool,
    /// This process.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
}

impl RunnerOptions {
    /// A run of `length` that trains only and writes to `work_dir`.
    pub fn new(length: RunLength, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            length,
            workflow: vec![(Mode::Train, 1)],
            work_dir: work_dir.into(),
            seed: 0,
            meta: Map::new(),
            name: "mmcv".into(),
            timestamp: None,
            console: true,
            signals: true,
            rank: 0,
            world_size: 1,
        }
    }

    /// From the `runner` (or `total_epochs`), `workflow`, `work_dir` and `seed` of a config.
    pub fn from_config(cfg: &Node) -> Result<Self> {
        let set = |key: &str| cfg.get(key).filter(|n| !n.is_null());
        let work_dir = match set("work_dir") {
            Some(dir) => dir.parse::<String>().map_err(|e| e.under("work_dir"))?,
            None => return Err(cfg.error("missing required field 'work_dir'")),
        };
        let mut options = Self::new(RunLength::from_config(cfg)?, work_dir);
        if let Some(seed) = set("seed") {
            options.seed = seed.parse().map_err(|e| e.under("seed"))?;
        }
        if let Some(workflow) = set("workflow") {
            options.workflow = parse_workflow(workflow).map_err(|e| e.under("workflow"))?;
        }
        Ok(options)
    }
}

fn parse_workflow(node: &Node) -> Result<Vec<(Mode, usize)>> {
    let flows: Vec<(String, usize)> = node.parse()?;
    let flows: Vec<(Mode, usize)> = flows
        .into_iter()
        .map(|(mode, n)| match mode.as_str() {
            "train" => Ok((Mode::Train, n)),
            "val" => Ok((Mode::Val, n)),
            _ => Err(node.error(format!("unknown mode '{mode}' (allowed: 'train', 'val')"))),
        })
        .collect::<Result<_>>()?;
    if !flows.iter().any(|(mode, n)| *mode == Mode::Train && *n > 0) {
        // Nothing would ever count up.
        return Err(node.error("there is no ('train', n) in it"));
    }
    Ok(flows)
}

impl From<RunLength> for (Option<usize>, usize) {
    /// `max_epochs` and `max_iters` (0: not known yet).
    fn from(length: RunLength) -> Self {
        match length {
            RunLength::Epochs(n) => (Some(n), 0),
            RunLength::Iters(n) => (None, n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<RunnerOptions> {
        RunnerOptions::from_config(&Node::from_json(json).unwrap())
    }

    #[test]
    fn both_runners_and_the_old_form_are_understood() {
        let o = read(
            r#"{"runner": {"type": "EpochBasedRunner", "max_epochs": 12}, "work_dir": "w", "seed": 3,
                "workflow": [["train", 2], ["val", 1]]}"#,
        )
        .unwrap();
        assert_eq!((o.length, o.seed), (RunLength::Epochs(12), 3));
        assert_eq!(o.workflow, [(Mode::Train, 2), (Mode::Val, 1)]);
        let o = read(r#"{"runner": {"type": "IterBasedRunner", "max_iters": 9}, "work_dir": "w"}"#).unwrap();
        assert_eq!(o.length, RunLength::Iters(9));
        assert_eq!(read(r#"{"total_epochs": 5, "work_dir": "w"}"#).unwrap().length, RunLength::Epochs(5));
    }

    #[test]
    fn mistakes_name_their_key() {
        for (json, words) in [
            (r#"{"work_dir": "w"}"#, "runner"),
            (r#"{"runner": {"type": "EpochBasedRuner", "max_epochs": 1}, "work_dir": "w"}"#, "did you mean"),
            (r#"{"runner": {"type": "EpochBasedRunner", "max_iters": 1}, "work_dir": "w"}"#, "max_epochs"),
            (r#"{"runner": {"type": "EpochBasedRunner", "max_epoch": 1}, "work_dir": "w"}"#, "runner.max_epoch"),
            (r#"{"total_epochs": 1, "work_dir": "w", "workflow": [["val", 1]]}"#, "workflow"),
            (r#"{"total_epochs": 1, "work_dir": "w", "workflow": [["tain", 1]]}"#, "tain"),
        ] {
            let e = read(json).unwrap_err();
            assert!(e.is_usage() && e.to_string().contains(words), "{e}");
        }
    }
}
