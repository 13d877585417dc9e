//! Fixed, step, exponential, polynomial and inverse schedules.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::super::{HOOKS, Hook};
use super::target::{Lr, Momentum};
use super::updater::{Progress, Schedule, Updater, schedule_config};
use crate::{Error, Result, register};

/// The base value throughout.
pub struct Fixed;

impl Schedule for Fixed {
    fn value(&self, base: f64, _: usize, _: bool, _: &Progress) -> Result<f64> {
        Ok(base)
    }
}

schedule_config! { lr
    /// `type = "FixedLrUpdaterHook"`.
    FixedLrConfig, by_epoch = "super::updater::yes" {}
}
/// A constant learning rate (after warm-up).
pub type FixedLrUpdaterHook = Updater<Lr, Fixed>;
impl FixedLrUpdaterHook {
    /// From its config.
    pub fn new(cfg: &FixedLrConfig) -> Result<Self> {
        Self::with(Lr, Fixed, cfg.by_epoch, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "FixedLrUpdaterHook" => FixedLrUpdaterHook(FixedLrConfig));

/// A period, or the points at which the value falls.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StepSize {
    /// Every so many epochs or iterations.
    Every(usize),
    /// At these.
    At(Vec<usize>),
}

/// The base value times `gamma` to the number of steps passed, not below `min`.
pub struct Step {
    step: StepSize,
    gamma: f64,
    min: Option<f64>,
}

impl Step {
    fn new(step: &StepSize, gamma: f64, min: Option<f64>) -> Result<Self> {
        let zero = match step {
            StepSize::Every(n) => *n == 0,
            StepSize::At(at) => at.contains(&0),
        };
        if zero {
            return Err(Error::config("step: found 0, expected positive integers"));
        }
        Ok(Self { step: step.clone(), gamma, min })
    }
}

impl Schedule for Step {
    fn value(&self, base: f64, _: usize, by_epoch: bool, progress: &Progress) -> Result<f64> {
        let done = progress.done(by_epoch);
        let passed = match &self.step {
            StepSize::Every(n) => done / n,
            // The first step ahead decides, whatever the order of the list.
            StepSize::At(at) => at.iter().position(|s| done < *s).unwrap_or(at.len()),
        };
        let value = base * self.gamma.powf(passed as f64);
        Ok(self.min.map_or(value, |min| value.max(min)))
    }
}

schedule_config! { lr
    /// `type = "StepLrUpdaterHook"`.
    StepLrConfig, by_epoch = "super::updater::yes" {
        /// The period, or the list of epochs (iterations) at which the rate falls.
        pub step: StepSize,
        /// The factor of each fall.
        #[serde(default = "super::updater::tenth")]
        pub gamma: f64,
        /// The least rate.
        #[serde(default)]
        pub min_lr: Option<f64>,
    }
}
/// A learning rate that falls in steps.
pub type StepLrUpdaterHook = Updater<Lr, Step>;
impl StepLrUpdaterHook {
    /// From its config.
    pub fn new(cfg: &StepLrConfig) -> Result<Self> {
        Self::with(Lr, Step::new(&cfg.step, cfg.gamma, cfg.min_lr)?, cfg.by_epoch, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "StepLrUpdaterHook" => StepLrUpdaterHook(StepLrConfig));

schedule_config! { momentum
    /// `type = "StepMomentumUpdaterHook"`.
    StepMomentumConfig, by_epoch = "super::updater::yes" {
        /// The period, or the list of epochs (iterations) at which the momentum falls.
        pub step: StepSize,
        /// The factor of each fall.
        #[serde(default = "half")]
        pub gamma: f64,
        /// The least momentum.
        #[serde(default)]
        pub min_momentum: Option<f64>,
    }
}
fn half() -> f64 {
    0.5
}
/// A momentum that falls in steps.
pub type StepMomentumUpdaterHook = Updater<Momentum, Step>;
impl StepMomentumUpdaterHook {
    /// From its config.
    pub fn new(cfg: &StepMomentumConfig) -> Result<Self> {
        Self::with(Momentum, Step::new(&cfg.step, cfg.gamma, cfg.min_momentum)?, cfg.by_epoch, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "StepMomentumUpdaterHook" => StepMomentumUpdaterHook(StepMomentumConfig));

/// The base value times `gamma` to the progress.
pub struct Exp {
    gamma: f64,
}

impl Schedule for Exp {
    fn value(&self, base: f64, _: usize, by_epoch: bool, progress: &Progress) -> Result<f64> {
        Ok(base * self.gamma.powf(progress.done(by_epoch) as f64))
    }
}

schedule_config! { lr
    /// `type = "ExpLrUpdaterHook"`.
    ExpLrConfig, by_epoch = "super::updater::yes" {
        /// The factor of each epoch (iteration).
        pub gamma: f64,
    }
}
/// A learning rate that falls exponentially.
pub type ExpLrUpdaterHook = Updater<Lr, Exp>;
impl ExpLrUpdaterHook {
    /// From its config.
    pub fn new(cfg: &ExpLrConfig) -> Result<Self> {
        Self::with(Lr, Exp { gamma: cfg.gamma }, cfg.by_epoch, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "ExpLrUpdaterHook" => ExpLrUpdaterHook(ExpLrConfig));

/// From the base value to `min` as a power of what is left.
pub struct Poly {
    power: f64,
    min: f64,
}

impl Schedule for Poly {
    fn value(&self, base: f64, _: usize, by_epoch: bool, progress: &Progress) -> Result<f64> {
        let done = progress.done(by_epoch) as f64 / progress.total(by_epoch)? as f64;
        Ok((base - self.min) * (1.0 - done).powf(self.power) + self.min)
    }
}

schedule_config! { lr
    /// `type = "PolyLrUpdaterHook"`.
    PolyLrConfig, by_epoch = "super::updater::yes" {
        /// The power of the part that is left.
        #[serde(default = "super::updater::one")]
        pub power: f64,
        /// The rate at the end.
        #[serde(default)]
        pub min_lr: f64,
    }
}
/// A learning rate that falls as a power of what is left.
pub type PolyLrUpdaterHook = Updater<Lr, Poly>;
impl PolyLrUpdaterHook {
    /// From its config.
    pub fn new(cfg: &PolyLrConfig) -> Result<Self> {
        Self::with(Lr, Poly { power: cfg.power, min: cfg.min_lr }, cfg.by_epoch, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "PolyLrUpdaterHook" => PolyLrUpdaterHook(PolyLrConfig));

/// The base value over a power of `1 + gamma * progress`.
pub struct Inv {
    gamma: f64,
    power: f64,
}

impl Schedule for Inv {
    fn value(&self, base: f64, _: usize, by_epoch: bool, progress: &Progress) -> Result<f64> {
        Ok(base * (1.0 + self.gamma * progress.done(by_epoch) as f64).powf(-self.power))
    }
}

schedule_config! { lr
    /// `type = "InvLrUpdaterHook"`.
    InvLrConfig, by_epoch = "super::updater::yes" {
        /// How fast it falls.
        pub gamma: f64,
        /// The power.
        #[serde(default = "super::updater::one")]
        pub power: f64,
    }
}
/// A learning rate that falls with the inverse of the progress.
pub type InvLrUpdaterHook = Updater<Lr, Inv>;
impl InvLrUpdaterHook {
    /// From its config.
    pub fn new(cfg: &InvLrConfig) -> Result<Self> {
        Self::with(Lr, Inv { gamma: cfg.gamma, power: cfg.power }, cfg.by_epoch, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "InvLrUpdaterHook" => InvLrUpdaterHook(InvLrConfig));
