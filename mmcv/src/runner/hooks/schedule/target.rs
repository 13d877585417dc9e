//! What can be scheduled in an optimizer's group.

use serde_json::Value;

use super::super::super::RunState;
use crate::optim::ParamGroup;

/// A value of a parameter group that changes over time.
pub trait Target: Send {
    /// The value now, if the group has one.
    fn get(&self, group: &ParamGroup) -> Option<f64>;
    /// Sets it.
    fn set(&self, group: &mut ParamGroup, value: f64);
    /// The values that the run began with, which a resumed run knows too.
    fn initial(&self, state: &mut RunState) -> Vec<f64>;
    /// The regular value under a warm-up factor.
    fn warm(&self, regular: f64, factor: f64) -> f64;
}

/// The learning rate.
pub struct Lr;

impl Target for Lr {
    fn get(&self, group: &ParamGroup) -> Option<f64> {
        Some(group.lr)
    }
    fn set(&self, group: &mut ParamGroup, value: f64) {
        group.lr = value;
    }
    fn initial(&self, state: &mut RunState) -> Vec<f64> {
        state.optimizer.groups().iter().map(|g| g.initial_lr).collect()
    }
    fn warm(&self, regular: f64, factor: f64) -> f64 {
        regular * factor
    }
}

/// SGD's `momentum`, Adam's first beta.
pub struct Momentum;

impl Target for Momentum {
    fn get(&self, group: &ParamGroup) -> Option<f64> {
        group.schedule_momentum()
    }
    fn set(&self, group: &mut ParamGroup, value: f64) {
        group.set_schedule_momentum(value);
    }
    // The optimizer's state has no place for it, so the run's messages keep it.
    fn initial(&self, state: &mut RunState) -> Vec<f64> {
        const KEY: &str = "initial_momentum";
        let groups = state.optimizer.groups();
        let kept: Vec<f64> = match state.hook_msg(KEY) {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_f64).collect(),
            _ => Vec::new(),
        };
        if kept.len() == groups.len() {
            return kept;
        }
        let now: Vec<f64> = groups.iter().map(|g| self.get(g).unwrap_or(0.0)).collect();
        state.set_hook_msg(KEY, now.clone());
        now
    }
    // mmcv divides here.
    fn warm(&self, regular: f64, factor: f64) -> f64 {
        regular / factor
    }
}
