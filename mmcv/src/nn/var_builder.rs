//! The path of a component's parameters, spelt as the checkpoint spells it.

use candle_core::{Device, Result, Shape};

use super::init::Init;
use super::param::{Param, ParamKind, ParamStore};
use crate::config::Node;

/// A place in the `state_dict`: `vb.pp("lateral_convs").pp(0).pp("conv").param("weight", ...)`.
///
/// It makes parameters (or hands out the one that is there already, when two modules share it).
#[derive(Debug, Clone)]
pub struct VarBuilder {
    store: ParamStore,
    path: String,
    layer: &'static str,
}

impl VarBuilder {
    /// The root of `store`.
    pub fn new(store: &ParamStore) -> Self {
        Self { store: store.clone(), path: String::new(), layer: "" }
    }

    /// The root of a fresh CPU store with seed 0, for tests.
    pub fn scratch() -> Self {
        Self::new(&ParamStore::new(&Device::Cpu, 0))
    }

    /// The child `part`.
    #[must_use]
    pub fn pp(&self, part: impl std::fmt::Display) -> Self {
        let path = if self.path.is_empty() { part.to_string() } else { format!("{}.{part}", self.path) };
        Self { path, ..self.clone() }
    }

    /// The same place, for a layer of type `layer` (`Conv2d`, `Linear`, `_BatchNorm`, ...: what `init_cfg`'s `layer` may name).
    #[must_use]
    pub fn layer(&self, layer: &'static str) -> Self {
        Self { layer, ..self.clone() }
    }

    /// The parameter `name` here.
    pub fn param(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Param> {
        self.store.add(self.key(name), shape.into(), init, ParamKind::Param, self.layer)
    }

    /// The buffer `name` here.
    pub fn buffer(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Param> {
        self.store.add(self.key(name), shape.into(), init, ParamKind::Buffer, self.layer)
    }

    /// Enters a parameter of another module as `name` here too, as the `state_dict` of a model with shared layers does.
    pub fn alias(&self, name: &str, param: &Param) {
        self.store.alias(self.key(name), param);
    }

    /// Asks for `init_cfg` to be applied to this place by [`super::init_weights`]. Call it before making the children,
    /// whose own wishes then come later and win, as in mmcv.
    pub fn init_cfg(&self, init_cfg: &Node) {
        self.store.add_init(&self.path, init_cfg);
    }

    /// Notes a number of this layer that no checkpoint holds (a norm's `eps`), for those who see the store alone
    /// ([`ParamStore::note`]).
    pub fn note(&self, name: &str, value: f64) {
        self.store.add_note(self.key(name), value);
    }

    /// Takes the parameters of the child `part` out of training.
    pub fn freeze(&self, part: &str) {
        let below = format!("{}.", self.key(part));
        for param in self.store.all().iter().filter(|p| p.name().starts_with(&below)) {
            param.set_trainable(false);
        }
    }

    /// The full key of `name` here.
    pub fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The dotted path of this place.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The store underneath.
    pub fn store(&self) -> &ParamStore {
        &self.store
    }

    /// The device of every tensor.
    pub fn device(&self) -> &Device {
        self.store.device()
    }
}
