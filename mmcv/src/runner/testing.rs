//! A model small enough to follow, for the runner's tests: `y = a x + b` and its squared error.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::{Losses, Trainable};
use crate::data::{DataLoader, Dataset, LoaderOptions, RandomSampler, Sampler};
use crate::nn::{Ctx, Init, Param, ParamStore, VarBuilder};
use crate::{Result, Rng};

pub(crate) struct Line {
    pub store: ParamStore,
    a: Param,
    b: Param,
}

impl Line {
    pub fn new() -> Self {
        let store = ParamStore::new(&Device::Cpu, 0);
        let vb = VarBuilder::new(&store).pp("line");
        let a = vb.param("a", 1, Init::Const(1.0)).unwrap();
        let b = vb.param("b", 1, Init::Const(1.0)).unwrap();
        Self { store, a, b }
    }
    pub fn params(&self) -> [&Param; 2] {
        [&self.a, &self.b]
    }
    pub fn loader(&self, batches: usize) -> DataLoader<Points, Tensor> {
        loader(batches, 0)
    }
    pub fn bits(&self) -> Vec<u32> {
        let all = self.store.all();
        all.iter().flat_map(|p| p.value().flatten_all().unwrap().to_vec1::<f32>().unwrap()).map(f32::to_bits).collect()
    }
}

/// Two samples a batch.
pub(crate) fn loader(batches: usize, seed: u64) -> DataLoader<Points, Tensor> {
    let sampler = RandomSampler { len: 2 * batches, seed }.batched(2, false);
    let collate = |rows: Vec<[f32; 2]>| Ok(Tensor::from_vec(rows.concat(), (rows.len(), 2), &Device::Cpu)?);
    let options = LoaderOptions { workers: 2, seed, ..LoaderOptions::default() };
    DataLoader::new(Arc::new(Points(2 * batches)), sampler, collate, options)
}

/// Points of a line, with noise.
pub(crate) struct Points(usize);

impl Dataset for Points {
    type Item = [f32; 2];
    fn len(&self) -> usize {
        self.0
    }
    fn get(&self, index: usize, rng: &mut Rng) -> Result<[f32; 2]> {
        let x = index as f64 / self.0 as f64;
        Ok([x as f32, (3.0 * x - 0.5 + 0.1 * rng.normal()) as f32])
    }
    fn name(&self, index: usize) -> String {
        format!("{index}.jpg")
    }
}

impl Trainable<Tensor> for Line {
    fn train_step(&self, batch: &Tensor, ctx: &Ctx) -> candle_core::Result<Losses> {
        let (x, y) = (batch.narrow(1, 0, 1)?, batch.narrow(1, 1, 1)?);
        let mut d = (x.broadcast_mul(&self.a.get())?.broadcast_add(&self.b.get())? - y)?;
        if ctx.train {
            // Something random in the step: a resumed run has to draw the same.
            d = (d + 0.01 * ctx.rng(|r| r.normal()))?;
        }
        let mut losses = Losses::new();
        losses.push("loss_fit", &d.sqr()?)?;
        losses.push("abs", &d.abs()?)?;
        Ok(losses)
    }
}

pub(crate) fn run_dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}
