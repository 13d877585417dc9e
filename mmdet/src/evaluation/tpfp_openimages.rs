//! Open Images' rule: some boxes stand for a group of objects; mmdet's `tpfp_openimages`.

use super::bbox_overlaps::{OverlapMode, bbox_overlaps};
use super::tpfp::{ClassInImage, Rules, Verdict, by_score, corners, match_best, row_max};
use crate::core::{BBox, ScoredBox};

/// Verdicts and scores. Detections inside a group box (of a share of at least `ioa_thr` of their own area) that are not
/// true by themselves become one: true with the best score among them, or false with the score 0 when there is none.
pub(super) fn tpfp_openimages(
    image: &ClassInImage,
    group_of: &[bool],
    ioa_thr: f64,
    rules: Rules,
) -> (Vec<Verdict>, Vec<f32>) {
    let scores = |dets: &[ScoredBox]| dets.iter().map(|d| d[4]).collect::<Vec<_>>();
    let all_false = || rules.all_false(image.dets).swap_remove(0);
    if image.gts.is_empty() {
        return (all_false(), scores(image.dets));
    }
    let part = |group: bool| -> Vec<BBox> {
        image.gts.iter().zip(group_of).filter(|(_, g)| **g == group).map(|(b, _)| *b).collect()
    };
    let (single, groups) = (part(false), part(true));
    let boxes: Vec<BBox> = image.dets.iter().map(corners).collect();
    let verdicts = if single.is_empty() {
        all_false()
    } else {
        let ious = bbox_overlaps(&boxes, &single, OverlapMode::Iou, false);
        let best: Vec<(usize, f32)> = ious.chunks(single.len()).map(row_max).collect();
        // As in mmdet, whether an object is in the area range is looked up among all objects.
        match_best(image, rules, &best, image.gts.len()).swap_remove(0)
    };
    if groups.is_empty() {
        return (verdicts, scores(image.dets));
    }
    let ioas = bbox_overlaps(&boxes, &groups, OverlapMode::Iof, false);
    let ignored = Rules { legacy: false, ..rules }.ignored(0, image);
    let mut group_scores = vec![0f32; groups.len()];
    let mut group_found = vec![false; groups.len()];
    let mut in_group = vec![false; image.dets.len()];
    for i in by_score(image.dets) {
        let (group, ioa) = row_max(&ioas[i * groups.len()..(i + 1) * groups.len()]);
        if verdicts[i] != Verdict::True && f64::from(ioa) >= ioa_thr && !ignored[group] {
            group_found[group] = true;
            in_group[i] = true;
            group_scores[group] = group_scores[group].max(image.dets[i][4]);
        }
    }
    let alone = |i: &usize| !in_group[*i];
    let of_group = |found: &bool| if *found { Verdict::True } else { Verdict::False };
    let all = (0..image.dets.len()).filter(alone).map(|i| verdicts[i]).chain(group_found.iter().map(of_group));
    let all_scores = (0..image.dets.len()).filter(alone).map(|i| image.dets[i][4]).chain(group_scores);
    (all.collect(), all_scores.collect())
}
