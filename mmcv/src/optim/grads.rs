//! The gradients of one step, by parameter name.

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Result, Storage, Tensor};
use indexmap::IndexMap;
use rayon::prelude::*;

use super::kernel::{Kernel, apply, apply_alone};
use crate::nn::ParamStore;

/// Gradients in the order of the model's parameters. It owns its tensors: scaling and clipping work in place.
#[derive(Debug, Default)]
pub struct Grads(IndexMap<String, Tensor>);

impl Grads {
    /// No gradients.
    pub fn new() -> Self {
        Self::default()
    }

    /// The gradients of the trainable parameters. One that took no part in the loss has none, as in PyTorch.
    pub fn from_store(store: &GradStore, params: &ParamStore) -> Result<Self> {
        let mut grads = IndexMap::new();
        for p in params.trainable() {
            if let Some(g) = store.get(p.var()) {
                grads.insert(p.name().to_owned(), g.to_dtype(DType::F32)?.contiguous()?.detach());
            }
        }
        Ok(Self(grads))
    }

    /// Adds or replaces one, by a copy of `grad`.
    pub fn insert(&mut self, name: impl Into<String>, grad: &Tensor) -> Result<()> {
        self.0.insert(name.into(), grad.to_dtype(DType::F32)?.detach().copy()?.contiguous()?);
        Ok(())
    }

    /// The gradient of the parameter `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(n, g)| (n.as_str(), g))
    }

    /// All, to be replaced (an all-reduce over machines, say).
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Tensor)> {
        self.0.iter_mut().map(|(n, g)| (n.as_str(), g))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Multiplies all by `factor`.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        self.0.values().try_for_each(|g| apply_alone(&Scale(factor as f32), g))
    }

    /// Adds `other` to these, for accumulation over iterations.
    pub fn add(&mut self, other: Self) -> Result<()> {
        for (name, grad) in other.0 {
            match self.0.get(&name) {
                Some(sum) => apply(&Add, &[sum], &grad)?,
                None => _ = self.0.insert(name, grad),
            }
        }
        Ok(())
    }

    /// The norm of all gradients as one vector: `norm_type` 2, any other positive order, or infinity. 0 when there are none.
    pub fn norm(&self, norm_type: f64) -> Result<f64> {
        if norm_type.is_infinite() {
            // NaN wins, as in PyTorch's max.
            let larger = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) };
            return self.reduce(f64::abs, larger);
        }
        let sum = if norm_type == 2.0 {
            self.reduce(|v| v * v, |a, b| a + b)
        } else {
            self.reduce(|v| v.abs().powf(norm_type), |a, b| a + b)
        }?;
        Ok(if norm_type == 2.0 { sum.sqrt() } else { sum.powf(1.0 / norm_type) })
    }

    /// Sums in a fixed order, so that the result doesn't depend on the number of threads; several sums side by side
    /// keep the processor's pipeline full.
    fn reduce(&self, term: impl Fn(f64) -> f64 + Sync, join: impl Fn(f64, f64) -> f64 + Sync) -> Result<f64> {
        const LANES: usize = 16;
        let part = |chunk: &[f32]| {
            let mut sums = [0f64; LANES];
            let (whole, rest) = chunk.as_chunks::<LANES>();
            for lanes in whole {
                for i in 0..LANES {
                    sums[i] = join(sums[i], term(f64::from(lanes[i])));
                }
            }
            rest.iter().zip(&mut sums).for_each(|(x, s)| *s = join(*s, term(f64::from(*x))));
            sums.into_iter().fold(0.0, &join)
        };
        self.0.values().try_fold(0.0, |sum, g| {
            let parts: Vec<f64> = elements(g, |v| v.par_chunks(1 << 15).map(part).collect())?;
            Ok(join(sum, parts.into_iter().fold(0.0, &join)))
        })
    }

    /// Scales all so that their norm is at most `max_norm`; gives the norm before that
    /// (`torch.nn.utils.clip_grad_norm_`: the factor is `min(1, max_norm / (norm + 1e-6))`).
    ///
    /// A norm that is not finite makes the gradients NaN or 0, as there; ask [`Grads::first_non_finite`] before.
    pub fn clip_norm(&mut self, max_norm: f64, norm_type: f64) -> Result<f64> {
        let norm = self.norm(norm_type)?;
        let factor = max_norm / (norm + 1e-6);
        if factor < 1.0 || factor.is_nan() {
            self.scale(factor)?;
        }
        Ok(norm)
    }

    /// Limits each element to `[-value, value]` (`torch.nn.utils.clip_grad_value_`).
    pub fn clip_value(&mut self, value: f64) -> Result<()> {
        self.0.values().try_for_each(|g| apply_alone(&Clamp(value as f32), g))
    }

    /// Whether all elements are finite.
    pub fn is_finite(&self) -> Result<bool> {
        Ok(self.first_non_finite()?.is_none())
    }

    /// The first parameter whose gradient has a NaN or an infinity.
    pub fn first_non_finite(&self) -> Result<Option<&str>> {
        for (name, g) in &self.0 {
            if elements(g, |v| v.par_chunks(1 << 15).any(|c| c.iter().any(|x| !x.is_finite())))? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

impl FromIterator<(String, Tensor)> for Grads {
    /// Takes the tensors over: nobody else may hold them.
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

struct Scale(f32);
impl Kernel for Scale {
    #[inline(always)]
    fn run<const FMA: bool>(&self, out: &mut [&mut [f32]], _: &[f32]) {
        out.iter_mut().for_each(|o| o.iter_mut().for_each(|x| *x *= self.0));
    }
}

struct Clamp(f32);
impl Kernel for Clamp {
    #[inline(always)]
    fn run<const FMA: bool>(&self, out: &mut [&mut [f32]], _: &[f32]) {
        let v = self.0;
        // Written so that NaN stays.
        let limit = |x: f32| {
            if x > v {
                v
            } else if x < -v {
                -v
            } else {
                x
            }
        };
        out.iter_mut().for_each(|o| o.iter_mut().for_each(|x| *x = limit(*x)));
    }
}

struct Add;
impl Kernel for Add {
    #[inline(always)]
    fn run<const FMA: bool>(&self, out: &mut [&mut [f32]], grad: &[f32]) {
        out.iter_mut().for_each(|o| o.iter_mut().zip(grad).for_each(|(x, g)| *x += g));
    }
}

fn elements<T>(t: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let t = t.contiguous()?;
    let (storage, layout) = t.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(all)), Some((start, end))) => Ok(f(&all[start..end])),
        _ => candle_core::bail!("gradients must be f32 on the CPU"),
    }
}
