//! Batches without end, for iteration-based runners.

use super::sampler::{BatchSampler, stream};

/// Batches of one group from an endless stream of permutations, cut over ranks. mmdet's `InfiniteGroupBatchSampler`.
#[derive(Debug, Clone)]
pub struct InfiniteGroupBatchSampler {
    /// Group of each sample.
    pub flags: Vec<u8>,
    /// Samples in a batch.
    pub batch_size: usize,
    /// Number of processes.
    pub world: usize,
    /// This process.
    pub rank: usize,
    /// The run's seed, the same on all ranks.
    pub seed: u64,
    /// Whether each pass over the data is in a new random order.
    pub shuffle: bool,
}

impl BatchSampler for InfiniteGroupBatchSampler {
    fn len(&self) -> usize {
        self.flags.len()
    }
    fn infinite(&self) -> bool {
        true
    }
    fn batches(&self, epoch: u64) -> Box<dyn Iterator<Item = Vec<usize>> + Send> {
        let indices = endless(self.flags.len(), self.seed, epoch, self.shuffle, self.rank, self.world);
        Box::new(grouped(indices, self.flags.clone(), self.batch_size))
    }
}

/// Batches from an endless stream of permutations, cut over ranks. mmdet's `InfiniteBatchSampler`.
#[derive(Debug, Clone)]
pub struct InfiniteBatchSampler {
    /// Size of the data set.
    pub len: usize,
    /// Samples in a batch.
    pub batch_size: usize,
    /// Number of processes.
    pub world: usize,
    /// This process.
    pub rank: usize,
    /// The run's seed, the same on all ranks.
    pub seed: u64,
    /// Whether each pass over the data is in a new random order.
    pub shuffle: bool,
}

impl BatchSampler for InfiniteBatchSampler {
    fn len(&self) -> usize {
        self.len
    }
    fn infinite(&self) -> bool {
        true
    }
    fn batches(&self, epoch: u64) -> Box<dyn Iterator<Item = Vec<usize>> + Send> {
        let indices = endless(self.len, self.seed, epoch, self.shuffle, self.rank, self.world);
        Box::new(grouped(indices, vec![0; self.len], self.batch_size))
    }
}

/// Pass after pass over `0..len`, of which this rank has every `world`-th.
fn endless(
    len: usize,
    seed: u64,
    epoch: u64,
    shuffle: bool,
    rank: usize,
    world: usize,
) -> impl Iterator<Item = usize> + Send {
    let mut rng = stream(seed, epoch);
    let passes = if len == 0 { 0 } else { usize::MAX };
    (0..passes)
        .flat_map(move |_| if shuffle { rng.permutation(len) } else { (0..len).collect() })
        .skip(rank)
        .step_by(world.max(1))
}

/// Collects indices by flag and yields a group when it is full.
fn grouped(
    mut indices: impl Iterator<Item = usize> + Send,
    flags: Vec<u8>,
    batch_size: usize,
) -> impl Iterator<Item = Vec<usize>> + Send {
    let mut buffers: Vec<Vec<usize>> = vec![Vec::new(); 256];
    std::iter::from_fn(move || {
        loop {
            let i = indices.next()?;
            let buffer = &mut buffers[usize::from(flags[i])];
            buffer.push(i);
            if buffer.len() >= batch_size {
                return Some(std::mem::take(buffer));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // d.flag = np.array([0, 1, 0, 1, 1])
    // it = iter(InfiniteGroupBatchSampler(d, 2, world_size=1, rank=0, shuffle=False)); [next(it) for _ in range(6)]
    #[test]
    fn groups_fill_across_passes() {
        let s = InfiniteGroupBatchSampler {
            flags: vec![0, 1, 0, 1, 1],
            batch_size: 2,
            world: 1,
            rank: 0,
            seed: 0,
            shuffle: false,
        };
        let got: Vec<_> = s.batches(0).take(6).collect();
        assert_eq!(got, [[0, 2], [1, 3], [4, 1], [0, 2], [3, 4], [0, 2]]);
    }

    // it = iter(InfiniteBatchSampler([1, 2, 3], 2, world_size=2, rank=r, shuffle=False)); [next(it) for _ in range(2)]
    #[test]
    fn ranks_take_turns() {
        let of = |rank| InfiniteBatchSampler { len: 3, batch_size: 2, world: 2, rank, seed: 0, shuffle: false };
        assert_eq!(of(0).batches(0).take(2).collect::<Vec<_>>(), [[0, 2], [1, 0]]);
        assert_eq!(of(1).batches(0).take(2).collect::<Vec<_>>(), [[1, 0], [2, 1]]);
        let none = InfiniteBatchSampler { len: 0, batch_size: 2, world: 1, rank: 0, seed: 0, shuffle: true };
        assert_eq!(none.batches(0).next(), None);
    }
}
