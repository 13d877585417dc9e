//! Assignment by thresholds on the overlap: Faster R-CNN, RetinaNet, SSD and what follows them.

use candle_core::{Result, bail};
use mmcv::config::Node;
use mmcv::register;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{AssignInput, AssignResult, Assigner, BBOX_ASSIGNERS, check_labels};
use crate::core::BBox;
use crate::core::bbox::iou_calculators::{Columns, IouCalculator, OverlapMode, build_iou_calculator, iou_row};

/// Overlaps below which a prior is background.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum NegThreshold {
    /// From 0 up to this.
    Below(f64),
    /// From the first up to the second.
    Within([f64; 2]),
}

impl NegThreshold {
    pub(super) fn holds(self, overlap: f32) -> bool {
        let [low, high] = match self {
            Self::Below(high) => [0.0, high],
            Self::Within(range) => range,
        };
        overlap >= low as f32 && overlap < high as f32
    }
}

/// `type = "MaxIoUAssigner"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaxIoUAssignerConfig {
    /// Overlap from which a prior takes the ground truth it overlaps most.
    pub pos_iou_thr: f64,
    /// Overlap below which a prior is background, or the range of it.
    pub neg_iou_thr: NegThreshold,
    /// Overlap from which a ground truth's best prior is given to it; default 0.
    #[serde(default)]
    pub min_pos_iou: f64,
    /// All priors that overlap a ground truth as much as its best one are given to it, else the first; default true.
    #[serde(default = "yes")]
    pub gt_max_assign_all: bool,
    /// Part of a prior inside an ignored box from which it is ignored; off unless positive, default -1.
    #[serde(default = "minus_one")]
    pub ignore_iof_thr: f64,
    /// The part is of the prior; otherwise of the ignored box. Default true.
    #[serde(default = "yes")]
    pub ignore_wrt_candidates: bool,
    /// Whether a ground truth's best prior is given to it at all; default true.
    #[serde(default = "yes")]
    pub match_low_quality: bool,
    /// Number of ground truths from which mmdet leaves the GPU. Read and without effect: this always runs on the CPU.
    #[serde(default = "minus_one")]
    pub gpu_assign_thr: f64,
    /// A component of `IOU_CALCULATORS`; default `BboxOverlaps2D`.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    pub iou_calculator: Node,
}

fn yes() -> bool {
    true
}
fn minus_one() -> f64 {
    -1.0
}

/// `type = "MaxIoUAssigner"`.
pub struct MaxIoUAssigner {
    cfg: MaxIoUAssignerConfig,
    iou_calculator: Box<dyn IouCalculator>,
}

/// Priors of one piece of work.
const CHUNK: usize = 1024;

/// What one chunk of priors found.
struct Found {
    max: Vec<f32>,
    argmax: Vec<u32>,
    /// Per ground truth its largest overlap in the chunk.
    gt_max: Vec<f32>,
}

impl MaxIoUAssigner {
    /// An error for an unknown overlap calculator.
    pub fn new(cfg: &MaxIoUAssignerConfig) -> mmcv::Result<Self> {
        Ok(Self { cfg: cfg.clone(), iou_calculator: build_iou_calculator(&cfg.iou_calculator)? })
    }

    /// Which priors lie in ignored boxes; empty when none can.
    fn ignored(&self, bboxes: &[BBox], ignore: &[BBox]) -> Vec<bool> {
        let thr = self.cfg.ignore_iof_thr as f32;
        if thr <= 0.0 || ignore.is_empty() || bboxes.is_empty() {
            return Vec::new();
        }
        let (n, k) = (bboxes.len(), ignore.len());
        if self.cfg.ignore_wrt_candidates {
            let iof = self.iou_calculator.overlaps(bboxes, ignore, OverlapMode::Iof);
            iof.chunks(k).map(|row| row.iter().any(|v| *v > thr)).collect()
        } else {
            let iof = self.iou_calculator.overlaps(ignore, bboxes, OverlapMode::Iof);
            (0..n).map(|i| (0..k).any(|j| iof[j * n + i] > thr)).collect()
        }
    }

    /// Row-major overlaps by the assigner's calculator.
    pub(super) fn overlaps(&self, bboxes1: &[BBox], bboxes2: &[BBox]) -> Vec<f32> {
        self.iou_calculator.overlaps(bboxes1, bboxes2, OverlapMode::Iou)
    }

    /// Sets the overlaps `[gts, bboxes]` of ignored priors to -1.
    pub(super) fn forget_ignored(&self, overlaps: &mut [f32], input: &AssignInput) {
        for (i, ignored) in self.ignored(input.bboxes, input.gt_bboxes_ignore).into_iter().enumerate() {
            if ignored {
                overlaps.iter_mut().skip(i).step_by(input.bboxes.len()).for_each(|v| *v = -1.0);
            }
        }
    }

    /// Assignment from overlaps, row-major `[gts, bboxes]`.
    pub fn assign_wrt_overlaps(&self, overlaps: &[f32], num_gts: usize, gt_labels: Option<&[i64]>) -> AssignResult {
        let n = overlaps.len().checked_div(num_gts).unwrap_or(0);
        let rows = |gt: usize, chunk: usize, out: &mut [f32]| {
            let start = gt * n + chunk * CHUNK;
            out.copy_from_slice(&overlaps[start..start + out.len()]);
        };
        self.by_rows(n, num_gts, gt_labels, rows)
    }

    /// Assignment where `rows(gt, chunk, out)` writes the overlaps of a ground truth with a chunk of the priors. Only the
    /// chunks where a ground truth has its largest overlap are asked for twice, so no matrix is needed.
    fn by_rows(
        &self,
        num_bboxes: usize,
        num_gts: usize,
        gt_labels: Option<&[i64]>,
        rows: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) -> AssignResult {
        if num_gts == 0 || num_bboxes == 0 {
            return AssignResult::empty(num_gts, num_bboxes, gt_labels);
        }
        let chunks = num_bboxes.div_ceil(CHUNK);
        let size = |chunk: usize| CHUNK.min(num_bboxes - chunk * CHUNK);
        let find = |chunk: usize| {
            let n = size(chunk);
            let (mut max, mut argmax) = (vec![f32::NEG_INFINITY; n], vec![0u32; n]);
            let (mut gt_max, mut out) = (Vec::with_capacity(num_gts), vec![0f32; n]);
            for gt in 0..num_gts {
                rows(gt, chunk, &mut out);
                let mut best = f32::NEG_INFINITY;
                for i in 0..n {
                    let v = out[i];
                    best = if v > best { v } else { best };
                    argmax[i] = if v > max[i] { gt as u32 } else { argmax[i] };
                    max[i] = if v > max[i] { v } else { max[i] };
                }
                gt_max.push(best);
            }
            Found { max, argmax, gt_max }
        };
        let found: Vec<Found> = (0..chunks).into_par_iter().map(find).collect();

        let cfg = &self.cfg;
        let pos_iou_thr = cfg.pos_iou_thr as f32;
        let inds = |f: &Found| {
            let one = |(max, argmax): (&f32, &u32)| {
                if *max >= pos_iou_thr {
                    i64::from(*argmax) + 1
                } else if cfg.neg_iou_thr.holds(*max) {
                    0
                } else {
                    -1
                }
            };
            f.max.iter().zip(&f.argmax).map(one).collect::<Vec<i64>>()
        };
        let mut gt_inds: Vec<i64> = found.par_iter().flat_map_iter(inds).collect();
        if cfg.match_low_quality {
            let mut out = vec![0f32; CHUNK];
            for gt in 0..num_gts {
                let best = found.iter().fold(f32::NEG_INFINITY, |m, f| m.max(f.gt_max[gt]));
                if best < cfg.min_pos_iou as f32 {
                    continue;
                }
                for chunk in (0..chunks).filter(|c| found[*c].gt_max[gt] == best) {
                    let out = &mut out[..size(chunk)];
                    rows(gt, chunk, out);
                    let mut equal = (0..out.len()).filter(|i| out[*i] == best).map(|i| chunk * CHUNK + i);
                    if !cfg.gt_max_assign_all {
                        if let Some(first) = equal.next() {
                            gt_inds[first] = gt as i64 + 1;
                        }
                        break;
                    }
                    equal.for_each(|i| gt_inds[i] = gt as i64 + 1);
                }
            }
        }
        let max_overlaps = found.into_iter().flat_map(|f| f.max).collect();
        AssignResult::new(num_gts, gt_inds, max_overlaps, gt_labels)
    }

    fn plain(&self, input: &AssignInput, ignored: &[bool]) -> AssignResult {
        let prepare = |b: &[BBox]| {
            let columns = Columns::new(b);
            let hull = columns.hull();
            (columns, hull)
        };
        let chunks: Vec<(Columns, BBox)> = input.bboxes.par_chunks(CHUNK).map(prepare).collect();
        let rows = |gt: usize, chunk: usize, out: &mut [f32]| {
            let (gt, (columns, hull)) = (&input.gt_bboxes[gt], &chunks[chunk]);
            // Most ground truth is nowhere near most chunks: a chunk holds neighbours.
            if gt[0] >= hull[2] || gt[2] <= hull[0] || gt[1] >= hull[3] || gt[3] <= hull[1] {
                out.fill(0.0);
            } else {
                iou_row(gt, columns, out);
            }
            if !ignored.is_empty() {
                let ignored = &ignored[chunk * CHUNK..];
                out.iter_mut().zip(ignored).filter(|(_, i)| **i).for_each(|(v, _)| *v = -1.0);
            }
        };
        self.by_rows(input.bboxes.len(), input.gt_bboxes.len(), input.gt_labels, rows)
    }
}

impl Assigner for MaxIoUAssigner {
    fn assign_input(&self, input: &AssignInput) -> Result<AssignResult> {
        check_labels(input)?;
        if input.gt_bboxes.len() > u32::MAX as usize {
            bail!("MaxIoUAssigner: {} ground-truth boxes", input.gt_bboxes.len());
        }
        if self.iou_calculator.is_plain() {
            return Ok(self.plain(input, &self.ignored(input.bboxes, input.gt_bboxes_ignore)));
        }
        let (n, k) = (input.bboxes.len(), input.gt_bboxes.len());
        if n == 0 || k == 0 {
            return Ok(AssignResult::empty(k, n, input.gt_labels));
        }
        let mut overlaps = self.overlaps(input.gt_bboxes, input.bboxes);
        self.forget_ignored(&mut overlaps, input);
        Ok(self.assign_wrt_overlaps(&overlaps, k, input.gt_labels))
    }
}

register!(BBOX_ASSIGNERS: dyn Assigner, "MaxIoUAssigner" => MaxIoUAssigner(MaxIoUAssignerConfig));

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::bbox::iou_calculators::bbox_overlaps;
    use crate::core::testing::{boxes, boxes_of, close};

    fn make(json: &str) -> MaxIoUAssigner {
        MaxIoUAssigner::new(&Node::from_json(json).unwrap().parse().unwrap()).unwrap()
    }

    /// Priors of which two pairs are equal, five ground truths of which two are, two ignored boxes, labels.
    fn scene() -> (Vec<BBox>, Vec<BBox>, Vec<BBox>, [i64; 5]) {
        let (mut priors, mut gts) = (boxes(40, 11), boxes(5, 12));
        priors[7] = priors[3];
        (priors[20], priors[21]) = (gts[2], gts[2]);
        gts[4] = gts[1];
        (priors, gts, boxes(2, 13), [3, 1, 4, 1, 5])
    }

    // pri, gt = boxes(40, 11), boxes(5, 12); pri[7] = pri[3]; pri[20] = pri[21] = gt[2]; gt[4] = gt[1]
    // r = MaxIoUAssigner(...).assign(pri, gt, boxes(2, 13), torch.tensor([3, 1, 4, 1, 5])); r.gt_inds, r.max_overlaps, r.labels
    #[test]
    #[rustfmt::skip]
    fn assignments_are_mmdets() {
        let cases: [(&str, [i64; 40], [f32; 40]); 3] = [
            (r#"{"pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0, "ignore_iof_thr": -1}"#,
             [0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
             [0.026845638, 0.010822855, 0.0, 0.0, 0.02110818, 0.07650273, 0.0154457195, 0.0, 0.020586401, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.031673443, 0.044658598, 0.065535955, 0.0, 0.0, 1.0, 1.0, 0.0, 0.050997782, 0.0, 0.10623842, 0.0, 0.0, 0.059920106, 0.099597216, 0.040047113, 0.0, 0.0, 0.0, 0.0028315242, 0.0, 0.0, 0.022962911, 0.0, 0.0]),
            (r#"{"pos_iou_thr": 0.4, "neg_iou_thr": [0.1, 0.3], "min_pos_iou": 0.2, "gt_max_assign_all": false, "ignore_iof_thr": 0.5}"#,
             [-1; 40],
             [-1.0, 0.010822855, -1.0, -1.0, 0.02110818, 0.07650273, -1.0, -1.0, 0.020586401, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.031673443, 0.044658598, 0.065535955, 0.0, 0.0, -1.0, -1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 0.0, 0.059920106, 0.099597216, -1.0, 0.0, 0.0, 0.0, 0.0028315242, 0.0, -1.0, 0.022962911, 0.0, 0.0]),
            (r#"{"pos_iou_thr": 0.3, "neg_iou_thr": 0.3, "match_low_quality": false, "ignore_iof_thr": 0.3, "ignore_wrt_candidates": false, "iou_calculator": {"type": "BboxOverlaps2D"}}"#,
             [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0, -1, -1, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
             [0.026845638, 0.010822855, 0.0, 0.0, 0.02110818, 0.07650273, 0.0154457195, 0.0, 0.020586401, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0, -1.0, 0.065535955, 0.0, 0.0, 1.0, 1.0, 0.0, 0.050997782, 0.0, 0.10623842, 0.0, 0.0, 0.059920106, 0.099597216, -1.0, 0.0, 0.0, 0.0, 0.0028315242, 0.0, 0.0, 0.022962911, 0.0, 0.0]),
        ];
        let (priors, gts, ignore, labels) = scene();
        for (cfg, inds, overlaps) in cases {
            let r = make(cfg).assign(&priors, &gts, &ignore, Some(&labels)).unwrap();
            assert_eq!(r.gt_inds, inds, "{cfg}");
            close(&r.max_overlaps, &overlaps);
            let of = |i: &i64| if *i > 0 { labels[*i as usize - 1] } else { -1 };
            assert_eq!(r.labels.unwrap(), inds.iter().map(of).collect::<Vec<_>>());
        }
    }

    #[test]
    fn without_ground_truth_all_is_background_and_without_priors_there_is_nothing() {
        let a = make(r#"{"pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "ignore_iof_thr": 0.5}"#);
        let r = a.assign(&boxes(3, 1), &[], &boxes(1, 2), Some(&[])).unwrap();
        assert_eq!((r.num_gts, r.gt_inds, r.max_overlaps), (0, vec![0; 3], vec![0.0; 3]));
        assert_eq!(r.labels, Some(vec![-1; 3]));
        let r = a.assign(&[], &boxes(2, 1), &[], None).unwrap();
        assert_eq!((r.num_gts, r.gt_inds.len(), r.labels), (2, 0, None));
        assert!(a.assign(&boxes(3, 1), &boxes(2, 1), &[], Some(&[1])).is_err());
    }

    #[test]
    fn a_config_names_its_calculator() {
        let node =
            Node::from_json(r#"{"pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "iou_calculator": {"type": "Overlaps"}}"#);
        let e = MaxIoUAssigner::new(&node.unwrap().parse().unwrap()).err().unwrap().to_string();
        assert!(e.contains("iou_calculator") && e.contains("BboxOverlaps2D"), "{e}");
    }

    /// mmdet's steps over the whole matrix, one after another.
    fn reference(a: &MaxIoUAssigner, priors: &[BBox], gts: &[BBox], ignore: &[BBox]) -> Vec<i64> {
        let (n, cfg) = (priors.len(), &a.cfg);
        let mut iou: Vec<Vec<f32>> =
            gts.iter().map(|g| bbox_overlaps(std::slice::from_ref(g), priors, OverlapMode::Iou)).collect();
        let iof = bbox_overlaps(priors, ignore, OverlapMode::Iof);
        for i in 0..n {
            let most = iof[i * ignore.len()..(i + 1) * ignore.len()].iter().fold(-1.0, |a: f32, b| a.max(*b));
            if cfg.ignore_iof_thr > 0.0 && most > cfg.ignore_iof_thr as f32 {
                iou.iter_mut().for_each(|row| row[i] = -1.0);
            }
        }
        let mut inds = vec![-1; n];
        for i in 0..n {
            let column: Vec<f32> = iou.iter().map(|row| row[i]).collect();
            let max = column.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if cfg.neg_iou_thr.holds(max) {
                inds[i] = 0;
            }
            if max >= cfg.pos_iou_thr as f32 {
                inds[i] = column.iter().position(|v| *v == max).unwrap() as i64 + 1;
            }
        }
        for (g, row) in iou.iter().enumerate() {
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if !cfg.match_low_quality || max < cfg.min_pos_iou as f32 {
                continue;
            }
            let equal = (0..n).filter(|i| row[*i] == max);
            let take = if cfg.gt_max_assign_all { n } else { 1 };
            equal.take(take).for_each(|i| inds[i] = g as i64 + 1);
        }
        inds
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn chunks_and_skips_change_nothing(
            seed in 0u64..100_000,
            n in 1usize..2600,
            k in 1usize..9,
            size in 8u64..400,
            all: bool,
            low: bool,
            min_pos in prop::sample::select(vec![0.0, 0.2, 0.5]),
            ignore in prop::sample::select(vec![-1.0, 0.4]),
        ) {
            let a = make(&format!(
                r#"{{"pos_iou_thr": 0.5, "neg_iou_thr": 0.3, "min_pos_iou": {min_pos}, "gt_max_assign_all": {all},
                    "match_low_quality": {low}, "ignore_iof_thr": {ignore}}}"#
            ));
            let (priors, gts) = (boxes_of(n, seed, size, 20), boxes_of(k, seed + 1, size, 20));
            let ignored = boxes_of(2, seed + 2, size, 40);
            let r = a.assign(&priors, &gts, &ignored, None).unwrap();
            prop_assert_eq!(&r.gt_inds, &reference(&a, &priors, &gts, &ignored));
            if ignore < 0.0 {
                let matrix = bbox_overlaps(&gts, &priors, OverlapMode::Iou);
                prop_assert_eq!(&a.assign_wrt_overlaps(&matrix, k, None), &r);
            }
        }
    }
}
