//! FreeAnchor: Learning to Match Anchors for Visual Object Detection, Zhang et al., NeurIPS 2019
//! (<https://arxiv.org/abs/1909.02466>): RetinaNet's layers, trained by bags of anchors in place of an assignment.

use candle_core::{Result, Tensor, bail};
use mmcv::config::Node;
use mmcv::nn::Ctx;
use mmcv::runner::Losses;
use mmcv::{Error, ops, register};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::anchor_head::{level_sizes, scores_and_boxes, to_rows};
use super::retina_head::{RetinaHead, RetinaHeadConfig, anchor_generator, bbox_coder, feat_channels, four};
use super::{DenseHead, HEADS, HeadArgs};
use crate::core::bbox::iou_calculators::{OverlapMode, bbox_overlaps};
use crate::core::post_processing::{Detections, largest};
use crate::core::{BBox, DetBatch, ImgMeta};
use crate::models::losses::pairwise::{entropy_of_probability, pairwise, sigmoid};
use crate::models::losses::{Reduction, zero_loss};

/// `type = "FreeAnchorRetinaHead"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FreeAnchorRetinaHeadConfig {
    /// Number of classes, background not counted.
    pub num_classes: usize,
    /// Channels of each level.
    pub in_channels: usize,
    /// Convolutions before the prediction; default 4.
    #[serde(default = "four")]
    pub stacked_convs: usize,
    /// Their channels; default 256.
    #[serde(default = "feat_channels")]
    pub feat_channels: usize,
    /// Kind of convolution.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default none.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// Anchors in each object's bag; default 50.
    #[serde(default = "fifty")]
    pub pre_anchor_topk: usize,
    /// IoU below which a predicted box says nothing for its anchor; default 0.6.
    #[serde(default = "bbox_thr")]
    pub bbox_thr: f64,
    /// Power of the focal loss of negatives; default 2.
    #[serde(default = "gamma")]
    pub gamma: f64,
    /// Weight of the positive bags, negatives have the rest of 1; default 0.5.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// Anchors; default as `RetinaHead`.
    #[serde(default = "anchor_generator")]
    pub anchor_generator: Node,
    /// Box coder; default `DeltaXYWHBBoxCoder`.
    #[serde(default = "bbox_coder")]
    pub bbox_coder: Node,
    /// Accepted; the bags don't use it, as in the original.
    #[serde(default)]
    pub reg_decoded_bbox: bool,
    /// Only its `use_sigmoid` counts; default cross entropy of sigmoids.
    #[serde(default = "super::retina_head::loss_cls")]
    pub loss_cls: Node,
    /// Box loss; default smooth L1 with beta 1/9.
    #[serde(default = "super::retina_head::loss_bbox")]
    pub loss_bbox: Node,
    /// In place of the detector's `train_cfg`.
    #[serde(default)]
    pub train_cfg: Option<Node>,
    /// In place of the detector's `test_cfg`.
    #[serde(default)]
    pub test_cfg: Option<Node>,
    /// How weights start; default as `RetinaHead`.
    #[serde(default = "super::retina_head::init_cfg")]
    pub init_cfg: Node,
}

fn fifty() -> usize {
    50
}
fn bbox_thr() -> f64 {
    0.6
}
fn gamma() -> f64 {
    2.0
}
fn alpha() -> f64 {
    0.5
}

/// Keys as [`RetinaHead`].
pub struct FreeAnchorRetinaHead {
    retina: RetinaHead,
    topk: usize,
    bbox_thr: f32,
    gamma: f64,
    alpha: f64,
}

impl FreeAnchorRetinaHead {
    /// The head at `args.vb`.
    pub fn new(cfg: &FreeAnchorRetinaHeadConfig, args: HeadArgs) -> mmcv::Result<Self> {
        if cfg.pre_anchor_topk == 0 {
            return Err(Error::config("is 0, expected 1 or more").under("pre_anchor_topk"));
        }
        let retina = RetinaHeadConfig {
            num_classes: cfg.num_classes,
            in_channels: cfg.in_channels,
            stacked_convs: cfg.stacked_convs,
            feat_channels: cfg.feat_channels,
            conv_cfg: cfg.conv_cfg.clone(),
            norm_cfg: cfg.norm_cfg.clone(),
            anchor_generator: cfg.anchor_generator.clone(),
            bbox_coder: cfg.bbox_coder.clone(),
            reg_decoded_bbox: cfg.reg_decoded_bbox,
            loss_cls: cfg.loss_cls.clone(),
            loss_bbox: cfg.loss_bbox.clone(),
            train_cfg: cfg.train_cfg.clone(),
            test_cfg: cfg.test_cfg.clone(),
            init_cfg: cfg.init_cfg.clone(),
        };
        Ok(Self {
            retina: RetinaHead::new(&retina, args)?,
            topk: cfg.pre_anchor_topk,
            bbox_thr: cfg.bbox_thr as f32,
            gamma: cfg.gamma,
            alpha: cfg.alpha,
        })
    }

    /// `P{anchor is positive}` of each anchor and class `[n * classes]`, by the IoU of what it predicts.
    fn box_prob(&self, anchors: &[BBox], deltas: &[f32], gts: &[BBox], labels: &[i64]) -> Result<Vec<f32>> {
        let classes = self.retina.anchors.cls_out_channels();
        let n = anchors.len();
        let mut prob = vec![0f32; n * classes];
        if gts.is_empty() {
            return Ok(prob);
        }
        let boxes = self.retina.anchors.coder.decode(anchors, deltas, None)?;
        let overlaps = bbox_overlaps(gts, &boxes, OverlapMode::Iou);
        for (row, label) in overlaps.chunks_exact(n).zip(labels) {
            let Some(class) = usize::try_from(*label).ok().filter(|c| *c < classes) else {
                bail!("label {label} of {classes} classes");
            };
            let best = row.iter().copied().fold(0f32, f32::max).max(self.bbox_thr);
            for (anchor, iou) in row.iter().enumerate().filter(|(_, iou)| **iou > self.bbox_thr) {
                let p = ((iou - self.bbox_thr) / (best - self.bbox_thr)).clamp(0.0, 1.0);
                let slot = &mut prob[anchor * classes + class];
                *slot = slot.max(p);
            }
        }
        Ok(prob)
    }

    /// The places of each object's bag among the anchors, `topk` for each.
    fn bags(&self, anchors: &[BBox], gts: &[BBox]) -> Result<Vec<u32>> {
        let n = anchors.len();
        if n < self.topk {
            bail!("FreeAnchorRetinaHead: {n} anchors are fewer than pre_anchor_topk, {}", self.topk);
        }
        let overlaps = bbox_overlaps(gts, anchors, OverlapMode::Iou);
        let mut bags = Vec::with_capacity(gts.len() * self.topk);
        for row in overlaps.chunks_exact(n) {
            bags.extend(largest(row, self.topk).into_iter().map(|a| a as u32));
        }
        Ok(bags)
    }

    /// `-alpha log(Mean-max(P_cls P_box))` of one image's objects: `[objects]`.
    fn positive(
        &self,
        scores: &Tensor,
        deltas: &Tensor,
        anchors: &[BBox],
        gts: &[BBox],
        labels: &[i64],
    ) -> Result<Tensor> {
        let (classes, k) = (scores.dim(1)?, self.topk);
        let bags = self.bags(anchors, gts)?;
        let device = scores.device();
        let logits: Vec<u32> =
            bags.iter().enumerate().map(|(i, a)| a * classes as u32 + labels[i / k] as u32).collect();
        let cls = ops::sigmoid(&scores.flatten_all()?.index_select(&Tensor::new(logits, device)?, 0)?)?;
        let own: Vec<BBox> = bags.iter().map(|a| anchors[*a as usize]).collect();
        let objects: Vec<BBox> = (0..bags.len()).map(|i| gts[i / k]).collect();
        let target = self.retina.anchors.coder.encode(&own, &objects)?.concat();
        let target = Tensor::from_vec(target, (bags.len(), 4), device)?;
        let pred = deltas.index_select(&Tensor::new(bags, device)?, 0)?;
        let loss = self.retina.anchors.loss_bbox.forward(&pred, &target, None, None, Some(Reduction::None))?;
        let prob = (cls * loss.sum(1)?.neg()?.exp()?)?.reshape((gts.len(), k))?;
        let weight = ops::clamp(&(1.0 - &prob)?, 1e-12, f64::INFINITY)?.recip()?;
        let weight = weight.broadcast_div(&weight.sum_keepdim(1)?)?;
        let bag = (weight * prob)?.sum(1)?;
        pairwise("positive_bag_loss", &bag, &bag.ones_like()?, entropy_of_probability)? * self.alpha
    }

    /// `(1 - alpha) FL(P_cls (1 - P_box))` of logits and box probabilities `[n, classes]`, summed.
    fn negative(&self, scores: &Tensor, box_prob: &Tensor) -> Result<Tensor> {
        let (gamma, factor) = (self.gamma as f32, (1.0 - self.alpha) as f32);
        let loss = pairwise("negative_bag_loss", scores, box_prob, move |x, t| {
            let p = sigmoid(x);
            let raw = p * (1.0 - t);
            let q = raw.clamp(1e-12, 1.0);
            let (entropy, slope) = entropy_of_probability(q, 0.0);
            let power = q.powf(gamma);
            let inside = if raw == q { (1.0 - t) * p * (1.0 - p) } else { 0.0 };
            (factor * power * entropy, factor * (power * slope + gamma * q.powf(gamma - 1.0) * entropy) * inside)
        })?;
        loss.sum_all()
    }
}

impl DenseHead for FreeAnchorRetinaHead {
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Vec<Tensor>>> {
        self.retina.forward(feats, ctx)
    }

    /// `positive_bag_loss` and `negative_bag_loss`.
    fn loss(&self, outs: &[Vec<Tensor>], batch: &DetBatch, _: &Ctx) -> Result<Losses> {
        let (cls, reg) = scores_and_boxes(outs)?;
        let classes = self.retina.anchors.cls_out_channels();
        let anchors: Vec<BBox> = self.retina.anchors.priors.grid_priors(&level_sizes(cls)?)?.concat();
        let images = batch.metas.len();
        // `[B, n, C]`, all levels in a row.
        let rows = |levels: &[Tensor], channels: usize| -> Result<Tensor> {
            let each = levels.iter().map(|x| to_rows(x, channels)?.reshape((images, (), channels)));
            Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 1)
        };
        let (scores, deltas) = (rows(cls, classes)?, rows(reg, 4)?);
        let box_probs = (0..images)
            .into_par_iter()
            .map(|i| {
                let values = deltas.get(i)?.detach().flatten_all()?.to_vec1::<f32>()?;
                self.box_prob(&anchors, &values, &batch.gt_bboxes[i], &batch.gt_labels[i])
            })
            .collect::<Result<Vec<_>>>()?;
        let box_prob = Tensor::from_vec(box_probs.concat(), scores.shape(), scores.device())?;
        let mut positive = Vec::new();
        for (i, (gts, labels)) in batch.gt_bboxes.iter().zip(&batch.gt_labels).enumerate() {
            if !gts.is_empty() {
                positive.push(self.positive(&scores.get(i)?, &deltas.get(i)?, &anchors, gts, labels)?);
            }
        }
        let objects: usize = batch.gt_bboxes.iter().map(Vec::len).sum();
        let positive = if positive.is_empty() {
            // Keeps the box branch in the graph.
            zero_loss(&deltas)?
        } else {
            (Tensor::cat(&positive, 0)?.sum_all()? / objects as f64)?
        };
        let negative = (self.negative(&scores, &box_prob)? / (objects * self.topk).max(1) as f64)?;
        let mut losses = Losses::new();
        losses.push("positive_bag_loss", &positive)?;
        losses.push("negative_bag_loss", &negative)?;
        Ok(losses)
    }

    fn get_bboxes(&self, outs: &[Vec<Tensor>], metas: &[ImgMeta], rescale: bool) -> Result<Vec<Detections>> {
        self.retina.get_bboxes(outs, metas, rescale)
    }

    fn aug_test_bboxes(&self, views: &[(Vec<Vec<Tensor>>, ImgMeta)], rescale: bool) -> Result<Detections> {
        self.retina.aug_test_bboxes(views, rescale)
    }

    fn num_classes(&self) -> usize {
        self.retina.num_classes()
    }
}

register!(HEADS: dyn DenseHead, "FreeAnchorRetinaHead" => FreeAnchorRetinaHead, FreeAnchorRetinaHeadConfig);
