//! What an optimizer is, and the bookkeeping that all of them share.

use candle_core::{DType, Tensor};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::grads::Grads;
use super::group::{GroupState, ParamGroup, ParamSpec};
use super::kernel::{Kernel, apply};
use crate::error::{Error, Result, did_you_mean};
use crate::nn::Param;
use crate::registry::registry;

registry!(
    /// Optimizers: `type = "SGD"` and its like. What is built gets the parameters, grouped by a constructor.
    pub OPTIMIZERS: dyn Optimizer, Vec<ParamSpec>
);

/// Changes parameters by their gradients.
pub trait Optimizer: Send {
    /// One step. Parameters without a gradient stay as they are, as in PyTorch.
    fn step(&mut self, grads: &Grads) -> Result<()>;

    /// `optimizer.param_groups`.
    fn groups(&self) -> Vec<&ParamGroup>;

    /// The same, to be changed by schedules.
    fn groups_mut(&mut self) -> Vec<&mut ParamGroup>;

    /// Everything a resumed run needs. The tensors are the optimizer's own (no copy): the next step changes them.
    fn state(&self) -> OptimState;

    /// Takes over a state by copying it.
    fn load_state(&mut self, state: &OptimState) -> Result<()>;

    /// One of several optimizers by its name (a config with one optimizer per submodule), else `None`.
    fn member(&mut self, name: &str) -> Option<&mut dyn Optimizer> {
        let _ = name;
        None
    }

    /// The learning rate of the first group, for logs.
    fn lr(&self) -> f64 {
        self.groups().first().map_or(0.0, |g| g.lr)
    }
}

/// An optimizer's state as named tensors and counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct OptimState {
    /// Hyperparameters of the groups.
    pub groups: Vec<GroupState>,
    /// Steps done for each parameter.
    pub steps: IndexMap<String, u64>,
    /// `{slot}/{parameter}` (`momentum_buffer/backbone.conv1.weight`) to its tensor. A checkpoint
    /// keeps them with its other tensors, and the rest as JSON.
    #[serde(skip)]
    pub tensors: IndexMap<String, Tensor>,
}

/// Groups and per-parameter tensors; the part that every optimizer here is built on.
#[derive(Debug)]
pub(super) struct Slots {
    pub groups: Vec<ParamGroup>,
    /// Names of the tensors, in the kernel's order, and the value they start from.
    names: Vec<(&'static str, f64)>,
    of: IndexMap<String, Slot>,
}

#[derive(Debug)]
struct Slot {
    steps: u64,
    tensors: Vec<Tensor>,
}

/// What a group starts from, where its spec says nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    pub lr: f64,
    pub weight_decay: f64,
    pub momentum: Option<f64>,
    pub betas: Option<[f64; 2]>,
}

impl Slots {
    pub fn new(specs: Vec<ParamSpec>, defaults: Defaults, names: Vec<(&'static str, f64)>) -> Result<Self> {
        non_negative(&[("lr", defaults.lr), ("weight_decay", defaults.weight_decay)])?;
        if let Some(m) = defaults.momentum {
            non_negative(&[("momentum", m)])?;
        }
        if let Some(bad) = defaults.betas.into_iter().flatten().find(|b| !(0.0..1.0).contains(b)) {
            return Err(Error::config(format!("betas must be in [0, 1), found {bad}")));
        }
        let groups: Vec<ParamGroup> = specs
            .into_iter()
            .map(|s| {
                let lr = s.lr.unwrap_or(defaults.lr);
                ParamGroup {
                    params: s.params,
                    lr,
                    initial_lr: lr,
                    weight_decay: s.weight_decay.unwrap_or(defaults.weight_decay),
                    momentum: defaults.momentum,
                    betas: defaults.betas,
                }
            })
            .collect();
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = groups.iter().flat_map(|g| &g.params).find(|p| !seen.insert(p.name().to_owned())) {
            return Err(Error::config(format!("{} appears in more than one parameter group", twice.name())));
        }
        Ok(Self { groups, names, of: IndexMap::new() })
    }

    /// Makes the tensors of every parameter now rather than at its first step.
    pub fn fill(&mut self) -> Result<()> {
        let params: Vec<Param> = self.groups.iter().flat_map(|g| g.params.iter().cloned()).collect();
        params.iter().try_for_each(|p| slot(&mut self.of, &self.names, p).map(|_| ()))
    }

    /// Runs over every parameter with a gradient: `kernel` gets its group and its step, counted from 1.
    /// The slices are the parameter, then its tensors.
    pub fn step<K: Kernel>(&mut self, grads: &Grads, kernel: impl Fn(&ParamGroup, u64) -> K) -> Result<()> {
        for group in &self.groups {
            for param in group.params.iter().filter(|p| p.trainable()) {
                let Some(grad) = grads.get(param.name()) else { continue };
                if grad.shape() != param.shape() {
                    return Err(Error::Run(format!(
                        "{}: a gradient of shape {:?} for a parameter of shape {:?}",
                        param.name(),
                        grad.dims(),
                        param.shape().dims()
                    )));
                }
                let slot = slot(&mut self.of, &self.names, param)?;
                slot.steps += 1;
                let tensors: Vec<&Tensor> = std::iter::once(param.value()).chain(&slot.tensors).collect();
                apply(&kernel(group, slot.steps), &tensors, grad)?;
                param.touch();
            }
        }
        Ok(())
    }

    pub fn state(&self) -> OptimState {
        let mut state =
            OptimState { groups: self.groups.iter().map(ParamGroup::state).collect(), ..OptimState::default() };
        for (param, slot) in &self.of {
            state.steps.insert(param.clone(), slot.steps);
            for ((name, _), tensor) in self.names.iter().zip(&slot.tensors) {
                state.tensors.insert(format!("{name}/{param}"), tensor.clone());
            }
        }
        state
    }

    pub fn load_state(&mut self, state: &OptimState) -> Result<()> {
        if state.groups.len() != self.groups.len() {
            return Err(Error::Run(format!(
                "optimizer state: {} parameter groups in the checkpoint, {} here",
                state.groups.len(),
                self.groups.len()
            )));
        }
        let params: IndexMap<String, Param> =
            self.groups.iter().flat_map(|g| &g.params).map(|p| (p.name().to_owned(), p.clone())).collect();
        let mut of = IndexMap::new();
        for (name, steps) in &state.steps {
            let Some(param) = params.get(name) else {
                let hint = did_you_mean(name, params.keys().map(String::as_str));
                return Err(Error::Run(format!("optimizer state: no parameter '{name}' here{hint}")));
            };
            let tensors = self.names.iter().map(|(slot, _)| {
                let key = format!("{slot}/{name}");
                let tensor = state.tensors.get(&key).ok_or_else(|| {
                    Error::Run(format!("optimizer state: '{key}' is missing (was it another optimizer?)"))
                })?;
                if tensor.shape() != param.shape() {
                    return Err(Error::Run(format!(
                        "optimizer state: '{key}' has shape {:?}, {:?} expected",
                        tensor.dims(),
                        param.shape().dims()
                    )));
                }
                Ok(tensor.to_dtype(DType::F32)?.to_device(param.value().device())?.contiguous()?.copy()?)
            });
            of.insert(name.clone(), Slot { steps: *steps, tensors: tensors.collect::<Result<_>>()? });
        }
        for (group, from) in self.groups.iter_mut().zip(&state.groups) {
            group.load(from)?;
        }
        self.of = of;
        Ok(())
    }
}

fn slot<'s>(of: &'s mut IndexMap<String, Slot>, names: &[(&'static str, f64)], param: &Param) -> Result<&'s mut Slot> {
    if !of.contains_key(param.name()) {
        let start =
            |(_, value): &(_, f64)| Tensor::full(*value as f32, param.shape(), param.value().device())?.contiguous();
        let tensors = names.iter().map(start).collect::<candle_core::Result<_>>()?;
        of.insert(param.name().to_owned(), Slot { steps: 0, tensors });
    }
    Ok(&mut of[param.name()])
}

/// Fails on a negative or NaN setting, with its name.
pub(super) fn non_negative(settings: &[(&str, f64)]) -> Result<()> {
    match settings.iter().find(|(_, v)| v.is_nan() || *v < 0.0) {
        Some((name, v)) => Err(Error::config(format!("{name} must not be negative, found {v}")).under(name)),
        None => Ok(()),
    }
}

/// Writes the four methods that [`Slots`] answers for an optimizer with a field `slots`.
macro_rules! by_slots {
    () => {
        fn groups(&self) -> Vec<&ParamGroup> {
            self.slots.groups.iter().collect()
        }
        fn groups_mut(&mut self) -> Vec<&mut ParamGroup> {
            self.slots.groups.iter_mut().collect()
        }
        fn state(&self) -> OptimState {
            self.slots.state()
        }
        fn load_state(&mut self, state: &OptimState) -> Result<()> {
            self.slots.load_state(state)
        }
    };
}
pub(super) use by_slots;
