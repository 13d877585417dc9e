//! Classes in turn, so that rare ones are seen as often as common ones.

use super::sampler::{Sampler, stream};
use crate::Rng;

/// Goes through the classes in random order, again and again, and takes `num_sample_class` images of each from
/// a random order of that class's own. mmdet's `ClassAwareSampler`.
#[derive(Debug, Clone)]
pub struct ClassAwareSampler {
    /// The images that hold each class; classes without one are left out.
    pub images_of_class: Vec<Vec<usize>>,
    /// Size of the data set.
    pub len: usize,
    /// Samples in a batch.
    pub samples_per_gpu: usize,
    /// Images taken of a class at its turn.
    pub num_sample_class: usize,
    /// Number of processes.
    pub world: usize,
    /// This process.
    pub rank: usize,
    /// The run's seed, the same on all ranks.
    pub seed: u64,
}

impl Sampler for ClassAwareSampler {
    fn len(&self) -> usize {
        if self.images_of_class.iter().all(Vec::is_empty) {
            return 0;
        }
        self.len.div_ceil(self.world * self.samples_per_gpu) * self.samples_per_gpu
    }

    fn indices(&self, epoch: u64) -> Vec<usize> {
        let own = Sampler::len(self);
        let total = own * self.world;
        let mut rng = stream(self.seed, epoch);
        let valid: Vec<&Vec<usize>> = self.images_of_class.iter().filter(|c| !c.is_empty()).collect();
        let mut classes = Cycle::new(valid.len(), &mut rng);
        let mut images: Vec<Cycle> = valid.iter().map(|c| Cycle::new(c.len(), &mut rng)).collect();
        let mut indices = Vec::with_capacity(total);
        while indices.len() < total {
            let class = classes.next(&mut rng);
            for _ in 0..self.num_sample_class.max(1) {
                indices.push(valid[class][images[class].next(&mut rng)]);
            }
        }
        indices.truncate(total);
        indices[own * self.rank..own * (self.rank + 1)].to_vec()
    }
}

/// A random order that is drawn anew when it is used up.
struct Cycle {
    order: Vec<usize>,
    at: usize,
}

impl Cycle {
    fn new(len: usize, rng: &mut Rng) -> Self {
        Self { order: rng.permutation(len), at: 0 }
    }
    fn next(&mut self, rng: &mut Rng) -> usize {
        if self.at == self.order.len() {
            *self = Self::new(self.order.len(), rng);
        }
        self.at += 1;
        self.order[self.at - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_equally_often() {
        let s = ClassAwareSampler {
            images_of_class: vec![(0..9).collect(), vec![], vec![9]],
            len: 10,
            samples_per_gpu: 4,
            num_sample_class: 1,
            world: 1,
            rank: 0,
            seed: 0,
        };
        let indices = s.indices(0);
        assert_eq!(indices.len(), 12);
        assert_eq!(indices.iter().filter(|i| **i == 9).count(), 6);
        let ranks: Vec<_> =
            (0..2).flat_map(|rank| ClassAwareSampler { rank, world: 2, ..s.clone() }.indices(0)).collect();
        assert_eq!(ranks.len(), 16);
    }
}
