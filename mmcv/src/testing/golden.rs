//! Comparing a model with its golden file: keys, outputs, losses and gradients, whatever the task.

use std::path::Path;

use candle_core::Tensor;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Summary, difference};
use crate::nn::{ParamStore, backward};
use crate::runner::Losses;
use crate::{Error, Result};

/// A tensor's gradient below this part of the norm of all gradients is rounding and nothing else.
const ROUNDING: f64 = 3e-6;

/// A gradient's norm and some of its values.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Gradient {
    /// Norm.
    pub norm: f64,
    /// Flat positions of `val`.
    pub pos: Vec<usize>,
    /// Values at `pos`.
    pub val: Vec<f64>,
}

/// What a golden file holds, whatever the task; or ours in its form.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Golden {
    /// The framework (`mmdet`).
    pub package: String,
    /// The config that the model is from.
    pub config: String,
    /// The model's config.
    pub model: Value,
    /// Number of parameters.
    pub params: usize,
    /// Keys and shapes, in order.
    pub state_dict: Vec<(String, Vec<usize>)>,
    /// Shape of the input.
    #[serde(default)]
    pub input: Vec<usize>,
    /// Outputs by name.
    #[serde(default)]
    pub outputs: IndexMap<String, Summary>,
    #[serde(default)]
    losses_eval: IndexMap<String, f64>,
    #[serde(default)]
    losses_train: IndexMap<String, f64>,
    #[serde(default)]
    loss_total_eval: Option<f64>,
    #[serde(default)]
    loss_total_train: Option<f64>,
    #[serde(default)]
    grads_eval: IndexMap<String, Gradient>,
    #[serde(default)]
    grads_train: IndexMap<String, Gradient>,
    #[serde(default)]
    n_grads_eval: usize,
    #[serde(default)]
    n_grads_train: usize,
    #[serde(default)]
    grad_norm_total_eval: Option<f64>,
    #[serde(default)]
    grad_norm_total_train: Option<f64>,
    /// What only this task's goldens have.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Golden {
    /// Reads a file; an error unless it is a golden of `package`.
    pub fn read(file: &Path, package: &str) -> Result<Self> {
        let text = std::fs::read_to_string(file).map_err(|e| Error::io(file, e))?;
        let golden: Self = serde_json::from_str(&text).map_err(|e| Error::data(file, e.to_string()))?;
        if golden.package != package {
            return Err(Error::data(file, format!("is a golden of {}, not of {package}", golden.package)));
        }
        Ok(golden)
    }

    /// Whether it has losses in evaluation (`false`) or training (`true`) mode.
    pub fn has_losses(&self, train: bool) -> bool {
        let losses = if train { &self.losses_train } else { &self.losses_eval };
        !losses.is_empty()
    }
}

/// What a comparison found.
#[derive(Debug)]
pub struct Report {
    /// The greatest relative error of each quantity.
    pub errors: IndexMap<String, f64>,
    /// Our own numbers, in the form of the golden.
    pub ours: Golden,
}

impl Report {
    /// The greatest error of all.
    pub fn worst(&self) -> f64 {
        self.errors.values().copied().fold(0.0, f64::max)
    }

    /// An empty report on `golden`, with our parameters and keys compared.
    pub fn new(golden: &Golden, store: &ParamStore) -> Self {
        let keys = store.entries().into_iter().map(|(name, p)| (name, p.shape().dims().to_vec())).collect();
        let ours = Golden { state_dict: keys, params: store.num_params(), ..golden.clone() };
        let mut errors = IndexMap::new();
        errors.insert("params".into(), different(ours.params != golden.params));
        errors.insert("state_dict".into(), different(ours.state_dict != golden.state_dict));
        Self { errors, ours }
    }

    /// The first keys that differ: ours, theirs.
    pub fn differing_keys<'a>(&'a self, golden: &'a Golden) -> impl Iterator<Item = String> + 'a {
        let pairs = self.ours.state_dict.iter().zip(&golden.state_dict).filter(|(a, b)| a != b).take(3);
        pairs.map(|(ours, theirs)| format!("state_dict: {ours:?} is {theirs:?} there"))
    }

    /// Takes in our outputs. One whose axes of length 1 the original squeezes is compared without them.
    pub fn outputs(&mut self, golden: &Golden, outputs: impl IntoIterator<Item = (String, Tensor)>) -> Result<()> {
        self.ours.outputs.clear();
        for (name, tensor) in outputs {
            let dims = |shape: &[usize]| shape.iter().copied().filter(|n| *n != 1).collect::<Vec<_>>();
            let tensor = match golden.outputs.get(&name) {
                Some(theirs) if dims(&theirs.shape) == dims(tensor.dims()) => {
                    tensor.reshape(theirs.shape.as_slice())?
                }
                _ => tensor,
            };
            self.ours.outputs.insert(name.clone(), Summary::of(&name, &tensor)?);
        }
        for (name, theirs) in &golden.outputs {
            let error = self.ours.outputs.get(name).map_or(f64::INFINITY, |o| o.error(theirs));
            self.errors.insert(name.clone(), error);
        }
        Ok(())
    }

    /// Takes in our losses of one mode, and the gradients that they give.
    pub fn losses(&mut self, golden: &Golden, store: &ParamStore, train: bool, losses: &Losses) -> Result<()> {
        let mode = if train { "train" } else { "eval" };
        let g = golden;
        let (their_losses, their_grads, their_total, their_count, their_norm) = if train {
            (&g.losses_train, &g.grads_train, g.loss_total_train, g.n_grads_train, g.grad_norm_total_train)
        } else {
            (&g.losses_eval, &g.grads_eval, g.loss_total_eval, g.n_grads_eval, g.grad_norm_total_eval)
        };
        let Some(total) = losses.total()? else { return Err(Error::Run("the model gave no loss".into())) };
        let grads = backward(&total)?;
        let values = losses.log_vars(None)?;
        for (name, theirs) in their_losses {
            let error = values.get(name.as_str()).map_or(f64::INFINITY, |o| relative(*o, *theirs));
            self.errors.insert(format!("{name} ({mode})"), error);
        }
        let total = f64::from(total.to_scalar::<f32>()?);
        if let Some(theirs) = their_total {
            self.errors.insert(format!("loss ({mode})"), relative(total, theirs));
        }
        let (mut count, mut square, mut sampled) = (0, 0f64, IndexMap::new());
        for param in store.trainable() {
            let Some(grad) = grads.get(param.var()) else { continue };
            let values: Vec<f32> = grad.flatten_all()?.to_vec1()?;
            let norm2: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
            count += 1;
            square += norm2;
            let Some(theirs) = their_grads.get(param.name()) else { continue };
            let val: Vec<f64> = theirs.pos.iter().map(|&i| values.get(i).map_or(f64::NAN, |v| f64::from(*v))).collect();
            // Single values are measured by the tensor's mean magnitude, its norm by itself; a tensor whose gradient is but
            // rounding (a bias in front of a batch norm) by what would be more than that.
            let norm = theirs.norm.max(ROUNDING * their_norm.unwrap_or(0.0));
            let scale = norm / (values.len().max(1) as f64).sqrt();
            let worst =
                val.iter().zip(&theirs.val).map(|(a, b)| difference(*a, *b) / scale.max(b.abs())).fold(0.0, f64::max);
            self.errors.insert(format!("grad {} ({mode})", param.name()), worst);
            self.errors.insert(
                format!("grad norm {} ({mode})", param.name()),
                difference(norm2.sqrt(), theirs.norm) / norm.max(f64::MIN_POSITIVE),
            );
            sampled.insert(param.name().to_owned(), Gradient { norm: norm2.sqrt(), pos: theirs.pos.clone(), val });
        }
        for name in their_grads.keys().filter(|n| !sampled.contains_key(n.as_str())) {
            self.errors.insert(format!("grad {name} ({mode})"), f64::INFINITY);
        }
        self.errors.insert(format!("number of gradients ({mode})"), different(count != their_count));
        if let Some(theirs) = their_norm {
            self.errors.insert(format!("gradient norm ({mode})"), relative(square.sqrt(), theirs));
        }
        let ours = &mut self.ours;
        if train {
            (ours.losses_train, ours.grads_train, ours.loss_total_train) = (values, sampled, Some(total));
            (ours.n_grads_train, ours.grad_norm_total_train) = (count, Some(square.sqrt()));
        } else {
            (ours.losses_eval, ours.grads_eval, ours.loss_total_eval) = (values, sampled, Some(total));
            (ours.n_grads_eval, ours.grad_norm_total_eval) = (count, Some(square.sqrt()));
        }
        Ok(())
    }
}

/// Infinite when two things that must be equal are not.
pub fn different(yes: bool) -> f64 {
    if yes { f64::INFINITY } else { 0.0 }
}

/// `|ours - theirs|` by the magnitude of `theirs`.
pub fn relative(ours: f64, theirs: f64) -> f64 {
    if ours == theirs { 0.0 } else { difference(ours, theirs) / theirs.abs().max(f64::MIN_POSITIVE) }
}
