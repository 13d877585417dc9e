//! Schedules that glide to an end value: along a cosine, flat and then along a cosine, with restarts, linearly.

use super::super::super::{HOOKS, Hook};
use super::target::{Lr, Momentum};
use super::updater::{Progress, Schedule, Updater, schedule_config};
use crate::{Error, Result, register};

/// From `weight * start + (1 - weight) * end` at `factor` 0 to `end` at 1, along half a cosine wave.
pub fn annealing_cos(start: f64, end: f64, factor: f64, weight: f64) -> f64 {
    let cos_out = (std::f64::consts::PI * factor).cos() + 1.0;
    end + 0.5 * weight * (start - end) * cos_out
}

/// From `start` at `factor` 0 to `end` at 1, along a line.
pub fn annealing_linear(start: f64, end: f64, factor: f64) -> f64 {
    start + (end - start) * factor
}

/// Where a schedule ends: at a value or at a part of the base value.
#[derive(Debug, Clone, Copy)]
enum End {
    At(f64),
    Ratio(f64),
}

impl End {
    fn new(name: &str, min: Option<f64>, ratio: Option<f64>) -> Result<Self> {
        match (min, ratio) {
            (Some(min), None) => Ok(Self::At(min)),
            (None, Some(ratio)) => Ok(Self::Ratio(ratio)),
            _ => Err(Error::config(format!("give one of min_{name} and min_{name}_ratio"))),
        }
    }
    fn of(self, base: f64) -> f64 {
        match self {
            Self::At(min) => min,
            Self::Ratio(ratio) => base * ratio,
        }
    }
}

fn part(done: usize, total: usize) -> f64 {
    done as f64 / total as f64
}

/// Along a cosine over the whole run.
pub struct CosineAnnealing(End);

impl Schedule for CosineAnnealing {
    fn value(&self, base: f64, _: usize, by_epoch: bool, progress: &Progress) -> Result<f64> {
        let factor = part(progress.done(by_epoch), progress.total(by_epoch)?);
        Ok(annealing_cos(base, self.0.of(base), factor, 1.0))
    }
}

schedule_config! { lr
    /// `type = "CosineAnnealingLrUpdaterHook"`.
    CosineAnnealingLrConfig, by_epoch = "super::updater::yes" {
        /// The rate at the end.
        #[serde(default)]
        pub min_lr: Option<f64>,
        /// The rate at the end, as a part of the initial one.
        #[serde(default)]
        pub min_lr_ratio: Option<f64>,
    }
}
/// A learning rate that falls along a cosine.
pub type CosineAnnealingLrUpdaterHook = Updater<Lr, CosineAnnealing>;
impl CosineAnnealingLrUpdaterHook {
    /// From its config.
    pub fn new(cfg: &CosineAnnealingLrConfig) -> Result<Self> {
        let end = End::new("lr", cfg.min_lr, cfg.min_lr_ratio)?;
        Self::with(Lr, CosineAnnealing(end), cfg.by_epoch, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "CosineAnnealingLrUpdaterHook" => CosineAnnealingLrUpdaterHook(CosineAnnealingLrConfig));

schedule_config! { momentum
    /// `type = "CosineAnnealingMomentumUpdaterHook"`.
    CosineAnnealingMomentumConfig, by_epoch = "super::updater::yes" {
        /// The momentum at the end.
        #[serde(default)]
        pub min_momentum: Option<f64>,
        /// The momentum at the end, as a part of the initial one.
        #[serde(default)]
        pub min_momentum_ratio: Option<f64>,
    }
}
/// A momentum that falls along a cosine.
pub type CosineAnnealingMomentumUpdaterHook = Updater<Momentum, CosineAnnealing>;
impl CosineAnnealingMomentumUpdaterHook {
    /// From its config.
    pub fn new(cfg: &CosineAnnealingMomentumConfig) -> Result<Self> {
        let end = End::new("momentum", cfg.min_momentum, cfg.min_momentum_ratio)?;
        Self::with(Momentum, CosineAnnealing(end), cfg.by_epoch, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "CosineAnnealingMomentumUpdaterHook" => CosineAnnealingMomentumUpdaterHook(CosineAnnealingMomentumConfig));

/// Along a line over the whole run.
pub struct LinearAnnealing(End);

impl Schedule for LinearAnnealing {
    fn value(&self, base: f64, _: usize, by_epoch: bool, progress: &Progress) -> Result<f64> {
        let factor = part(progress.done(by_epoch), progress.total(by_epoch)?);
        Ok(annealing_linear(base, self.0.of(base), factor))
    }
}

schedule_config! { lr
    /// `type = "LinearAnnealingLrUpdaterHook"`.
    LinearAnnealingLrConfig, by_epoch = "super::updater::yes" {
        /// The rate at the end.
        #[serde(default)]
        pub min_lr: Option<f64>,
        /// The rate at the end, as a part of the initial one.
        #[serde(default)]
        pub min_lr_ratio: Option<f64>,
    }
}
/// A learning rate that falls along a line.
pub type LinearAnnealingLrUpdaterHook = Updater<Lr, LinearAnnealing>;
impl LinearAnnealingLrUpdaterHook {
    /// From its config.
    pub fn new(cfg: &LinearAnnealingLrConfig) -> Result<Self> {
        let end = End::new("lr", cfg.min_lr, cfg.min_lr_ratio)?;
        Self::with(Lr, LinearAnnealing(end), cfg.by_epoch, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "LinearAnnealingLrUpdaterHook" => LinearAnnealingLrUpdaterHook(LinearAnnealingLrConfig));

schedule_config! { momentum
    /// `type = "LinearAnnealingMomentumUpdaterHook"`.
    LinearAnnealingMomentumConfig, by_epoch = "super::updater::yes" {
        /// The momentum at the end.
        #[serde(default)]
        pub min_momentum: Option<f64>,
        /// The momentum at the end, as a part of the initial one.
        #[serde(default)]
        pub min_momentum_ratio: Option<f64>,
    }
}
/// A momentum that falls along a line.
pub type LinearAnnealingMomentumUpdaterHook = Updater<Momentum, LinearAnnealing>;
impl LinearAnnealingMomentumUpdaterHook {
    /// From its config.
    pub fn new(cfg: &LinearAnnealingMomentumConfig) -> Result<Self> {
        let end = End::new("momentum", cfg.min_momentum, cfg.min_momentum_ratio)?;
        Self::with(Momentum, LinearAnnealing(end), cfg.by_epoch, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "LinearAnnealingMomentumUpdaterHook" => LinearAnnealingMomentumUpdaterHook(LinearAnnealingMomentumConfig));

/// The base value for the first part of the run, then along a cosine.
pub struct FlatCosineAnnealing {
    start_percent: f64,
    end: End,
}

impl Schedule for FlatCosineAnnealing {
    fn value(&self, base: f64, _: usize, by_epoch: bool, progress: &Progress) -> Result<f64> {
        let (done, total) = (progress.done(by_epoch), progress.total(by_epoch)?);
        // Python's round: halves go to the even neighbour.
        let start = (total as f64 * self.start_percent).round_ties_even() as usize;
        if done < start {
            return Ok(base);
        }
        Ok(annealing_cos(base, self.end.of(base), part(done - start, total - start), 1.0))
    }
}

schedule_config! { lr
    /// `type = "FlatCosineAnnealingLrUpdaterHook"`.
    FlatCosineAnnealingLrConfig, by_epoch = "super::updater::yes" {
        /// The part of the run, in [0, 1], that the rate stays as it is.
        #[serde(default = "three_quarters")]
        pub start_percent: f64,
        /// The rate at the end.
        #[serde(default)]
        pub min_lr: Option<f64>,
        /// The rate at the end, as a part of the initial one.
        #[serde(default)]
        pub min_lr_ratio: Option<f64>,
    }
}
fn three_quarters() -> f64 {
    0.75
}
/// A learning rate that stays and then falls along a cosine.
pub type FlatCosineAnnealingLrUpdaterHook = Updater<Lr, FlatCosineAnnealing>;
impl FlatCosineAnnealingLrUpdaterHook {
    /// From its config.
    pub fn new(cfg: &FlatCosineAnnealingLrConfig) -> Result<Self> {
        let end = End::new("lr", cfg.min_lr, cfg.min_lr_ratio)?;
        let start_percent = cfg.start_percent;
        if !(0.0..=1.0).contains(&start_percent) {
            return Err(Error::config(format!("start_percent: found {start_percent}, expected a value in [0, 1]")));
        }
        Self::with(Lr, FlatCosineAnnealing { start_percent, end }, cfg.by_epoch, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "FlatCosineAnnealingLrUpdaterHook" => FlatCosineAnnealingLrUpdaterHook(FlatCosineAnnealingLrConfig));

/// Along one cosine after the other, each with a weight for its height.
pub struct CosineRestart {
    periods: Vec<usize>,
    weights: Vec<f64>,
    end: End,
}

impl Schedule for CosineRestart {
    fn value(&self, base: f64, _: usize, by_epoch: bool, progress: &Progress) -> Result<f64> {
        let done = progress.done(by_epoch);
        let mut start = 0;
        for (period, weight) in self.periods.iter().zip(&self.weights) {
            if done < start + period {
                return Ok(annealing_cos(base, self.end.of(base), part(done - start, *period).min(1.0), *weight));
            }
            start += period;
        }
        Err(Error::config(format!("periods: they end at {start}, before {done}")))
    }
}

schedule_config! { lr
    /// `type = "CosineRestartLrUpdaterHook"`.
    CosineRestartLrConfig, by_epoch = "super::updater::yes" {
        /// Length of each cosine, in epochs (iterations).
        pub periods: Vec<usize>,
        /// Height of each cosine.
        #[serde(default = "one_weight")]
        pub restart_weights: Vec<f64>,
        /// The rate at the end of each cosine.
        #[serde(default)]
        pub min_lr: Option<f64>,
        /// The rate at the end of each cosine, as a part of the initial one.
        #[serde(default)]
        pub min_lr_ratio: Option<f64>,
    }
}
fn one_weight() -> Vec<f64> {
    vec![1.0]
}
/// A learning rate that falls along cosines, starting anew after each.
pub type CosineRestartLrUpdaterHook = Updater<Lr, CosineRestart>;
impl CosineRestartLrUpdaterHook {
    /// From its config.
    pub fn new(cfg: &CosineRestartLrConfig) -> Result<Self> {
        let end = End::new("lr", cfg.min_lr, cfg.min_lr_ratio)?;
        let (periods, weights) = (cfg.periods.clone(), cfg.restart_weights.clone());
        if periods.len() != weights.len() {
            return Err(Error::config(format!(
                "periods ({}) and restart_weights ({}) should have the same length",
                periods.len(),
                weights.len()
            )));
        }
        Self::with(Lr, CosineRestart { periods, weights, end }, cfg.by_epoch, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "CosineRestartLrUpdaterHook" => CosineRestartLrUpdaterHook(CosineRestartLrConfig));
