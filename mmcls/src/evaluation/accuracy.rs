//! Top-k accuracy; mmcls's `accuracy.py`.

/// Of `scores` (a row of classes for each image): in percent, for each of `topk` how many have their label among the best
/// so many. With `thr`, a score must be above it to count. Without images it is NaN, as in the original.
pub fn accuracy(scores: &[Vec<f32>], labels: &[i64], topk: &[usize], thr: Option<f32>) -> Vec<f64> {
    let mut right = vec![0usize; topk.len()];
    for (row, label) in scores.iter().zip(labels) {
        let Some(&own) = usize::try_from(*label).ok().and_then(|l| row.get(l)) else { continue };
        if thr.is_some_and(|t| own <= t) || own.is_nan() {
            continue;
        }
        // Its rank; among equals the first class comes first.
        let better = row.iter().enumerate().filter(|&(i, &v)| v > own || (v == own && (i as i64) < *label)).count();
        for (count, &k) in right.iter_mut().zip(topk) {
            *count += usize::from(better < k);
        }
    }
    right.into_iter().map(|n| n as f64 * 100.0 / labels.len() as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // p = tensor([[.1, .6, .3], [.5, .3, .2], [.2, .2, .6]]); t = tensor([2, 0, 0]); accuracy(p, t, (1, 2, 3), thrs)
    #[test]
    fn values_are_mmcls() {
        let p = [vec![0.1, 0.6, 0.3], vec![0.5, 0.3, 0.2], vec![0.2, 0.2, 0.6]];
        let third = 100.0 / 3.0;
        let close = |a: Vec<f64>, b: &[f64]| {
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?} {b:?}");
        };
        close(accuracy(&p, &[2, 0, 0], &[1, 2, 3], None), &[third, 100.0, 100.0]);
        close(accuracy(&p, &[2, 0, 0], &[1, 2], Some(0.25)), &[third, 2.0 * third]);
        assert!(accuracy(&[], &[], &[1], None)[0].is_nan());
    }
}
