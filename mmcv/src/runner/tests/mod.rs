//! Whole runs of a tiny model.

mod evaluation;
mod hooks;
mod logs;
mod resume;
mod signals;

use std::path::Path;

use super::testing::{Line, loader};
use super::{Hook, Priority, RunLength, RunState, Runner, RunnerOptions};
use crate::Result;
use crate::config::Node;
use crate::optim::build_optimizer;

/// Calls a closure after each training iteration.
struct After<F>(F);

impl<F: FnMut(&mut RunState) -> Result<()> + Send> Hook for After<F> {
    fn after_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        (self.0)(state)
    }
}

fn options(length: RunLength, dir: &Path) -> RunnerOptions {
    RunnerOptions {
        console: false,
        signals: false,
        seed: 5,
        timestamp: Some("20240131_235959".into()),
        ..RunnerOptions::new(length, dir)
    }
}

/// A runner for `line` by SGD with momentum, with the hooks of `cfg`.
fn runner(line: &Line, length: RunLength, dir: &Path, cfg: &str) -> Runner {
    let optimizer = Node::from_json(r#"{"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}"#).unwrap();
    let optimizer = build_optimizer(&optimizer, &line.store).unwrap();
    let mut runner = Runner::new(options(length, dir), line.store.clone(), optimizer).unwrap();
    runner.register_hooks_from_config(&Node::from_json(cfg).unwrap()).unwrap();
    runner
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
