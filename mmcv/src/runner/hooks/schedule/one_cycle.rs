//! One cycle over the whole run (<https://arxiv.org/abs/1708.07120>).

use super::super::super::{HOOKS, Hook};
use super::cyclic::AnnealStrategy;
use super::target::{Lr, Momentum, Target as _};
use super::updater::{PerGroup, Progress, Schedule, Updater, schedule_config};
use crate::optim::Optimizer;
use crate::{Error, Result, register};

fn check_start(pct_start: f64) -> Result<()> {
    if (0.0..=1.0).contains(&pct_start) {
        return Ok(());
    }
    Err(Error::config(format!("pct_start: found {pct_start}, expected a value in [0, 1]")))
}

/// How far `iter` is between two ends; a phase of no length is the config's fault.
fn part(iter: usize, start: f64, end: f64) -> Result<f64> {
    if end == start {
        return Err(Error::config("pct_start: a phase of the cycle has no length in a run this short"));
    }
    Ok((iter as f64 - start) / (end - start))
}

/// From `max_lr / div_factor` up to `max_lr` and down to the initial value over `final_div_factor`.
pub struct OneCycleLr {
    max_lr: PerGroup,
    total_steps: Option<usize>,
    pct_start: f64,
    strategy: AnnealStrategy,
    div_factor: f64,
    final_div_factor: f64,
    three_phase: bool,
    /// End, and the factors at its two ends, of each phase.
    phases: Vec<(f64, f64, f64)>,
}

impl Schedule for OneCycleLr {
    fn start(&mut self, optimizer: &mut dyn Optimizer, progress: &Progress) -> Result<Option<Vec<f64>>> {
        let total = self.total_steps.unwrap_or(progress.max_iters);
        if total < progress.max_iters {
            return Err(Error::config(format!(
                "total_steps: found {total}, expected at least the run's {} iterations",
                progress.max_iters
            )));
        }
        let (rise, div, last) = (self.pct_start * total as f64, self.div_factor, 1.0 / self.final_div_factor);
        let end = total as f64 - 1.0;
        self.phases = if self.three_phase {
            vec![(rise - 1.0, 1.0, div), (2.0 * self.pct_start * total as f64 - 2.0, div, 1.0), (end, 1.0, last)]
        } else {
            vec![(rise - 1.0, 1.0, div), (end, div, last)]
        };
        let max = self.max_lr.values("max_lr", optimizer.groups().len())?;
        Ok(Some(max.into_iter().map(|lr| lr / self.div_factor).collect()))
    }

    fn value(&self, base: f64, _: usize, _: bool, progress: &Progress) -> Result<f64> {
        let mut start = 0.0;
        for (end, from, to) in &self.phases {
            if progress.iter as f64 <= *end {
                let part = part(progress.iter, start, *end)?;
                return Ok(self.strategy.at(base * from, base * to, part));
            }
            start = *end;
        }
        Err(Error::config(format!("total_steps: the cycle is over before iteration {}", progress.iter)))
    }
}

schedule_config! { lr
    /// `type = "OneCycleLrUpdaterHook"`.
    OneCycleLrConfig, by_epoch = "super::updater::no" {
        /// The highest rate: one, or one for each group.
        pub max_lr: PerGroup,
        /// Length of the cycle in iterations; the run's by default.
        #[serde(default)]
        pub total_steps: Option<usize>,
        /// The part of the cycle in which the rate rises.
        #[serde(default = "three_tenths")]
        pub pct_start: f64,
        /// `cos` or `linear`.
        #[serde(default)]
        pub anneal_strategy: AnnealStrategy,
        /// The initial rate is `max_lr / div_factor`.
        #[serde(default = "twenty_five")]
        pub div_factor: f64,
        /// The last rate is the initial one over this.
        #[serde(default = "ten_thousand")]
        pub final_div_factor: f64,
        /// Whether the rate falls to the initial one as fast as it rose, and to the last one in a third phase.
        #[serde(default)]
        pub three_phase: bool,
    }
}
fn three_tenths() -> f64 {
    0.3
}
fn twenty_five() -> f64 {
    25.0
}
fn ten_thousand() -> f64 {
    1e4
}
/// A learning rate that rises and falls once in a run.
pub type OneCycleLrUpdaterHook = Updater<Lr, OneCycleLr>;
impl OneCycleLrUpdaterHook {
    /// From its config.
    pub fn new(cfg: &OneCycleLrConfig) -> Result<Self> {
        if cfg.by_epoch {
            return Err(Error::config("by_epoch: a one-cycle schedule goes by iteration"));
        }
        check_start(cfg.pct_start)?;
        let schedule = OneCycleLr {
            max_lr: cfg.max_lr.clone(),
            total_steps: cfg.total_steps,
            pct_start: cfg.pct_start,
            strategy: cfg.anneal_strategy,
            div_factor: cfg.div_factor,
            final_div_factor: cfg.final_div_factor,
            three_phase: cfg.three_phase,
            phases: Vec::new(),
        };
        Self::with(Lr, schedule, false, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "OneCycleLrUpdaterHook" => OneCycleLrUpdaterHook(OneCycleLrConfig));

/// From `max_momentum` down to `base_momentum` and back.
pub struct OneCycleMomentum {
    base_momentum: PerGroup,
    max_momentum: PerGroup,
    pct_start: f64,
    strategy: AnnealStrategy,
    three_phase: bool,
    /// (base, max) of each group.
    bounds: Vec<(f64, f64)>,
}

impl Schedule for OneCycleMomentum {
    fn start(&mut self, optimizer: &mut dyn Optimizer, _: &Progress) -> Result<Option<Vec<f64>>> {
        let groups = optimizer.groups_mut();
        let base = self.base_momentum.values("base_momentum", groups.len())?;
        let max = self.max_momentum.values("max_momentum", groups.len())?;
        for (group, max) in groups.into_iter().zip(&max) {
            if Momentum.get(group).is_none() {
                return Err(Error::config("one-cycle momentum: the optimizer has no momentum"));
            }
            Momentum.set(group, *max);
        }
        self.bounds = base.into_iter().zip(max.iter().copied()).collect();
        Ok(Some(max))
    }

    fn value(&self, _: f64, group: usize, _: bool, progress: &Progress) -> Result<f64> {
        let (base, max) = self.bounds[group];
        let (total, rise) = (progress.max_iters as f64, self.pct_start * progress.max_iters as f64);
        let mut phases = vec![(rise - 1.0, max, base)];
        if self.three_phase {
            phases.extend([(2.0 * self.pct_start * total - 2.0, base, max), (total - 1.0, max, max)]);
        } else {
            phases.push((total - 1.0, base, max));
        }
        let mut start = 0.0;
        for (i, (end, from, to)) in phases.iter().enumerate() {
            // The last phase goes on past its end, unlike the learning rate's.
            if progress.iter as f64 <= *end || i + 1 == phases.len() {
                return Ok(self.strategy.at(*from, *to, part(progress.iter, start, *end)?));
            }
            start = *end;
        }
        Ok(max)
    }
}

schedule_config! { momentum
    /// `type = "OneCycleMomentumUpdaterHook"`.
    OneCycleMomentumConfig, by_epoch = "super::updater::no" {
        /// The lowest momentum: one, or one for each group.
        #[serde(default = "lowest")]
        pub base_momentum: PerGroup,
        /// The highest momentum, likewise.
        #[serde(default = "highest")]
        pub max_momentum: PerGroup,
        /// The part of the cycle in which the momentum falls.
        #[serde(default = "three_tenths")]
        pub pct_start: f64,
        /// `cos` or `linear`.
        #[serde(default)]
        pub anneal_strategy: AnnealStrategy,
        /// Whether it rises as fast as it fell, and stays in a third phase.
        #[serde(default)]
        pub three_phase: bool,
    }
}
fn lowest() -> PerGroup {
    PerGroup::All(0.85)
}
fn highest() -> PerGroup {
    PerGroup::All(0.95)
}
/// A momentum that falls and rises once in a run.
pub type OneCycleMomentumUpdaterHook = Updater<Momentum, OneCycleMomentum>;
impl OneCycleMomentumUpdaterHook {
    /// From its config.
    pub fn new(cfg: &OneCycleMomentumConfig) -> Result<Self> {
        if cfg.by_epoch {
            return Err(Error::config("by_epoch: a one-cycle schedule goes by iteration"));
        }
        check_start(cfg.pct_start)?;
        let schedule = OneCycleMomentum {
            base_momentum: cfg.base_momentum.clone(),
            max_momentum: cfg.max_momentum.clone(),
            pct_start: cfg.pct_start,
            strategy: cfg.anneal_strategy,
            three_phase: cfg.three_phase,
            bounds: Vec::new(),
        };
        Self::with(Momentum, schedule, false, cfg.warmup())
    }
}
register!(HOOKS: dyn Hook, "OneCycleMomentumUpdaterHook" => OneCycleMomentumUpdaterHook(OneCycleMomentumConfig));
