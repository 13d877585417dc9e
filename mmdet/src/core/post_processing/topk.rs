//! The best scores.
//!
//! Equal scores keep the order of the input. torch's `sort` and `topk` leave theirs in no particular order (on a CPU from
//! 17 values on, on a GPU always), so a result of mmdet's can differ from one machine to the next where scores tie.

use rayon::prelude::*;

/// Scores that passed, best first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopK {
    /// The scores.
    pub scores: Vec<f32>,
    /// Their column: the class.
    pub labels: Vec<i64>,
    /// Their row: the prior.
    pub indices: Vec<usize>,
}

/// Below this many scores a second thread costs more than it saves.
const GRAIN: usize = 1 << 16;

/// A key that sorts larger scores first and, of equal ones, the first in the input.
fn key(score: f32, place: usize) -> u64 {
    // +0.0 for -0.0, which is equal to it.
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(!ascending) << 32 | place as u64
}

/// Scores above `score_thr`, at most `topk` of them; mmdet's `filter_scores_and_topk`. `scores` is row-major
/// `[n, num_classes]`, without a background column.
pub fn filter_scores_and_topk(scores: &[f32], num_classes: usize, score_thr: f64, topk: usize) -> TopK {
    let thr = score_thr as f32;
    let above = |(start, part): (usize, &[f32])| {
        part.iter()
            .enumerate()
            .filter(|(_, s)| **s > thr)
            .map(|(i, s)| key(*s, start * GRAIN + i))
            .collect::<Vec<u64>>()
    };
    let mut keys: Vec<u64> = if scores.len() > GRAIN {
        scores.par_chunks(GRAIN).enumerate().flat_map_iter(above).collect()
    } else {
        above((0, scores))
    };
    if topk < keys.len() {
        if topk > 0 {
            keys.select_nth_unstable(topk - 1);
        }
        keys.truncate(topk);
    }
    keys.sort_unstable();
    let places: Vec<usize> = keys.into_iter().map(|k| (k & 0xffff_ffff) as usize).collect();
    TopK {
        scores: places.iter().map(|p| scores[*p]).collect(),
        labels: places.iter().map(|p| (p % num_classes) as i64).collect(),
        indices: places.iter().map(|p| p / num_classes).collect(),
    }
}

/// The places of the `k` smallest values, smallest first.
pub(crate) fn smallest(values: &[f32], k: usize) -> Vec<usize> {
    let mut keys: Vec<u64> = values.iter().enumerate().map(|(i, v)| key(-*v, i)).collect();
    if k < keys.len() {
        if k > 0 {
            keys.select_nth_unstable(k - 1);
        }
        keys.truncate(k);
    }
    keys.sort_unstable();
    keys.into_iter().map(|k| (k & 0xffff_ffff) as usize).collect()
}

/// The places of `scores`, best first; those that are not numbers are first of all, as in torch.
pub fn sort_descending(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let key = |i: usize| if scores[i].is_nan() { f32::INFINITY } else { scores[i] + 0.0 };
    order.sort_by(|a, b| (scores[*b].is_nan(), key(*b)).partial_cmp(&(scores[*a].is_nan(), key(*a))).expect("no NaN"));
    order
}

/// Places of the `k` largest values in no particular order; of equal ones at the edge those that torch's `topk` keeps on a
/// CPU for `k` up to a 64th of the values: what is left of a heap of the first `k` after the others went through it.
pub(crate) fn largest(values: &[f32], k: usize) -> Vec<usize> {
    let n = k.min(values.len());
    let mut heap: Vec<usize> = (0..n).collect();
    if n == 0 {
        return heap;
    }
    // The least of the heap is on its top.
    let above = |a: usize, b: usize| values[a] > values[b];
    let sift = |heap: &mut [usize], mut hole: usize, value: usize| {
        let (top, len) = (hole, heap.len());
        let mut child = hole;
        while child < (len - 1) / 2 {
            child = 2 * (child + 1);
            if above(heap[child], heap[child - 1]) {
                child -= 1;
            }
            heap[hole] = heap[child];
            hole = child;
        }
        if len % 2 == 0 && child == (len - 2) / 2 {
            child = 2 * (child + 1);
            heap[hole] = heap[child - 1];
            hole = child - 1;
        }
        while hole > top && above(heap[(hole - 1) / 2], value) {
            heap[hole] = heap[(hole - 1) / 2];
            hole = (hole - 1) / 2;
        }
        heap[hole] = value;
    };
    for parent in (0..n / 2).rev() {
        let value = heap[parent];
        sift(&mut heap, parent, value);
    }
    for i in n..values.len() {
        if above(i, heap[0]) {
            sift(&mut heap, 0, i);
        }
    }
    heap
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // s = torch.tensor([[.5, .1], [.9, .5], [.05, .5]])
    // filter_scores_and_topk(s, 0.1, 10): [.9, .5, .5, .5], labels [0, 0, 1, 1], anchors [1, 0, 1, 2]; with topk 3 the last is gone
    #[test]
    fn order_ties_and_thresholds_are_mmdets() {
        let s = [0.5, 0.1, 0.9, 0.5, 0.05, 0.5];
        let r = filter_scores_and_topk(&s, 2, 0.1, 10);
        assert_eq!(r, TopK { scores: vec![0.9, 0.5, 0.5, 0.5], labels: vec![0, 0, 1, 1], indices: vec![1, 0, 1, 2] });
        assert_eq!(filter_scores_and_topk(&s, 2, 0.1, 3).indices, [1, 0, 1]);
        assert_eq!(filter_scores_and_topk(&s, 2, 0.1, 0), TopK::default());
        assert_eq!(filter_scores_and_topk(&[], 2, 0.1, 3), TopK::default());
        assert_eq!(sort_descending(&[0.0, f32::NAN, 1.0, -0.0, f32::INFINITY]), [1, 4, 2, 0, 3]);
    }

    proptest! {
        #[test]
        fn it_is_the_head_of_a_stable_sort(s in prop::collection::vec(-4i8..4, 0..300), k in 0usize..40) {
            let s: Vec<f32> = s.into_iter().map(|v| f32::from(v) / 4.0).collect();
            let mut all: Vec<usize> = (0..s.len()).filter(|i| s[*i] > -0.5).collect();
            all.sort_by(|a, b| s[*b].total_cmp(&s[*a]));
            all.truncate(k);
            prop_assert_eq!(filter_scores_and_topk(&s, 1, -0.5, k).indices, all);
        }
    }

    #[test]
    fn many_scores_are_found_by_several_threads() {
        let s: Vec<f32> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0).collect();
        let r = filter_scores_and_topk(&s, 3, 0.5, 1000);
        let order: Vec<usize> = sort_descending(&s).into_iter().take(1000).collect();
        assert_eq!(r.indices.iter().zip(&r.labels).map(|(i, l)| i * 3 + *l as usize).collect::<Vec<_>>(), order);
    }
}
