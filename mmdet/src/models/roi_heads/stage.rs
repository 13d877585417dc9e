//! What one stage of a second stage is: cutting out, predicting, sampling.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use mmcv::config::Node;
use mmcv::nn::{Ctx, no_grad};
use mmcv::registry::build_at;
use mmcv::{Error, Rng};
use schemars::JsonSchema;
use serde::Deserialize;

use super::bbox_head::{BBoxHead, BBoxOuts, RcnnTestConfig};
use super::roi_extractor::{Roi, RoiExtractor};
use crate::core::bbox::assigners::{Assigner, BBOX_ASSIGNERS};
use crate::core::bbox::samplers::{BBOX_SAMPLERS, SampleContext, Sampler, SamplingResult};
use crate::core::bbox::{bbox_mapping, bbox2roi};
use crate::core::post_processing::{Detections, merge_aug_bboxes, merge_aug_scores, multiclass_nms};
use crate::core::{BBox, DetBatch, ImgMeta};

/// `train_cfg.rcnn`, or one of its stages.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RcnnTrainConfig {
    /// Assigner.
    pub assigner: Node,
    /// Sampler.
    pub sampler: Node,
    /// Weight of positives in the class loss; 0 or less is 1.
    pub pos_weight: f64,
    /// Size of mask targets.
    #[serde(default)]
    pub mask_size: Option<usize>,
    /// Accepted for configs of the original.
    #[serde(default)]
    pub debug: bool,
}

/// How regions are chosen to train on.
pub struct RcnnTraining {
    assigner: Box<dyn Assigner>,
    sampler: Box<dyn Sampler>,
    /// Weight of positives in the class loss.
    pub pos_weight: f64,
    /// Size of mask targets.
    pub mask_size: Option<usize>,
}

impl RcnnTraining {
    /// From `train_cfg.rcnn`.
    pub fn new(node: &Node) -> mmcv::Result<Self> {
        let cfg: RcnnTrainConfig = node.parse()?;
        if cfg.mask_size == Some(0) {
            return Err(Error::config("is 0").under("mask_size"));
        }
        Ok(Self {
            assigner: build_at(&BBOX_ASSIGNERS, "assigner", &cfg.assigner, ())?,
            sampler: build_at(&BBOX_SAMPLERS, "sampler", &cfg.sampler, ())?,
            pos_weight: cfg.pos_weight,
            mask_size: cfg.mask_size,
        })
    }

    /// Regions of each image to train on.
    pub fn sample(
        &self,
        stage: &BBoxStage,
        feats: &[Tensor],
        proposals: &[Vec<BBox>],
        batch: &DetBatch,
        ctx: &Ctx,
    ) -> Result<Vec<SamplingResult>> {
        if proposals.len() != batch.metas.len() {
            bail!("{} lists of proposals for {} images", proposals.len(), batch.metas.len());
        }
        let mut all = Vec::new();
        for (i, boxes) in proposals.iter().enumerate() {
            let (gts, labels) = (&batch.gt_bboxes[i], &batch.gt_labels[i]);
            let ignore = batch.gt_bboxes_ignore.as_ref().map_or(&[][..], |all| all[i].as_slice());
            let assigned = self.assigner.assign(boxes, gts, ignore, Some(labels))?;
            let own = feats.iter().map(|x| x.narrow(0, i, 1)).collect::<Result<Vec<_>>>()?;
            let context = Context { stage, feats: own, meta: &batch.metas[i], ctx };
            let mut rng = ctx.rng(Rng::fork);
            all.push(self.sampler.sample_with(assigned, boxes, gts, Some(labels), &mut rng, &context)?);
        }
        Ok(all)
    }
}

/// Cuts regions out and predicts their class and box.
pub struct BBoxStage {
    /// What cuts out; several stages may share it.
    pub extractor: Arc<dyn RoiExtractor>,
    /// What predicts.
    pub head: Box<dyn BBoxHead>,
}

impl BBoxStage {
    /// What the head says of each region, and the features that it saw.
    pub fn forward(&self, feats: &[Tensor], rois: &[Roi], ctx: &Ctx) -> Result<(BBoxOuts, Tensor)> {
        let used = self.extractor.num_inputs().min(feats.len());
        let x = self.extractor.forward(&feats[..used], rois)?;
        Ok((self.head.forward(&x, ctx)?, x))
    }
}

/// One image's head, for samplers that ask it.
struct Context<'a> {
    stage: &'a BBoxStage,
    feats: Vec<Tensor>,
    meta: &'a ImgMeta,
    ctx: &'a Ctx,
}

impl Context<'_> {
    fn outs(&self, bboxes: &[BBox]) -> Result<(Vec<Roi>, BBoxOuts)> {
        let rois = bbox2roi(&[bboxes]);
        let (outs, _) = no_grad(|| {
            let feats: Vec<Tensor> = self.feats.iter().map(Tensor::detach).collect();
            self.stage.forward(&feats, &rois, self.ctx)
        })?;
        Ok((rois, outs))
    }
}

impl SampleContext for Context<'_> {
    fn num_classes(&self) -> i64 {
        self.stage.head.num_classes() as i64
    }

    fn loss_cls(&self, bboxes: &[BBox], labels: &[i64]) -> Result<Vec<f32>> {
        match self.outs(bboxes)?.1.cls_score {
            Some(cls) => self.stage.head.loss_cls_of_each(&cls, labels),
            None => bail!("the box head predicts no classes to mine by"),
        }
    }

    fn best(&self, bboxes: &[BBox]) -> Result<Vec<(f32, BBox)>> {
        let (rois, outs) = self.outs(bboxes)?;
        let classes = self.stage.head.num_classes();
        // Unclipped.
        let whole = ImgMeta { img_shape: [1 << 24; 3], ..self.meta.clone() };
        let (boxes, scores) = self.stage.head.boxes_and_scores(&rois, &outs, &whole, false)?;
        let per_class = boxes.len() == rois.len() * classes;
        let of = |(i, row): (usize, &[f32])| {
            let (mut best, mut score) = (0, f32::NEG_INFINITY);
            for (c, v) in row[..classes].iter().enumerate() {
                if *v > score {
                    (best, score) = (c, *v);
                }
            }
            (score, boxes[if per_class { i * classes + best } else { i }])
        };
        Ok(scores.chunks_exact(classes + 1).enumerate().map(of).collect())
    }
}

/// What the head said of each image's regions.
pub fn split(outs: &BBoxOuts, proposals: &[Vec<BBox>]) -> Result<Vec<BBoxOuts>> {
    let mut start = 0;
    let mut parts = Vec::new();
    for own in proposals {
        let part = |t: &Option<Tensor>| t.as_ref().map(|t| t.narrow(0, start, own.len())).transpose();
        parts.push(BBoxOuts { cls_score: part(&outs.cls_score)?, bbox_pred: part(&outs.bbox_pred)? });
        start += own.len();
    }
    Ok(parts)
}

/// What tells boxes and scores of one view's regions.
pub type ViewBoxes<'a> = dyn Fn(&[Tensor], &[Roi], &ImgMeta) -> Result<(Vec<BBox>, Vec<f32>)> + 'a;

/// Detections of one image, in its file's frame, from several views: boxes and scores are averaged before NMS.
pub fn merged_detections(
    views: &[(Vec<Tensor>, ImgMeta)],
    proposals: &[BBox],
    num_classes: usize,
    cfg: &RcnnTestConfig,
    boxes_of: &ViewBoxes,
) -> Result<Detections> {
    if proposals.is_empty() {
        return Ok(Detections::default());
    }
    let (mut boxes, mut scores, mut metas) = (Vec::new(), Vec::new(), Vec::new());
    for (feats, meta) in views {
        let shape = (meta.img_shape[0], meta.img_shape[1]);
        let flip = meta.flip.then_some(meta.flip_direction).flatten();
        let own = bbox_mapping(proposals, shape, meta.scale_factor, flip);
        let (b, s) = boxes_of(feats, &bbox2roi(&[own]), meta)?;
        boxes.push(b);
        scores.push(s);
        metas.push(meta.clone());
    }
    let wrap = candle_core::Error::wrap;
    let merged = merge_aug_bboxes(&boxes, &metas).map_err(wrap)?;
    let scores = merge_aug_scores(&scores).map_err(wrap)?;
    multiclass_nms(&merged, &scores, num_classes, cfg.score_thr, &cfg.nms, cfg.max_per_img, None).map_err(wrap)
}
