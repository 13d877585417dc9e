use std::sync::{Arc, Mutex};

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::super::testing::run_dir;
use super::super::{Batches, HOOKS, Losses, Mode, Trainable};
use super::*;
use crate::data::Batch;
use crate::nn::{Ctx, Init, Param, ParamStore, VarBuilder};
use crate::register;

/// As a user's crate would write it.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct CountConfig {
    key: String,
}
struct Count(String, u64);
impl Count {
    fn new(cfg: &CountConfig) -> Result<Self> {
        Ok(Self(cfg.key.clone(), 0))
    }
}
impl Hook for Count {
    fn after_iter(&mut self, state: &mut RunState) -> Result<()> {
        self.1 += 1;
        state.set_hook_msg(&self.0, self.1);
        Ok(())
    }
}
register!(HOOKS: dyn Hook, "CountForTests" => Count(CountConfig));

#[test]
fn a_users_hook_is_called_in_its_place() {
    let (dir, line) = (run_dir(), Line::new());
    let cfg = r#"{
        "lr_config": {"policy": "fixed"}, "checkpoint_config": {"interval": 1},
        "log_config": {"interval": 1, "hooks": [{"type": "TextLoggerHook"}, {"type": "TensorboardLoggerHook"}]},
        "custom_hooks": [
            {"type": "CountForTests", "key": "late", "priority": "VERY_LOW"},
            {"type": "CountForTests", "key": "normal"},
            {"type": "CountForTests", "key": "early", "priority": 5}
        ]
    }"#;
    let mut r = runner(&line, RunLength::Epochs(2), dir.path(), cfg);
    let names: Vec<String> = r.hook_names().iter().map(|(n, p)| format!("{n} {}", p.value())).collect();
    // Among equals, hooks come in the order of registration.
    assert_eq!(
        names,
        [
            "CountForTests 5",
            "FixedLrUpdaterHook 10",
            "OptimizerHook 40",
            "CheckpointHook 50",
            "CountForTests 50",
            "IterTimerHook 70",
            "TextLoggerHook 90",
            "TensorboardLoggerHook 90",
            "CountForTests 90"
        ]
    );
    r.run(&line, &loader(3, 0)).unwrap();
    assert_eq!(r.state.hook_msg("early").unwrap(), 6);
    assert_eq!(r.state.hook_msg("late").unwrap(), 6);
    assert!(files(&dir.path().join("tf_logs"))[0].starts_with("events.out.tfevents."));
}

#[test]
fn a_misspelt_hook_or_field_names_its_place() {
    let (dir, line) = (run_dir(), Line::new());
    for (cfg, words) in [
        (r#"{"custom_hooks": [{"type": "EMAHok"}]}"#, "custom_hooks.0.type: 'EMAHok' is not in the HOOKS"),
        (r#"{"custom_hooks": [{"type": "EMAHook", "momentun": 1}]}"#, "custom_hooks.0.momentun"),
        (r#"{"optimizer_config": {"grad_clip": {"max_norn": 1}}}"#, "optimizer_config.grad_clip.max_norn"),
        (r#"{"checkpoint_config": {"interval": "x"}}"#, "checkpoint_config.interval"),
        (r#"{"log_config": {"hooks": [{"type": "TextLogger"}]}}"#, "log_config.hooks.0.type"),
        (r#"{"custom_hooks": [{"type": "EMAHook", "momentum": 2}]}"#, "momentum: found 2"),
    ] {
        let optimizer = Node::from_json(r#"{"type": "SGD", "lr": 0.1}"#).unwrap();
        let optimizer = build_optimizer(&optimizer, &line.store).unwrap();
        let mut r = Runner::new(options(RunLength::Epochs(1), dir.path()), line.store.clone(), optimizer).unwrap();
        let e = r.register_hooks_from_config(&Node::from_json(cfg).unwrap()).err().expect(cfg);
        assert!(e.is_usage() && e.to_string().contains(words), "{e}");
    }
}

/// A parameter whose gradient is 1 and a buffer that counts in twos.
struct Falling {
    store: ParamStore,
    a: Param,
    n: Param,
    nan_at: Option<f64>,
}

impl Falling {
    fn new() -> Self {
        let store = ParamStore::new(&Device::Cpu, 0);
        let vb = VarBuilder::new(&store);
        let a = vb.param("a", 1, Init::Const(1.0)).unwrap();
        let n = vb.buffer("n", 1, Init::Const(0.0)).unwrap();
        Self { store, a, n, nan_at: None }
    }
    fn runner(&self, dir: &Path, lr: &str, cfg: &str) -> Runner {
        let optimizer = Node::from_json(&format!(r#"{{"type": "SGD", "lr": {lr}}}"#)).unwrap();
        let optimizer = build_optimizer(&optimizer, &self.store).unwrap();
        let mut r = Runner::new(options(RunLength::Epochs(2), dir), self.store.clone(), optimizer).unwrap();
        r.register_hooks_from_config(&Node::from_json(cfg).unwrap()).unwrap();
        r
    }
}

impl Trainable<()> for Falling {
    fn train_step(&self, _: &(), ctx: &Ctx) -> candle_core::Result<Losses> {
        if ctx.train {
            self.n.set(&(self.n.value() + 2.0)?)?;
        }
        let mut losses = Losses::new();
        losses.push("loss_fit", &crate::runner::span("weight", || self.a.get()))?;
        let count: f32 = self.n.value().squeeze(0)?.to_scalar()?;
        if self.nan_at == Some(f64::from(count)) {
            losses.push("loss_nan", &Tensor::new(f32::NAN, &Device::Cpu)?)?;
        }
        Ok(losses)
    }
}

/// `n` batches of nothing.
struct Nothing(usize);
impl Batches<()> for Nothing {
    fn len(&self) -> usize {
        self.0
    }
    fn epoch(&self, _: u64, start: usize) -> Box<dyn Iterator<Item = Result<Batch<()>>> + '_> {
        Box::new((start..self.0).map(|i| {
            Ok(Batch { data: (), indices: vec![i, i + 1], names: vec![format!("{i}.jpg"), format!("{}.jpg", i + 1)] })
        }))
    }
}

struct Seen(Arc<Mutex<Vec<[f32; 3]>>>);
impl Seen {
    fn push(&self, state: &RunState, third: Option<Tensor>) {
        let number = |t: &Tensor| t.squeeze(0).unwrap().to_scalar::<f32>().unwrap();
        let a = number(state.store.get("a").unwrap().value());
        let third = third.map_or(-1.0, |t| number(&t));
        self.0.lock().unwrap().push([a, number(&state.buffers["ema_a"]), third]);
    }
}
impl Hook for Seen {
    fn after_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        self.push(state, state.buffers.get("ema_n").cloned());
        Ok(())
    }
    fn after_train_epoch(&mut self, state: &mut RunState) -> Result<()> {
        self.push(state, Some(state.store.get("n").unwrap().value().clone()));
        Ok(())
    }
}

// A model with loss = a (initially 1), n += 2 in each train_step, SGD(lr=0.125), two epochs of three batches; what
// (a, ema_a, ema_n or -1) is after each iteration and (a, ema_a, n) after each epoch's hooks, with the hook at priority 49:
// EMAHook(momentum=0.3, warm_up=4, interval=2), ExpMomentumEMAHook(momentum=0.1, total_iter=5),
// LinearMomentumEMAHook(momentum=0.2, warm_up=3, interval=2, skip_buffers=True)
#[test]
fn moving_averages_are_mmcvs_and_mmdets() {
    #[rustfmt::skip]
    let cases: [(&str, [[f32; 3]; 8]); 3] = [
        (r#"{"type": "EMAHook", "momentum": 0.3, "warm_up": 4, "interval": 2, "priority": 49}"#, [
            [0.875, 0.98875004, -1.0], [0.75, 0.98875004, -1.0], [0.625, 0.9560125, -1.0], [0.9560125, 0.625, 6.0],
            [0.5, 0.9560125, -1.0], [0.375, 0.90372145, -1.0], [0.25, 0.90372145, -1.0], [0.90372145, 0.25, 12.0],
        ]),
        (r#"{"type": "ExpMomentumEMAHook", "momentum": 0.1, "total_iter": 5, "priority": 49}"#, [
            [0.875, 0.8953928, 1.6737154], [0.75, 0.79313976, 3.3097634], [0.625, 0.6932764, 4.907577],
            [0.6932764, 0.625, 4.907577], [0.5, 0.59578854, 6.4673834], [0.375, 0.5006085, 7.9902644],
            [0.25, 0.407614, 9.478176], [0.407614, 0.25, 9.478176],
        ]),
        (r#"{"type": "LinearMomentumEMAHook", "momentum": 0.2, "warm_up": 3, "interval": 2, "skip_buffers": true,
             "priority": 49}"#, [
            [0.875, 1.0, -1.0], [0.75, 0.98999995, -1.0], [0.625, 0.98999995, -1.0], [0.98999995, 0.625, 6.0],
            [0.5, 0.9703999, -1.0], [0.375, 0.9703999, -1.0], [0.25, 0.9415839, -1.0], [0.9415839, 0.25, 12.0],
        ]),
    ];
    for (hook, want) in cases {
        let (dir, model) = (run_dir(), Falling::new());
        let mut r = model.runner(dir.path(), "0.125", &format!(r#"{{"custom_hooks": {hook}}}"#));
        let seen = Arc::default();
        r.register_hook("Seen", Box::new(Seen(Arc::clone(&seen))), Priority::LOWEST);
        r.run(&model, &Nothing(3)).unwrap();
        for (got, want) in seen.lock().unwrap().iter().zip(&want) {
            // One rounding of f32: PyTorch's add_ may fuse.
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() <= 2e-7 * b.abs()), "{hook}: {got:?} {want:?}");
        }
        assert_eq!(seen.lock().unwrap().len(), 8);
    }
}

#[test]
fn a_loss_that_is_no_number_is_named_before_it_reaches_the_weights() {
    let (dir, model) = (run_dir(), Falling { nan_at: Some(8.0), ..Falling::new() });
    let e = model.runner(dir.path(), "0.125", "{}").run(&model, &Nothing(3)).unwrap_err();
    let text = e.to_string();
    assert!(!e.is_usage());
    assert_eq!(text, "loss_nan is NaN, loss is NaN at iteration 4 (epoch 2), lr 1.25e-1, on 0.jpg, 1.jpg");
    assert_eq!(model.a.value().to_vec1::<f32>().unwrap(), [0.625]);
    let log = std::fs::read_to_string(dir.path().join("20240131_235959.log")).unwrap();
    assert!(log.contains("the run ended with an error: loss_nan is NaN"));
}

#[test]
fn gradients_are_clipped_logged_and_accumulated() {
    // The gradient is 1: clipped to 0.5 it moves by half the rate, up to clip_grad_norm_'s 1e-6.
    let (dir, model) = (run_dir(), Falling::new());
    let mut r = model.runner(dir.path(), "0.125", r#"{"optimizer_config": {"grad_clip": {"max_norm": 0.5}}}"#);
    r.run(&model, &Nothing(2)).unwrap();
    let a = model.a.value().to_vec1::<f32>().unwrap()[0];
    assert!((a - 0.75).abs() < 1e-6, "{a}");
    // Six iterations in fours: one step of the mean of four, and one of the mean of the two that are left.
    let (dir, model) = (run_dir(), Falling::new());
    let cfg = r#"{"optimizer_config": {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 4}}"#;
    let mut r = model.runner(dir.path(), "0.125", cfg);
    r.run(&model, &Nothing(3)).unwrap();
    assert_eq!(model.a.value().to_vec1::<f32>().unwrap(), [0.75]);
    assert!(r.state.carried.is_empty());
}

#[test]
fn validation_trains_nothing() {
    let (dir, model) = (run_dir(), Falling::new());
    let optimizer = Node::from_json(r#"{"type": "SGD", "lr": 0.125}"#).unwrap();
    let optimizer = build_optimizer(&optimizer, &model.store).unwrap();
    let mut options = options(RunLength::Epochs(2), dir.path());
    options.workflow = vec![(Mode::Train, 1), (Mode::Val, 1)];
    let mut r = Runner::new(options, model.store.clone(), optimizer).unwrap();
    r.register_hooks_from_config(&Node::from_json("{}").unwrap()).unwrap();
    assert!(r.run(&model, &Nothing(2)).unwrap_err().is_usage());
    r.run_workflow(&model, &[&Nothing(2), &Nothing(5)]).unwrap();
    assert_eq!(r.state.iter, 4);
    assert_eq!(model.a.value().to_vec1::<f32>().unwrap(), [0.5]);
}

#[test]
fn an_empty_data_set_is_an_error_and_not_an_endless_run() {
    let (dir, model) = (run_dir(), Falling::new());
    let e = model.runner(dir.path(), "0.1", "{}").run(&model, &Nothing(0)).unwrap_err();
    assert!(e.to_string().contains("empty"), "{e}");
}

#[test]
fn phases_are_profiled() {
    let (dir, model) = (run_dir(), Falling::new());
    let trace = dir.path().join("trace.json");
    let cfg = format!(
        r#"{{"profiler_config": {{"by_epoch": false, "profile_iters": 2, "json_trace_path": "{}"}}}}"#,
        trace.display()
    );
    model.runner(dir.path(), "0.1", &cfg).run(&model, &Nothing(3)).unwrap();
    let log = std::fs::read_to_string(dir.path().join("20240131_235959.log")).unwrap();
    assert!(log.contains("profile of 2 iterations") && log.contains("backward"));
    let trace: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(trace).unwrap()).unwrap();
    // Four phases and the model's one span, in two of the six iterations.
    assert_eq!(trace["traceEvents"].as_array().unwrap().len(), 2 * (4 + 1));
    assert!(log.contains("layer    calls") && log.contains("\nweight       2 "), "{log}");
}
