//! Detections as COCO result files have them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use mmcv::fileio::write_atomic;
use mmcv::{Error, Result};
use serde::{Deserialize, Serialize};

use super::eval::CocoDet;
use super::json::{Number, Record, Records, Segmentation, without_nan};
use super::params::IouType;
use crate::core::mask::Rle;
use crate::core::{AnnMask, DetResult, ScoredBox};
use crate::evaluation::report::TestResults;

/// One line of a result file.
#[derive(Serialize)]
struct Line {
    image_id: i64,
    bbox: [f64; 4],
    score: f64,
    category_id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    segmentation: Option<Runs>,
}

#[derive(Serialize)]
struct Runs {
    size: [usize; 2],
    counts: String,
}

fn xywh(b: &ScoredBox) -> [f64; 4] {
    let [x1, y1, x2, y2, _] = b.map(f64::from);
    [x1, y1, x2 - x1, y2 - y1]
}

/// The records of what was found: per image, per class, in the results' order. Label `i` is `cat_ids[i]`; proposals
/// have the category 1, as mmdet writes them. For [`IouType::Segm`] each has its mask.
///
/// # Errors
/// When there are more or fewer results than images, more classes than categories, or no mask for a box.
pub fn coco_records<'a>(
    results: TestResults<'a>,
    img_ids: &[i64],
    cat_ids: &[i64],
    iou_type: IouType,
) -> Result<Vec<CocoDet<'a>>> {
    results.check_len(img_ids.len())?;
    let mut records = Vec::new();
    match results {
        TestResults::Proposals(proposals) => {
            for (&image_id, boxes) in img_ids.iter().zip(proposals) {
                records.extend(boxes.iter().map(|b| record(image_id, 1, b, None)));
            }
        }
        TestResults::Detections(images) => {
            for (&image_id, found) in img_ids.iter().zip(images) {
                if found.bboxes.len() > cat_ids.len() {
                    let message = format!(
                        "image {image_id} has results of {} classes, the annotations have {}",
                        found.bboxes.len(),
                        cat_ids.len()
                    );
                    return Err(Error::Run(message));
                }
                for (label, boxes) in found.bboxes.iter().enumerate() {
                    let masks = match iou_type {
                        IouType::Bbox => None,
                        IouType::Segm => Some(masks_of(found, label, image_id)?),
                    };
                    records.extend(boxes.iter().enumerate().map(|(i, b)| {
                        let mask = masks.map(|m| Cow::Borrowed(&m[i]));
                        record(image_id, cat_ids[label], b, mask)
                    }));
                }
            }
        }
    }
    Ok(records)
}

fn masks_of(found: &DetResult, label: usize, image_id: i64) -> Result<&[Rle]> {
    let masks = found.masks.as_ref().and_then(|m| m.get(label)).map_or(&[][..], Vec::as_slice);
    if masks.len() == found.bboxes[label].len() {
        return Ok(masks);
    }
    let message =
        format!("image {image_id}, label {label}: {} boxes have {} masks", found.bboxes[label].len(), masks.len());
    Err(Error::Run(message))
}

fn record<'a>(image_id: i64, category_id: i64, b: &ScoredBox, mask: Option<Cow<'a, Rle>>) -> CocoDet<'a> {
    CocoDet { image_id, category_id, bbox: xywh(b), score: f64::from(b[4]), mask }
}

/// Writes result files named `prefix.bbox.json`, `prefix.segm.json` or `prefix.proposal.json` and gives their paths
/// by the metric that reads them.
pub fn results2json(
    results: TestResults,
    img_ids: &[i64],
    cat_ids: &[i64],
    prefix: &str,
) -> Result<IndexMap<String, PathBuf>> {
    let file = |kind: &str| PathBuf::from(format!("{prefix}.{kind}.json"));
    let mut files = IndexMap::new();
    match results {
        TestResults::Proposals(_) => {
            write_records(&file("proposal"), &coco_records(results, img_ids, cat_ids, IouType::Bbox)?)?;
            files.insert("proposal".to_owned(), file("proposal"));
        }
        TestResults::Detections(images) => {
            write_records(&file("bbox"), &coco_records(results, img_ids, cat_ids, IouType::Bbox)?)?;
            files.insert("bbox".to_owned(), file("bbox"));
            files.insert("proposal".to_owned(), file("bbox"));
            if has_masks(images) {
                write_records(&file("segm"), &coco_records(results, img_ids, cat_ids, IouType::Segm)?)?;
                files.insert("segm".to_owned(), file("segm"));
            }
        }
    }
    Ok(files)
}

/// Whether results have masks: as in mmdet the first image decides.
pub(crate) fn has_masks(images: &[DetResult]) -> bool {
    images.first().is_some_and(|i| i.masks.is_some())
}

/// Writes one result file.
pub fn write_records(path: &Path, records: &[CocoDet]) -> Result<()> {
    let lines = records.iter().map(|d| Line {
        image_id: d.image_id,
        bbox: d.bbox,
        score: d.score,
        category_id: d.category_id,
        segmentation: d.mask.as_ref().map(|m| Runs { size: [m.height(), m.width()], counts: m.to_text() }),
    });
    write_atomic(path, |out| {
        let mut list = serde_json::Serializer::new(out);
        serde::Serializer::collect_seq(&mut list, lines).map_err(std::io::Error::from)
    })
}

#[derive(Deserialize)]
struct RawResult {
    image_id: Option<i64>,
    category_id: Option<i64>,
    bbox: Option<[Number; 4]>,
    score: Option<Number>,
    #[serde(default)]
    segmentation: Segmentation,
}

impl Record for RawResult {
    const LIST: &'static str = "results";
}

/// Reads a result file, made here or elsewhere. A record with a mask needs no box.
///
/// # Errors
/// Names the file and the record that is not one.
pub fn read_results(path: impl AsRef<Path>) -> Result<Vec<CocoDet<'static>>> {
    let path = path.as_ref();
    let json = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let parsed = serde_json::from_slice::<Records<RawResult>>(&json).or_else(|e| match without_nan(&json) {
        Some(json) => serde_json::from_slice(&json),
        None => Err(e),
    });
    let raw = parsed.map_err(|e| Error::data(path, format!("not a COCO result file: {e}")))?.0;
    raw.into_iter()
        .enumerate()
        .map(|(i, r)| {
            let need = |key: &str| Error::data(path, format!("result {i}: no '{key}'"));
            let mask = match r.segmentation.0 {
                Some(AnnMask::Rle(rle)) => Some(rle),
                // pycocotools reads only run lengths here.
                Some(AnnMask::Polygons(_)) => {
                    return Err(Error::data(path, format!("result {i}: 'segmentation' must be run lengths")));
                }
                None => None,
            };
            let bbox = match (r.bbox, &mask) {
                (Some(b), _) => b.map(|n| n.0),
                (None, Some(rle)) => rle.to_bbox(),
                (None, None) => return Err(need("bbox")),
            };
            Ok(CocoDet {
                image_id: r.image_id.ok_or_else(|| need("image_id"))?,
                category_id: r.category_id.ok_or_else(|| need("category_id"))?,
                bbox,
                score: r.score.ok_or_else(|| need("score"))?.0,
                mask: mask.map(Cow::Owned),
            })
        })
        .collect()
}

/// Records back as results per image and label, each best first; records of other images or categories are left out.
pub fn results_of_records(records: &[CocoDet], img_ids: &[i64], cat_ids: &[i64]) -> Vec<DetResult> {
    let place = |ids: &[i64]| ids.iter().enumerate().map(|(i, &id)| (id, i)).collect::<HashMap<_, _>>();
    let (imgs, cats) = (place(img_ids), place(cat_ids));
    let masks = records.iter().any(|r| r.mask.is_some()).then(|| vec![Vec::new(); cat_ids.len()]);
    let empty = DetResult { bboxes: vec![Vec::new(); cat_ids.len()], masks };
    let mut results = vec![empty; img_ids.len()];
    let mut best: Vec<&CocoDet> = records.iter().collect();
    best.sort_by(|a, b| b.score.total_cmp(&a.score));
    for r in best {
        let (Some(&img), Some(&label)) = (imgs.get(&r.image_id), cats.get(&r.category_id)) else { continue };
        let [x, y, w, h] = r.bbox;
        results[img].bboxes[label].push([x, y, x + w, y + h, r.score].map(|v| v as f32));
        if let (Some(masks), Some(mask)) = (&mut results[img].masks, &r.mask) {
            masks[label].push(mask.clone().into_owned());
        }
    }
    results
}
