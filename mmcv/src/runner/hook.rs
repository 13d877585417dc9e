//! What is called at each stage of a run.

use super::RunState;
use crate::Result;
use crate::registry::registry;

registry!(
    /// Hooks, as `custom_hooks` and the hook sections of a config name them.
    pub HOOKS: dyn Hook, ()
);

/// Called at each stage of a run with the run's state. An error ends the run.
///
/// The general stages (`before_epoch`, `after_iter`, ...) are called by the default implementations of those of
/// training and validation, as in mmcv: whoever overrides `after_train_iter` decides whether `after_iter` is called.
#[allow(unused_variables)]
pub trait Hook: Send {
    /// Before the first epoch.
    fn before_run(&mut self, state: &mut RunState) -> Result<()> {
        Ok(())
    }
    /// After the last epoch, or when the run is interrupted.
    fn after_run(&mut self, state: &mut RunState) -> Result<()> {
        Ok(())
    }
    /// Before an epoch of any mode.
    fn before_epoch(&mut self, state: &mut RunState) -> Result<()> {
        Ok(())
    }
    /// After an epoch of any mode.
    fn after_epoch(&mut self, state: &mut RunState) -> Result<()> {
        Ok(())
    }
    /// Before an iteration of any mode.
    fn before_iter(&mut self, state: &mut RunState) -> Result<()> {
        Ok(())
    }
    /// After an iteration of any mode.
    fn after_iter(&mut self, state: &mut RunState) -> Result<()> {
        Ok(())
    }
    /// Before a training epoch, and before the rest of one that is resumed.
    fn before_train_epoch(&mut self, state: &mut RunState) -> Result<()> {
        self.before_epoch(state)
    }
    /// After a training epoch; `state.epoch` still counts the epochs before it.
    fn after_train_epoch(&mut self, state: &mut RunState) -> Result<()> {
        self.after_epoch(state)
    }
    /// Before a training iteration; the batch is read.
    fn before_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        self.before_iter(state)
    }
    /// After the losses of a training iteration; `state.iter` still counts the iterations before it.
    fn after_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        self.after_iter(state)
    }
    /// After all hooks' `after_train_iter`: the iteration is whole, as a checkpoint in the middle of an epoch must be.
    fn end_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        Ok(())
    }
    /// Before a validation epoch.
    fn before_val_epoch(&mut self, state: &mut RunState) -> Result<()> {
        self.before_epoch(state)
    }
    /// After a validation epoch.
    fn after_val_epoch(&mut self, state: &mut RunState) -> Result<()> {
        self.after_epoch(state)
    }
    /// Before a validation iteration.
    fn before_val_iter(&mut self, state: &mut RunState) -> Result<()> {
        self.before_iter(state)
    }
    /// After a validation iteration.
    fn after_val_iter(&mut self, state: &mut RunState) -> Result<()> {
        self.after_iter(state)
    }

    /// Whether it logs what is in the log buffer.
    fn is_logger(&self) -> bool {
        false
    }
    /// Tells the last logger of a run that it clears the buffer's output.
    fn clear_after_log(&mut self) {}
    /// Whether loggers are to log what training has put into the buffer, and the buffer is to be emptied, before
    /// this hook's `after_train_iter`.
    fn logs_first(&self, state: &RunState) -> bool {
        false
    }
}

/// A moment of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the hook's methods have the words
pub enum Stage {
    BeforeRun,
    BeforeEpoch,
    BeforeTrainEpoch,
    BeforeTrainIter,
    AfterTrainIter,
    EndTrainIter,
    AfterTrainEpoch,
    BeforeValEpoch,
    BeforeValIter,
    AfterValIter,
    AfterValEpoch,
    AfterEpoch,
    AfterRun,
}

impl Stage {
    /// Calls `hook`'s method of this stage.
    pub fn call(self, hook: &mut dyn Hook, state: &mut RunState) -> Result<()> {
        match self {
            Self::BeforeRun => hook.before_run(state),
            Self::BeforeEpoch => hook.before_epoch(state),
            Self::BeforeTrainEpoch => hook.before_train_epoch(state),
            Self::BeforeTrainIter => hook.before_train_iter(state),
            Self::AfterTrainIter => hook.after_train_iter(state),
            Self::EndTrainIter => hook.end_train_iter(state),
            Self::AfterTrainEpoch => hook.after_train_epoch(state),
            Self::BeforeValEpoch => hook.before_val_epoch(state),
            Self::BeforeValIter => hook.before_val_iter(state),
            Self::AfterValIter => hook.after_val_iter(state),
            Self::AfterValEpoch => hook.after_val_epoch(state),
            Self::AfterEpoch => hook.after_epoch(state),
            Self::AfterRun => hook.after_run(state),
        }
    }
}
