//! The training loop.

use std::time::{Instant, SystemTime};

use super::hook::Stage;
use super::state::Cursor;
use super::{
    Batches, Hook, LogBuffer, Mode, Outputs, Priority, RunLength, RunLogger, RunState, RunnerOptions, StopFlag,
    Trainable, clock,
};
use crate::data::Batch;
use crate::fileio::TEMPORARY;
use crate::nn::{Ctx, ParamStore, no_grad};
use crate::optim::Optimizer;
use crate::{Error, Result, Rng};

/// First key of the streams that training steps draw from, apart from those of the data (see [`crate::data`]).
const STEP_STREAM: u64 = u64::MAX - 1;

pub(super) struct Registered {
    pub name: String,
    pub priority: Priority,
    pub hook: Box<dyn Hook>,
}

/// Trains a model epoch by epoch or iteration by iteration (mmcv's `EpochBasedRunner` and `IterBasedRunner`),
/// and calls hooks at each stage.
pub struct Runner {
    /// What hooks see and change.
    pub state: RunState,
    pub(super) options: RunnerOptions,
    pub(super) hooks: Vec<Registered>,
}

impl Runner {
    /// Makes the work folder and opens the log in it.
    pub fn new(options: RunnerOptions, store: ParamStore, optimizer: Box<dyn Optimizer>) -> Result<Self> {
        let dir = &options.work_dir;
        // A folder that can't be written to is better known now than after the first epoch.
        std::fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(dir).map_err(|e| Error::io(dir, e))?;
        let timestamp = options.timestamp.clone().unwrap_or_else(|| clock::timestamp(SystemTime::now()));
        let mut logger = RunLogger::new(&options.name, options.console && options.rank == 0);
        if options.rank == 0 {
            logger.open(&dir.join(format!("{timestamp}.log")))?;
        }
        let (max_epochs, max_iters) = options.length.into();
        let state = RunState {
            epoch: 0,
            iter: 0,
            inner_iter: 0,
            max_epochs,
            max_iters,
            epoch_len: 0,
            cursor: Cursor::default(),
            mode: Mode::Train,
            stage: Stage::BeforeRun,
            store,
            optimizer,
            work_dir: dir.clone(),
            timestamp,
            seed: options.seed,
            rank: options.rank,
            world_size: options.world_size,
            log_buffer: LogBuffer::default(),
            meta: options.meta.clone(),
            batch_names: Vec::new(),
            outputs: Outputs::default(),
            timings: Default::default(),
            buffers: Default::default(),
            half: false,
            carried: Default::default(),
            logger,
            stop: if options.signals { StopFlag::on_signal() } else { StopFlag::default() },
        };
        Ok(Self { state, options, hooks: Vec::new() })
    }

    /// Adds a hook behind those of its priority. `name` is for the list at the start and for messages.
    pub fn register_hook(&mut self, name: &str, hook: Box<dyn Hook>, priority: Priority) -> &mut Self {
        let at = self.hooks.iter().rposition(|h| h.priority <= priority).map_or(0, |i| i + 1);
        self.hooks.insert(at, Registered { name: name.to_owned(), priority, hook });
        self
    }

    /// The hooks in the order in which they are called.
    pub fn hook_names(&self) -> Vec<(&str, Priority)> {
        self.hooks.iter().map(|h| (h.name.as_str(), h.priority)).collect()
    }

    fn call(&mut self, stage: Stage) -> Result<()> {
        self.state.stage = stage;
        for i in 0..self.hooks.len() {
            if stage == Stage::AfterTrainIter && self.hooks[i].hook.logs_first(&self.state) {
                for logger in self.hooks.iter_mut().filter(|h| h.hook.is_logger()) {
                    stage.call(logger.hook.as_mut(), &mut self.state)?;
                }
                self.state.log_buffer.clear();
            }
            stage.call(self.hooks[i].hook.as_mut(), &mut self.state)?;
        }
        Ok(())
    }

    /// Trains `model` on `loader`, to the end or to a signal.
    pub fn run<B>(&mut self, model: &(impl Trainable<B> + ?Sized), loader: &dyn Batches<B>) -> Result<()> {
        self.run_workflow(model, &[loader])
    }

    /// Runs the workflow: one loader for each of its parts, in its order. An interrupted run ends with
    /// [`Error::Run`], which says where its checkpoint is.
    pub fn run_workflow<B>(&mut self, model: &(impl Trainable<B> + ?Sized), loaders: &[&dyn Batches<B>]) -> Result<()> {
        let flows = self.options.workflow.clone();
        if flows.len() != loaders.len() {
            return Err(Error::config(format!(
                "workflow: it has {} parts, and there are {} loaders",
                flows.len(),
                loaders.len()
            )));
        }
        let train = flows.iter().position(|(mode, _)| *mode == Mode::Train).and_then(|i| loaders.get(i));
        let Some(train) = train else { return Err(Error::config("workflow: there is no training in it")) };
        if train.is_empty() {
            return Err(Error::Run("there is nothing to train on: the data set is empty".into()));
        }
        self.state.epoch_len = train.len();
        if let Some(epochs) = self.state.max_epochs {
            self.state.max_iters = epochs * train.len();
        }
        self.announce(&flows)?;
        if let Some(last) = self.hooks.iter_mut().rfind(|h| h.hook.is_logger()) {
            last.hook.clear_after_log();
        }
        self.call(Stage::BeforeRun)?;
        let done = match self.options.length {
            RunLength::Epochs(n) => self.run_epochs(model, loaders, &flows, n),
            RunLength::Iters(n) => self.run_iters(model, loaders, &flows, n),
        };
        self.state.logger.end_bar();
        match done {
            Ok(true) => self.call(Stage::AfterRun),
            Ok(false) => self.interrupted(),
            Err(e) => {
                // The log tells how the run ended; if that can't be written either, the first error is the news.
                let _ = self.state.logger.warn(&format!("the run ended with an error: {e}"));
                Err(e)
            }
        }
    }

    fn announce(&mut self, flows: &[(Mode, usize)]) -> Result<()> {
        let list: Vec<String> = self.hooks.iter().map(|h| format!("({:<12}) {}", h.priority, h.name)).collect();
        let (dir, length) = (self.state.work_dir.display().to_string(), self.options.length);
        let logger = &mut self.state.logger;
        logger.info(&format!("Start running, work_dir: {dir}"))?;
        logger.info(&format!("Hooks will be executed in the following order:\n{}", list.join("\n")))?;
        let flows: Vec<String> = flows
            .iter()
            .map(|(mode, n)| format!("('{}', {n})", if *mode == Mode::Train { "train" } else { "val" }))
            .collect();
        let max = match length {
            RunLength::Epochs(n) => format!("{n} epochs"),
            RunLength::Iters(n) => format!("{n} iters"),
        };
        logger.info(&format!("workflow: [{}], max: {max}", flows.join(", ")))
    }

    /// False when the run was asked to stop.
    fn run_epochs<B>(
        &mut self,
        model: &(impl Trainable<B> + ?Sized),
        loaders: &[&dyn Batches<B>],
        flows: &[(Mode, usize)],
        max_epochs: usize,
    ) -> Result<bool> {
        while self.state.epoch < max_epochs {
            for ((mode, times), loader) in flows.iter().zip(loaders) {
                for _ in 0..*times {
                    let go_on = match mode {
                        Mode::Train if self.state.epoch >= max_epochs => break,
                        Mode::Train => self.train_epoch(model, *loader)?,
                        Mode::Val => self.val_epoch(model, *loader)?,
                    };
                    if !go_on {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    fn train_epoch<B>(&mut self, model: &(impl Trainable<B> + ?Sized), loader: &dyn Batches<B>) -> Result<bool> {
        self.state.mode = Mode::Train;
        self.state.epoch_len = loader.len();
        self.state.cursor.epoch = self.state.epoch as u64;
        let start = self.state.cursor.batch;
        self.state.inner_iter = start;
        self.call(Stage::BeforeTrainEpoch)?;
        self.state.logger.start_bar(&format!("Epoch {}", self.state.epoch + 1), loader.len(), start);
        let mut batches = loader.epoch(self.state.epoch as u64, start);
        for i in start..loader.len() {
            let waiting = Instant::now();
            let Some(batch) = batches.next() else { break };
            self.state.timings.data = waiting.elapsed();
            self.state.inner_iter = i;
            self.train_iter(model, batch?)?;
            self.state.iter += 1;
            self.state.cursor.batch = i + 1;
            if self.state.stop.requested() {
                return Ok(false);
            }
        }
        drop(batches);
        self.state.logger.end_bar();
        self.call(Stage::AfterTrainEpoch)?;
        self.state.epoch += 1;
        self.state.cursor = Cursor { epoch: self.state.epoch as u64, batch: 0 };
        Ok(!self.state.stop.requested())
    }

    fn val_epoch<B>(&mut self, model: &(impl Trainable<B> + ?Sized), loader: &dyn Batches<B>) -> Result<bool> {
        self.state.mode = Mode::Val;
        self.state.epoch_len = loader.len();
        self.call(Stage::BeforeValEpoch)?;
        for (i, batch) in loader.epoch(0, 0).take(loader.len()).enumerate() {
            self.state.inner_iter = i;
            self.val_iter(model, batch?)?;
            if self.state.stop.requested() {
                return Ok(false);
            }
        }
        self.call(Stage::AfterValEpoch)?;
        Ok(true)
    }

    fn run_iters<B>(
        &mut self,
        model: &(impl Trainable<B> + ?Sized),
        loaders: &[&dyn Batches<B>],
        flows: &[(Mode, usize)],
        max_iters: usize,
    ) -> Result<bool> {
        let mut cursors = vec![Cursor::default(); loaders.len()];
        if let Some(i) = flows.iter().position(|(mode, _)| *mode == Mode::Train) {
            cursors[i] = self.state.cursor;
        }
        let mut feeds: Vec<_> =
            loaders.iter().zip(cursors).map(|(l, cursor)| Feed { loader: *l, cursor, now: None }).collect();
        self.call(Stage::BeforeEpoch)?;
        while self.state.iter < max_iters {
            for ((mode, times), feed) in flows.iter().zip(&mut feeds) {
                self.state.inner_iter = 0;
                for _ in 0..*times {
                    self.state.mode = *mode;
                    self.state.epoch_len = feed.loader.len();
                    match mode {
                        Mode::Train if self.state.iter >= max_iters => break,
                        Mode::Train => {
                            // As in mmcv, the epoch is that of the batch before: it counts up one iteration late.
                            self.state.epoch = feed.cursor.epoch as usize;
                            self.state.logger.ensure_bar("Iter", max_iters, self.state.iter);
                            let waiting = Instant::now();
                            let batch = feed.next()?;
                            self.state.timings.data = waiting.elapsed();
                            self.state.cursor = Cursor { batch: feed.cursor.batch - 1, ..feed.cursor };
                            self.train_iter(model, batch)?;
                            self.state.iter += 1;
                            self.state.cursor = feed.cursor;
                        }
                        Mode::Val => {
                            let batch = feed.next()?;
                            self.val_iter(model, batch)?;
                        }
                    }
                    self.state.inner_iter += 1;
                    if self.state.stop.requested() {
                        return Ok(false);
                    }
                }
            }
        }
        drop(feeds);
        self.call(Stage::AfterEpoch)?;
        Ok(true)
    }

    fn train_iter<B>(&mut self, model: &(impl Trainable<B> + ?Sized), batch: Batch<B>) -> Result<()> {
        self.state.batch_names = batch.names;
        self.call(Stage::BeforeTrainIter)?;
        let ctx =
            Ctx::train(Rng::keyed(self.state.seed, &[STEP_STREAM, self.state.iter as u64, self.state.rank as u64]))
                .keeping_halves(self.state.half);
        let start = Instant::now();
        let losses = model.train_step(&batch.data, &ctx).and_then(|l| {
            let total = l.total()?;
            let vars = l.log_vars(total.as_ref())?;
            Ok((total, vars))
        });
        let (total, vars) = losses.map_err(|e| self.in_step(&e))?;
        self.state.timings.forward = start.elapsed();
        let Some(total) = total else {
            return Err(Error::Run("the model gave no loss: no name of its outputs holds 'loss'".into()));
        };
        self.outputs(Some(total), vars)?;
        self.call(Stage::AfterTrainIter)?;
        self.call(Stage::EndTrainIter)?;
        let loss = self.state.outputs.log_vars.get("loss").copied().unwrap_or_default();
        self.state.logger.step_bar(&format!("loss {loss:.4}"));
        // The graph, if no hook took it.
        self.state.outputs.loss = None;
        Ok(())
    }

    fn val_iter<B>(&mut self, model: &(impl Trainable<B> + ?Sized), batch: Batch<B>) -> Result<()> {
        self.state.batch_names = batch.names;
        self.call(Stage::BeforeValIter)?;
        let losses = no_grad(|| {
            let l = model.val_step(&batch.data, &Ctx::eval())?;
            l.log_vars(l.total()?.as_ref())
        });
        let vars = losses.map_err(|e| self.in_step(&e))?;
        self.outputs(None, vars)?;
        self.call(Stage::AfterValIter)
    }

    /// A tensor error of a step, with its iteration and images.
    fn in_step(&self, e: &candle_core::Error) -> Error {
        Error::Run(format!("iteration {}, on {}: {e}", self.state.iter + 1, self.state.batch_label()))
    }

    /// Takes in what a step gave; a value that is not a number ends the run before it reaches the weights.
    fn outputs(&mut self, loss: Option<candle_core::Tensor>, log_vars: indexmap::IndexMap<String, f64>) -> Result<()> {
        let state = &mut self.state;
        let num_samples = state.batch_names.len().max(1);
        if state.mode == Mode::Train {
            let bad: Vec<String> = log_vars
                .iter()
                .filter(|(name, v)| name.contains("loss") && !v.is_finite())
                .map(|(name, v)| format!("{name} is {v}"))
                .collect();
            if !bad.is_empty() {
                return Err(Error::Run(format!(
                    "{} at iteration {} (epoch {}), lr {:e}, on {}",
                    bad.join(", "),
                    state.iter + 1,
                    state.epoch + 1,
                    state.lr(),
                    state.batch_label()
                )));
            }
        }
        for (name, v) in &log_vars {
            state.log_buffer.update(name, *v, num_samples);
        }
        state.outputs = Outputs { loss, log_vars, num_samples };
        Ok(())
    }

    /// Saves the state of a run that was asked to stop, and says so.
    fn interrupted(&mut self) -> Result<()> {
        self.state.stage = Stage::BeforeTrainIter;
        let name = format!("iter_{}.safetensors", self.state.iter);
        let dir = self.state.work_dir.clone();
        let path = self.state.save_checkpoint(&dir, &name, true, true)?;
        self.call(Stage::AfterRun)?;
        Err(Error::Run(format!(
            "stopped after iteration {} of {}; its state is in {} (--auto-resume goes on from there)",
            self.state.iter,
            self.state.max_iters,
            path.display()
        )))
    }
}

/// A loader that begins again at its end.
struct Feed<'a, B> {
    loader: &'a dyn Batches<B>,
    cursor: Cursor,
    now: Option<Box<dyn Iterator<Item = Result<Batch<B>>> + 'a>>,
}

impl<B> Feed<'_, B> {
    fn next(&mut self) -> Result<Batch<B>> {
        let loader = self.loader;
        let cursor = self.cursor;
        let now = self.now.get_or_insert_with(|| loader.epoch(cursor.epoch, cursor.batch));
        let batch = match now.next() {
            Some(batch) => batch?,
            None => {
                self.cursor = Cursor { epoch: self.cursor.epoch + 1, batch: 0 };
                let again = self.now.insert(loader.epoch(self.cursor.epoch, 0));
                again
                    .next()
                    .ok_or_else(|| Error::Run("there is nothing to train on: the data set is empty".into()))??
            }
        };
        self.cursor.batch += 1;
        Ok(batch)
    }
}
