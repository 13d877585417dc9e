//! What a runner trains, and on what.

use crate::Result;
use crate::data::{Batch, DataLoader, Dataset};
use crate::nn::Ctx;

use super::Losses;

/// A model that can be trained on batches of type `B`.
pub trait Trainable<B> {
    /// The losses of a batch, as part of the graph.
    fn train_step(&self, batch: &B, ctx: &Ctx) -> candle_core::Result<Losses>;

    /// The losses of a batch of the `val` workflow. It is called in evaluation mode and without a graph.
    fn val_step(&self, batch: &B, ctx: &Ctx) -> candle_core::Result<Losses> {
        self.train_step(batch, ctx)
    }
}

/// Where batches come from, whatever they are made of.
pub trait Batches<B> {
    /// Batches in an epoch.
    fn len(&self) -> usize;

    /// Whether an epoch has no batch.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batches of `epoch` from batch `start` on.
    fn epoch(&self, epoch: u64, start: usize) -> Box<dyn Iterator<Item = Result<Batch<B>>> + '_>;
}

impl<D: Dataset + ?Sized + 'static, B: Send + 'static> Batches<B> for DataLoader<D, B> {
    fn len(&self) -> usize {
        DataLoader::len(self)
    }
    fn epoch(&self, epoch: u64, start: usize) -> Box<dyn Iterator<Item = Result<Batch<B>>> + '_> {
        Box::new(DataLoader::epoch(self, epoch, start))
    }
}
