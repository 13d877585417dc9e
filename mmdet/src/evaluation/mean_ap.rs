//! Mean average precision by PASCAL VOC's rules and their kin; mmdet's `core/evaluation/mean_ap.py`.

use mmcv::{Error, Result};
use rayon::prelude::*;

use super::bbox_overlaps::{area, extra_length};
use super::numeric::{argsort_desc, sum};
use super::table::ascii_table;
use super::tpfp::{ClassInImage, Rules, Verdict, tpfp_default, tpfp_imagenet};
use super::tpfp_openimages::tpfp_openimages;
use crate::core::{AnnInfo, BBox, DetResult};

/// How a curve becomes one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApMode {
    /// The area under the curve.
    Area,
    /// The mean precision at the recalls 0, 0.1, ..., 1 (VOC 2007).
    ElevenPoints,
}

/// Whose rules hold; mmdet's `dataset` argument where that is a name.
#[derive(Debug, Clone, Copy, Default)]
pub enum MapRules<'a> {
    /// PASCAL VOC's, area under the curve.
    #[default]
    Default,
    /// `"voc07"`: VOC's with eleven points.
    Voc07,
    /// `"det"`, `"vid"`: ImageNet's.
    ImageNet,
    /// `use_group_of`: Open Images'.
    OpenImages {
        /// Whether each of an image's `bboxes` stands for a group, one list per image.
        group_ofs: &'a [Vec<bool>],
        /// Share of a detection inside a group box from which on it belongs to the group; 0.5 by default in mmdet.
        ioa_thr: f64,
    },
}

/// Options of [`eval_map`].
#[derive(Debug, Clone, Copy)]
pub struct EvalMapOptions<'a> {
    /// IoU from which on a detection finds an object.
    pub iou_thr: f64,
    /// Scales `[min, max)` in pixels (square roots of areas) to evaluate one by one; all in one when `None`.
    pub scale_ranges: Option<&'a [(f64, f64)]>,
    /// Whether widths are `x2 - x1 + 1`, as in mmdet 1.x and VOC's own tools.
    pub use_legacy_coordinate: bool,
    /// Whose rules hold.
    pub rules: MapRules<'a>,
}

impl Default for EvalMapOptions<'_> {
    fn default() -> Self {
        Self { iou_thr: 0.5, scale_ranges: None, use_legacy_coordinate: false, rules: MapRules::Default }
    }
}

/// What came out for one class; each list has one entry per scale.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassMap {
    /// Objects that count.
    pub num_gts: Vec<usize>,
    /// Detections, of all scales.
    pub num_dets: usize,
    /// Recall after each detection, best first.
    pub recall: Vec<Vec<f64>>,
    /// Precision after each detection, best first.
    pub precision: Vec<Vec<f32>>,
    /// Scores in that order.
    pub scores: Vec<f32>,
    /// Average precision.
    pub ap: Vec<f32>,
}

/// What [`eval_map`] gives.
#[derive(Debug, Clone, PartialEq)]
pub struct MapResult {
    /// Mean over the classes with an object, for each scale; 0 when there is no object.
    pub mean_ap: Vec<f32>,
    /// The classes.
    pub classes: Vec<ClassMap>,
    /// Areas that the scales stand for, square pixels.
    pub areas: Option<Vec<(f64, f64)>>,
}

/// Average precision of one curve: recalls rise, `precisions` has as many values.
pub fn average_precision(recalls: &[f64], precisions: &[f32], mode: ApMode) -> f32 {
    match mode {
        ApMode::Area => {
            let recall: Vec<f64> = std::iter::once(0.0).chain(recalls.iter().copied()).chain([1.0]).collect();
            let inner = precisions.iter().map(|p| f64::from(*p));
            let mut precision: Vec<f64> = std::iter::once(0.0).chain(inner).chain([0.0]).collect();
            for i in (1..precision.len()).rev() {
                precision[i - 1] = precision[i - 1].max(precision[i]);
            }
            let steps: Vec<f64> = (1..recall.len())
                .filter(|&i| recall[i] != recall[i - 1])
                .map(|i| (recall[i] - recall[i - 1]) * precision[i])
                .collect();
            sum(&steps) as f32
        }
        ApMode::ElevenPoints => {
            let best_from = |thr: f64| {
                let reached = recalls.iter().zip(precisions).filter(|(r, _)| **r >= thr);
                reached.map(|(_, p)| *p).fold(0.0, f32::max)
            };
            (0..11).map(|i| best_from(f64::from(i) * 0.1)).fold(0.0, |a, b| a + b) / 11.0
        }
    }
}

/// Evaluates detections (one result per image, in the order of `annotations`). The classes are those of the first
/// result. Boxes to ignore count only where their class is known.
///
/// # Errors
/// When the numbers of images or of classes differ, or when Open Images' rules are asked for with several scales (which
/// mmdet can't compute either) or with boxes to ignore.
pub fn eval_map(dets: &[DetResult], annotations: &[&AnnInfo], opts: &EvalMapOptions) -> Result<MapResult> {
    check(dets, annotations, opts)?;
    let areas: Option<Vec<(f64, f64)>> =
        opts.scale_ranges.map(|r| r.iter().map(|(min, max)| (min * min, max * max)).collect());
    let rules = Rules { iou_thr: opts.iou_thr, areas: areas.as_deref(), legacy: opts.use_legacy_coordinate };
    let num_classes = dets.first().map_or(0, |d| d.bboxes.len());
    let classes: Vec<ClassMap> =
        (0..num_classes).into_par_iter().map(|class| eval_class(dets, annotations, class, rules, opts.rules)).collect();
    let mean_ap = (0..rules.num_scales())
        .map(|scale| {
            let aps: Vec<f32> = classes.iter().filter(|c| c.num_gts[scale] > 0).map(|c| c.ap[scale]).collect();
            if aps.is_empty() { 0.0 } else { sum(&aps) / aps.len() as f32 }
        })
        .collect();
    Ok(MapResult { mean_ap, classes, areas })
}

fn check(dets: &[DetResult], annotations: &[&AnnInfo], opts: &EvalMapOptions) -> Result<()> {
    let fail = |message: String| Err(Error::Run(format!("eval_map: {message}")));
    if dets.len() != annotations.len() {
        return fail(format!("{} images have results, {} have annotations", dets.len(), annotations.len()));
    }
    let num_classes = dets.first().map_or(0, |d| d.bboxes.len());
    if let Some((i, d)) = dets.iter().enumerate().find(|(_, d)| d.bboxes.len() != num_classes) {
        return fail(format!("result {i} is of {} classes, the first of {num_classes}", d.bboxes.len()));
    }
    if let MapRules::OpenImages { group_ofs, .. } = opts.rules {
        if opts.scale_ranges.is_some_and(|s| s.len() != 1) {
            return fail("Open Images' rules know one scale".to_owned());
        }
        if group_ofs.len() != annotations.len() {
            return fail(format!("group_ofs is of {} images, there are {}", group_ofs.len(), annotations.len()));
        }
        for (i, (ann, group_of)) in annotations.iter().zip(group_ofs).enumerate() {
            if group_of.len() != ann.bboxes.len() || !ann.labels_ignore.is_empty() {
                return fail(format!("image {i}: each box needs its group_of, and none may be ignored"));
            }
        }
    }
    Ok(())
}

fn eval_class(dets: &[DetResult], annotations: &[&AnnInfo], class: usize, rules: Rules, whose: MapRules) -> ClassMap {
    let of_class = |boxes: &[BBox], labels: &[i64]| -> Vec<BBox> {
        boxes.iter().zip(labels).filter(|(_, l)| **l == class as i64).map(|(b, _)| *b).collect()
    };
    let scales = rules.num_scales();
    let mut num_gts = vec![0; scales];
    let mut verdicts: Vec<Vec<Verdict>> = vec![Vec::new(); scales];
    let mut scores: Vec<f32> = Vec::new();
    for (i, (found, ann)) in dets.iter().zip(annotations).enumerate() {
        let mut gts = of_class(&ann.bboxes, &ann.labels);
        let num_counted = gts.len();
        for (scale, num) in num_gts.iter_mut().enumerate() {
            *num += gts.iter().filter(|g| rules.counts(scale, area(g, extra_length(rules.legacy)))).count();
        }
        gts.extend(of_class(&ann.bboxes_ignore, &ann.labels_ignore));
        let image = ClassInImage { dets: &found.bboxes[class], gts, num_counted };
        let of_image = match whose {
            MapRules::Default | MapRules::Voc07 => tpfp_default(&image, rules),
            MapRules::ImageNet => tpfp_imagenet(&image, rules),
            MapRules::OpenImages { group_ofs, ioa_thr } => {
                let labelled = group_ofs[i].iter().zip(&ann.labels).filter(|(_, l)| **l == class as i64);
                let group_of: Vec<bool> = labelled.map(|(g, _)| *g).collect();
                let (of_image, its_scores) = tpfp_openimages(&image, &group_of, ioa_thr, rules);
                scores.extend(its_scores);
                vec![of_image]
            }
        };
        if !matches!(whose, MapRules::OpenImages { .. }) {
            scores.extend(image.dets.iter().map(|d| d[4]));
        }
        for (all, of_image) in verdicts.iter_mut().zip(of_image) {
            all.extend(of_image);
        }
    }
    let order = argsort_desc(&scores);
    let mode = if matches!(whose, MapRules::Voc07) { ApMode::ElevenPoints } else { ApMode::Area };
    let (mut recall, mut precision, mut ap) = (Vec::new(), Vec::new(), Vec::new());
    for (scale, verdicts) in verdicts.iter().enumerate() {
        let (r, p) = curve(order.iter().map(|&i| verdicts[i]), num_gts[scale]);
        ap.push(average_precision(&r, &p, mode));
        recall.push(r);
        precision.push(p);
    }
    let scores: Vec<f32> = order.iter().map(|&i| scores[i]).collect();
    ClassMap { num_gts, num_dets: scores.len(), recall, precision, scores, ap }
}

/// Recall and precision after each detection.
fn curve(verdicts: impl Iterator<Item = Verdict>, num_gts: usize) -> (Vec<f64>, Vec<f32>) {
    let (mut tp, mut fp) = (0f32, 0f32);
    verdicts
        .map(|verdict| {
            match verdict {
                Verdict::True => tp += 1.0,
                Verdict::False => fp += 1.0,
                Verdict::Neither => {}
            }
            let gts = (num_gts as f64).max(f64::from(f32::EPSILON));
            (f64::from(tp) / gts, tp / (tp + fp).max(f32::EPSILON))
        })
        .unzip()
}

impl MapResult {
    /// mmdet's table for each scale; classes are numbered where `names` has none.
    pub fn table(&self, names: &[String]) -> String {
        let mut text = String::new();
        for (scale, mean_ap) in self.mean_ap.iter().enumerate() {
            if let Some(areas) = &self.areas {
                let (min, max) = areas[scale];
                text += &format!("Scale range ({min}, {max})\n");
            }
            let mut rows = vec![["class", "gts", "dets", "recall", "ap"].map(str::to_owned).to_vec()];
            for (i, class) in self.classes.iter().enumerate() {
                let recall = class.recall[scale].last().map_or(0.0, |r| *r as f32);
                rows.push(vec![
                    names.get(i).cloned().unwrap_or_else(|| i.to_string()),
                    class.num_gts[scale].to_string(),
                    class.num_dets.to_string(),
                    format!("{recall:.3}"),
                    format!("{:.3}", class.ap[scale]),
                ]);
            }
            rows.push(vec!["mAP".to_owned(), String::new(), String::new(), String::new(), format!("{mean_ap:.3}")]);
            text += &format!("\n{}\n", ascii_table(&rows, true));
        }
        text
    }
}
