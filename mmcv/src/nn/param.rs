//! One parameter or buffer, and the ordered store of all of a model's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use indexmap::IndexMap;

use crate::config::Node;

use super::ctx::grad_enabled;
use super::init::Init;
use super::tape::{read, recording};
use crate::rng::Rng;

/// What `state_dict` entry a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamKind {
    /// Trained.
    Param,
    /// Kept in the checkpoint, never trained (running statistics, constants).
    Buffer,
}

#[derive(Debug)]
struct Inner {
    name: String,
    layer: &'static str,
    kind: ParamKind,
    var: Var,
    constant: Tensor,
    trainable: AtomicBool,
    version: AtomicU64,
}

/// A named tensor of a model. Cheap to clone; all clones are one tensor.
#[derive(Debug, Clone)]
pub struct Param(Arc<Inner>);

impl Param {
    /// Its `state_dict` key.
    pub fn name(&self) -> &str {
        &self.0.name
    }
    /// The type of the layer that owns it, as `init_cfg`'s `layer` spells it: `Conv2d`, `Linear`, `_BatchNorm`, `GroupNorm`, ...
    pub fn layer(&self) -> &'static str {
        self.0.layer
    }
    /// Parameter or buffer.
    pub fn kind(&self) -> ParamKind {
        self.0.kind
    }
    /// Whether the optimizer may change it and a graph is recorded for it.
    pub fn trainable(&self) -> bool {
        self.0.kind == ParamKind::Param && self.0.trainable.load(Ordering::Relaxed)
    }
    /// PyTorch's `requires_grad_`.
    pub fn set_trainable(&self, trainable: bool) {
        self.0.trainable.store(trainable, Ordering::Relaxed);
    }
    /// The tensor for a forward pass: part of the graph when trainable and gradients are on, else a constant.
    pub fn get(&self) -> Tensor {
        if !(self.trainable() && grad_enabled()) {
            return self.0.constant.clone();
        }
        read(self);
        if recording() {
            return self.0.constant.clone();
        }
        self.0.var.as_tensor().clone()
    }
    /// The value as a constant, always.
    pub fn value(&self) -> &Tensor {
        &self.0.constant
    }
    /// The variable, for `GradStore::get` and optimizers.
    pub fn var(&self) -> &Var {
        &self.0.var
    }
    /// Its shape.
    pub fn shape(&self) -> &Shape {
        self.0.var.shape()
    }
    /// Changes the value in place and with it every clone; caches keyed by [`Param::version`] are stale then.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        if value.shape() != self.shape() {
            bail!("{}: shape {:?} given, {:?} expected", self.name(), value.dims(), self.shape().dims());
        }
        let value = value.to_dtype(self.0.var.dtype())?.to_device(self.0.var.device())?.contiguous()?;
        self.0.var.set(&value)?;
        self.touch();
        Ok(())
    }
    /// Says that the value was changed through [`Param::var`].
    pub fn touch(&self) {
        self.0.version.fetch_add(1, Ordering::Release);
    }
    /// Rises with each change; packed copies of a weight compare it.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }
}

/// All of a model's parameters and buffers in `state_dict` order. Cheap to clone; all clones are one store.
#[derive(Debug, Clone)]
pub struct ParamStore {
    params: Arc<Mutex<IndexMap<String, Param>>>,
    /// `init_cfg`s in the order that modules gave them: parents before children.
    inits: Arc<Mutex<Vec<(String, Node)>>>,
    notes: Arc<Mutex<HashMap<String, f64>>>,
    device: Device,
    seed: u64,
}

impl ParamStore {
    /// An empty store. Initial values are drawn from `seed` and each parameter's name.
    pub fn new(device: &Device, seed: u64) -> Self {
        Self { params: Arc::default(), inits: Arc::default(), notes: Arc::default(), device: device.clone(), seed }
    }

    fn lock(&self) -> MutexGuard<'_, IndexMap<String, Param>> {
        self.params.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The device of every tensor.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The seed that initial values come from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// All parameters and buffers in `state_dict` order, each once.
    pub fn all(&self) -> Vec<Param> {
        self.lock().iter().filter(|(name, p)| p.name() == name.as_str()).map(|(_, p)| p.clone()).collect()
    }

    /// All entries of the `state_dict` in order: a parameter that modules share stands under each of its names.
    pub fn entries(&self) -> Vec<(String, Param)> {
        self.lock().iter().map(|(name, p)| (name.clone(), p.clone())).collect()
    }

    pub(super) fn alias(&self, name: String, param: &Param) {
        self.lock().insert(name, param.clone());
    }

    /// The entry called `name`.
    pub fn get(&self, name: &str) -> Option<Param> {
        self.lock().get(name).cloned()
    }

    /// The parameters that an optimizer may change, in `state_dict` order.
    pub fn trainable(&self) -> Vec<Param> {
        self.all().into_iter().filter(Param::trainable).collect()
    }

    /// Number of elements of all parameters (buffers are not counted, as in PyTorch's `parameters()`).
    pub fn num_params(&self) -> usize {
        self.all().iter().filter(|p| p.kind() == ParamKind::Param).map(|p| p.shape().elem_count()).sum()
    }

    /// The `init_cfg`s that modules asked for, each with the module's path, parents first.
    pub fn inits(&self) -> Vec<(String, Node)> {
        self.inits.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// What a layer noted of itself under this key (`backbone.bn1.eps`): numbers that no checkpoint holds.
    pub fn note(&self, key: &str) -> Option<f64> {
        self.notes.lock().unwrap_or_else(|e| e.into_inner()).get(key).copied()
    }

    pub(super) fn add_note(&self, key: String, value: f64) {
        self.notes.lock().unwrap_or_else(|e| e.into_inner()).insert(key, value);
    }

    pub(super) fn add_init(&self, prefix: &str, init_cfg: &Node) {
        self.inits.lock().unwrap_or_else(|e| e.into_inner()).push((prefix.to_owned(), init_cfg.clone()));
    }

    /// Draws a parameter's initial value again, from its own stream.
    pub fn reset(&self, param: &Param, init: Init) -> Result<()> {
        let mut rng = Rng::named(self.seed, param.name());
        let n = param.shape().elem_count();
        param.set(&Tensor::from_vec(init.draw(n, &mut rng), param.shape().clone(), &self.device)?)
    }

    pub(super) fn add(
        &self,
        name: String,
        shape: Shape,
        init: Init,
        kind: ParamKind,
        layer: &'static str,
    ) -> Result<Param> {
        let mut params = self.lock();
        if let Some(p) = params.get(&name) {
            if *p.shape() != shape {
                bail!("{name}: asked for twice, with shapes {:?} and {:?}", p.shape().dims(), shape.dims());
            }
            return Ok(p.clone());
        }
        // Counters (`num_batches_tracked`) are kept as f32 here and written as i64.
        let values = init.draw(shape.elem_count(), &mut Rng::named(self.seed, &name));
        let var = Var::from_tensor(&Tensor::from_vec(values, shape, &self.device)?.to_dtype(DType::F32)?)?;
        let constant = var.as_detached_tensor();
        let param = Param(Arc::new(Inner {
            name: name.clone(),
            layer,
            kind,
            var,
            constant,
            trainable: AtomicBool::new(kind == ParamKind::Param),
            version: AtomicU64::new(0),
        }));
        params.insert(name, param.clone());
        Ok(param)
    }
}

#[cfg(test)]
mod tests {
    use super::super::VarBuilder;
    use super::*;
    use crate::nn::no_grad;

    #[test]
    fn clones_see_a_new_value_and_no_grad_records_nothing() -> Result<()> {
        let store = ParamStore::new(&Device::Cpu, 0);
        let vb = VarBuilder::new(&store);
        let p = vb.pp("a").param("weight", 2, Init::Const(1.0))?;
        let constant = p.value().clone();
        p.set(&Tensor::new(&[3f32, 4.0], &Device::Cpu)?)?;
        assert_eq!(constant.to_vec1::<f32>()?, [3.0, 4.0]);
        let loss = p.get().sqr()?.sum_all()?;
        assert_eq!(loss.backward()?.get(p.var()).unwrap().to_vec1::<f32>()?, [6.0, 8.0]);
        assert!(!no_grad(|| p.get().sqr()).unwrap().track_op());
        p.set_trainable(false);
        assert!(!p.get().sqr()?.track_op());
        assert_eq!(store.all()[0].name(), "a.weight");
        Ok(())
    }

    #[test]
    fn initial_values_depend_on_seed_and_name_only() -> Result<()> {
        let draw = |first: &str| -> Result<Vec<f32>> {
            let vb = VarBuilder::new(&ParamStore::new(&Device::Cpu, 5));
            vb.param(first, 3, Init::Normal(0.0, 1.0))?;
            vb.param("x", 3, Init::Normal(0.0, 1.0))?.value().to_vec1()
        };
        assert_eq!(draw("a")?, draw("b")?);
        Ok(())
    }
}
