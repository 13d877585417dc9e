//! SOLO's suppression of masks by lowering scores, all at once: mmdet's `matrix_nms.py`.

use mmcv::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::sort_descending;

/// How the overlap lowers a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MatrixKernel {
    /// By `exp(-sigma iou²)`.
    #[default]
    Gaussian,
    /// By `1 - iou`.
    Linear,
}

/// Arguments of [`mask_matrix_nms`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatrixNms {
    /// Lowered scores must reach this; off unless positive.
    pub filter_thr: f64,
    /// The best so many take part; all unless positive.
    pub nms_pre: i64,
    /// The best so many are kept; all unless positive.
    pub max_num: i64,
    /// How scores are lowered.
    pub kernel: MatrixKernel,
    /// Strength of the Gaussian.
    pub sigma: f64,
}

impl Default for MatrixNms {
    fn default() -> Self {
        Self { filter_thr: -1.0, nms_pre: -1, max_num: -1, kernel: MatrixKernel::Gaussian, sigma: 2.0 }
    }
}

/// Lowered scores, best first, and the places of their masks. `mask_area` are the masks' sums, counted when not given.
pub fn mask_matrix_nms(
    masks: &[&[bool]],
    labels: &[i64],
    scores: &[f32],
    mask_area: Option<&[f32]>,
    cfg: &MatrixNms,
) -> Result<(Vec<f32>, Vec<usize>)> {
    let n = masks.len();
    if labels.len() != n || scores.len() != n || mask_area.is_some_and(|a| a.len() != n) {
        return Err(Error::Run(format!(
            "mask_matrix_nms: {n} masks, {} labels, {} scores",
            labels.len(),
            scores.len()
        )));
    }
    let mut keep = sort_descending(scores);
    if cfg.nms_pre > 0 {
        keep.truncate(cfg.nms_pre as usize);
    }
    let k = keep.len();
    // 64 pixels to a word: an intersection is an `and` and a count.
    let pack = |i: &usize| {
        let word = |c: &[bool]| c.iter().enumerate().fold(0u64, |w, (bit, on)| w | u64::from(*on) << bit);
        masks[*i].chunks(64).map(word).collect::<Vec<u64>>()
    };
    let packed: Vec<Vec<u64>> = keep.iter().map(pack).collect();
    let count = |words: &[u64]| words.iter().map(|w| w.count_ones()).sum::<u32>() as f32;
    let area: Vec<f32> = match mask_area {
        Some(area) => keep.iter().map(|i| area[*i]).collect(),
        None => packed.iter().map(|w| count(w)).collect(),
    };
    // The overlap of each with the better ones of its class, and the largest of these.
    let mut iou = vec![0f32; k * k];
    for j in 0..k {
        for i in (0..j).filter(|i| labels[keep[*i]] == labels[keep[j]]) {
            let both = packed[i].iter().zip(&packed[j]).map(|(a, b)| (a & b).count_ones()).sum::<u32>() as f32;
            iou[i * k + j] = both / (area[i] + area[j] - both);
        }
    }
    let most: Vec<f32> = (0..k).map(|j| (0..j).fold(0f32, |m, i| m.max(iou[i * k + j]))).collect();
    let sigma = cfg.sigma as f32;
    let factor = |iou: f32, most: f32| match cfg.kernel {
        MatrixKernel::Gaussian => (-sigma * (iou * iou)).exp() / (-sigma * (most * most)).exp(),
        MatrixKernel::Linear => (1.0 - iou) / (1.0 - most),
    };
    // Rows at and below the diagonal have no overlap; mmdet takes the smallest over all rows.
    let lowest = |j: usize| (0..k).fold(f32::INFINITY, |m, i| m.min(factor(iou[i * k + j], most[i])));
    let mut lowered: Vec<(f32, usize)> = (0..k).map(|j| (scores[keep[j]] * lowest(j), keep[j])).collect();
    if cfg.filter_thr > 0.0 {
        lowered.retain(|(s, _)| *s >= cfg.filter_thr as f32);
    }
    let by_score: Vec<f32> = lowered.iter().map(|l| l.0).collect();
    let mut order = sort_descending(&by_score);
    if cfg.max_num > 0 {
        order.truncate(cfg.max_num as usize);
    }
    Ok(order.into_iter().map(|i| lowered[i]).unzip())
}
