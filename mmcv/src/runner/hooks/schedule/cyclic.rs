//! Up and down once per cycle (<https://arxiv.org/abs/1506.01186>), along cosines or lines.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::super::{HOOKS, Hook};
use super::annealing::{annealing_cos, annealing_linear};
use super::target::{Lr, Momentum};
use super::updater::{Progress, Schedule, Updater, schedule_config};
use crate::optim::Optimizer;
use crate::{Error, Result, register};

/// The way between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnnealStrategy {
    /// Half a cosine wave.
    #[default]
    Cos,
    /// A line.
    Linear,
}

impl AnnealStrategy {
    /// The value at `factor` between `start` (0) and `end` (1).
    pub fn at(self, start: f64, end: f64, factor: f64) -> f64 {
        match self {
            Self::Cos => annealing_cos(start, end, factor, 1.0),
            Self::Linear => annealing_linear(start, end, factor),
        }
    }
}

/// One number, or a list of one or two: the highest and the lowest value over the base value.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TargetRatio {
    /// The highest; the lowest is a 100000th of it.
    One(f64),
    /// Both (or the highest alone).
    List(Vec<f64>),
}

impl TargetRatio {
    fn pair(&self) -> Result<(f64, f64)> {
        match self {
            Self::One(high) => Ok((*high, high / 1e5)),
            Self::List(list) => match list[..] {
                [high] => Ok((high, high / 1e5)),
                [high, low] => Ok((high, low)),
                _ => Err(Error::config(format!("target_ratio: found {} values, expected 1 or 2", list.len()))),
            },
        }
    }
}

/// From the base value to `ratio.0` times it and on to `ratio.1` times it, in each cycle;
/// the height shrinks by `gamma` from cycle to cycle.
pub struct Cyclic {
    ratio: (f64, f64),
    times: usize,
    up: f64,
    strategy: AnnealStrategy,
    gamma: f64,
    /// Iterations of a cycle and of its way up.
    cycle: (usize, usize),
}

impl Cyclic {
    fn new(
        ratio: &TargetRatio,
        times: usize,
        up: f64,
        strategy: AnnealStrategy,
        gamma: f64,
        by_epoch: bool,
    ) -> Result<Self> {
        if by_epoch {
            return Err(Error::config("by_epoch: a cyclic schedule goes by iteration"));
        }
        if !(0.0..1.0).contains(&up) {
            return Err(Error::config(format!("step_ratio_up: found {up}, expected a value in [0, 1)")));
        }
        if times == 0 {
            return Err(Error::config("cyclic_times: found 0, expected a positive integer"));
        }
        Ok(Self { ratio: ratio.pair()?, times, up, strategy, gamma, cycle: (0, 0) })
    }
}

impl Schedule for Cyclic {
    fn start(&mut self, _: &mut dyn Optimizer, progress: &Progress) -> Result<Option<Vec<f64>>> {
        let length = progress.max_iters / self.times;
        if length == 0 {
            return Err(Error::config(format!(
                "cyclic_times: {} cycles don't fit into {} iterations",
                self.times, progress.max_iters
            )));
        }
        self.cycle = (length, (self.up * length as f64) as usize);
        Ok(None)
    }

    fn value(&self, base: f64, _: usize, _: bool, progress: &Progress) -> Result<f64> {
        let (length, up) = self.cycle;
        let iter = progress.iter % length;
        let scale = self.gamma.powf((progress.iter / length) as f64);
        let (start, end, mut from, mut to) =
            if iter < up { (0, up, 1.0, self.ratio.0) } else { (up, length, self.ratio.0, self.ratio.1) };
        // Which end shrinks goes by the start, so a cycle without a way up shrinks its low end.
        if start == 0 {
            to = 1.0 - scale + to * scale;
        } else {
            from = 1.0 - scale + from * scale;
        }
        Ok(self.strategy.at(base * from, base * to, (iter - start) as f64 / (end - start) as f64))
    }
}

fn once() -> usize {
    1
}
fn two_fifths() -> f64 {
    0.4
}
fn lr_ratio() -> TargetRatio {
    TargetRatio::List(vec![10.0, 1e-4])
}
fn momentum_ratio() -> TargetRatio {
    TargetRatio::List(vec![0.85 / 0.95, 1.0])
}

schedule_config! { lr
    /// `type = "CyclicLrUpdaterHook"`.
    CyclicLrConfig, by_epoch = "super::updater::no" {
        /// Highest and lowest rate over the initial one.
        #[serde(default = "lr_ratio")]
        pub target_ratio: TargetRatio,
        /// Number of cycles of the run.
        #[serde(default = "once")]
        pub cyclic_times: usize,
        /// The part of a cycle in which the rate rises, in [0, 1).
        #[serde(default = "two_fifths")]
        pub step_ratio_up: f64,
        /// `cos` or `linear`.
        #[serde(default)]
        pub anneal_strategy: AnnealStrategy,
        /// By what the height shrinks from cycle to cycle, in (0, 1].
        #[serde(default = "super::updater::one")]
        pub gamma: f64,
    }
}
/// A learning rate that rises and falls once per cycle.
pub type CyclicLrUpdaterHook = Updater<Lr, Cyclic>;
impl CyclicLrUpdaterHook {
    /// From its config.
    pub fn new(cfg: &CyclicLrConfig) -> Result<Self> {
        if !(cfg.gamma > 0.0 && cfg.gamma <= 1.0) {
            return Err(Error::config(format!("gamma: found {}, expected a value in (0, 1]", cfg.gamma)));
        }
        let schedule = Cyclic::new(
            &cfg.target_ratio,
            cfg.cyclic_times,
            cfg.step_ratio_up,
            cfg.anneal_strategy,
            cfg.gamma,
            cfg.by_epoch,
        )?;
        Self::with(Lr, schedule, false, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "CyclicLrUpdaterHook" => CyclicLrUpdaterHook(CyclicLrConfig));

schedule_config! { momentum
    /// `type = "CyclicMomentumUpdaterHook"`.
    CyclicMomentumConfig, by_epoch = "super::updater::no" {
        /// Momentum at the turn and at the end of a cycle over the initial one.
        #[serde(default = "momentum_ratio")]
        pub target_ratio: TargetRatio,
        /// Number of cycles of the run.
        #[serde(default = "once")]
        pub cyclic_times: usize,
        /// The part of a cycle until the turn, in [0, 1).
        #[serde(default = "two_fifths")]
        pub step_ratio_up: f64,
        /// `cos` or `linear`.
        #[serde(default)]
        pub anneal_strategy: AnnealStrategy,
        /// By what the height shrinks from cycle to cycle.
        #[serde(default = "super::updater::one")]
        pub gamma: f64,
    }
}
/// A momentum that goes to and fro once per cycle.
pub type CyclicMomentumUpdaterHook = Updater<Momentum, Cyclic>;
impl CyclicMomentumUpdaterHook {
    /// From its config.
    pub fn new(cfg: &CyclicMomentumConfig) -> Result<Self> {
        let schedule = Cyclic::new(
            &cfg.target_ratio,
            cfg.cyclic_times,
            cfg.step_ratio_up,
            cfg.anneal_strategy,
            cfg.gamma,
            cfg.by_epoch,
        )?;
        Self::with(Momentum, schedule, false, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "CyclicMomentumUpdaterHook" => CyclicMomentumUpdaterHook(CyclicMomentumConfig));
