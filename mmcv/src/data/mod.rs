//! Data sets, samplers and the loader.
//!
//! The order of an epoch and every random number of a sample come from `(seed, epoch, position)` alone
//! ([`Rng::keyed`](crate::Rng::keyed)), so that the number of threads changes nothing and a run that is
//! resumed in the middle of an epoch reads what an unbroken one would have read.
//!
//! ```
//! use std::sync::Arc;
//! use mmcv::data::{DataLoader, Dataset, LoaderOptions, RandomSampler, Sampler};
//!
//! struct Squares;
//! impl Dataset for Squares {
//!     type Item = usize;
//!     fn len(&self) -> usize { 10 }
//!     fn get(&self, index: usize, _: &mut mmcv::Rng) -> mmcv::Result<usize> { Ok(index * index) }
//! }
//!
//! let sampler = RandomSampler { len: 10, seed: 0 }.batched(4, false);
//! let options = LoaderOptions { workers: 2, seed: 0, ..LoaderOptions::default() };
//! let loader = DataLoader::new(Arc::new(Squares), sampler, |items: Vec<usize>| Ok(items), options);
//! let batches: Vec<_> = loader.epoch(0, 0).map(|b| b.unwrap().data).collect();
//! assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
//! let resumed: Vec<_> = loader.epoch(0, 1).map(|b| b.unwrap().data).collect();
//! assert_eq!(resumed, batches[1..]);
//! ```

mod class_aware_sampler;
mod class_lists;
mod config;
mod dataset;
mod group_sampler;
mod infinite_sampler;
mod loader;
mod sampler;

pub use class_aware_sampler::ClassAwareSampler;
pub use class_lists::VOC_CLASSES;
pub use config::{ClassAwareConfig, DataLoaderConfig, LoaderConfig, OnErrorConfig, Split};
pub use dataset::Dataset;
pub use group_sampler::{DistributedGroupSampler, GroupSampler};
pub use infinite_sampler::{InfiniteBatchSampler, InfiniteGroupBatchSampler};
pub use loader::{Batch, DataLoader, Epoch, LoaderOptions, OnError};
pub use sampler::{
    BatchSampler, Batched, DistributedSampler, RandomSampler, Sampler, SamplerConfig, SequentialSampler, build_sampler,
};
