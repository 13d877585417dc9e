//! Batches whose images have one orientation, so that little is padded.

use super::sampler::{Sampler, stream};

/// Each group in random order, filled up to a multiple of `samples_per_gpu` with random members of the group;
/// then the batches are shuffled. mmdet's `GroupSampler`.
#[derive(Debug, Clone)]
pub struct GroupSampler {
    /// Group of each sample.
    pub flags: Vec<u8>,
    /// Samples in a batch.
    pub samples_per_gpu: usize,
    /// The run's seed.
    pub seed: u64,
}

impl Sampler for GroupSampler {
    fn len(&self) -> usize {
        let n = self.samples_per_gpu;
        groups(&self.flags).iter().map(|g| g.len().div_ceil(n) * n).sum()
    }

    fn indices(&self, epoch: u64) -> Vec<usize> {
        let n = self.samples_per_gpu;
        let mut rng = stream(self.seed, epoch);
        let mut indices = Vec::with_capacity(self.flags.len() + n);
        for mut group in groups(&self.flags).into_iter().filter(|g| !g.is_empty()) {
            rng.shuffle(&mut group);
            let size = group.len();
            for _ in size..size.div_ceil(n) * n {
                group.push(group[rng.below(size)]);
            }
            indices.extend(group);
        }
        let order = rng.permutation(indices.len() / n);
        order.into_iter().flat_map(|b| indices[b * n..(b + 1) * n].to_vec()).collect()
    }
}

/// [`GroupSampler`] over several processes: each group is repeated from its start to a multiple of
/// `samples_per_gpu * world`, the batches are shuffled and each rank takes a run of them. mmdet's `DistributedGroupSampler`.
#[derive(Debug, Clone)]
pub struct DistributedGroupSampler {
    /// Group of each sample.
    pub flags: Vec<u8>,
    /// Samples in a batch of one process.
    pub samples_per_gpu: usize,
    /// Number of processes.
    pub world: usize,
    /// This process.
    pub rank: usize,
    /// The run's seed, the same on all ranks.
    pub seed: u64,
}

impl Sampler for DistributedGroupSampler {
    fn len(&self) -> usize {
        let n = self.samples_per_gpu;
        groups(&self.flags).iter().map(|g| g.len().div_ceil(n * self.world) * n).sum()
    }

    fn indices(&self, epoch: u64) -> Vec<usize> {
        let n = self.samples_per_gpu;
        let mut rng = stream(self.seed, epoch);
        let mut indices = Vec::new();
        for mut group in groups(&self.flags).into_iter().filter(|g| !g.is_empty()) {
            rng.shuffle(&mut group);
            let total = group.len().div_ceil(n * self.world) * n * self.world;
            indices.extend(group.iter().cycle().take(total));
        }
        let order = rng.permutation(indices.len() / n);
        let own = self.len();
        let mine = order.into_iter().flat_map(|b| indices[b * n..(b + 1) * n].to_vec());
        mine.skip(own * self.rank).take(own).collect()
    }
}

/// The indices of each flag, by flag.
fn groups(flags: &[u8]) -> Vec<Vec<usize>> {
    let mut groups = vec![Vec::new(); flags.iter().max().map_or(0, |m| usize::from(*m) + 1)];
    for (i, flag) in flags.iter().enumerate() {
        groups[usize::from(*flag)].push(i);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: [u8; 11] = [1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0];

    fn one_group_a_batch(indices: &[usize], n: usize) {
        for batch in indices.chunks(n) {
            assert!(batch.iter().all(|i| FLAGS[*i] == FLAGS[batch[0]]), "{batch:?}");
        }
    }

    #[test]
    fn every_sample_is_seen_and_batches_are_of_one_group() {
        let s = GroupSampler { flags: FLAGS.to_vec(), samples_per_gpu: 3, seed: 0 };
        for epoch in 0..20 {
            let indices = s.indices(epoch);
            // mmdet: len(GroupSampler(flag with 4 zeros and 7 ones, 3)) == 6 + 9
            assert_eq!((indices.len(), s.len()), (15, 15));
            one_group_a_batch(&indices, 3);
            assert!((0..11).all(|i| indices.contains(&i)));
        }
        assert_ne!(s.indices(0), s.indices(1));
        assert_eq!(GroupSampler { flags: vec![], samples_per_gpu: 2, seed: 0 }.indices(0), [] as [usize; 0]);
    }

    #[test]
    fn ranks_share_all_samples_and_have_equal_work() {
        let of = |rank| DistributedGroupSampler { flags: FLAGS.to_vec(), samples_per_gpu: 2, world: 3, rank, seed: 5 };
        let all: Vec<Vec<usize>> = (0..3).map(|r| of(r).indices(4)).collect();
        for mine in &all {
            // mmdet: ceil(4 / 2 / 3) * 2 + ceil(7 / 2 / 3) * 2 == 2 + 4
            assert_eq!((mine.len(), of(0).len()), (6, 6));
            one_group_a_batch(mine, 2);
        }
        assert!((0..11).all(|i| all.iter().flatten().any(|j| *j == i)));
    }

    #[test]
    fn a_group_smaller_than_the_padding_is_repeated() {
        let s = DistributedGroupSampler { flags: vec![0], samples_per_gpu: 2, world: 2, rank: 1, seed: 0 };
        assert_eq!(s.indices(0), [0, 0]);
    }
}
