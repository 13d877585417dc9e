//! The few NumPy operations whose last bit shows in a metric.

use std::ops::Add;

/// NumPy's `linspace(start, stop, num)`: `i * step + start`, the last value exactly `stop`.
pub fn linspace(start: f64, stop: f64, num: usize) -> Vec<f64> {
    let step = if num > 1 { (stop - start) / (num - 1) as f64 } else { 0.0 };
    let mut values: Vec<f64> = (0..num).map(|i| i as f64 * step + start).collect();
    if let Some(last) = values.last_mut().filter(|_| num > 1) {
        *last = stop;
    }
    values
}

/// The IoU thresholds of the COCO metrics, 0.5 to 0.95.
pub fn coco_iou_thrs() -> Vec<f64> {
    linspace(0.5, 0.95, 10)
}

/// Sum in the order in which NumPy adds up a contiguous array: buffers of 8192 values one after the other, each
/// pairwise.
pub(crate) fn sum<T: Copy + Default + Add<Output = T>>(values: &[T]) -> T {
    values.chunks(8192).fold(T::default(), |all, buffer| all + pairwise_sum(buffer))
}

/// Halves added to each other down to blocks of at most 128 values, which have eight running sums.
fn pairwise_sum<T: Copy + Default + Add<Output = T>>(values: &[T]) -> T {
    let n = values.len();
    if n < 8 {
        return values.iter().fold(T::default(), |a, &b| a + b);
    }
    if n > 128 {
        let half = n / 2 - n / 2 % 8;
        return pairwise_sum(&values[..half]) + pairwise_sum(&values[half..]);
    }
    let mut r: [T; 8] = std::array::from_fn(|i| values[i]);
    let blocks = values.chunks_exact(8);
    let rest = blocks.remainder();
    for block in blocks.skip(1) {
        for (sum, &v) in r.iter_mut().zip(block) {
            *sum = *sum + v;
        }
    }
    let all = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    rest.iter().fold(all, |a, &b| a + b)
}

/// NumPy's `mean`; NaN for no values.
pub(crate) fn mean(values: &[f64]) -> f64 {
    sum(values) / values.len() as f64
}

/// Indices that put scores in descending order, equal ones in their given order, NaN last; NumPy's
/// `argsort(-scores, kind="mergesort")`.
pub(crate) fn argsort_desc<T: PartialOrd + Copy>(scores: &[T]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    #[allow(clippy::eq_op)] // only NaN differs from itself
    let nan = |v: T| v != v;
    order.sort_by(|&a, &b| {
        let (a, b) = (scores[a], scores[b]);
        b.partial_cmp(&a).unwrap_or_else(|| nan(a).cmp(&nan(b)))
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_numpy_to_the_last_bit() {
        // x = np.array([((i * 2654435761) % 1000003) / 1000003 for i in range(n)]); x.sum(), x.mean()
        let cases = [
            (5, 2.277_977_166_068_501_5, 0.455_595_433_213_700_33),
            (8, 3.978_336_064_991_805_4, 0.497_292_008_123_975_67),
            (100, 52.598_697_203_908_39, 0.525_986_972_039_083_8),
            (128, 66.139_840_580_478_25, 0.516_717_504_534_986_3),
            (129, 66.897_948_306_155_07, 0.518_588_746_559_341_6),
            (1000, 502.959_445_121_664_66, 0.502_959_445_121_664_7),
            (10100, 5_055.157_063_528_809, 0.500_510_600_349_387),
        ];
        for (n, total, average) in cases {
            let x: Vec<f64> = (0..n).map(|i| (i as u64 * 2_654_435_761 % 1_000_003) as f64 / 1_000_003.0).collect();
            assert_eq!((sum(&x), mean(&x)), (total, average), "{n}");
        }
    }

    #[test]
    fn thresholds_are_those_of_numpy_to_the_last_bit() {
        // np.linspace(.5, .95, 10).tolist()
        assert_eq!(coco_iou_thrs(), [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.899_999_999_999_999_9, 0.95]);
        assert_eq!(linspace(0.3, 1.0, 1), [0.3]);
    }

    #[test]
    fn sorting_is_stable_and_puts_nan_last() {
        assert_eq!(argsort_desc(&[0.5, f64::NAN, 0.7, 0.5, f64::NAN, 0.9]), [5, 2, 0, 3, 1, 4]);
    }
}
