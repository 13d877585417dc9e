//! What hooks see of a run.

use std::path::PathBuf;

use candle_core::Tensor;
use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::hook::Stage;
use super::hooks::Timings;
use super::hooks::schedule::Progress;
use super::{LogBuffer, RunLogger, StopFlag};
use crate::nn::ParamStore;
use crate::optim::Optimizer;

/// What an epoch or an iteration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Training.
    Train,
    /// The `val` workflow: losses without training.
    Val,
}

/// What the last iteration gave.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    /// The loss as part of the graph, until the optimizer hook takes it.
    pub loss: Option<Tensor>,
    /// The numbers: each loss, then `loss`.
    pub log_vars: IndexMap<String, f64>,
    /// Samples in the batch.
    pub num_samples: usize,
}

/// Where the loader is: the next batch is number `batch` of `epoch`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Passes over the data that are done.
    pub epoch: u64,
    /// Batches of this pass that are done.
    pub batch: usize,
}

/// The state of a run, without the model's and the batches' types.
pub struct RunState {
    /// Epochs done.
    pub epoch: usize,
    /// Iterations done.
    pub iter: usize,
    /// Iterations done in this epoch (or in this turn of an iteration-based workflow).
    pub inner_iter: usize,
    /// Epochs in all, of an epoch-based run.
    pub max_epochs: Option<usize>,
    /// Iterations in all; 0 before the run starts, for an epoch-based run.
    pub max_iters: usize,
    /// Batches in an epoch.
    pub epoch_len: usize,
    /// Where the training loader is.
    pub cursor: Cursor,
    /// Training or validation.
    pub mode: Mode,
    /// The stage whose hooks are being called.
    pub stage: Stage,
    /// The model's parameters.
    pub store: ParamStore,
    /// The optimizer.
    pub optimizer: Box<dyn Optimizer>,
    /// Where everything is written.
    pub work_dir: PathBuf,
    /// The name of this run's logs.
    pub timestamp: String,
    /// The seed of everything random.
    pub seed: u64,
    /// This process.
    pub rank: usize,
    /// Number of processes.
    pub world_size: usize,
    /// Values to be logged.
    pub log_buffer: LogBuffer,
    /// What checkpoints and the JSON log keep about the run (`config`, `CLASSES`, `env_info`, `exp_name`, `hook_msgs`, ...).
    pub meta: Map<String, Value>,
    /// Names of the current batch's samples.
    pub batch_names: Vec<String>,
    /// What the last iteration gave.
    pub outputs: Outputs,
    /// How long the phases of this iteration took.
    pub timings: Timings,
    /// Whether activations are kept in half precision for the backward pass.
    pub half: bool,
    /// Tensors that hooks keep beside the model's in a checkpoint's `state_dict` (moving averages).
    pub buffers: IndexMap<String, Tensor>,
    /// Tensors that hooks need for an exact resume and nobody else reads.
    pub carried: IndexMap<String, Tensor>,
    /// The log.
    pub logger: RunLogger,
    /// Asks for the end of the run.
    pub stop: StopFlag,
}

impl RunState {
    /// How far the run is, for schedules.
    pub fn progress(&self) -> Progress {
        Progress {
            epoch: self.epoch,
            iter: self.iter,
            max_epochs: self.max_epochs,
            max_iters: self.max_iters,
            epoch_len: self.epoch_len,
        }
    }

    /// Whether this epoch completes a period of `n` (never for 0).
    pub fn every_n_epochs(&self, n: usize) -> bool {
        n > 0 && (self.epoch + 1).is_multiple_of(n)
    }

    /// Whether this iteration completes a period of `n` of the run (never for 0).
    pub fn every_n_iters(&self, n: usize) -> bool {
        n > 0 && (self.iter + 1).is_multiple_of(n)
    }

    /// Whether this iteration completes a period of `n` of the epoch (never for 0).
    pub fn every_n_inner_iters(&self, n: usize) -> bool {
        n > 0 && (self.inner_iter + 1).is_multiple_of(n)
    }

    /// Whether this is the epoch's last iteration.
    pub fn end_of_epoch(&self) -> bool {
        self.inner_iter + 1 == self.epoch_len
    }

    /// Whether this is the run's last epoch.
    pub fn is_last_epoch(&self) -> bool {
        self.max_epochs == Some(self.epoch + 1)
    }

    /// Whether this is the run's last iteration.
    pub fn is_last_iter(&self) -> bool {
        self.iter + 1 == self.max_iters
    }

    /// What a hook has left in `meta.hook_msgs`.
    pub fn hook_msg(&self, key: &str) -> Option<&Value> {
        self.meta.get("hook_msgs")?.get(key)
    }

    /// Leaves a message in `meta.hook_msgs`: it is in every checkpoint and comes back with a resume.
    pub fn set_hook_msg(&mut self, key: &str, value: impl Into<Value>) {
        let messages = self.meta.entry("hook_msgs").or_insert_with(|| Map::new().into());
        if let Some(messages) = messages.as_object_mut() {
            messages.insert(key.to_owned(), value.into());
        }
    }

    /// The learning rate of the first group.
    pub fn lr(&self) -> f64 {
        self.optimizer.lr()
    }

    /// The momentum of the first group; 0 where there is none.
    pub fn momentum(&self) -> f64 {
        self.optimizer.groups().first().and_then(|g| g.schedule_momentum()).unwrap_or(0.0)
    }

    /// The current batch's samples for a message: at most ten names.
    pub fn batch_label(&self) -> String {
        let names = &self.batch_names;
        let more = if names.len() > 10 { format!(" and {} more", names.len() - 10) } else { String::new() };
        format!("{}{more}", names.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", "))
    }
}
