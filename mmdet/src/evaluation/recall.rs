//! Recall of boxes whatever their class; mmdet's `core/evaluation/recall.py`.

use mmcv::{Error, Result};
use rayon::prelude::*;

use super::bbox_overlaps::{OverlapMode, bbox_overlaps};
use super::numeric::{argsort_desc, mean};
use super::table::ascii_table;
use crate::core::{BBox, ScoredBox};

/// Recall for each number of proposals (rows) and IoU threshold (columns).
#[derive(Debug, Clone, PartialEq)]
pub struct Recalls {
    /// Numbers of proposals per image.
    pub proposal_nums: Vec<usize>,
    /// IoU thresholds.
    pub iou_thrs: Vec<f64>,
    /// `[proposal number][threshold]`; NaN when there is no box to find.
    pub values: Vec<Vec<f64>>,
}

impl Recalls {
    /// Mean over the thresholds, for each number of proposals.
    pub fn average(&self) -> Vec<f64> {
        self.values.iter().map(|row| mean(row)).collect()
    }

    /// mmdet's table.
    pub fn table(&self) -> String {
        let header = std::iter::once(String::new()).chain(self.iou_thrs.iter().map(|t| format!("{t:?}")));
        let row = |(num, row): (&usize, &Vec<f64>)| {
            std::iter::once(num.to_string()).chain(row.iter().map(|v| format!("{v:.3}").to_lowercase())).collect()
        };
        let mut rows = vec![header.collect()];
        rows.extend(self.proposal_nums.iter().zip(&self.values).map(row));
        ascii_table(&rows, false)
    }
}

/// Recall of the best `proposal_nums` proposals of each image at each threshold, boxes given to proposals greedily by
/// overlap. One list of ground-truth boxes and one of proposals per image; as in mmdet no image gets more proposals
/// than the last of `proposal_nums` says.
///
/// # Errors
/// When the numbers of images differ.
pub fn eval_recalls(
    gts: &[Vec<BBox>],
    proposals: &[Vec<ScoredBox>],
    proposal_nums: &[usize],
    iou_thrs: &[f64],
    use_legacy_coordinate: bool,
) -> Result<Recalls> {
    if gts.len() != proposals.len() {
        let (g, p) = (gts.len(), proposals.len());
        return Err(Error::Run(format!("eval_recalls: {p} images have proposals, {g} have annotations")));
    }
    let most = proposal_nums.last().copied().unwrap_or(0);
    let per_image: Vec<Vec<Vec<f32>>> = gts
        .par_iter()
        .zip(proposals)
        .map(|(gts, proposals)| {
            let best = by_score(proposals, most);
            let ious = bbox_overlaps(gts, &best, OverlapMode::Iou, use_legacy_coordinate);
            proposal_nums.iter().map(|&n| greedy(&ious, gts.len(), best.len(), n)).collect()
        })
        .collect();
    let total: usize = gts.iter().map(Vec::len).sum();
    let values = (0..proposal_nums.len())
        .map(|k| {
            let recall = |&thr: &f64| {
                let found = per_image.iter().flat_map(|image| &image[k]).filter(|iou| **iou >= thr as f32).count();
                found as f64 / total as f64
            };
            iou_thrs.iter().map(recall).collect()
        })
        .collect();
    Ok(Recalls { proposal_nums: proposal_nums.to_vec(), iou_thrs: iou_thrs.to_vec(), values })
}

/// The best boxes, of equal scores the later first (mmdet reverses an ascending order).
fn by_score(proposals: &[ScoredBox], most: usize) -> Vec<BBox> {
    let reversed: Vec<f32> = proposals.iter().rev().map(|p| p[4]).collect();
    let order = argsort_desc(&reversed).into_iter().map(|i| proposals.len() - 1 - i);
    order.take(most).map(|i| [0, 1, 2, 3].map(|c| proposals[i][c])).collect()
}

/// Overlap of each box with the proposal given to it, of the first `n`: the best pair first, then without either. In
/// the order in which pairs were made; -1 for boxes left without a proposal, 0 for all when there is no proposal.
fn greedy(ious: &[f32], gts: usize, proposals: usize, n: usize) -> Vec<f32> {
    let n = n.min(proposals);
    if n == 0 {
        return vec![0.0; gts];
    }
    let mut free: Vec<bool> = vec![true; n];
    let mut open: Vec<usize> = (0..gts).collect();
    // The best free proposal of each box, the first of equal ones; found anew only when another box takes it.
    let best_of = |g: usize, free: &[bool]| {
        let row = &ious[g * proposals..g * proposals + n];
        let mut best: Option<(usize, f32)> = None;
        for (p, &iou) in row.iter().enumerate().filter(|(p, _)| free[*p]) {
            if best.is_none_or(|(_, b)| iou > b) {
                best = Some((p, iou));
            }
        }
        best
    };
    let mut best: Vec<Option<(usize, f32)>> = open.iter().map(|&g| best_of(g, &free)).collect();
    let mut out = Vec::with_capacity(gts);
    while !open.is_empty() {
        let mut pick: Option<(usize, usize, f32)> = None;
        for (at, &g) in open.iter().enumerate() {
            if let Some((p, iou)) = best[g].filter(|(_, iou)| pick.is_none_or(|(.., b)| *iou > b)) {
                pick = Some((at, p, iou));
            }
        }
        let Some((at, taken, iou)) = pick else {
            out.resize(gts, -1.0);
            return out;
        };
        out.push(iou);
        open.remove(at);
        free[taken] = false;
        for &g in &open {
            if best[g].is_some_and(|(p, _)| p == taken) {
                best[g] = best_of(g, &free);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::coco::CocoApi;
    use crate::evaluation::synthetic::make;

    /// With `make` of `coco/golden.rs`:
    /// ```python
    /// gt, dets = make(3, 30, 3, 8, 12)
    /// for i, d in enumerate(dets): d['score'] += i * 2.0**-20   # no ties: NumPy's sort is not stable
    /// xyxy = lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
    /// gts = [np.array([xyxy(a['bbox']) for a in gt['annotations'] if a['image_id'] == i['id']], np.float32).reshape(-1, 4) for i in gt['images']]
    /// props = [np.array([xyxy(d['bbox']) + [d['score']] for d in dets if d['image_id'] == i['id']], np.float32).reshape(-1, 5) for i in gt['images']]
    /// r = eval_recalls(gts, props, (2, 5, 20), [0.3, 0.5, 0.7], use_legacy_coordinate=legacy); r.tolist(), r.mean(axis=1).tolist()
    /// ```
    #[test]
    fn recalls_are_those_of_mmdet() {
        let (json, found) = make(3, 30, 3, 8, 12);
        let gt: CocoApi = json.parse().unwrap();
        let xyxy = |b: [f64; 4]| [b[0], b[1], b[0] + b[2], b[1] + b[3]].map(|v| v as f32);
        let ids = gt.get_img_ids();
        let gts: Vec<Vec<BBox>> = ids.iter().map(|&i| gt.anns_of(i).map(|a| xyxy(a.bbox)).collect()).collect();
        let scored = |(i, d): (usize, &crate::evaluation::synthetic::Found)| {
            let [a, b, c, e] = xyxy(d.bbox);
            [a, b, c, e, (d.score + i as f64 * 2f64.powi(-20)) as f32]
        };
        let of = |id: i64| found.iter().enumerate().filter(|(_, d)| d.image_id == id).map(scored).collect();
        let proposals: Vec<Vec<ScoredBox>> = ids.iter().map(|&id| of(id)).collect();
        let run = |legacy| eval_recalls(&gts, &proposals, &[2, 5, 20], &[0.3, 0.5, 0.7], legacy).unwrap();

        let recalls = run(false);
        let expected = [
            [0.189_473_684_210_526_32, 0.178_947_368_421_052_63, 0.084_210_526_315_789_47],
            [0.421_052_631_578_947_34, 0.410_526_315_789_473_7, 0.252_631_578_947_368_43],
            [0.694_736_842_105_263_2, 0.694_736_842_105_263_2, 0.463_157_894_736_842_1],
        ];
        assert_eq!(recalls.values, expected);
        assert_eq!(recalls.average(), [0.150_877_192_982_456_14, 0.361_403_508_771_929_8, 0.617_543_859_649_122_8]);
        assert_eq!(run(true).values[2], [0.694_736_842_105_263_2, 0.694_736_842_105_263_2, 0.484_210_526_315_789_5]);
        let table = "\
+----+-------+-------+-------+
|    | 0.3   | 0.5   | 0.7   |
+----+-------+-------+-------+
| 2  | 0.189 | 0.179 | 0.084 |
| 5  | 0.421 | 0.411 | 0.253 |
| 20 | 0.695 | 0.695 | 0.463 |
+----+-------+-------+-------+";
        assert_eq!(recalls.table(), table);
    }

    #[test]
    fn boxes_left_without_a_proposal_are_not_found() {
        let gts = vec![vec![[0.0, 0.0, 4.0, 4.0], [9.0, 9.0, 12.0, 12.0]], vec![]];
        let one = vec![vec![[0.0, 0.0, 4.0, 4.0, 0.5]], vec![[0.0, 0.0, 1.0, 1.0, 0.9]]];
        assert_eq!(eval_recalls(&gts, &one, &[1], &[0.5], false).unwrap().values, [[0.5]]);
        let none = vec![vec![], vec![]];
        assert_eq!(eval_recalls(&gts, &none, &[1], &[0.5], false).unwrap().values, [[0.0]]);
        assert!(eval_recalls(&[vec![]], &[vec![]], &[1], &[0.5], false).unwrap().values[0][0].is_nan());
        assert!(eval_recalls(&gts, &none[..1], &[1], &[0.5], false).is_err());
    }
}
