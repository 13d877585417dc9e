//! A closer look at results: curves, and the images that went best and worst (mmdet's `analyze_results.py`).

use mmcv::Result;
use mmcv::visualization::Series;
use rayon::prelude::*;

use super::coco::CocoEval;
use super::mean_ap::{EvalMapOptions, MapResult, eval_map};
use super::numeric::coco_iou_thrs;
use crate::core::{AnnInfo, DetResult};

impl MapResult {
    /// Precision over recall of each class in a scale, to plot. Classes are numbered where `names` has none.
    pub fn curves(&self, scale: usize, names: &[String]) -> Vec<Series> {
        let class = |(i, c): (usize, &super::ClassMap)| {
            let points = c.recall[scale].iter().zip(&c.precision[scale]).map(|(r, p)| (*r, f64::from(*p)));
            Series { name: names.get(i).cloned().unwrap_or_else(|| i.to_string()), points: points.collect() }
        };
        self.classes.iter().enumerate().map(class).collect()
    }
}

impl CocoEval {
    /// Precision over recall at each IoU threshold, mean over the categories that have objects, of all areas and the
    /// most detections, to plot.
    pub fn curves(&self) -> Vec<Series> {
        let [t, r, k, _, m] = self.counts();
        let mean = |t, r| {
            let values: Vec<f64> = (0..k).map(|k| self.precision(t, r, k, 0, m - 1)).filter(|p| *p > -1.0).collect();
            super::numeric::mean(&values)
        };
        (0..t)
            .map(|t| Series {
                name: format!("IoU={:.2}", self.params().iou_thrs[t]),
                points: (0..r).map(|r| (self.params().rec_thrs[r], mean(t, r))).collect(),
            })
            .collect()
    }
}

/// The mAP of one image, mean over the IoU thresholds 0.5 to 0.95.
pub fn image_map(result: &DetResult, annotation: &AnnInfo) -> Result<f64> {
    let thrs = coco_iou_thrs();
    let mut total = 0.0;
    for &iou_thr in &thrs {
        let opts = EvalMapOptions { iou_thr, ..EvalMapOptions::default() };
        total += f64::from(eval_map(std::slice::from_ref(result), &[annotation], &opts)?.mean_ap[0]);
    }
    Ok(total / thrs.len() as f64)
}

/// The images with the best and those with the worst [`image_map`], each an index and its mAP in ascending order; at
/// most `topk` of each and never one in both.
///
/// # Errors
/// When the numbers of images differ.
pub fn good_and_bad(
    results: &[DetResult],
    annotations: &[&AnnInfo],
    topk: usize,
) -> Result<(Vec<(usize, f64)>, Vec<(usize, f64)>)> {
    if results.len() != annotations.len() {
        let message = format!("{} images have results, {} have annotations", results.len(), annotations.len());
        return Err(mmcv::Error::Run(message));
    }
    let pairs = results.par_iter().zip(annotations).enumerate();
    let mut maps: Vec<(usize, f64)> = pairs.map(|(i, (r, a))| Ok((i, image_map(r, a)?))).collect::<Result<_>>()?;
    maps.sort_by(|a, b| a.1.total_cmp(&b.1));
    let topk = topk.min(maps.len() / 2);
    Ok((maps[maps.len() - topk..].to_vec(), maps[..topk].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::coco::{CocoApi, CocoEvalParams, IouType};
    use crate::evaluation::map_golden::data;
    use crate::evaluation::synthetic::make;

    #[test]
    fn the_best_and_worst_images_are_those_of_mmdet() {
        // With `res, ann = data(5)` of `map_golden.rs`:
        // maps = sorted(((i, bbox_map_eval(res[i], ann[i])) for i in range(12)), key=lambda kv: kv[1]); maps[-3:], maps[:3]
        let (dets, ann) = data(5);
        let ann: Vec<&AnnInfo> = ann.iter().collect();
        let (good, bad) = good_and_bad(&dets[..12], &ann[..12], 3).unwrap();
        assert_eq!(good, [(1, 0.393_750_011_920_928_96), (10, 0.4), (8, 0.566_666_665_673_256)]);
        assert_eq!(bad, [(5, 0.0), (6, 0.0), (7, 0.0)]);
        let (good, bad) = good_and_bad(&dets[..5], &ann[..5], 20).unwrap();
        assert_eq!((good.len(), bad.len()), (2, 2));
        assert!(good_and_bad(&dets, &ann[1..], 3).is_err());
    }

    #[test]
    fn curves_hold_what_the_numbers_are_made_of() {
        let (dets, ann) = data(5);
        let ann: Vec<&AnnInfo> = ann.iter().collect();
        let result = eval_map(&dets, &ann, &EvalMapOptions::default()).unwrap();
        let curves = result.curves(0, &["cat".to_owned()]);
        assert_eq!((curves.len(), curves[0].name.as_str(), curves[1].name.as_str()), (5, "cat", "1"));
        assert_eq!(curves[2].points.len(), 78);
        assert_eq!(curves[2].points[77].0, 0.78125);

        let (json, _) = make(5, 40, 5, 9, 9);
        let gt: CocoApi = json.parse().unwrap();
        let params = CocoEvalParams::new(IouType::Bbox, gt.get_img_ids(), gt.get_cat_ids::<&str>(None));
        let curves = CocoEval::new(&gt, &[], params).unwrap().curves();
        assert_eq!((curves.len(), curves[5].name.as_str(), curves[5].points.len()), (10, "IoU=0.75", 101));
        assert!(curves.iter().flat_map(|c| &c.points).all(|p| p.1 == 0.0));
    }
}
