//! What anchor-based dense heads share: targets, losses and boxes of mmdet's `anchor_head.py`.

use candle_core::{DType, Result, Tensor, bail};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::registry::{self, build_at};
use mmcv::runner::Losses;
use mmcv::{Error, Rng};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::base_dense_head::{Candidates, DenseTestConfig, image_values, merge_views, pick_candidates, post_process};
use crate::core::anchor::{PRIOR_GENERATORS, PriorGenerator, anchor_inside_flags};
use crate::core::bbox::assigners::{Assigner, BBOX_ASSIGNERS};
use crate::core::bbox::coder::{BBOX_CODERS, BBoxCoder};
use crate::core::bbox::samplers::{BBOX_SAMPLERS, Sampler};
use crate::core::post_processing::Detections;
use crate::core::{BBox, DetBatch, ImgMeta};
use crate::models::losses::{Loss, build_loss, zero_loss};

/// A head's `train_cfg`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnchorTrainConfig {
    /// Assigner.
    pub assigner: Node,
    /// Sampler; default `PseudoSampler`, which takes every assigned anchor.
    #[serde(default)]
    pub sampler: Option<Node>,
    /// Pixels that an anchor may stand out of the image; default -1, any.
    #[serde(default = "minus_one")]
    pub allowed_border: f64,
    /// Weight of positives in the class loss; default -1, which is 1.
    #[serde(default = "minus_one")]
    pub pos_weight: f64,
    /// Accepted for configs of the original.
    #[serde(default)]
    pub debug: bool,
}

fn minus_one() -> f64 {
    -1.0
}

struct Training {
    assigner: Box<dyn Assigner>,
    sampler: Box<dyn Sampler>,
    sampling: bool,
    allowed_border: f64,
    pos_weight: f64,
}

/// What an [`AnchorHead`] is made of.
#[derive(Debug, Clone, Copy)]
pub struct AnchorHeadArgs<'a> {
    /// Number of classes.
    pub num_classes: usize,
    /// Anchors.
    pub anchor_generator: &'a Node,
    /// Box coder.
    pub bbox_coder: &'a Node,
    /// Whether the box loss sees decoded boxes.
    pub reg_decoded_bbox: bool,
    /// Class loss.
    pub loss_cls: &'a Node,
    /// Box loss.
    pub loss_bbox: &'a Node,
    /// Where what the losses remember is.
    pub vb: &'a VarBuilder,
    /// The detector's `train_cfg`.
    pub train_cfg: Option<&'a Node>,
    /// The detector's `test_cfg`.
    pub test_cfg: Option<&'a Node>,
}

/// Anchors, targets and losses; the head's layers are its owner's.
pub struct AnchorHead {
    num_classes: usize,
    pub(super) use_sigmoid_cls: bool,
    pub(super) reg_decoded_bbox: bool,
    pub(super) priors: Box<dyn PriorGenerator>,
    pub(super) coder: Box<dyn BBoxCoder>,
    loss_cls: Box<dyn Loss>,
    pub(super) loss_bbox: Box<dyn Loss>,
    training: Option<Training>,
    test_cfg: Option<DenseTestConfig>,
}

/// One image's targets over all anchors of all levels.
pub(super) struct Targets {
    /// Class, `num_classes` is background.
    pub(super) labels: Vec<i64>,
    pub(super) label_weights: Vec<f32>,
    /// Anchor and what its box should be: encoded, or the ground truth itself with `reg_decoded_bbox`.
    pub(super) positives: Vec<(usize, BBox)>,
    num_neg: usize,
}

/// A batch's anchors, level by level, and targets, image by image.
pub(super) struct BatchTargets {
    pub(super) levels: Vec<Vec<BBox>>,
    pub(super) images: Vec<Targets>,
    /// Positives, each image's at least one, as in mmdet.
    pub(super) num_pos: usize,
    num_neg: usize,
}

impl AnchorHead {
    /// The shared part of a head.
    pub fn new(args: AnchorHeadArgs) -> mmcv::Result<Self> {
        let use_sigmoid_cls = args.loss_cls.get("use_sigmoid").and_then(Node::as_bool).unwrap_or(false);
        let training = args.train_cfg.map(|node| Self::training(node, args.loss_cls)).transpose()?;
        Ok(Self {
            num_classes: args.num_classes,
            use_sigmoid_cls,
            reg_decoded_bbox: args.reg_decoded_bbox,
            priors: build_at(&PRIOR_GENERATORS, "anchor_generator", args.anchor_generator, ())?,
            coder: build_at(&BBOX_CODERS, "bbox_coder", args.bbox_coder, ())?,
            loss_cls: build_loss("loss_cls", args.loss_cls, args.vb)?,
            loss_bbox: build_loss("loss_bbox", args.loss_bbox, args.vb)?,
            training,
            test_cfg: DenseTestConfig::parse(args.test_cfg)?,
        })
    }

    fn training(node: &Node, loss_cls: &Node) -> mmcv::Result<Training> {
        let cfg: AnchorTrainConfig = node.parse().map_err(|e: Error| e.under("train_cfg"))?;
        let focal = matches!(loss_cls.type_name(), Some("FocalLoss" | "GHMC" | "QualityFocalLoss"));
        let sampler = cfg.sampler.as_ref().filter(|s| !s.is_null() && s.type_name() != Some("PseudoSampler"));
        if sampler.is_some() && focal {
            tracing::warn!("train_cfg.sampler is not used: a focal loss learns from every anchor");
        }
        let sampler = sampler.filter(|_| !focal);
        let pseudo = Node::from_json(r#"{"type": "PseudoSampler"}"#)?;
        Ok(Training {
            assigner: build_at(&BBOX_ASSIGNERS, "train_cfg.assigner", &cfg.assigner, ())?,
            sampler: match sampler {
                Some(s) => build_at(&BBOX_SAMPLERS, "train_cfg.sampler", s, ())?,
                None => registry::build(&BBOX_SAMPLERS, &pseudo, ())?,
            },
            sampling: sampler.is_some(),
            allowed_border: cfg.allowed_border,
            pos_weight: cfg.pos_weight,
        })
    }

    /// Number of classes.
    pub fn num_classes(&self) -> usize {
        self.num_classes
    }

    /// Class channels per anchor.
    pub fn cls_out_channels(&self) -> usize {
        self.num_classes + usize::from(!self.use_sigmoid_cls)
    }

    /// Anchors per position, taken from the first level as mmdet does.
    pub fn num_base_priors(&self) -> usize {
        self.priors.num_base_priors().first().copied().unwrap_or(0)
    }

    /// Anchors per position of a level (SSD's levels differ).
    fn base_at(&self, level: usize) -> usize {
        self.priors.num_base_priors().get(level).copied().unwrap_or(0)
    }

    fn targets(
        &self,
        training: &Training,
        anchors: &[BBox],
        valid: &[bool],
        batch: &DetBatch,
        image: usize,
        rng: &mut Rng,
    ) -> Result<Targets> {
        let [h, w, _] = batch.metas[image].img_shape;
        let inside = anchor_inside_flags(anchors, valid, (h, w), training.allowed_border as f32);
        let kept: Vec<usize> = (0..anchors.len()).filter(|&i| inside[i]).collect();
        if kept.is_empty() {
            bail!("no anchor lies inside the image {}", batch.metas[image].filename);
        }
        let candidates: Vec<BBox> = kept.iter().map(|&i| anchors[i]).collect();
        let (gts, labels) = (&batch.gt_bboxes[image], &batch.gt_labels[image]);
        let ignore = batch.gt_bboxes_ignore.as_ref().map_or(&[][..], |all| all[image].as_slice());
        let given = (!training.sampling).then_some(labels.as_slice());
        let assigned = training.assigner.assign(&candidates, gts, ignore, given)?;
        let sampled = training.sampler.sample(assigned, &candidates, gts, None, rng)?;
        let mut targets = Targets {
            labels: vec![self.num_classes as i64; anchors.len()],
            label_weights: vec![0.0; anchors.len()],
            positives: Vec::with_capacity(sampled.pos_inds.len()),
            num_neg: sampled.neg_inds.len(),
        };
        let pos_weight = if training.pos_weight <= 0.0 { 1.0 } else { training.pos_weight as f32 };
        let boxes: Vec<BBox> = if self.reg_decoded_bbox {
            sampled.pos_gt_bboxes.clone()
        } else {
            self.coder.encode(&sampled.pos_bboxes, &sampled.pos_gt_bboxes)?
        };
        for ((&i, &gt), target) in sampled.pos_inds.iter().zip(&sampled.pos_assigned_gt_inds).zip(boxes) {
            let anchor = kept[i];
            targets.labels[anchor] = labels[gt];
            targets.label_weights[anchor] = pos_weight;
            targets.positives.push((anchor, target));
        }
        for &i in &sampled.neg_inds {
            targets.label_weights[kept[i]] = 1.0;
        }
        Ok(targets)
    }

    /// What class scores of these sizes should have been.
    pub(super) fn batch_targets(&self, cls: &[Tensor], batch: &DetBatch, ctx: &Ctx) -> Result<BatchTargets> {
        let Some(training) = &self.training else { bail!("the head was built without train_cfg") };
        let sizes = level_sizes(cls)?;
        let levels = self.priors.grid_priors(&sizes)?;
        let anchors: Vec<BBox> = levels.iter().flatten().copied().collect();
        let mut rngs: Vec<Rng> = (0..batch.metas.len()).map(|_| ctx.rng(Rng::fork)).collect();
        let images = rngs
            .par_iter_mut()
            .enumerate()
            .map(|(i, rng)| {
                let [h, w, _] = batch.metas[i].pad_shape;
                let valid = self.priors.valid_flags(&sizes, (h, w))?.concat();
                self.targets(training, &anchors, &valid, batch, i, rng)
            })
            .collect::<Result<Vec<_>>>()?;
        let num_pos = images.iter().map(|t| t.positives.len().max(1)).sum();
        let num_neg = images.iter().map(|t| t.num_neg.max(1)).sum();
        Ok(BatchTargets { levels, images, num_pos, num_neg })
    }

    /// `loss_cls` and `loss_bbox`, each summed over the levels.
    pub fn loss(&self, outs: &[Vec<Tensor>], batch: &DetBatch, ctx: &Ctx) -> Result<Losses> {
        let (cls, reg) = scores_and_boxes(outs)?;
        let BatchTargets { levels, images: targets, num_pos, num_neg } = self.batch_targets(cls, batch, ctx)?;
        let sampling = self.training.as_ref().is_some_and(|t| t.sampling);
        let avg_factor = if sampling { num_pos + num_neg } else { num_pos } as f64;

        let (mut loss_cls, mut loss_bbox) = (Vec::new(), Vec::new());
        let mut start = 0;
        for (l, priors) in levels.iter().enumerate() {
            let range = start..start + priors.len();
            start = range.end;
            let device = cls[l].device();
            let labels: Vec<i64> = targets.iter().flat_map(|t| t.labels[range.clone()].iter().copied()).collect();
            let weights: Vec<f32> =
                targets.iter().flat_map(|t| t.label_weights[range.clone()].iter().copied()).collect();
            let n = labels.len();
            let scores = to_rows(&cls[l], self.cls_out_channels())?;
            let (labels, weights) = (Tensor::from_vec(labels, n, device)?, Tensor::from_vec(weights, n, device)?);
            loss_cls.push(self.loss_cls.forward(&scores, &labels, Some(&weights), Some(avg_factor), None)?);

            // Weights are 0 but for positives, whose predictions alone are looked at.
            let mut at: Vec<(usize, usize)> = Vec::new();
            let mut boxes: Vec<BBox> = Vec::new();
            for (image, t) in targets.iter().enumerate() {
                for (anchor, target) in t.positives.iter().filter(|(a, _)| range.contains(a)) {
                    at.push((image, anchor - range.start));
                    boxes.push(*target);
                }
            }
            if at.is_empty() {
                loss_bbox.push(zero_loss(&reg[l])?);
                continue;
            }
            let mut pred = gather(&reg[l], &at, self.base_at(l))?;
            if self.reg_decoded_bbox {
                let own: Vec<BBox> = at.iter().map(|(_, prior)| priors[*prior]).collect();
                pred = self.coder.decode_tensor(&own, &pred, None)?;
            }
            let target = Tensor::from_vec(boxes.concat(), (boxes.len(), 4), device)?;
            let weights = Tensor::ones((boxes.len(), 4), DType::F32, device)?;
            loss_bbox.push(self.loss_bbox.forward(&pred, &target, Some(&weights), Some(avg_factor), None)?);
        }
        let mut losses = Losses::new();
        losses.push_sum("loss_cls", &loss_cls)?;
        losses.push_sum("loss_bbox", &loss_bbox)?;
        Ok(losses)
    }

    fn test_cfg(&self) -> Result<&DenseTestConfig> {
        match &self.test_cfg {
            Some(cfg) => Ok(cfg),
            None => bail!("the head was built without test_cfg"),
        }
    }

    /// What one image's predictions offer before NMS.
    fn candidates(&self, outs: &[Vec<Tensor>], image: usize, meta: &ImgMeta) -> Result<Candidates> {
        let (cls, reg) = scores_and_boxes(outs)?;
        let cfg = self.test_cfg()?;
        let sizes = level_sizes(cls)?;
        let max_shape = (meta.img_shape[0], meta.img_shape[1]);
        let mut all = Candidates::default();
        for (l, &(h, w)) in sizes.iter().enumerate() {
            let logits = image_values(&cls[l], image)?;
            let picked = pick_candidates(
                &logits,
                h * w,
                self.cls_out_channels(),
                self.use_sigmoid_cls,
                cfg.score_thr as f32,
                cfg.nms_pre,
            );
            let index: Vec<usize> = picked.iter().map(|p| p.prior).collect();
            let priors = self.priors.sparse_priors(&index, (h, w), l);
            let values = image_values(&reg[l], image)?;
            let deltas = deltas_of(&values, &index, self.base_at(l), h * w);
            all.bboxes.extend(self.coder.decode(&priors, &deltas, Some(max_shape))?);
            all.scores.extend(picked.iter().map(|p| p.score));
            all.labels.extend(picked.iter().map(|p| p.label as i64));
        }
        Ok(all)
    }

    /// Final boxes of each image.
    pub fn get_bboxes(&self, outs: &[Vec<Tensor>], metas: &[ImgMeta], rescale: bool) -> Result<Vec<Detections>> {
        let cfg = self.test_cfg()?;
        metas
            .par_iter()
            .enumerate()
            .map(|(i, meta)| post_process(self.candidates(outs, i, meta)?, meta, cfg, rescale))
            .collect()
    }

    /// Boxes of one image from several views.
    pub fn aug_test_bboxes(&self, views: &[(Vec<Vec<Tensor>>, ImgMeta)], rescale: bool) -> Result<Detections> {
        let mut found = Vec::new();
        for (outs, meta) in views {
            found.push((self.candidates(outs, 0, meta)?, meta));
        }
        merge_views(found, self.test_cfg()?, rescale)
    }
}

/// An anchor head's two outputs, each by level.
pub(super) fn scores_and_boxes(outs: &[Vec<Tensor>]) -> Result<(&[Tensor], &[Tensor])> {
    let [cls, reg] = outs else { bail!("an anchor head has two outputs, not {}", outs.len()) };
    Ok((cls, reg))
}

/// `(h, w)` of each level.
pub(super) fn level_sizes(levels: &[Tensor]) -> Result<Vec<(usize, usize)>> {
    levels.iter().map(|x| Ok((x.dim(2)?, x.dim(3)?))).collect()
}

/// `[B, A * C, H, W]` to `[B * H * W * A, C]`.
pub(super) fn to_rows(x: &Tensor, channels: usize) -> Result<Tensor> {
    let (b, ac, h, w) = x.dims4()?;
    x.reshape((b, ac, h * w))?.transpose(1, 2)?.contiguous()?.reshape((b * h * w * ac / channels, channels))
}

/// The four values of each `(image, prior)` of `[B, A * 4, H, W]`: `[n, 4]`.
pub(super) fn gather(x: &Tensor, at: &[(usize, usize)], base: usize) -> Result<Tensor> {
    let (_, channels, h, w) = x.dims4()?;
    let hw = h * w;
    let index: Vec<u32> = at
        .iter()
        .flat_map(|&(image, prior)| {
            (0..4).map(move |c| (image * channels * hw + (prior % base * 4 + c) * hw + prior / base) as u32)
        })
        .collect();
    let index = Tensor::new(index, x.device())?;
    x.flatten_all()?.index_select(&index, 0)?.reshape((at.len(), 4))
}

/// The four values of each of `index`'s priors in one image's `[base * 4, hw]`, row-major.
pub(super) fn deltas_of(values: &[f32], index: &[usize], base: usize, hw: usize) -> Vec<f32> {
    index.iter().flat_map(|i| (0..4).map(move |c| values[(i % base * 4 + c) * hw + i / base])).collect()
}
