//! The region proposal network's head: Faster R-CNN, Ren et al., NeurIPS 2015 (<https://arxiv.org/abs/1506.01497>).

use candle_core::{Result, Tensor};
use mmcv::cnn::{Conv2d, ConvLayer, ConvModule, ConvModuleConfig, ConvSpec, conv_norm_act};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::ops::{Act, NmsConfig, batched_nms};
use mmcv::registry::registry;
use mmcv::runner::Losses;
use mmcv::{Error, register};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::HeadArgs;
use super::anchor_head::{AnchorHead, AnchorHeadArgs, deltas_of, level_sizes, scores_and_boxes};
use super::base_dense_head::{image_values, pick_candidates};
use crate::core::post_processing::merge_aug_proposals;
use crate::core::{BBox, DetBatch, ImgMeta, ScoredBox};

/// How proposals are chosen: `train_cfg.rpn_proposal`, `test_cfg.rpn`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposalConfig {
    /// Candidates kept per level before NMS; default -1, all.
    #[serde(default = "minus_one")]
    pub nms_pre: i64,
    /// Proposals kept per image.
    pub max_per_img: usize,
    /// NMS, level by level.
    pub nms: NmsConfig,
    /// Width and height that a proposal must exceed, in pixels; below 0 any will do.
    pub min_bbox_size: f64,
}

fn minus_one() -> i64 {
    -1
}

/// A head that proposes boxes.
///
/// `outs[kind][level]` are its raw predictions: objectness, boxes.
pub trait ProposalHead: Send + Sync {
    /// Raw predictions of levels `[B, C, H_l, W_l]`.
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Vec<Tensor>>>;

    /// Training losses.
    fn loss(&self, outs: &[Vec<Tensor>], batch: &DetBatch, ctx: &Ctx) -> Result<Losses>;

    /// Proposals of each image in the frame of the network's input, best first; `cfg` takes the place of the head's
    /// `test_cfg`.
    fn proposals(
        &self,
        outs: &[Vec<Tensor>],
        metas: &[ImgMeta],
        cfg: Option<&ProposalConfig>,
    ) -> Result<Vec<Vec<ScoredBox>>>;

    /// The head's `test_cfg`.
    fn test_cfg(&self) -> Result<&ProposalConfig>;

    /// Proposals of one image from several views, in the frame of its file.
    fn aug_proposals(&self, views: &[(Vec<Vec<Tensor>>, ImgMeta)]) -> Result<Vec<ScoredBox>> {
        let cfg = self.test_cfg()?;
        let (mut all, mut metas) = (Vec::new(), Vec::new());
        for (outs, meta) in views {
            all.extend(self.proposals(outs, std::slice::from_ref(meta), None)?);
            metas.push(meta.clone());
        }
        let threshold = cfg.nms.iou_threshold.unwrap_or(0.5);
        Ok(merge_aug_proposals(&all, &metas, threshold, cfg.max_per_img))
    }
}

registry!(
    /// Heads that propose boxes (`rpn_head`).
    pub RPN_HEADS: dyn ProposalHead, HeadArgs
);

/// `type = "RPNHead"`. Fields and defaults are mmdet's, those of its `AnchorHead` included.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RpnHeadConfig {
    /// Channels of each level.
    pub in_channels: usize,
    /// Channels of the convolution before the predictions; default 256.
    #[serde(default = "super::retina_head::feat_channels")]
    pub feat_channels: usize,
    /// Number of such convolutions; default 1.
    #[serde(default = "one")]
    pub num_convs: usize,
    /// Anchors; default scales 8, 16, 32, ratios 0.5, 1, 2, strides 4 to 64.
    #[serde(default = "anchor_generator")]
    pub anchor_generator: Node,
    /// Box coder; default `DeltaXYWHBBoxCoder`.
    #[serde(default = "super::retina_head::bbox_coder")]
    pub bbox_coder: Node,
    /// Whether the box loss sees decoded boxes; default false.
    #[serde(default)]
    pub reg_decoded_bbox: bool,
    /// Objectness loss; default cross entropy of sigmoids.
    #[serde(default = "super::retina_head::loss_cls")]
    pub loss_cls: Node,
    /// Box loss; default smooth L1 with beta 1/9.
    #[serde(default = "super::retina_head::loss_bbox")]
    pub loss_bbox: Node,
    /// In place of the detector's `train_cfg.rpn`.
    #[serde(default)]
    pub train_cfg: Option<Node>,
    /// In place of the detector's `test_cfg.rpn`.
    #[serde(default)]
    pub test_cfg: Option<Node>,
    /// How weights start; default normal of deviation 0.01.
    #[serde(default = "init_cfg")]
    pub init_cfg: Node,
}

fn one() -> usize {
    1
}
pub(super) fn anchor_generator() -> Node {
    Node::from_json(
        r#"{"type": "AnchorGenerator", "scales": [8, 16, 32], "ratios": [0.5, 1.0, 2.0], "strides": [4, 8, 16, 32, 64]}"#,
    )
    .expect("the default is JSON")
}
fn init_cfg() -> Node {
    Node::from_json(r#"{"type": "Normal", "layer": "Conv2d", "std": 0.01}"#).expect("the default is JSON")
}

enum RpnConv {
    /// `rpn_conv.*`.
    One(Conv2d),
    /// `rpn_conv.{i}.conv.*`.
    Several(Vec<ConvModule>),
}

/// Keys: `rpn_conv.*` (or `rpn_conv.{i}.conv.*`), `rpn_cls.*`, `rpn_reg.*`.
pub struct RpnHead {
    rpn_conv: RpnConv,
    rpn_cls: Conv2d,
    rpn_reg: Conv2d,
    anchors: AnchorHead,
    test_cfg: Option<ProposalConfig>,
}

impl RpnHead {
    /// The head at `args.vb`.
    pub fn new(cfg: &RpnHeadConfig, args: HeadArgs) -> mmcv::Result<Self> {
        let vb = args.vb;
        let anchors = AnchorHead::new(AnchorHeadArgs {
            num_classes: 1,
            anchor_generator: &cfg.anchor_generator,
            bbox_coder: &cfg.bbox_coder,
            reg_decoded_bbox: cfg.reg_decoded_bbox,
            loss_cls: &cfg.loss_cls,
            loss_bbox: &cfg.loss_bbox,
            vb: &vb,
            train_cfg: cfg.train_cfg.as_ref().or(args.train_cfg.as_ref()),
            test_cfg: None,
        })?;
        vb.init_cfg(&cfg.init_cfg);
        let (from, c) = (cfg.in_channels, cfg.feat_channels);
        let rpn_conv = if cfg.num_convs > 1 {
            let one = |i: usize| {
                let spec = ConvSpec::new(if i == 0 { from } else { c }, c, 3).padding(1);
                ConvModule::new(ConvModuleConfig::new(spec), vb.pp("rpn_conv").pp(i))
            };
            RpnConv::Several((0..cfg.num_convs).map(one).collect::<mmcv::Result<_>>()?)
        } else {
            RpnConv::One(Conv2d::from_spec(ConvSpec::new(from, c, 3).padding(1).bias(true), &vb.pp("rpn_conv"))?)
        };
        let predict =
            |channels: usize, vb: VarBuilder| Conv2d::from_spec(ConvSpec::new(c, channels, 1).bias(true), &vb);
        let base = anchors.num_base_priors();
        let test_cfg = cfg.test_cfg.as_ref().or(args.test_cfg.as_ref()).filter(|n| !n.is_null());
        Ok(Self {
            rpn_conv,
            rpn_cls: predict(base * anchors.cls_out_channels(), vb.pp("rpn_cls"))?,
            rpn_reg: predict(base * 4, vb.pp("rpn_reg"))?,
            anchors,
            test_cfg: test_cfg.map(|n| n.parse().map_err(|e: Error| e.under("test_cfg"))).transpose()?,
        })
    }

    fn image_proposals(
        &self,
        outs: &[Vec<Tensor>],
        image: usize,
        meta: &ImgMeta,
        cfg: &ProposalConfig,
    ) -> Result<Vec<ScoredBox>> {
        let (cls, reg) = scores_and_boxes(outs)?;
        let max_shape = (meta.img_shape[0], meta.img_shape[1]);
        let (mut boxes, mut scores, mut ids) = (Vec::<BBox>::new(), Vec::new(), Vec::new());
        for (l, (h, w)) in level_sizes(cls)?.into_iter().enumerate() {
            let logits = image_values(&cls[l], image)?;
            let (channels, sigmoid) = (self.anchors.cls_out_channels(), self.anchors.use_sigmoid_cls);
            // Every score passes: they are 0 or more.
            let picked = pick_candidates(&logits, h * w, channels, sigmoid, -1.0, cfg.nms_pre);
            let index: Vec<usize> = picked.iter().map(|p| p.prior).collect();
            let priors = self.anchors.priors.sparse_priors(&index, (h, w), l);
            let deltas = deltas_of(&image_values(&reg[l], image)?, &index, self.anchors.num_base_priors(), h * w);
            for (b, p) in self.anchors.coder.decode(&priors, &deltas, Some(max_shape))?.into_iter().zip(&picked) {
                let min = cfg.min_bbox_size as f32;
                if cfg.min_bbox_size < 0.0 || (b[2] - b[0] > min && b[3] - b[1] > min) {
                    boxes.push(b);
                    scores.push(p.score);
                    ids.push(l);
                }
            }
        }
        if boxes.is_empty() {
            return Ok(Vec::new());
        }
        let (mut dets, _) =
            batched_nms(&boxes, &scores, &ids, Some(&cfg.nms), false).map_err(candle_core::Error::wrap)?;
        dets.truncate(cfg.max_per_img);
        Ok(dets)
    }
}

impl ProposalHead for RpnHead {
    /// `outs[0][l]` `[B, anchors, H_l, W_l]` logits (twice as many channels with a softmax), `outs[1][l]`
    /// `[B, anchors * 4, H_l, W_l]` box deltas.
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Vec<Tensor>>> {
        let (mut cls, mut reg) = (Vec::new(), Vec::new());
        for x in feats {
            let x = match &self.rpn_conv {
                RpnConv::One(conv) => conv_norm_act(conv, None, x, None, Act::Relu, ctx)?,
                // The original's second ReLU changes nothing.
                RpnConv::Several(convs) => convs.iter().try_fold(x.clone(), |x, conv| conv.forward(&x, ctx))?,
            };
            cls.push(self.rpn_cls.forward(&x, ctx)?);
            reg.push(self.rpn_reg.forward(&x, ctx)?);
        }
        Ok(vec![cls, reg])
    }

    /// `loss_rpn_cls`, `loss_rpn_bbox`.
    fn loss(&self, outs: &[Vec<Tensor>], batch: &DetBatch, ctx: &Ctx) -> Result<Losses> {
        let gt_labels = batch.gt_bboxes.iter().map(|b| vec![0; b.len()]).collect();
        let objects = DetBatch { gt_labels, ..batch.clone() };
        let found = self.anchors.loss(outs, &objects, ctx)?;
        let mut losses = Losses::new();
        for (name, value) in found.iter() {
            losses.push(name.replacen("loss_", "loss_rpn_", 1), value)?;
        }
        Ok(losses)
    }

    fn proposals(
        &self,
        outs: &[Vec<Tensor>],
        metas: &[ImgMeta],
        cfg: Option<&ProposalConfig>,
    ) -> Result<Vec<Vec<ScoredBox>>> {
        let cfg = match cfg {
            Some(cfg) => cfg,
            None => self.test_cfg()?,
        };
        metas.par_iter().enumerate().map(|(i, meta)| self.image_proposals(outs, i, meta, cfg)).collect()
    }

    fn test_cfg(&self) -> Result<&ProposalConfig> {
        match &self.test_cfg {
            Some(cfg) => Ok(cfg),
            None => candle_core::bail!("the head was built without test_cfg"),
        }
    }
}

register!(RPN_HEADS: dyn ProposalHead, "RPNHead" => RpnHead, RpnHeadConfig);
