//! The training loop, its hooks and schedules.
//!
//! A [`Runner`] trains a [`Trainable`] on [`Batches`] and calls [`Hook`]s at each stage: schedules, the optimizer,
//! checkpoints, evaluation, logs, under mmcv's names and with its numerics. Hooks see a [`RunState`], which knows
//! neither the model's type nor the batches'; one [`register!`](crate::register) line adds a hook to [`HOOKS`], and
//! a config's `custom_hooks` names it.
//!
//! A run is decided by its seed: the same run twice is bit-equal, and so is one that was stopped (by Ctrl-C, say,
//! which ends it after the iteration with a checkpoint) and resumed, in the middle of an epoch too.
//!
//! ```
//! use std::sync::Arc;
//! use candle_core::{Device, Tensor};
//! use mmcv::config::Node;
//! use mmcv::data::{DataLoader, Dataset, LoaderOptions, RandomSampler, Sampler};
//! use mmcv::nn::{Ctx, Init, Param, ParamStore, VarBuilder};
//! use mmcv::optim::build_optimizer;
//! use mmcv::runner::{Losses, Runner, RunnerOptions, Trainable};
//!
//! // y = 2 x, of which the model is to find the 2
//! struct Points;
//! impl Dataset for Points {
//!     type Item = f32;
//!     fn len(&self) -> usize { 8 }
//!     fn get(&self, index: usize, _: &mut mmcv::Rng) -> mmcv::Result<f32> { Ok(index as f32 / 8.0) }
//! }
//!
//! struct Slope(Param);
//! impl Trainable<Tensor> for Slope {
//!     fn train_step(&self, x: &Tensor, _: &Ctx) -> candle_core::Result<Losses> {
//!         let error = (x.broadcast_mul(&self.0.get())? - (x * 2.0)?)?;
//!         let mut losses = Losses::new();
//!         losses.push("loss_slope", &error.sqr()?)?;
//!         Ok(losses)
//!     }
//! }
//!
//! fn main() -> mmcv::Result<()> {
//!     let dir = tempfile::tempdir().unwrap();
//!     let mut cfg = Node::from_json(r#"{
//!         "runner": {"type": "EpochBasedRunner", "max_epochs": 20}, "seed": 1,
//!         "optimizer": {"type": "SGD", "lr": 0.5, "momentum": 0.5},
//!         "optimizer_config": {"grad_clip": {"max_norm": 10}},
//!         "lr_config": {"policy": "step", "step": [15], "warmup": "linear", "warmup_iters": 5},
//!         "checkpoint_config": {"interval": 10},
//!         "log_config": {"interval": 2, "hooks": [{"type": "TextLoggerHook"}]}
//!     }"#)?;
//!     cfg.set("work_dir", dir.path().display().to_string());
//!
//!     let store = ParamStore::new(&Device::Cpu, 1);
//!     let model = Slope(VarBuilder::new(&store).param("slope", 1, Init::Const(0.0))?);
//!     let optimizer = build_optimizer(cfg.get("optimizer").unwrap(), &store)?;
//!     let mut runner = Runner::new(RunnerOptions::from_config(&cfg)?, store, optimizer)?;
//!     runner.register_hooks_from_config(&cfg)?;
//!     runner.auto_resume()?;
//!
//!     let seed = runner.state.seed;
//!     let sampler = RandomSampler { len: 8, seed }.batched(2, false);
//!     let collate = |x: Vec<f32>| Ok(Tensor::new(x, &Device::Cpu)?);
//!     let loader = DataLoader::new(Arc::new(Points), sampler, collate, LoaderOptions { seed, ..Default::default() });
//!     runner.run(&model, &loader)?;
//!
//!     let slope: f32 = model.0.value().squeeze(0)?.to_scalar()?;
//!     assert!((slope - 2.0).abs() < 0.01);
//!     assert!(dir.path().join("epoch_20.safetensors").exists());
//!     Ok(())
//! }
//! ```

mod checkpointing;
mod clock;
mod hook;
pub mod hooks;
mod log_buffer;
mod logger;
mod losses;
mod options;
mod priority;
mod register;
#[allow(clippy::module_inception)] // mmcv's name for it
mod runner;
mod signals;
mod span;
mod state;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod trainable;

pub use checkpointing::{LATEST, find_latest_checkpoint};
pub use hook::{HOOKS, Hook, Stage};
pub use log_buffer::{LogBuffer, LogValue};
pub use logger::RunLogger;
pub use losses::Losses;
pub use options::{RunLength, RunnerOptions};
pub use priority::Priority;
pub use runner::Runner;
pub use signals::StopFlag;
pub use span::{SpanTime, record_spans, span, take_spans};
pub use state::{Cursor, Mode, Outputs, RunState};
pub use trainable::{Batches, Trainable};
