//! From a config to one optimizer, or to several of one model.

use indexmap::IndexMap;

use super::constructor::{Base, OPTIMIZER_BUILDERS, params_under};
use super::grads::Grads;
use super::group::ParamGroup;
use super::optimizer::{OPTIMIZERS, OptimState, Optimizer};
use crate::config::{Node, Value};
use crate::error::{Error, Result, did_you_mean};
use crate::nn::ParamStore;
use crate::registry::{build, build_at};

/// The optimizer of a config's `optimizer`: a dict with `type`, the optimizer's fields and, beside them,
/// `paramwise_cfg` and `constructor`; or a dict of such dicts by the name of a submodule
/// (`generator`, `discriminator`), which makes a [`MultiOptimizer`].
pub fn build_optimizer(cfg: &Node, store: &ParamStore) -> Result<Box<dyn Optimizer>> {
    match cfg.as_dict() {
        Some(d) if !d.contains_key("type") && !d.is_empty() && d.values().all(|v| v.as_dict().is_some()) => {
            let mut members = IndexMap::new();
            for (name, child) in d {
                let one = build_one(child, store, &format!("{name}.")).map_err(|e| e.under(name))?;
                members.insert(name.clone(), one);
            }
            Ok(Box::new(MultiOptimizer { members }))
        }
        _ => build_one(cfg, store, ""),
    }
}

fn build_one(cfg: &Node, store: &ParamStore, prefix: &str) -> Result<Box<dyn Optimizer>> {
    let mut paramwise = match cfg.get("paramwise_cfg") {
        Some(node) if !node.is_null() => node.clone(),
        _ => Node { value: Value::Dict(IndexMap::new()), origin: cfg.origin.clone() },
    };
    if paramwise.as_dict().is_none() {
        return Err(paramwise.error(format!("found {}, expected a dict", paramwise.kind())).under("paramwise_cfg"));
    }
    match cfg.get("constructor") {
        Some(name) if !name.is_null() => paramwise.set("type", name.clone()),
        _ => paramwise.set("type", "DefaultOptimizerConstructor"),
    }
    let number = |key: &str| cfg.get(key).and_then(Node::as_f64);
    let base = Base { lr: number("lr"), weight_decay: number("weight_decay") };
    if params_under(store, prefix).is_empty() {
        let tops: Vec<String> =
            store.all().iter().filter_map(|p| p.name().split_once('.').map(|(top, _)| top.to_owned())).collect();
        let hint = did_you_mean(prefix.trim_end_matches('.'), tops.iter().map(String::as_str));
        return Err(cfg.error(format!("the model has no parameters under '{prefix}'{hint}")));
    }
    let constructor = build_at(&OPTIMIZER_BUILDERS, "paramwise_cfg", &paramwise, ())?;
    let groups = constructor.groups(base, store, prefix).map_err(|e| e.under("paramwise_cfg").at(&paramwise.origin))?;
    build(&OPTIMIZERS, &cfg.without("paramwise_cfg").without("constructor"), groups)
}

/// One optimizer per submodule. A step goes to all of them, each with the gradients of its own parameters;
/// a training step that alternates (a generator and a discriminator) takes them by [`Optimizer::member`].
pub struct MultiOptimizer {
    members: IndexMap<String, Box<dyn Optimizer>>,
}

impl MultiOptimizer {
    /// The names, in the config's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }
}

impl Optimizer for MultiOptimizer {
    fn step(&mut self, grads: &Grads) -> Result<()> {
        self.members.values_mut().try_for_each(|m| m.step(grads))
    }

    fn groups(&self) -> Vec<&ParamGroup> {
        self.members.values().flat_map(|m| m.groups()).collect()
    }

    fn groups_mut(&mut self) -> Vec<&mut ParamGroup> {
        self.members.values_mut().flat_map(|m| m.groups_mut()).collect()
    }

    fn state(&self) -> OptimState {
        let mut all = OptimState::default();
        for member in self.members.values() {
            let state = member.state();
            all.groups.extend(state.groups);
            all.steps.extend(state.steps);
            all.tensors.extend(state.tensors);
        }
        all
    }

    fn load_state(&mut self, state: &OptimState) -> Result<()> {
        let own: usize = self.members.values().map(|m| m.groups().len()).sum();
        if own != state.groups.len() {
            return Err(Error::Run(format!(
                "optimizer state: {} parameter groups in the checkpoint, {own} here",
                state.groups.len()
            )));
        }
        let mut from = 0;
        for (name, member) in &mut self.members {
            let count = member.groups().len();
            let prefix = format!("{name}.");
            let steps = state.steps.iter().filter(|(p, _)| p.starts_with(&prefix));
            let part = OptimState {
                groups: state.groups[from..from + count].to_vec(),
                steps: steps.map(|(p, s)| (p.clone(), *s)).collect(),
                tensors: state.tensors.clone(),
            };
            member.load_state(&part)?;
            from += count;
        }
        Ok(())
    }

    fn member(&mut self, name: &str) -> Option<&mut dyn Optimizer> {
        Some(self.members.get_mut(name)?.as_mut())
    }
}
