//! The twelve numbers that sum a COCO evaluation up.

use std::fmt::Write as _;

use super::eval::CocoEval;
use crate::evaluation::numeric::mean;

/// What one number averages.
#[derive(Clone, Copy)]
struct Row<'a> {
    precision: bool,
    iou_thr: Option<f64>,
    area: &'a str,
    max_dets: usize,
}

/// pycocotools' `stats` and the lines it prints.
#[derive(Debug, Clone, PartialEq)]
pub struct CocoSummary {
    /// AP, AP50, AP75, AP of small, medium and large objects, AR at the three numbers of detections, AR of small,
    /// medium and large objects; -1 where there is nothing to average.
    pub stats: [f64; 12],
    /// The twelve lines, each with its line end.
    pub text: String,
}

impl CocoEval {
    /// Sums up; `None` unless `max_dets` has at least three numbers, which the twelve are of.
    ///
    /// AP is that of 100 detections, so it is -1 when `max_dets` lacks 100, as in pycocotools.
    pub fn summarize(&self) -> Option<CocoSummary> {
        let [first, second, third] = *self.params().max_dets.first_chunk()?;
        let ap = |iou_thr, area, max_dets| Row { precision: true, iou_thr, area, max_dets };
        let ar = |area, max_dets| Row { precision: false, iou_thr: None, area, max_dets };
        let rows = [
            ap(None, "all", 100),
            ap(Some(0.5), "all", third),
            ap(Some(0.75), "all", third),
            ap(None, "small", third),
            ap(None, "medium", third),
            ap(None, "large", third),
            ar("all", first),
            ar("all", second),
            ar("all", third),
            ar("small", third),
            ar("medium", third),
            ar("large", third),
        ];
        let mut text = String::new();
        let stats = rows.map(|row| {
            let value = self.average(row);
            self.line(row, value, &mut text);
            value
        });
        Some(CocoSummary { stats, text })
    }

    /// Mean precision of category `k` (an index into the sorted `cat_ids`) over thresholds and recalls, all areas and
    /// the most detections; NaN when the category has no object.
    pub fn class_ap(&self, k: usize) -> f64 {
        let [t, r, _, _, m] = self.counts();
        let values: Vec<f64> =
            (0..t * r).map(|tr| self.precision(tr / r, tr % r, k, 0, m - 1)).filter(|v| *v > -1.0).collect();
        mean(&values)
    }

    fn average(&self, row: Row) -> f64 {
        let p = self.params();
        let [_, r, k, ..] = self.counts();
        let places =
            |wanted: &mut dyn FnMut(usize) -> bool, n: usize| (0..n).filter(|i| wanted(*i)).collect::<Vec<_>>();
        let thrs =
            places(&mut |t| row.iou_thr.is_none_or(|thr| p.named_thrs && thr == p.iou_thrs[t]), p.iou_thrs.len());
        let areas = places(&mut |a| p.area_rng_lbl.get(a).is_some_and(|l| l == row.area), p.area_rng.len());
        let maxes = places(&mut |m| p.max_dets[m] == row.max_dets, p.max_dets.len());
        let mut values = Vec::new();
        let recalls = if row.precision { r } else { 1 };
        for &t in &thrs {
            for ri in 0..recalls {
                for ki in 0..k {
                    for &a in &areas {
                        for &m in &maxes {
                            let v =
                                if row.precision { self.precision(t, ri, ki, a, m) } else { self.recall(t, ki, a, m) };
                            if v > -1.0 {
                                values.push(v);
                            }
                        }
                    }
                }
            }
        }
        if values.is_empty() { -1.0 } else { mean(&values) }
    }

    fn line(&self, row: Row, value: f64, text: &mut String) {
        let (title, kind) = if row.precision { ("Average Precision", "(AP)") } else { ("Average Recall", "(AR)") };
        let thrs = &self.params().iou_thrs;
        let iou = match (row.iou_thr, thrs.first(), thrs.last()) {
            (Some(thr), ..) => format!("{thr:0.2}"),
            (None, Some(first), Some(last)) => format!("{first:0.2}:{last:0.2}"),
            _ => String::new(),
        };
        let (area, max_dets) = (row.area, row.max_dets);
        let _ = writeln!(
            text,
            " {title:<18} {kind} @[ IoU={iou:<9} | area={area:>6} | maxDets={max_dets:>3} ] = {value:0.3}"
        );
    }
}
