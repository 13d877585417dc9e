//! Every schedule against mmcv, iteration by iteration and to the last bit.
//!
//! `mmcv_1_7_2.jsonl` has a run on each line: a model of two parameters, in groups with learning rates 0.02 and 0.1
//! (SGD with momenta 0.9 and 0.8, or Adam with betas 0.9 and 0.99), the hook's config, and what
//! `runner.current_lr()` (`current_momentum()`) was in each `after_train_iter`:
//!
//! ```python
//! R = EpochBasedRunner(m, optimizer=opt, logger=lg, max_epochs=epochs, work_dir=d)  # or IterBasedRunner
//! R.register_lr_hook(cfg)  # or register_momentum_hook
//! R.register_hook(rec, priority='LOWEST')
//! R.run([L([0] * epoch_len)], [('train', 1)])
//! ```

use serde::Deserialize;

use super::super::super::testing::{Line, run_dir};
use super::super::super::{Hook, Priority, RunLength, RunState, Runner, RunnerOptions};
use crate::Result;
use crate::config::Node;
use crate::optim::{Adam, AdamConfig, Optimizer, ParamSpec, Sgd, SgdConfig};

#[derive(Deserialize)]
struct Case {
    kind: String,
    cfg: serde_json::Value,
    iter_based: bool,
    adam: bool,
    epochs: usize,
    epoch_len: usize,
    iters: usize,
    values: Vec<[f64; 2]>,
}

struct Record {
    momentum: bool,
    seen: std::sync::Arc<std::sync::Mutex<Vec<[f64; 2]>>>,
}

impl Hook for Record {
    fn after_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        let groups = state.optimizer.groups();
        let of = |i: usize| if self.momentum { groups[i].schedule_momentum().unwrap() } else { groups[i].lr };
        self.seen.lock().unwrap().push([of(0), of(1)]);
        Ok(())
    }
}

fn optimizer(line: &Line, adam: bool) -> Box<dyn Optimizer> {
    let spec = |i: usize, lr| ParamSpec { params: vec![line.params()[i].clone()], lr: Some(lr), weight_decay: None };
    let specs = vec![spec(0, 0.02), spec(1, 0.1)];
    if adam {
        let cfg: AdamConfig = Node::from_json(r#"{"betas": [0.9, 0.99]}"#).unwrap().parse().unwrap();
        return Box::new(Adam::new(&cfg, specs).unwrap());
    }
    let cfg: SgdConfig = Node::from_json(r#"{"lr": 0.01, "momentum": 0.9}"#).unwrap().parse().unwrap();
    let mut sgd = Sgd::new(&cfg, specs).unwrap();
    sgd.groups_mut()[1].set_schedule_momentum(0.8);
    Box::new(sgd)
}

#[test]
fn schedules_are_mmcvs() {
    for (i, text) in include_str!("mmcv_1_7_2.jsonl").lines().enumerate() {
        let case: Case = serde_json::from_str(text).unwrap();
        let dir = run_dir();
        let length = if case.iter_based { RunLength::Iters(case.iters) } else { RunLength::Epochs(case.epochs) };
        let options = RunnerOptions { console: false, signals: false, ..RunnerOptions::new(length, dir.path()) };
        let line = Line::new();
        let mut runner = Runner::new(options, line.store.clone(), optimizer(&line, case.adam)).unwrap();
        let section = if case.kind == "lr" { "lr_config" } else { "momentum_config" };
        let mut cfg = Node::from_json("{}").unwrap();
        let mut node = Node::from(case.cfg.clone());
        if case.iter_based
            && case.cfg.get("by_epoch").is_none()
            && case.kind == "lr"
            && case.cfg["policy"] != "OneCycle"
        {
            // `register_lr_hook` itself leaves mmcv's default.
            node.set("by_epoch", true);
        }
        cfg.set(section, node);
        runner.register_hooks_from_config(&cfg).unwrap();
        let seen = std::sync::Arc::default();
        let record = Record { momentum: case.kind == "momentum", seen: std::sync::Arc::clone(&seen) };
        runner.register_hook("Record", Box::new(record), Priority::LOWEST);
        runner.run(&line, &line.loader(case.epoch_len)).unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), case.values.len(), "{i}");
        for (n, (got, want)) in seen.iter().zip(&case.values).enumerate() {
            assert_eq!(got, want, "case {i} {}, iteration {n}", case.cfg);
        }
    }
}

#[test]
fn mistakes_in_schedules_are_config_errors() {
    for (json, words) in [
        (r#"{"policy": "stepp", "step": 1}"#, "did you mean 'Step'"),
        (r#"{"policy": "step"}"#, "step"),
        (r#"{"policy": "step", "step": [0]}"#, "positive"),
        (r#"{"policy": "step", "step": 1, "warmup": "lin"}"#, "linear"),
        (r#"{"policy": "step", "step": 1, "warmup": "linear"}"#, "warmup_iters"),
        (r#"{"policy": "step", "step": 1, "warmup": "linear", "warmup_iters": 1, "warmup_ratio": 2}"#, "(0, 1]"),
        (r#"{"policy": "CosineAnnealing"}"#, "min_lr"),
        (r#"{"policy": "cyclic", "by_epoch": true}"#, "by iteration"),
        (r#"{"policy": "OneCycle", "max_lr": 1, "pct_start": 1.5}"#, "pct_start"),
        (r#"{"step": 1}"#, "policy"),
    ] {
        let dir = run_dir();
        let options =
            RunnerOptions { console: false, signals: false, ..RunnerOptions::new(RunLength::Epochs(1), dir.path()) };
        let line = Line::new();
        let mut runner = Runner::new(options, line.store.clone(), optimizer(&line, false)).unwrap();
        let mut cfg = Node::from_json("{}").unwrap();
        cfg.set("lr_config", Node::from_json(json).unwrap());
        let e = runner.register_hooks_from_config(&cfg).err().expect(json);
        assert!(e.is_usage() && e.to_string().contains(words) && e.to_string().contains("lr_config"), "{e}");
    }
}
