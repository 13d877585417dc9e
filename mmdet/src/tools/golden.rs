//! `mmdet golden`: whether a model gives the numbers that the original gave.

use std::path::Path;

use candle_core::{Device, Tensor};
use mmcv::cli::{TaskCommand, golden_command, run_golden};
use mmcv::config::Node;
use mmcv::nn::{Ctx, ParamStore, VarBuilder, no_grad};
use mmcv::testing::golden::{Golden, Report};
use mmcv::testing::{boxes_by_name, difference, fill_by_name, input_by_name};
use mmcv::{Error, Result, say};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::{BBox, DetBatch, DetResult, ImgMeta};
use crate::models::detectors::{Detector, build_detector};

/// Its entry in the binary.
pub const COMMAND: TaskCommand = TaskCommand { command: golden_command, run: |matches| run_golden(matches, check) };

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Detection {
    score: f64,
    label: usize,
    #[serde(rename = "box")]
    bbox: [f64; 4],
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ImageDetections {
    n: usize,
    top: Vec<Detection>,
}

/// What detectors' goldens have beside those of all models.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct DetPart {
    #[serde(default)]
    detections: Vec<ImageDetections>,
    #[serde(default)]
    score_thr_used: Option<f64>,
    #[serde(default)]
    gt_bboxes: Vec<BBox>,
    #[serde(default)]
    gt_labels: Vec<i64>,
    #[serde(default)]
    proposals: Vec<BBox>,
    #[serde(default)]
    proposals_out: Vec<ImageProposals>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ImageProposals {
    n: usize,
    top: Vec<[f64; 5]>,
}

/// Builds the golden's model, runs what the golden holds and compares.
pub fn check(file: &Path) -> Result<Report> {
    let golden = Golden::read(file, "mmdet")?;
    let part: DetPart =
        serde_json::from_value(Value::Object(golden.rest.clone())).map_err(|e| Error::data(file, e.to_string()))?;
    let store = ParamStore::new(&Device::Cpu, 0);
    let mut model_cfg = Node::from_json(&golden.model.to_string())?;
    if let Some(thr) = part.score_thr_used {
        set_everywhere(&mut model_cfg, &|node| {
            if node.get("score_thr").is_some() {
                node.set("score_thr", thr);
            }
        });
    }
    // The originals' samplers were made to take the first boxes in place of random ones.
    set_everywhere(&mut model_cfg, &|node| {
        if node.type_name() == Some("RandomSampler") {
            node.set("take_first", true);
        }
    });
    let model = build_detector(&model_cfg, None, None, VarBuilder::new(&store))?;
    let mut report = Report::new(&golden, &store);
    for line in report.differing_keys(&golden) {
        say!("  {line}")?;
    }
    fill_by_name(&store)?;

    let [_, _, h, w] = golden.input.as_slice() else {
        return Err(Error::data(file, "input is not [N, C, H, W]".to_owned()));
    };
    let x = input_by_name("input", &golden.input, &Device::Cpu)?;
    let metas = vec![meta(*h, *w); golden.input[0]];
    report.outputs(&golden, outputs(model.as_ref(), &x, [*h, *w])?)?;
    // Of a detector that is handed its proposals the same for each image.
    let proposals = (!part.proposals.is_empty()).then(|| vec![part.proposals.clone(); metas.len()]);
    let found = match &proposals {
        Some(proposals) => model.test_proposals(&x, &metas, proposals, false)?,
        None => model.simple_test(&x, &metas, false)?,
    };
    let found: Vec<ImageDetections> = found.iter().map(image_detections).collect();
    let (name, ours) = if part.proposals_out.is_empty() {
        if !part.detections.is_empty() {
            report.errors.insert("detections".into(), detections_error(&found, &part.detections));
        }
        ("detections", serde_json::to_value(&found))
    } else {
        let theirs: Vec<_> = part.proposals_out.iter().map(as_detections).collect();
        report.errors.insert("proposals".into(), detections_error(&found, &theirs));
        ("proposals_out", serde_json::to_value(found.iter().map(as_proposals).collect::<Vec<_>>()))
    };
    report.ours.rest.insert(name.into(), ours.map_err(|e| Error::Run(e.to_string()))?);
    let batch = DetBatch {
        img: x,
        gt_bboxes: vec![part.gt_bboxes.clone(); metas.len()],
        gt_labels: vec![part.gt_labels.clone(); metas.len()],
        gt_bboxes_ignore: None,
        gt_masks: None,
        gt_semantic_seg: None,
        proposals,
        metas,
    };
    for train in [false, true].into_iter().filter(|t| golden.has_losses(*t)) {
        let ctx = if train { Ctx::train(mmcv::Rng::new(0)).without_dropout() } else { Ctx::eval() };
        report.losses(&golden, &store, train, &model.forward_train(&batch, &ctx)?)?;
    }
    Ok(report)
}

/// Applies `change` to every dict of the tree, parents first.
fn set_everywhere(node: &mut Node, change: &dyn Fn(&mut Node)) {
    if node.as_dict().is_some() {
        change(node);
    }
    if let Some(dict) = node.as_dict_mut() {
        dict.values_mut().for_each(|child| set_everywhere(child, change));
    } else if let Some(list) = node.as_list_mut() {
        list.iter_mut().for_each(|child| set_everywhere(child, change));
    }
}

fn as_detections(proposals: &ImageProposals) -> ImageDetections {
    let top = proposals.top.iter().map(|p| Detection { score: p[4], label: 0, bbox: [p[0], p[1], p[2], p[3]] });
    ImageDetections { n: proposals.n, top: top.collect() }
}

fn as_proposals(found: &ImageDetections) -> ImageProposals {
    let one = |d: &Detection| [d.bbox[0], d.bbox[1], d.bbox[2], d.bbox[3], d.score];
    ImageProposals { n: found.n, top: found.top.iter().map(one).collect() }
}

/// What golden.py tells the model of its images.
fn meta(h: usize, w: usize) -> ImgMeta {
    ImgMeta {
        filename: "x.png".into(),
        ori_filename: "x.png".into(),
        ori_shape: [h, w, 3],
        img_shape: [h, w, 3],
        pad_shape: [h, w, 3],
        scale_factor: [1.0; 4],
        flip: false,
        flip_direction: None,
        img_norm_cfg: None,
        batch_input_shape: Some([h, w]),
    }
}

/// Feature maps and the head's raw predictions, by the goldens' names; RoI heads predict on 16 boxes made from a name.
fn outputs(model: &dyn Detector, x: &Tensor, [h, w]: [usize; 2]) -> Result<Vec<(String, Tensor)>> {
    let ctx = Ctx::eval();
    let rois = boxes_by_name("proposals", 16, h, w);
    let (feats, head) = no_grad(|| {
        let feats = model.extract_feat(x, &ctx)?;
        let head = model.named_outputs(&feats, &rois, &ctx)?;
        candle_core::Result::Ok((feats, head))
    })?;
    let named = feats.into_iter().enumerate().map(|(i, t)| (format!("feat.{i}"), t));
    Ok(named.chain(head).collect())
}

fn image_detections(result: &DetResult) -> ImageDetections {
    let mut top: Vec<Detection> = result
        .bboxes
        .iter()
        .enumerate()
        .flat_map(|(label, boxes)| {
            boxes.iter().map(move |b| Detection {
                score: b[4].into(),
                label,
                bbox: [b[0], b[1], b[2], b[3]].map(f64::from),
            })
        })
        .collect();
    let n = top.len();
    top.sort_by(|a, b| b.score.total_cmp(&a.score));
    top.truncate(50);
    ImageDetections { n, top }
}

/// For each golden detection the nearest of ours with its label: its score's error, or its box's by the box's size.
/// Infinite when the numbers of detections differ.
fn detections_error(ours: &[ImageDetections], theirs: &[ImageDetections]) -> f64 {
    if ours.len() != theirs.len() || ours.iter().zip(theirs).any(|(a, b)| a.n != b.n) {
        return f64::INFINITY;
    }
    let apart = |a: &Detection, b: &Detection| {
        let size = (b.bbox[2] - b.bbox[0]).max(b.bbox[3] - b.bbox[1]).max(1.0);
        let boxes = a.bbox.iter().zip(&b.bbox).map(|(x, y)| difference(*x, *y) / size).fold(0.0, f64::max);
        boxes.max(difference(a.score, b.score))
    };
    let mut worst = 0f64;
    for (ours, theirs) in ours.iter().zip(theirs) {
        // The last of the list may have changed places with the first that was cut.
        let sure = theirs.top.len().saturating_sub(usize::from(theirs.n > theirs.top.len()));
        for b in &theirs.top[..sure] {
            let nearest = ours.top.iter().filter(|a| a.label == b.label).map(|a| apart(a, b));
            worst = worst.max(nearest.fold(f64::INFINITY, f64::min));
        }
    }
    worst
}
