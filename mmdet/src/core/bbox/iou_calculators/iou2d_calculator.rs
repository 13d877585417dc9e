//! Overlaps of axis-parallel boxes: mmdet's `iou2d_calculator.py`.

use candle_core::{Result, bail};
use mmcv::register;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::half::round as half;
use super::{IOU_CALCULATORS, IouCalculator, OverlapMode};
use crate::core::BBox;

/// The smallest area that overlaps are divided by.
const OVERLAP_EPS: f32 = 1e-6;

/// `type = "BboxOverlaps2D"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BboxOverlaps2DConfig {
    /// With `fp16`, boxes are divided by it so that areas don't overflow; default 1.
    #[serde(default = "one")]
    pub scale: f64,
    /// `fp16` computes in half precision; by default f32.
    #[serde(default)]
    pub dtype: Option<String>,
}

fn one() -> f64 {
    1.0
}

/// `type = "BboxOverlaps2D"`.
#[derive(Debug, Clone, Default)]
pub struct BboxOverlaps2D {
    /// The scale of half precision, `None` for f32.
    fp16: Option<f32>,
}

impl BboxOverlaps2D {
    /// An error for a `dtype` other than `fp16`.
    pub fn new(cfg: &BboxOverlaps2DConfig) -> Result<Self> {
        match cfg.dtype.as_deref() {
            None => Ok(Self { fp16: None }),
            Some("fp16") => Ok(Self { fp16: Some(cfg.scale as f32) }),
            Some(other) => bail!("BboxOverlaps2D: dtype '{other}', expected None or 'fp16'"),
        }
    }
}

impl IouCalculator for BboxOverlaps2D {
    fn overlaps(&self, bboxes1: &[BBox], bboxes2: &[BBox], mode: OverlapMode) -> Vec<f32> {
        let Some(scale) = self.fp16 else { return bbox_overlaps(bboxes1, bboxes2, mode) };
        let (bboxes1, bboxes2) = (to_half(bboxes1, scale), to_half(bboxes2, scale));
        bboxes1.iter().flat_map(|a| bboxes2.iter().map(|b| half_pair(a, b, mode))).collect()
    }

    fn aligned(&self, bboxes1: &[BBox], bboxes2: &[BBox], mode: OverlapMode) -> Vec<f32> {
        let Some(scale) = self.fp16 else { return bbox_overlaps_aligned(bboxes1, bboxes2, mode) };
        to_half(bboxes1, scale).iter().zip(&to_half(bboxes2, scale)).map(|(a, b)| half_pair(a, b, mode)).collect()
    }

    fn is_plain(&self) -> bool {
        self.fp16.is_none()
    }
}

fn to_half(bboxes: &[BBox], scale: f32) -> Vec<BBox> {
    bboxes.iter().map(|b| b.map(|v| half(v / scale))).collect()
}

/// One overlap where each step is rounded to half precision, as torch computes it.
fn half_pair(a: &BBox, b: &BBox, mode: OverlapMode) -> f32 {
    let area = |b: &BBox| half(half(b[2] - b[0]) * half(b[3] - b[1]));
    let span = |low: f32, high: f32| half(high - low).max(0.0);
    let overlap = half(span(a[0].max(b[0]), a[2].min(b[2])) * span(a[1].max(b[1]), a[3].min(b[3])));
    let union = if mode == OverlapMode::Iof { area(a) } else { half(half(area(a) + area(b)) - overlap) };
    let eps = half(OVERLAP_EPS);
    let union = union.max(eps);
    let iou = half(overlap / union);
    if mode != OverlapMode::Giou {
        return iou;
    }
    let enclosing = half(span(a[0].min(b[0]), a[2].max(b[2])) * span(a[1].min(b[1]), a[3].max(b[3]))).max(eps);
    half(iou - half(half(enclosing - union) / enclosing))
}

/// `max` that the compiler turns into one instruction (`f32::max` also has to look for NaN).
#[inline(always)]
fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn area(b: &BBox) -> f32 {
    (b[2] - b[0]) * (b[3] - b[1])
}

#[inline(always)]
fn pair<const MODE: u8>(a: &BBox, area_a: f32, b: BBox, area_b: f32) -> f32 {
    let w = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0);
    let h = max(min(a[3], b[3]) - max(a[1], b[1]), 0.0);
    let overlap = w * h;
    let union = if MODE == IOF { area_a } else { area_a + area_b - overlap };
    let union = max(union, OVERLAP_EPS);
    if MODE != GIOU {
        return overlap / union;
    }
    let cw = max(max(a[2], b[2]) - min(a[0], b[0]), 0.0);
    let ch = max(max(a[3], b[3]) - min(a[1], b[1]), 0.0);
    let enclosing = max(cw * ch, OVERLAP_EPS);
    overlap / union - (enclosing - union) / enclosing
}

const IOU: u8 = 0;
const IOF: u8 = 1;
const GIOU: u8 = 2;

/// Boxes by coordinate, so that a loop over them is vectorised.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    x1: Vec<f32>,
    y1: Vec<f32>,
    x2: Vec<f32>,
    y2: Vec<f32>,
    area: Vec<f32>,
}

impl Columns {
    pub(crate) fn new(bboxes: &[BBox]) -> Self {
        let column = |i: usize| bboxes.iter().map(|b| b[i]).collect();
        Self { x1: column(0), y1: column(1), x2: column(2), y2: column(3), area: bboxes.iter().map(area).collect() }
    }

    /// The box around them all.
    pub(crate) fn hull(&self) -> BBox {
        let low = |v: &[f32]| v.iter().fold(f32::INFINITY, |a, b| min(a, *b));
        let high = |v: &[f32]| v.iter().fold(f32::NEG_INFINITY, |a, b| max(a, *b));
        [low(&self.x1), low(&self.y1), high(&self.x2), high(&self.y2)]
    }
}

fn row<const MODE: u8>(a: &BBox, others: &Columns, out: &mut [f32]) {
    let (n, area_a) = (out.len(), area(a));
    let (x1, y1, x2, y2) = (&others.x1[..n], &others.y1[..n], &others.x2[..n], &others.y2[..n]);
    let areas = &others.area[..n];
    for i in 0..n {
        out[i] = pair::<MODE>(a, area_a, [x1[i], y1[i], x2[i], y2[i]], areas[i]);
    }
}

/// The IoU of `a` with each of `others`.
pub(crate) fn iou_row(a: &BBox, others: &Columns, out: &mut [f32]) {
    row::<IOU>(a, others, out);
}

/// Overlaps of each of `bboxes1` with each of `bboxes2`, row-major `[bboxes1.len(), bboxes2.len()]`.
pub fn bbox_overlaps(bboxes1: &[BBox], bboxes2: &[BBox], mode: OverlapMode) -> Vec<f32> {
    /// Columns of one piece of work.
    const CHUNK: usize = 4096;
    let n = bboxes2.len();
    let mut out = vec![0.0; bboxes1.len() * n];
    if out.is_empty() {
        return out;
    }
    let columns: Vec<Columns> = bboxes2.chunks(CHUNK).map(Columns::new).collect();
    let fill = |(row_of, out): (&BBox, &mut [f32])| {
        for (out, columns) in out.chunks_mut(CHUNK).zip(&columns) {
            match mode {
                OverlapMode::Iou => row::<IOU>(row_of, columns, out),
                OverlapMode::Iof => row::<IOF>(row_of, columns, out),
                OverlapMode::Giou => row::<GIOU>(row_of, columns, out),
            }
        }
    };
    bboxes1.par_iter().zip(out.par_chunks_mut(n)).with_min_len((2 * CHUNK).div_ceil(n)).for_each(fill);
    out
}

/// Overlaps of boxes at the same position.
pub fn bbox_overlaps_aligned(bboxes1: &[BBox], bboxes2: &[BBox], mode: OverlapMode) -> Vec<f32> {
    let one = |(a, b): (&BBox, &BBox)| match mode {
        OverlapMode::Iou => pair::<IOU>(a, area(a), *b, area(b)),
        OverlapMode::Iof => pair::<IOF>(a, area(a), *b, area(b)),
        OverlapMode::Giou => pair::<GIOU>(a, area(a), *b, area(b)),
    };
    bboxes1.iter().zip(bboxes2).map(one).collect()
}

register!(IOU_CALCULATORS: dyn IouCalculator, "BboxOverlaps2D" => BboxOverlaps2D(BboxOverlaps2DConfig));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::{boxes, close};

    const DEGENERATE: BBox = [5.0, 5.0, 5.0, 9.0];

    fn pairs() -> (Vec<BBox>, Vec<BBox>) {
        let (mut a, mut b) = (boxes(3, 1), boxes(4, 2));
        (a[2], b[3]) = (DEGENERATE, DEGENERATE);
        (a, b)
    }

    // a, b = boxes(3, 1), boxes(4, 2); a[2] = b[3] = torch.tensor([5., 5, 5, 9])
    // for m in ['iou', 'iof', 'giou']: bbox_overlaps(a, b, m), bbox_overlaps(a, b[1:], m, is_aligned=True)
    #[test]
    #[rustfmt::skip]
    fn overlaps_are_mmdets() {
        let (a, b) = pairs();
        let cases: [(OverlapMode, [f32; 12], [f32; 3]); 3] = [
            (OverlapMode::Iou, [0.0, 0.1322314, 0.0, 0.0, 0.17233628, 0.0, 0.23770855, 0.0, 0.0, 0.0, 0.0, 0.0], [0.1322314, 0.23770855, 0.0]),
            (OverlapMode::Iof, [0.0, 0.42134443, 0.0, 0.0, 0.6329114, 0.0, 0.886076, 0.0, 0.0, 0.0, 0.0, 0.0], [0.42134443, 0.886076, 0.0]),
            (OverlapMode::Giou, [-0.68393934, 0.004717171, -0.65028346, -0.8706294, 0.014886782, -0.6456837, 0.20431338, -0.9540582, -0.8361076, -0.6306258, -0.8295077, 0.0], [0.004717171, 0.20431338, 0.0]),
        ];
        for (mode, matrix, aligned) in cases {
            close(&bbox_overlaps(&a, &b, mode), &matrix);
            close(&bbox_overlaps_aligned(&a, &b[1..], mode), &aligned);
        }
    }

    // BboxOverlaps2D(scale=2., dtype='fp16')(a, b), and with 'giou'
    #[test]
    #[rustfmt::skip]
    fn half_precision_is_mmdets() {
        let (a, b) = pairs();
        let fp16 = BboxOverlaps2D::new(&serde_json::from_str(r#"{"scale": 2.0, "dtype": "fp16"}"#).unwrap()).unwrap();
        close(&fp16.overlaps(&a, &b, OverlapMode::Iou), &[0.0, 0.13220215, 0.0, 0.0, 0.17236328, 0.0, 0.23754883, 0.0, 0.0, 0.0, 0.0, 0.0]);
        close(&fp16.overlaps(&a, &b, OverlapMode::Giou), &[-0.68408203, 0.004760742, -0.6503906, -0.87109375, 0.014770508, -0.6455078, 0.20446777, -0.95410156, -0.8359375, -0.6303711, -0.82958984, 0.0]);
        close(&fp16.aligned(&a, &b[1..], OverlapMode::Iou), &[0.13220215, 0.23754883, 0.0]);
        assert!(!fp16.is_plain());
        assert!(BboxOverlaps2D::new(&serde_json::from_str(r#"{"dtype": "bf16"}"#).unwrap()).is_err());
    }

    #[test]
    fn no_boxes_have_no_overlaps_and_many_are_the_sum_of_few() {
        assert!(bbox_overlaps(&[], &boxes(3, 1), OverlapMode::Iou).is_empty());
        assert!(bbox_overlaps(&boxes(3, 1), &[], OverlapMode::Iou).is_empty());
        let (a, b) = (boxes(3, 4), boxes(9001, 5));
        let all = bbox_overlaps(&a, &b, OverlapMode::Iou);
        for (i, a) in a.iter().enumerate() {
            assert_eq!(all[i * 9001..(i + 1) * 9001], bbox_overlaps_aligned(&vec![*a; 9001], &b, OverlapMode::Iou));
        }
    }
}
