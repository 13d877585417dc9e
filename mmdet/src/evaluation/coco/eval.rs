//! Average precision and recall by COCO's rules; pycocotools' `COCOeval`, equal to it to the last bit.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use mmcv::{Error, Result};
use rayon::prelude::*;

use super::api::{CocoAnn, CocoApi};
use super::matching::{Det, ImageEval, Object, Outcome, Region, evaluate_img};
use super::params::{CocoEvalParams, IouType};
use crate::core::AnnMask;
use crate::core::mask::Rle;
use crate::evaluation::numeric::argsort_desc;

/// A detection as a COCO result file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct CocoDet<'a> {
    /// The image.
    pub image_id: i64,
    /// The class found.
    pub category_id: i64,
    /// `[x, y, width, height]`, pixels.
    pub bbox: [f64; 4],
    /// Confidence.
    pub score: f64,
    /// The mask found; needed for [`IouType::Segm`].
    pub mask: Option<Cow<'a, Rle>>,
}

/// Precision and recall of detections in every setting.
#[derive(Debug, Clone)]
pub struct CocoEval {
    params: CocoEvalParams,
    /// `[threshold, recall, category, area range, max_dets]`.
    precision: Vec<f64>,
    /// `[threshold, category, area range, max_dets]`.
    recall: Vec<f64>,
    /// As `precision`.
    scores: Vec<f64>,
}

impl CocoEval {
    /// Matches `dets` to the annotations of `gt` and gathers precision and recall.
    ///
    /// # Errors
    /// When a detection is in an image that `gt` doesn't have, or a mask is needed and absent.
    pub fn new(gt: &CocoApi, dets: &[CocoDet], mut params: CocoEvalParams) -> Result<Self> {
        params.normalise();
        if params.max_dets.is_empty() || params.area_rng.is_empty() || params.iou_thrs.is_empty() {
            return Err(Error::config(
                "a COCO evaluation needs an IoU threshold, an area range and a number of detections",
            ));
        }
        if let Some((i, d)) = dets.iter().enumerate().find(|(_, d)| !gt.imgs().contains_key(&d.image_id)) {
            let message = format!("result {i} is of image {}, which the annotations don't have", d.image_id);
            return Err(Error::data(gt.path(), message));
        }
        let segm = params.iou_type == IouType::Segm;
        let masks = if segm { gt_masks(gt)? } else { Vec::new() };
        if let Some(i) = dets.iter().position(|d| segm && d.mask.is_none()) {
            return Err(Error::Run(format!("result {i} has no mask, evaluating 'segm' needs one")));
        }

        let places = Places::new(&params);
        let gt_keys = places.keys(gt.anns().iter().map(|a| (a.image_id, a.category_id)));
        let dt_keys = places.keys(dets.iter().map(|d| (d.image_id, d.category_id)));
        let jobs = jobs(&dt_keys, &gt_keys);
        let most = params.max_dets.last().copied().unwrap_or(0);
        let evals: Vec<ImageEval> = jobs
            .par_iter()
            .map(|job| {
                let found = &dt_keys[job.dets.clone()];
                let scores: Vec<f64> = found.iter().map(|k| dets[k.index].score).collect();
                let best = argsort_desc(&scores).into_iter().take(most);
                let found: Vec<Det> = best.map(|i| det(&dets[found[i].index], segm)).collect();
                let there: Vec<Object> =
                    gt_keys[job.gts.clone()].iter().map(|k| object(&gt.anns()[k.index], masks.get(k.index))).collect();
                evaluate_img(&found, &there, &params.area_rng, &params.iou_thrs)
            })
            .collect();
        Ok(Self::accumulate(params, &jobs, &evals))
    }

    fn accumulate(params: CocoEvalParams, jobs: &[Job], evals: &[ImageEval]) -> Self {
        let [t, r, k, a, m] = counts(&params);
        let per_category: Vec<Curves> = (0..k)
            .into_par_iter()
            .map(|cat| {
                let from = jobs.partition_point(|j| j.group < cat);
                let to = jobs.partition_point(|j| j.group <= cat);
                Curves::new(&params, &evals[from..to])
            })
            .collect();
        let mut all = Self {
            precision: vec![-1.0; t * r * k * a * m],
            recall: vec![-1.0; t * k * a * m],
            scores: vec![-1.0; t * r * k * a * m],
            params,
        };
        // The curves are [t, r, a, m] and [t, a, m]: runs of a * m stay together.
        let am = a * m;
        for (cat, curves) in per_category.iter().enumerate() {
            for tr in 0..t * r {
                let to = (tr * k + cat) * am;
                all.precision[to..to + am].copy_from_slice(&curves.precision[tr * am..(tr + 1) * am]);
                all.scores[to..to + am].copy_from_slice(&curves.scores[tr * am..(tr + 1) * am]);
            }
            for ti in 0..t {
                let to = (ti * k + cat) * am;
                all.recall[to..to + am].copy_from_slice(&curves.recall[ti * am..(ti + 1) * am]);
            }
        }
        all
    }

    /// What was asked, ids and numbers of detections sorted.
    pub fn params(&self) -> &CocoEvalParams {
        &self.params
    }

    /// Numbers of thresholds, recalls, categories, area ranges and numbers of detections.
    pub fn counts(&self) -> [usize; 5] {
        counts(&self.params)
    }

    fn at(&self, t: usize, r: usize, k: usize, a: usize, m: usize) -> usize {
        let [_, nr, nk, na, nm] = self.counts();
        (((t * nr + r) * nk + k) * na + a) * nm + m
    }

    /// Precision at a threshold, recall, category, area range and number of detections (indices into the
    /// parameters); -1 where there is no object.
    pub fn precision(&self, t: usize, r: usize, k: usize, a: usize, m: usize) -> f64 {
        self.precision[self.at(t, r, k, a, m)]
    }

    /// Score of the detection at which that recall is reached; -1 where there is no object, 0 where it isn't reached.
    pub fn score(&self, t: usize, r: usize, k: usize, a: usize, m: usize) -> f64 {
        self.scores[self.at(t, r, k, a, m)]
    }

    /// Largest recall at a threshold, category, area range and number of detections; -1 where there is no object.
    pub fn recall(&self, t: usize, k: usize, a: usize, m: usize) -> f64 {
        let [_, _, nk, na, nm] = self.counts();
        self.recall[((t * nk + k) * na + a) * nm + m]
    }
}

fn counts(p: &CocoEvalParams) -> [usize; 5] {
    let categories = if p.use_cats { p.cat_ids.len() } else { 1 };
    [p.iou_thrs.len(), p.rec_thrs.len(), categories, p.area_rng.len(), p.max_dets.len()]
}

/// The mask of each annotation that the evaluation may need.
fn gt_masks(gt: &CocoApi) -> Result<Vec<Cow<'_, Rle>>> {
    gt.anns()
        .par_iter()
        .map(|ann| match &ann.segmentation {
            Some(AnnMask::Rle(rle)) => Ok(Cow::Borrowed(rle)),
            Some(AnnMask::Polygons(polygons)) => {
                let img = &gt.imgs()[&ann.image_id];
                Ok(Cow::Owned(Rle::from_polygons(polygons, img.height, img.width)))
            }
            None => {
                let message = format!("annotation {} has no 'segmentation', evaluating 'segm' needs one", ann.id);
                Err(Error::data(gt.path(), message))
            }
        })
        .collect()
}

fn det<'a>(d: &'a CocoDet, segm: bool) -> Det<'a> {
    match &d.mask {
        Some(rle) if segm => Det { score: d.score, area: rle.area() as f64, region: Region::mask(rle) },
        _ => Det { score: d.score, area: d.bbox[2] * d.bbox[3], region: Region::Box(d.bbox) },
    }
}

fn object<'a>(ann: &CocoAnn, mask: Option<&'a Cow<Rle>>) -> Object<'a> {
    let region = mask.map_or(Region::Box(ann.bbox), |m| Region::mask(m));
    Object { id: ann.id, area: ann.area, crowd: ann.iscrowd, region }
}

/// Where images and categories stand in the evaluation's order.
struct Places {
    imgs: HashMap<i64, usize>,
    cats: HashMap<i64, usize>,
    use_cats: bool,
}

/// A record that takes part: its group (category, or 0 for all together), image and place in its list.
struct Key {
    group: usize,
    img: usize,
    cat: usize,
    index: usize,
}

impl Places {
    fn new(p: &CocoEvalParams) -> Self {
        let places = |ids: &[i64]| ids.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        Self { imgs: places(&p.img_ids), cats: places(&p.cat_ids), use_cats: p.use_cats }
    }

    /// The records that take part, by group, image, category and then in their own order.
    fn keys(&self, records: impl Iterator<Item = (i64, i64)>) -> Vec<Key> {
        let mut keys: Vec<Key> = records
            .enumerate()
            .filter_map(|(index, (img, cat))| {
                let (img, cat) = (*self.imgs.get(&img)?, *self.cats.get(&cat)?);
                Some(Key { group: if self.use_cats { cat } else { 0 }, img, cat, index })
            })
            .collect();
        keys.par_sort_unstable_by_key(|k| (k.group, k.img, k.cat, k.index));
        keys
    }
}

/// One image and group with something in it.
struct Job {
    group: usize,
    dets: Range<usize>,
    gts: Range<usize>,
}

fn jobs(dets: &[Key], gts: &[Key]) -> Vec<Job> {
    let (mut jobs, mut d, mut g) = (Vec::new(), 0, 0);
    let place = |keys: &[Key], at: usize| keys.get(at).map(|k: &Key| (k.group, k.img));
    while let Some(here) = [place(dets, d), place(gts, g)].into_iter().flatten().min() {
        let run = |keys: &[Key], from: usize| {
            from..from + keys[from..].iter().take_while(|k| (k.group, k.img) == here).count()
        };
        let job = Job { group: here.0, dets: run(dets, d), gts: run(gts, g) };
        (d, g) = (job.dets.end, job.gts.end);
        jobs.push(job);
    }
    jobs
}

/// Precision, scores (`[threshold, recall, area range, max_dets]`) and recall of one category.
struct Curves {
    precision: Vec<f64>,
    scores: Vec<f64>,
    recall: Vec<f64>,
}

impl Curves {
    fn new(p: &CocoEvalParams, evals: &[ImageEval]) -> Self {
        let [t, r, _, a, m] = counts(p);
        let mut curves = Self {
            precision: vec![-1.0; t * r * a * m],
            scores: vec![-1.0; t * r * a * m],
            recall: vec![-1.0; t * a * m],
        };
        // Every detection with its image and its place there, all images together, best first.
        let all: Vec<(usize, usize, f64)> = evals
            .iter()
            .enumerate()
            .flat_map(|(e, eval)| eval.scores.iter().enumerate().map(move |(rank, &score)| (e, rank, score)))
            .collect();
        let scores: Vec<f64> = all.iter().map(|d| d.2).collect();
        let ranked: Vec<(usize, usize, f64)> = argsort_desc(&scores).into_iter().map(|i| all[i]).collect();
        let deepest = ranked.iter().map(|d| d.1 + 1).max().unwrap_or(0);
        for area in 0..a {
            let num_gts: usize = evals.iter().map(|e| e.num_gts[area]).sum();
            if num_gts == 0 {
                continue;
            }
            for thr in 0..t {
                let mut same: Option<usize> = None;
                for (mi, &max_det) in p.max_dets.iter().enumerate() {
                    let to = |ri: usize| ((thr * r + ri) * a + area) * m + mi;
                    if let Some(before) = same {
                        // No image has more detections than the last number let through.
                        for ri in 0..r {
                            curves.precision[to(ri)] = curves.precision[to(ri) - mi + before];
                            curves.scores[to(ri)] = curves.scores[to(ri) - mi + before];
                        }
                        curves.recall[(thr * a + area) * m + mi] = curves.recall[(thr * a + area) * m + before];
                        continue;
                    }
                    let seen = ranked.iter().filter(|d| d.1 < max_det).map(|&(e, rank, score)| {
                        let eval = &evals[e];
                        (eval.outcomes[(area * t + thr) * eval.scores.len() + rank], score)
                    });
                    let curve = Curve::new(seen, num_gts, &p.rec_thrs);
                    for (ri, (precision, score)) in curve.points.into_iter().enumerate() {
                        curves.precision[to(ri)] = precision;
                        curves.scores[to(ri)] = score;
                    }
                    curves.recall[(thr * a + area) * m + mi] = curve.recall;
                    if deepest <= max_det {
                        same = Some(mi);
                    }
                }
            }
        }
        curves
    }
}

/// Precision and score at each recall asked for, and the last recall.
struct Curve {
    points: Vec<(f64, f64)>,
    recall: f64,
}

impl Curve {
    fn new(seen: impl Iterator<Item = (Outcome, f64)>, num_gts: usize, rec_thrs: &[f64]) -> Self {
        let (mut hits, mut misses) = (0.0, 0.0);
        // Recall, precision, score after each detection.
        let mut steps: Vec<(f64, f64, f64)> = seen
            .map(|(outcome, score)| {
                match outcome {
                    Outcome::Hit => hits += 1.0,
                    Outcome::Miss => misses += 1.0,
                    Outcome::Ignored => {}
                }
                (hits / num_gts as f64, hits / (misses + hits + f64::EPSILON), score)
            })
            .collect();
        let recall = steps.last().map_or(0.0, |s| s.0);
        let mut best = 0.0f64;
        for step in steps.iter_mut().rev() {
            best = best.max(step.1);
            step.1 = best;
        }
        let mut points = vec![(0.0, 0.0); rec_thrs.len()];
        let mut at = 0;
        for (point, thr) in points.iter_mut().zip(rec_thrs) {
            at += steps[at..].iter().take_while(|s| s.0 < *thr).count();
            let Some(step) = steps.get(at) else { break };
            *point = (step.1, step.2);
        }
        Self { points, recall }
    }
}
