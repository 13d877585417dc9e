//! Precision, recall and F1 by class; mmcls's `eval_metrics.py`.

/// Percentages of each class.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Averages {
    /// Of the images that were given the class, those that are of it.
    pub precision: Vec<f64>,
    /// Of the images of the class, those that were given it.
    pub recall: Vec<f64>,
    /// Their harmonic mean.
    pub f1_score: Vec<f64>,
}

fn best(row: &[f32]) -> Option<(usize, f32)> {
    let mut best: Option<(usize, f32)> = None;
    for (i, &v) in row.iter().enumerate() {
        if best.is_none_or(|(_, b)| v > b) {
            best = Some((i, v));
        }
    }
    best
}

/// Of `scores` (a row of classes for each image); a best score of `thr` or less is no answer.
pub fn precision_recall_f1(scores: &[Vec<f32>], labels: &[i64], thr: Option<f32>) -> Averages {
    let classes = scores.first().map_or(0, Vec::len);
    let (mut given, mut there, mut right) = (vec![0u64; classes], vec![0u64; classes], vec![0u64; classes]);
    for (row, label) in scores.iter().zip(labels) {
        let label = usize::try_from(*label).ok().filter(|l| *l < classes);
        if let Some(l) = label {
            there[l] += 1;
        }
        let Some((class, score)) = best(row) else { continue };
        if thr.is_none_or(|t| score > t) {
            given[class] += 1;
            right[class] += u64::from(label == Some(class));
        }
    }
    let percent = |n: u64, of: u64| n as f64 / of.max(1) as f64 * 100.0;
    let mut out = Averages::default();
    for c in 0..classes {
        let (p, r) = (percent(right[c], given[c]), percent(right[c], there[c]));
        out.precision.push(p);
        out.recall.push(r);
        out.f1_score.push(2.0 * p * r / (p + r).max(f64::from(f32::EPSILON)));
    }
    out
}

/// Images of each of `classes`.
pub fn support(labels: &[i64], classes: usize) -> Vec<u64> {
    let mut counts = vec![0; classes];
    for label in labels {
        if let Some(n) = usize::try_from(*label).ok().and_then(|l| counts.get_mut(l)) {
            *n += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    // p = tensor([[.1, .6, .3], [.5, .3, .2], [.2, .2, .6], [.4, .35, .25]]); t = tensor([1, 0, 0, 2])
    // precision_recall_f1(p, t, 'none'); precision_recall_f1(p, t, 'none', thrs=.45); support(p, t, 'none')
    #[test]
    fn values_are_mmcls() {
        let p = [vec![0.1, 0.6, 0.3], vec![0.5, 0.3, 0.2], vec![0.2, 0.2, 0.6], vec![0.4, 0.35, 0.25]];
        let t = [1, 0, 0, 2];
        let all = precision_recall_f1(&p, &t, Some(0.0));
        assert_eq!((all.precision, all.recall), (vec![50.0, 100.0, 0.0], vec![50.0, 100.0, 0.0]));
        assert_eq!(all.f1_score, [50.0, 100.0, 0.0]);
        let sure = precision_recall_f1(&p, &t, Some(0.45));
        assert_eq!((sure.precision, sure.recall), (vec![100.0, 100.0, 0.0], vec![50.0, 100.0, 0.0]));
        assert_eq!(support(&t, 3), [2, 1, 1]);
    }
}
