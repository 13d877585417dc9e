//! What the loader reads from.

use std::sync::Arc;

use crate::{Result, Rng};

/// An indexed collection of samples. Whatever is random about a sample is drawn from the `rng` it is given.
pub trait Dataset: Send + Sync {
    /// One sample.
    type Item: Send;

    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at `index`, read and augmented.
    fn get(&self, index: usize, rng: &mut Rng) -> Result<Self::Item>;

    /// The group whose samples may share a batch: 1 for images wider than high, else 0.
    fn flag(&self, _index: usize) -> u8 {
        0
    }

    /// What messages call the sample: its file as a rule.
    fn name(&self, index: usize) -> String {
        format!("sample {index}")
    }

    /// All flags, in order: what group samplers take.
    fn flags(&self) -> Vec<u8> {
        (0..self.len()).map(|i| self.flag(i)).collect()
    }
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<D: Dataset + ?Sized> Dataset for $pointer<D> {
            type Item = D::Item;
            fn len(&self) -> usize { (**self).len() }
            fn get(&self, index: usize, rng: &mut Rng) -> Result<D::Item> { (**self).get(index, rng) }
            fn flag(&self, index: usize) -> u8 { (**self).flag(index) }
            fn name(&self, index: usize) -> String { (**self).name(index) }
            fn flags(&self) -> Vec<u8> { (**self).flags() }
        }
    )*};
}
forward!(Arc, Box);
