//! Detections of one image matched to its objects.

use crate::core::mask::Rle;

/// What became of a detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Found an object that counts.
    Hit,
    /// Found none.
    Miss,
    /// Found something to ignore, or found nothing and is itself outside the area range.
    Ignored,
}

/// Where a detection or an object is.
pub(super) enum Region<'a> {
    /// `[x, y, width, height]`.
    Box([f64; 4]),
    /// A mask with its bounding box and area.
    Mask { rle: &'a Rle, bbox: [f64; 4], area: u64 },
}

impl<'a> Region<'a> {
    pub(super) fn mask(rle: &'a Rle) -> Self {
        Self::Mask { rle, bbox: rle.to_bbox(), area: rle.area() }
    }
}

/// A detection.
pub(super) struct Det<'a> {
    pub score: f64,
    pub area: f64,
    pub region: Region<'a>,
}

/// An object.
pub(super) struct Object<'a> {
    pub id: i64,
    pub area: f64,
    pub crowd: bool,
    pub region: Region<'a>,
}

/// The detections of one image and category, best first, and their outcomes.
pub(super) struct ImageEval {
    pub scores: Vec<f64>,
    /// `[area range][threshold][detection]`, flat.
    pub outcomes: Vec<Outcome>,
    /// Objects that count, per area range.
    pub num_gts: Vec<usize>,
}

/// Matches `dets` (best first, cut to the largest `max_dets`) to `gts` in each area range at each threshold.
pub(super) fn evaluate_img(dets: &[Det], gts: &[Object], area_rng: &[[f64; 2]], iou_thrs: &[f64]) -> ImageEval {
    let (nd, ng) = (dets.len(), gts.len());
    let ious = overlaps(dets, gts);
    let mut outcomes = Vec::with_capacity(area_rng.len() * iou_thrs.len() * nd);
    let mut num_gts = Vec::with_capacity(area_rng.len());
    let mut taken = vec![false; ng];
    for rng in area_rng {
        let outside = |area: f64| area < rng[0] || area > rng[1];
        let ignored: Vec<bool> = gts.iter().map(|g| g.crowd || outside(g.area)).collect();
        // Objects that count come first, else in their own order.
        let order: Vec<usize> = (0..ng).filter(|&g| !ignored[g]).chain((0..ng).filter(|&g| ignored[g])).collect();
        num_gts.push(ignored.iter().filter(|i| !**i).count());
        for &thr in iou_thrs {
            taken.fill(false);
            for (d, det) in dets.iter().enumerate() {
                let mut best = thr.min(1.0 - 1e-10);
                let mut found: Option<usize> = None;
                for &g in &order {
                    if taken[g] && !gts[g].crowd {
                        continue;
                    }
                    // A match with an object that counts is not given up for one that doesn't.
                    if ignored[g] && found.is_some_and(|f| !ignored[f]) {
                        break;
                    }
                    let iou = ious[d * ng + g];
                    if iou < best {
                        continue;
                    }
                    best = iou;
                    found = Some(g);
                }
                if let Some(g) = found {
                    taken[g] = true;
                }
                outcomes.push(match found {
                    Some(g) if ignored[g] => Outcome::Ignored,
                    // pycocotools takes the id 0 for "no match".
                    Some(g) if gts[g].id != 0 => Outcome::Hit,
                    _ if outside(det.area) => Outcome::Ignored,
                    _ => Outcome::Miss,
                });
            }
        }
    }
    ImageEval { scores: dets.iter().map(|d| d.score).collect(), outcomes, num_gts }
}

/// IoU of each detection (rows) with each object (columns); over the detection's own area where that is a crowd.
fn overlaps(dets: &[Det], gts: &[Object]) -> Vec<f64> {
    dets.iter().flat_map(|d| gts.iter().map(|g| overlap(&d.region, &g.region, g.crowd))).collect()
}

fn overlap(d: &Region, g: &Region, crowd: bool) -> f64 {
    match (d, g) {
        (Region::Box(d), Region::Box(g)) => box_iou(d, g, crowd),
        (Region::Mask { rle: d, bbox, area }, Region::Mask { rle: g, bbox: g_bbox, area: g_area }) => {
            // As in pycocotools, masks whose boxes don't meet are not looked at.
            if box_iou(bbox, g_bbox, crowd) <= 0.0 {
                return 0.0;
            }
            if (d.height(), d.width()) != (g.height(), g.width()) {
                return -1.0;
            }
            let both = d.intersection(g);
            if both == 0 {
                return 0.0;
            }
            both as f64 / if crowd { *area } else { area + g_area - both } as f64
        }
        // One evaluation has one kind.
        _ => 0.0,
    }
}

/// IoU of `[x, y, width, height]` boxes.
fn box_iou(d: &[f64; 4], g: &[f64; 4], crowd: bool) -> f64 {
    let w = (d[2] + d[0]).min(g[2] + g[0]) - d[0].max(g[0]);
    if w <= 0.0 {
        return 0.0;
    }
    let h = (d[3] + d[1]).min(g[3] + g[1]) - d[1].max(g[1]);
    if h <= 0.0 {
        return 0.0;
    }
    let (both, d_area, g_area) = (w * h, d[2] * d[3], g[2] * g[3]);
    both / if crowd { d_area } else { d_area + g_area - both }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn det(score: f64, b: [f64; 4]) -> Det<'static> {
        Det { score, area: b[2] * b[3], region: Region::Box(b) }
    }

    fn object(id: i64, b: [f64; 4], crowd: bool) -> Object<'static> {
        Object { id, area: b[2] * b[3], crowd, region: Region::Box(b) }
    }

    const ALL: [[f64; 2]; 1] = [[0.0, 1e10]];

    #[test]
    fn a_crowd_takes_any_number_and_an_object_one() {
        let dets =
            [det(0.9, [0.0, 0.0, 10.0, 10.0]), det(0.8, [0.0, 0.0, 10.0, 10.0]), det(0.7, [40.0, 0.0, 5.0, 5.0])];
        let one = evaluate_img(&dets, &[object(1, [0.0, 0.0, 10.0, 10.0], false)], &ALL, &[0.5]);
        assert_eq!((one.outcomes, one.num_gts), (vec![Outcome::Hit, Outcome::Miss, Outcome::Miss], vec![1]));
        let crowd = evaluate_img(&dets, &[object(1, [0.0, 0.0, 99.0, 99.0], true)], &ALL, &[0.5]);
        assert_eq!((crowd.outcomes, crowd.num_gts), (vec![Outcome::Ignored; 3], vec![0]));
    }

    #[test]
    fn outside_the_area_range_nothing_counts() {
        let dets = [det(0.9, [0.0, 0.0, 10.0, 10.0]), det(0.8, [50.0, 0.0, 10.0, 10.0])];
        let gts = [object(1, [0.0, 0.0, 10.0, 10.0], false)];
        let e = evaluate_img(&dets, &gts, &[[0.0, 99.0]], &[0.5]);
        assert_eq!((e.outcomes, e.num_gts), (vec![Outcome::Ignored, Outcome::Ignored], vec![0]));
    }

    #[test]
    fn the_id_0_is_no_match() {
        let b = [0.0, 0.0, 10.0, 10.0];
        let e = evaluate_img(&[det(0.9, b)], &[object(0, b, false)], &ALL, &[0.5]);
        assert_eq!(e.outcomes, [Outcome::Miss]);
    }
}
