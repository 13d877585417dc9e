//! Parameters that share their hyperparameters.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::Param;

/// Parameters with the settings that differ from the optimizer's own; what a constructor makes.
#[derive(Debug, Clone, Default)]
pub struct ParamSpec {
    /// The parameters.
    pub params: Vec<Param>,
    /// Their learning rate, if not the optimizer's.
    pub lr: Option<f64>,
    /// Their weight decay, if not the optimizer's.
    pub weight_decay: Option<f64>,
}

/// One of `optimizer.param_groups`. Schedules change `lr` and the momentum before each step.
#[derive(Debug, Clone)]
pub struct ParamGroup {
    /// The parameters.
    pub params: Vec<Param>,
    /// Learning rate of the next step.
    pub lr: f64,
    /// Learning rate that schedules start from.
    pub initial_lr: f64,
    /// Weight decay (L2 in the gradient, or decoupled in AdamW).
    pub weight_decay: f64,
    /// Momentum, for optimizers that have one.
    pub momentum: Option<f64>,
    /// Decay of the running averages, for the Adam family.
    pub betas: Option<[f64; 2]>,
}

/// A group's hyperparameters, as a checkpoint keeps them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupState {
    /// Learning rate.
    pub lr: f64,
    /// Learning rate that schedules start from.
    pub initial_lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Momentum.
    #[serde(default)]
    pub momentum: Option<f64>,
    /// Decay of the running averages.
    #[serde(default)]
    pub betas: Option<[f64; 2]>,
    /// Number of parameters, checked on loading.
    pub params: usize,
}

impl ParamGroup {
    /// The group's momentum as mmcv's momentum schedules see it: `momentum`, or the first of `betas`.
    pub fn schedule_momentum(&self) -> Option<f64> {
        self.momentum.or(self.betas.map(|b| b[0]))
    }

    /// Sets what [`ParamGroup::schedule_momentum`] gives.
    pub fn set_schedule_momentum(&mut self, value: f64) {
        match (&mut self.momentum, &mut self.betas) {
            (Some(m), _) => *m = value,
            (None, Some(b)) => b[0] = value,
            _ => {}
        }
    }

    /// What a checkpoint keeps of it.
    pub fn state(&self) -> GroupState {
        GroupState {
            lr: self.lr,
            initial_lr: self.initial_lr,
            weight_decay: self.weight_decay,
            momentum: self.momentum,
            betas: self.betas,
            params: self.params.len(),
        }
    }

    /// Takes hyperparameters from a checkpoint.
    pub fn load(&mut self, state: &GroupState) -> Result<()> {
        if state.params != self.params.len() {
            return Err(Error::Run(format!(
                "optimizer state: a group of {} parameters in the checkpoint, of {} here",
                state.params,
                self.params.len()
            )));
        }
        self.lr = state.lr;
        self.initial_lr = state.initial_lr;
        self.weight_decay = state.weight_decay;
        self.momentum = self.momentum.and(state.momentum).or(self.momentum);
        self.betas = self.betas.and(state.betas).or(self.betas);
        Ok(())
    }
}
