//! Results of one image under several scales and flips become one: mmdet's `merge_augs.py`.

use mmcv::image::FlipDirection;
use mmcv::ops::nms;
use mmcv::{Error, Result};

use super::sort_descending;
use crate::core::bbox::bbox_mapping_back;
use crate::core::{BBox, ImgMeta, ScoredBox};

/// How the image of `meta` was mirrored, if it was; mmdet's default is horizontally.
fn flip_of(meta: &ImgMeta) -> Option<FlipDirection> {
    meta.flip.then(|| meta.flip_direction.unwrap_or(FlipDirection::Horizontal))
}

/// Boxes of a view in the frame of its file.
pub fn map_back(bboxes: &[BBox], meta: &ImgMeta) -> Vec<BBox> {
    bbox_mapping_back(bboxes, (meta.img_shape[0], meta.img_shape[1]), meta.scale_factor, flip_of(meta))
}

fn check(what: &str, lists: usize, metas: usize, sizes: impl Iterator<Item = usize>) -> Result<()> {
    let sizes: Vec<usize> = sizes.collect();
    if lists == 0 || lists != metas || sizes.iter().any(|s| *s != sizes[0]) {
        return Err(Error::Run(format!("{what}: {lists} results of sizes {sizes:?} for {metas} images")));
    }
    Ok(())
}

/// Proposals of each view in its own frame become the best `max_per_img` in the file's frame, suppressed together.
pub fn merge_aug_proposals(
    aug_proposals: &[Vec<ScoredBox>],
    metas: &[ImgMeta],
    iou_threshold: f32,
    max_per_img: usize,
) -> Vec<ScoredBox> {
    let (mut bboxes, mut scores): (Vec<BBox>, Vec<f32>) = Default::default();
    for (proposals, meta) in aug_proposals.iter().zip(metas) {
        let plain: Vec<BBox> = proposals.iter().map(|p| [p[0], p[1], p[2], p[3]]).collect();
        bboxes.extend(map_back(&plain, meta));
        scores.extend(proposals.iter().map(|p| p[4]));
    }
    let keep = nms(&bboxes, &scores, iou_threshold, 0.0);
    let kept_scores: Vec<f32> = keep.iter().map(|k| scores[*k]).collect();
    let scored = |i: usize| {
        let [x1, y1, x2, y2] = bboxes[keep[i]];
        [x1, y1, x2, y2, kept_scores[i]]
    };
    sort_descending(&kept_scores).into_iter().take(max_per_img).map(scored).collect()
}

/// The mean box in the file's frame; each view has the same number of boxes.
pub fn merge_aug_bboxes(aug_bboxes: &[Vec<BBox>], metas: &[ImgMeta]) -> Result<Vec<BBox>> {
    check("merge_aug_bboxes", aug_bboxes.len(), metas.len(), aug_bboxes.iter().map(Vec::len))?;
    let all: Vec<Vec<BBox>> = aug_bboxes.iter().zip(metas).map(|(b, m)| map_back(b, m)).collect();
    let flat: Vec<&[f32]> = all.iter().map(|b| b.as_flattened()).collect();
    Ok(mean(&flat).as_chunks().0.to_vec())
}

/// The mean scores.
pub fn merge_aug_scores(aug_scores: &[Vec<f32>]) -> Result<Vec<f32>> {
    check("merge_aug_scores", aug_scores.len(), aug_scores.len(), aug_scores.iter().map(Vec::len))?;
    Ok(mean(&aug_scores.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

fn mean(lists: &[&[f32]]) -> Vec<f32> {
    let sum = |i: usize| lists.iter().fold(0f32, |s, l| s + l[i]);
    (0..lists[0].len()).map(|i| sum(i) / lists.len() as f32).collect()
}

/// The mean masks, mirrored back: each view has `[.., h, w]`. `weights` weigh the views.
pub fn merge_aug_masks(
    aug_masks: &[Vec<f32>],
    (h, w): (usize, usize),
    metas: &[ImgMeta],
    weights: Option<&[f64]>,
) -> Result<Vec<f32>> {
    check("merge_aug_masks", aug_masks.len(), metas.len(), aug_masks.iter().map(Vec::len))?;
    let n = aug_masks[0].len();
    if h * w == 0
        || !n.is_multiple_of(h * w)
        || weights.is_some_and(|v| v.len() != metas.len() || v.iter().sum::<f64>() == 0.0)
    {
        return Err(Error::Run(format!(
            "merge_aug_masks: {n} values are no masks of {h}x{w}, or the weights don't fit"
        )));
    }
    let upright = |(mask, meta): (&Vec<f32>, &ImgMeta)| {
        let flip = flip_of(meta);
        let across = matches!(flip, Some(FlipDirection::Horizontal | FlipDirection::Diagonal));
        let over = matches!(flip, Some(FlipDirection::Vertical | FlipDirection::Diagonal));
        let mut mask = mask.clone();
        for map in mask.chunks_exact_mut(h * w) {
            if over {
                (0..h / 2).for_each(|y| (0..w).for_each(|x| map.swap(y * w + x, (h - 1 - y) * w + x)));
            }
            if across {
                map.chunks_exact_mut(w).for_each(<[f32]>::reverse);
            }
        }
        mask
    };
    let masks: Vec<Vec<f32>> = aug_masks.iter().zip(metas).map(upright).collect();
    let Some(weights) = weights else { return Ok(mean(&masks.iter().map(Vec::as_slice).collect::<Vec<_>>())) };
    let total: f64 = weights.iter().sum();
    let one = |i: usize| masks.iter().zip(weights).map(|(m, w)| f64::from(m[i]) * w).sum::<f64>() / total;
    Ok((0..n).map(|i| one(i) as f32).collect())
}
