//! The order in which a data set is read.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DistributedGroupSampler, GroupSampler, InfiniteBatchSampler, InfiniteGroupBatchSampler};
use crate::{Error, Result, Rng};

/// A finite order of indices for each epoch.
pub trait Sampler: Send + Sync {
    /// Number of indices of one epoch, padding included.
    fn len(&self) -> usize;

    /// Whether an epoch has no index.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The indices of `epoch`, the same whenever it is asked.
    fn indices(&self, epoch: u64) -> Vec<usize>;

    /// Cuts each epoch into batches of `batch_size`; a shorter last one is kept unless `drop_last`.
    fn batched(self, batch_size: usize, drop_last: bool) -> Box<dyn BatchSampler>
    where
        Self: Sized + 'static,
    {
        Box::new(Batched { sampler: self, batch_size: batch_size.max(1), drop_last })
    }
}

/// The batches of each epoch, as lists of indices.
pub trait BatchSampler: Send + Sync {
    /// Number of batches of an epoch as runners count it. Infinite samplers say the size of the data set, as mmdet's do.
    fn len(&self) -> usize;

    /// Whether an epoch has no batch.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batches of `epoch` in order.
    fn batches(&self, epoch: u64) -> Box<dyn Iterator<Item = Vec<usize>> + Send>;

    /// Whether an epoch never ends.
    fn infinite(&self) -> bool {
        false
    }
}

/// A [`Sampler`] cut into batches.
#[derive(Debug, Clone)]
pub struct Batched<S> {
    /// The order.
    pub sampler: S,
    /// Samples in a batch, at least 1.
    pub batch_size: usize,
    /// Whether a shorter last batch is left out.
    pub drop_last: bool,
}

impl<S: Sampler> BatchSampler for Batched<S> {
    fn len(&self) -> usize {
        if self.drop_last { self.sampler.len() / self.batch_size } else { self.sampler.len().div_ceil(self.batch_size) }
    }

    fn batches(&self, epoch: u64) -> Box<dyn Iterator<Item = Vec<usize>> + Send> {
        let (n, size) = (self.len(), self.batch_size);
        let indices = self.sampler.indices(epoch);
        Box::new((0..n).map(move |i| indices[i * size..((i + 1) * size).min(indices.len())].to_vec()))
    }
}

/// `0..len`, each epoch.
#[derive(Debug, Clone)]
pub struct SequentialSampler {
    /// Size of the data set.
    pub len: usize,
}

impl Sampler for SequentialSampler {
    fn len(&self) -> usize {
        self.len
    }
    fn indices(&self, _: u64) -> Vec<usize> {
        (0..self.len).collect()
    }
}

/// A new order of `0..len` each epoch.
#[derive(Debug, Clone)]
pub struct RandomSampler {
    /// Size of the data set.
    pub len: usize,
    /// The run's seed.
    pub seed: u64,
}

impl Sampler for RandomSampler {
    fn len(&self) -> usize {
        self.len
    }
    fn indices(&self, epoch: u64) -> Vec<usize> {
        stream(self.seed, epoch).permutation(self.len)
    }
}

/// Every `world`-th index from `rank` on, of an order that all ranks share; the order is repeated from its
/// start until it divides evenly.
#[derive(Debug, Clone)]
pub struct DistributedSampler {
    /// Size of the data set.
    pub len: usize,
    /// Number of processes.
    pub world: usize,
    /// This process.
    pub rank: usize,
    /// Whether the order is a new random one each epoch.
    pub shuffle: bool,
    /// The run's seed, the same on all ranks.
    pub seed: u64,
}

impl Sampler for DistributedSampler {
    fn len(&self) -> usize {
        self.len.div_ceil(self.world)
    }
    fn indices(&self, epoch: u64) -> Vec<usize> {
        let order = if self.shuffle { stream(self.seed, epoch).permutation(self.len) } else { (0..self.len).collect() };
        let total = self.len() * self.world;
        order.iter().cycle().take(total).skip(self.rank).step_by(self.world).copied().collect()
    }
}

/// The stream that orders `epoch`: apart from those of the samples, which are keyed by (epoch, position).
pub(super) fn stream(seed: u64, epoch: u64) -> Rng {
    Rng::keyed(seed, &[u64::MAX, epoch])
}

/// What decides the order of a data set, under mmdet's names (`build_dataloader`).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SamplerConfig {
    /// Samples in a batch.
    pub samples_per_gpu: usize,
    /// Whether the order is random; then each batch is of one aspect-ratio group.
    pub shuffle: bool,
    /// Whether the epoch never ends (`IterBasedRunner`).
    pub infinite: bool,
    /// Whether a shorter last batch is left out.
    pub drop_last: bool,
    /// Number of processes.
    pub world: usize,
    /// This process.
    pub rank: usize,
    /// The run's seed.
    pub seed: u64,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self { samples_per_gpu: 1, shuffle: true, infinite: false, drop_last: false, world: 1, rank: 0, seed: 0 }
    }
}

/// The sampler that mmdet's `build_dataloader` picks: groups when shuffled, plain order when not, infinite for
/// iteration-based runners. `flags` holds each sample's group ([`Dataset::flags`](super::Dataset::flags)).
pub fn build_sampler(cfg: &SamplerConfig, flags: Vec<u8>) -> Result<Box<dyn BatchSampler>> {
    let (n, len, seed) = (cfg.samples_per_gpu, flags.len(), cfg.seed);
    let (rank, world) = (cfg.rank, cfg.world);
    if n == 0 || world == 0 || rank >= world {
        return Err(Error::config(format!(
            "sampler: samples_per_gpu {n} and world {world} must be positive, rank {rank} less than world"
        )));
    }
    Ok(match (cfg.infinite, cfg.shuffle, world) {
        (true, true, _) => {
            Box::new(InfiniteGroupBatchSampler { flags, batch_size: n, world, rank, seed, shuffle: true })
        }
        (true, false, _) => Box::new(InfiniteBatchSampler { len, batch_size: n, world, rank, seed, shuffle: false }),
        (false, true, 1) => GroupSampler { flags, samples_per_gpu: n, seed }.batched(n, cfg.drop_last),
        (false, true, _) => {
            DistributedGroupSampler { flags, samples_per_gpu: n, world, rank, seed }.batched(n, cfg.drop_last)
        }
        (false, false, 1) => SequentialSampler { len }.batched(n, cfg.drop_last),
        (false, false, _) => DistributedSampler { len, world, rank, shuffle: false, seed }.batched(n, cfg.drop_last),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_orders_are_permutations_that_change_with_the_epoch() {
        let s = RandomSampler { len: 50, seed: 1 };
        let (a, b) = (s.indices(0), s.indices(1));
        assert_eq!(a, s.indices(0));
        assert_ne!(a, b);
        let mut sorted = b;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }

    // torch: list(DistributedSampler(range(5), num_replicas=2, rank=r, shuffle=False)) is [0, 2, 4] and [1, 3, 0].
    #[test]
    fn ranks_share_the_order_and_repeat_its_start() {
        let of = |rank, shuffle| DistributedSampler { len: 5, world: 2, rank, shuffle, seed: 3 }.indices(0);
        assert_eq!(of(0, false), [0, 2, 4]);
        assert_eq!(of(1, false), [1, 3, 0]);
        let (a, b) = (of(0, true), of(1, true));
        let mut all: Vec<_> = a.iter().chain(&b[..2]).copied().collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4]);
        assert_eq!(b[2], a[0]);
        // Fewer samples than ranks: the order is repeated as often as it takes.
        let few = DistributedSampler { len: 1, world: 4, rank: 3, shuffle: false, seed: 0 };
        assert_eq!(few.indices(0), [0]);
    }

    #[test]
    fn batches_keep_or_drop_the_short_last_one() {
        let batches = |drop| SequentialSampler { len: 5 }.batched(2, drop).batches(0).collect::<Vec<_>>();
        assert_eq!(batches(false), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(batches(true), [vec![0, 1], vec![2, 3]]);
        assert!(SequentialSampler { len: 0 }.batched(2, false).is_empty());
    }

    #[test]
    fn the_choice_follows_shuffle_world_and_kind_of_runner() {
        let flags = vec![0u8, 1, 0, 1, 1];
        let cfg = SamplerConfig { samples_per_gpu: 2, ..Default::default() };
        let len = |cfg: &SamplerConfig| build_sampler(cfg, flags.clone()).unwrap().len();
        assert_eq!(len(&cfg), 3); // 2 of flag 0, 3 of flag 1 padded to 4
        assert_eq!(len(&SamplerConfig { shuffle: false, drop_last: true, ..cfg.clone() }), 2);
        assert_eq!(len(&SamplerConfig { world: 2, ..cfg.clone() }), 2);
        let infinite = build_sampler(&SamplerConfig { infinite: true, ..cfg.clone() }, flags.clone()).unwrap();
        assert!(infinite.infinite() && infinite.len() == 5);
        assert!(build_sampler(&SamplerConfig { rank: 1, ..cfg }, flags).is_err());
    }
}
