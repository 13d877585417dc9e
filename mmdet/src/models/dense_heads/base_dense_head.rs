//! From a dense head's raw predictions to boxes: mmdet's `base_dense_head.py`.

use candle_core::{Result, Tensor, bail};
use mmcv::config::Node;
use mmcv::ops::{NmsConfig, batched_nms};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::core::post_processing::{Detections, map_back};
use crate::core::{BBox, ImgMeta};

/// A head's `test_cfg`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenseTestConfig {
    /// Candidates kept per level before NMS; default -1, all.
    #[serde(default = "minus_one")]
    pub nms_pre: i64,
    /// Accepted; dense heads of the original don't use it either.
    #[serde(default)]
    pub min_bbox_size: f64,
    /// Score that a candidate must exceed.
    pub score_thr: f64,
    /// NMS.
    pub nms: NmsConfig,
    /// Boxes kept per image; -1 keeps all.
    pub max_per_img: i64,
}

fn minus_one() -> i64 {
    -1
}

impl DenseTestConfig {
    /// From a detector's `test_cfg`.
    pub fn parse(node: Option<&Node>) -> mmcv::Result<Option<Self>> {
        node.map(|n| n.parse().map_err(|e: mmcv::Error| e.under("test_cfg"))).transpose()
    }
}

/// Candidates of one image before NMS.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// Boxes in the frame of the network's input.
    pub bboxes: Vec<BBox>,
    /// Scores.
    pub scores: Vec<f32>,
    /// Classes.
    pub labels: Vec<i64>,
}

/// A candidate of one level: its score, its prior's index, its class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Picked {
    /// Score.
    pub score: f32,
    /// Position of the prior in its level.
    pub prior: usize,
    /// Class.
    pub label: usize,
}

/// One image's part of `x` `[B, C, H, W]` as a contiguous slice.
pub fn image_values(x: &Tensor, image: usize) -> Result<Vec<f32>> {
    x.narrow(0, image, 1)?.contiguous()?.flatten_all()?.to_vec1()
}

/// The candidates of one level whose score exceeds `score_thr`, the best `nms_pre` of them, best first
/// (equal scores: lower prior first, then lower class).
///
/// What `post_processing::filter_scores_and_topk` does with rows of scores, on the network's own layout and without scores
/// for what can't pass: `logits` is `[priors per position * channels, H, W]` with `hw = H * W`; with `sigmoid` every channel is a class,
/// otherwise the softmax runs over the channels and the last one is the background.
pub fn pick_candidates(
    logits: &[f32],
    hw: usize,
    channels: usize,
    sigmoid: bool,
    score_thr: f32,
    nms_pre: i64,
) -> Vec<Picked> {
    let base = logits.len().checked_div(hw * channels).unwrap_or(0);
    let mut picked = Vec::new();
    if sigmoid {
        // A logit well below the threshold's can't pass: the exponential is taken of the rest only.
        let low =
            if score_thr > 0.0 && score_thr < 1.0 { (score_thr / (1.0 - score_thr)).ln() - 1e-3 } else { f32::MIN };
        for (plane, values) in logits.chunks_exact(hw.max(1)).enumerate() {
            for (position, &x) in values.iter().enumerate() {
                if x > low {
                    let score = 1.0 / (1.0 + (-x).exp());
                    if score > score_thr {
                        picked.push(Picked {
                            score,
                            prior: position * base + plane / channels,
                            label: plane % channels,
                        });
                    }
                }
            }
        }
    } else {
        let mut row = vec![0f32; channels];
        for prior_plane in 0..base {
            for position in 0..hw {
                for (c, v) in row.iter_mut().enumerate() {
                    *v = logits[(prior_plane * channels + c) * hw + position];
                }
                let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                row.iter_mut().for_each(|v| *v = (*v - max).exp());
                let sum: f32 = row.iter().sum();
                for (label, v) in row[..channels - 1].iter().enumerate() {
                    let score = v / sum;
                    if score > score_thr {
                        picked.push(Picked { score, prior: position * base + prior_plane, label });
                    }
                }
            }
        }
    }
    let order =
        |a: &Picked, b: &Picked| b.score.total_cmp(&a.score).then(a.prior.cmp(&b.prior)).then(a.label.cmp(&b.label));
    if let Ok(keep) = usize::try_from(nms_pre)
        && (1..picked.len()).contains(&keep)
    {
        picked.select_nth_unstable_by(keep - 1, order);
        picked.truncate(keep);
    }
    picked.sort_unstable_by(order);
    picked
}

/// NMS and the cut to `max_per_img`.
pub fn nms(candidates: &Candidates, cfg: &DenseTestConfig) -> Result<Detections> {
    let Candidates { bboxes, scores, labels } = candidates;
    if bboxes.is_empty() {
        return Ok(Detections::default());
    }
    let ids: Vec<usize> = labels.iter().map(|l| usize::try_from(*l).unwrap_or(0)).collect();
    let (mut dets, mut inds) =
        batched_nms(bboxes, scores, &ids, Some(&cfg.nms), false).map_err(candle_core::Error::wrap)?;
    if let Ok(max) = usize::try_from(cfg.max_per_img) {
        dets.truncate(max);
        inds.truncate(max);
    }
    let labels = inds.iter().map(|&i| labels[i]).collect();
    Ok(Detections { dets, labels, inds })
}

/// Final boxes of one image: scaled to its file when `rescale`, then NMS.
pub fn post_process(
    mut candidates: Candidates,
    meta: &ImgMeta,
    cfg: &DenseTestConfig,
    rescale: bool,
) -> Result<Detections> {
    if rescale {
        for b in &mut candidates.bboxes {
            b.iter_mut().zip(meta.scale_factor).for_each(|(v, s)| *v /= s);
        }
    }
    nms(&candidates, cfg)
}

/// The candidates of several views of one image, mapped back to its file, then NMS over all.
pub fn merge_views(views: Vec<(Candidates, &ImgMeta)>, cfg: &DenseTestConfig, rescale: bool) -> Result<Detections> {
    let Some(first) = views.first().map(|(_, meta)| meta.scale_factor) else { bail!("aug_test: no views") };
    let mut all = Candidates::default();
    for (view, meta) in views {
        all.bboxes.extend(map_back(&view.bboxes, meta));
        all.scores.extend(view.scores);
        all.labels.extend(view.labels);
    }
    let mut dets = nms(&all, cfg)?;
    if !rescale {
        for b in &mut dets.dets {
            b.iter_mut().zip(first).for_each(|(v, s)| *v *= s);
        }
    }
    Ok(dets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigmoid_candidates_come_best_first_with_their_prior_and_class() {
        // Two priors, two classes, two positions: planes are [prior 0 class 0, prior 0 class 1, prior 1 class 0, ...].
        let logits = [0.0, 3.0, -9.0, 1.0, 2.0, -9.0, -9.0, f32::NAN];
        let picked = pick_candidates(&logits, 2, 2, true, 0.4, -1);
        let order: Vec<_> = picked.iter().map(|p| (p.prior, p.label)).collect();
        assert_eq!(order, [(2, 0), (1, 0), (2, 1), (0, 0)]);
        assert_eq!(pick_candidates(&logits, 2, 2, true, 0.4, 1).len(), 1);
        assert!(pick_candidates(&[], 0, 2, true, 0.4, -1).is_empty());
    }

    #[test]
    fn softmax_leaves_the_background_out() {
        // One prior, one class and background, two positions.
        let logits = [2.0, 0.0, 0.0, 5.0];
        let picked = pick_candidates(&logits, 2, 2, false, 0.5, -1);
        assert_eq!(picked.len(), 1);
        assert_eq!((picked[0].prior, picked[0].label), (0, 0));
        assert!((picked[0].score - 0.880_797).abs() < 1e-6);
    }
}
