//! Applies a schedule to the groups of every optimizer, with warm-up.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::super::{Hook, RunState};
use super::target::Target;
use crate::optim::Optimizer;
use crate::{Error, Result};

/// How far a run is, for schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Epochs done.
    pub epoch: usize,
    /// Iterations done.
    pub iter: usize,
    /// Epochs in all, of an epoch-based run.
    pub max_epochs: Option<usize>,
    /// Iterations in all.
    pub max_iters: usize,
    /// Iterations of an epoch.
    pub epoch_len: usize,
}

impl Progress {
    /// What is done, in epochs or iterations.
    pub fn done(&self, by_epoch: bool) -> usize {
        if by_epoch { self.epoch } else { self.iter }
    }

    /// All there is to do, in epochs or iterations.
    pub fn total(&self, by_epoch: bool) -> Result<usize> {
        if !by_epoch {
            return Ok(self.max_iters);
        }
        self.max_epochs.ok_or_else(|| {
            Error::config("by_epoch=True needs a run with max_epochs; an IterBasedRunner takes by_epoch=False")
        })
    }
}

/// A value over time.
pub trait Schedule: Send {
    /// Called once before the run; may give the groups other base values than the initial ones.
    fn start(&mut self, _optimizer: &mut dyn Optimizer, _progress: &Progress) -> Result<Option<Vec<f64>>> {
        Ok(None)
    }

    /// The value now of the `group`-th group, whose base value is `base`.
    fn value(&self, base: f64, group: usize, by_epoch: bool, progress: &Progress) -> Result<f64>;
}

/// How warm-up goes from `warmup_ratio` to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WarmupKind {
    /// The ratio throughout.
    Constant,
    /// Linearly in the iteration.
    Linear,
    /// The ratio to a power that falls from 1 to 0.
    Exp,
}

/// Warm-up of a schedule: the regular value times (momentum: divided by) a factor that reaches 1.
#[derive(Debug, Clone, Copy)]
pub struct Warmup {
    /// How it rises; nothing for none.
    pub kind: Option<WarmupKind>,
    /// How long it takes, in iterations or epochs.
    pub iters: usize,
    /// The factor at the start.
    pub ratio: f64,
    /// Whether `iters` counts epochs.
    pub by_epoch: bool,
}

impl Warmup {
    fn check(&self) -> Result<()> {
        if self.kind.is_none() {
            return Ok(());
        }
        if self.iters == 0 {
            return Err(Error::config("warmup_iters: found 0, expected a positive integer"));
        }
        if !(self.ratio > 0.0 && self.ratio <= 1.0) {
            return Err(Error::config(format!("warmup_ratio: found {}, expected a value in (0, 1]", self.ratio)));
        }
        Ok(())
    }

    fn iters(&self, epoch_len: usize) -> usize {
        if self.by_epoch { self.iters * epoch_len } else { self.iters }
    }

    fn factor(&self, kind: WarmupKind, iter: usize, iters: usize) -> f64 {
        let left = 1.0 - iter as f64 / iters as f64;
        match kind {
            WarmupKind::Constant => self.ratio,
            WarmupKind::Linear => 1.0 - left * (1.0 - self.ratio),
            WarmupKind::Exp => self.ratio.powf(left),
        }
    }
}

/// A value for all groups or one for each.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PerGroup {
    /// One value for all groups.
    All(f64),
    /// One for each group.
    Each(Vec<f64>),
}

impl PerGroup {
    /// The values of `count` groups; `name` is for the message.
    pub fn values(&self, name: &str, count: usize) -> Result<Vec<f64>> {
        match self {
            Self::All(v) => Ok(vec![*v; count]),
            Self::Each(v) if v.len() == count => Ok(v.clone()),
            Self::Each(v) => Err(Error::config(format!(
                "{name}: found {} values, expected {count}, one for each parameter group",
                v.len()
            ))),
        }
    }
}

/// The hook that sets a scheduled value: by epoch at the start of each, by iteration before each.
pub struct Updater<T, S> {
    target: T,
    schedule: S,
    by_epoch: bool,
    warmup: Warmup,
    base: Vec<f64>,
    regular: Vec<f64>,
}

impl<T: Target, S: Schedule> Updater<T, S> {
    /// Sets what `schedule` says, with `warmup` in front.
    pub fn with(target: T, schedule: S, by_epoch: bool, warmup: Warmup) -> Result<Self> {
        warmup.check()?;
        Ok(Self { target, schedule, by_epoch, warmup, base: Vec::new(), regular: Vec::new() })
    }

    fn compute(&mut self, state: &RunState) -> Result<()> {
        let progress = state.progress();
        let value = |(g, base): (usize, &f64)| self.schedule.value(*base, g, self.by_epoch, &progress);
        self.regular = self.base.iter().enumerate().map(value).collect::<Result<_>>()?;
        Ok(())
    }

    fn apply(&self, state: &mut RunState, change: impl Fn(f64) -> f64) {
        for (group, value) in state.optimizer.groups_mut().into_iter().zip(&self.regular) {
            self.target.set(group, change(*value));
        }
    }
}

impl<T: Target, S: Schedule> Hook for Updater<T, S> {
    fn before_run(&mut self, state: &mut RunState) -> Result<()> {
        let progress = state.progress();
        self.base = match self.schedule.start(state.optimizer.as_mut(), &progress)? {
            Some(bases) => bases,
            None => self.target.initial(state),
        };
        self.regular.clear();
        Ok(())
    }

    fn before_train_epoch(&mut self, state: &mut RunState) -> Result<()> {
        if self.by_epoch {
            self.compute(state)?;
            self.apply(state, |v| v);
        }
        Ok(())
    }

    fn before_train_iter(&mut self, state: &mut RunState) -> Result<()> {
        let (iter, end) = (state.iter, self.warmup.iters(state.epoch_len));
        if !self.by_epoch {
            self.compute(state)?;
        } else if self.regular.is_empty() {
            // Iteration-based runs have no epochs that begin.
            self.compute(state)?;
            self.apply(state, |v| v);
        }
        match self.warmup.kind {
            Some(kind) if iter < end => {
                let factor = self.warmup.factor(kind, iter, end);
                self.apply(state, |v| self.target.warm(v, factor));
            }
            // By epoch, the regular value is set once when warm-up is over, and not touched after.
            Some(_) if self.by_epoch && iter == end => self.apply(state, |v| v),
            _ if !self.by_epoch => self.apply(state, |v| v),
            _ => {}
        }
        Ok(())
    }
}

/// A config struct of a schedule: its own fields, then those that all schedules share.
macro_rules! schedule_config {
    ($(#[$doc:meta])* $name:ident, by_epoch = $by_epoch:literal, warmup_ratio = $ratio:literal { $($fields:tt)* } $($extra:tt)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($fields)*
            /// Whether the value changes epoch by epoch rather than iteration by iteration.
            #[serde(default = $by_epoch)]
            pub by_epoch: bool,
            /// `constant`, `linear` or `exp`; none without.
            #[serde(default)]
            pub warmup: Option<$crate::runner::hooks::schedule::WarmupKind>,
            /// How many iterations warm-up lasts.
            #[serde(default)]
            pub warmup_iters: usize,
            /// The factor that warm-up begins with.
            #[serde(default = $ratio)]
            pub warmup_ratio: f64,
            $($extra)*
        }
    };
    (lr $(#[$doc:meta])* $name:ident, by_epoch = $by_epoch:literal { $($fields:tt)* }) => {
        $crate::runner::hooks::schedule::updater::schedule_config! {
            $(#[$doc])* $name, by_epoch = $by_epoch, warmup_ratio = "super::updater::tenth" { $($fields)* }
            /// Whether `warmup_iters` counts epochs.
            #[serde(default)]
            pub warmup_by_epoch: bool,
        }
        impl $name {
            fn warmup(&self) -> $crate::runner::hooks::schedule::Warmup {
                $crate::runner::hooks::schedule::Warmup {
                    kind: self.warmup,
                    iters: self.warmup_iters,
                    ratio: self.warmup_ratio,
                    by_epoch: self.warmup_by_epoch,
                }
            }
        }
    };
    (momentum $(#[$doc:meta])* $name:ident, by_epoch = $by_epoch:literal { $($fields:tt)* }) => {
        $crate::runner::hooks::schedule::updater::schedule_config! {
            $(#[$doc])* $name, by_epoch = $by_epoch, warmup_ratio = "super::updater::nine_tenths" { $($fields)* }
        }
        impl $name {
            fn warmup(&self) -> $crate::runner::hooks::schedule::Warmup {
                $crate::runner::hooks::schedule::Warmup {
                    kind: self.warmup,
                    iters: self.warmup_iters,
                    ratio: self.warmup_ratio,
                    by_epoch: false,
                }
            }
        }
    };
}
pub(super) use schedule_config;

pub(super) fn yes() -> bool {
    true
}
pub(super) fn no() -> bool {
    false
}
pub(super) fn tenth() -> f64 {
    0.1
}
pub(super) fn nine_tenths() -> f64 {
    0.9
}
pub(super) fn one() -> f64 {
    1.0
}
