//! Learning rates and momenta over time, with mmcv's numerics.
//!
//! A [`Schedule`] says what the value is; an [`Updater`] applies it to the groups of every optimizer, warm-up
//! included. [`Lr`] and [`Momentum`] are the two things that can be scheduled.

mod annealing;
mod cyclic;
mod one_cycle;
mod simple;
mod target;
#[cfg(test)]
mod tests;
mod updater;

pub use annealing::{
    CosineAnnealing, CosineAnnealingLrConfig, CosineAnnealingLrUpdaterHook, CosineAnnealingMomentumConfig,
    CosineAnnealingMomentumUpdaterHook, CosineRestart, CosineRestartLrConfig, CosineRestartLrUpdaterHook,
    FlatCosineAnnealing, FlatCosineAnnealingLrConfig, FlatCosineAnnealingLrUpdaterHook, LinearAnnealing,
    LinearAnnealingLrConfig, LinearAnnealingLrUpdaterHook, LinearAnnealingMomentumConfig,
    LinearAnnealingMomentumUpdaterHook, annealing_cos, annealing_linear,
};
pub use cyclic::{
    AnnealStrategy, Cyclic, CyclicLrConfig, CyclicLrUpdaterHook, CyclicMomentumConfig, CyclicMomentumUpdaterHook,
};
pub use one_cycle::{
    OneCycleLr, OneCycleLrConfig, OneCycleLrUpdaterHook, OneCycleMomentum, OneCycleMomentumConfig,
    OneCycleMomentumUpdaterHook,
};
pub use simple::{
    Exp, ExpLrConfig, ExpLrUpdaterHook, Fixed, FixedLrConfig, FixedLrUpdaterHook, Inv, InvLrConfig, InvLrUpdaterHook,
    Poly, PolyLrConfig, PolyLrUpdaterHook, Step, StepLrConfig, StepLrUpdaterHook, StepMomentumConfig,
    StepMomentumUpdaterHook, StepSize,
};
pub use target::{Lr, Momentum, Target};
pub use updater::{PerGroup, Progress, Schedule, Updater, Warmup, WarmupKind};
