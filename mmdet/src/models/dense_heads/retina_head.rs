//! RetinaNet's head: Focal Loss for Dense Object Detection, Lin et al., ICCV 2017 (<https://arxiv.org/abs/1708.02002>).

use candle_core::{Result, Tensor};
use mmcv::cnn::{Conv2d, ConvLayer as _, ConvModule, ConvModuleConfig, ConvSpec};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::register;
use mmcv::runner::Losses;
use schemars::JsonSchema;
use serde::Deserialize;

use super::anchor_head::{AnchorHead, AnchorHeadArgs};
use super::{DenseHead, HEADS, HeadArgs};
use crate::core::post_processing::Detections;
use crate::core::{DetBatch, ImgMeta};

/// `type = "RetinaHead"`. Fields and defaults are mmdet's, those of its `AnchorHead` included.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetinaHeadConfig {
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
    /// Anchors; default octave base scale 4, three scales per octave, ratios 0.5, 1, 2, strides 8 to 128.
    #[serde(default = "anchor_generator")]
    pub anchor_generator: Node,
    /// Box coder; default `DeltaXYWHBBoxCoder`.
    #[serde(default = "bbox_coder")]
    pub bbox_coder: Node,
    /// Whether the box loss sees decoded boxes; default false.
    #[serde(default)]
    pub reg_decoded_bbox: bool,
    /// Class loss; default cross entropy of sigmoids.
    #[serde(default = "loss_cls")]
    pub loss_cls: Node,
    /// Box loss; default smooth L1 with beta 1/9.
    #[serde(default = "loss_bbox")]
    pub loss_bbox: Node,
    /// In place of the detector's `train_cfg`.
    #[serde(default)]
    pub train_cfg: Option<Node>,
    /// In place of the detector's `test_cfg`.
    #[serde(default)]
    pub test_cfg: Option<Node>,
    /// How weights start; default normal of deviation 0.01, class scores at 0.01.
    #[serde(default = "init_cfg")]
    pub init_cfg: Node,
}

pub(super) fn four() -> usize {
    4
}
pub(super) fn feat_channels() -> usize {
    256
}
fn json(text: &str) -> Node {
    Node::from_json(text).expect("the default is JSON")
}
pub(super) fn anchor_generator() -> Node {
    json(
        r#"{"type": "AnchorGenerator", "octave_base_scale": 4, "scales_per_octave": 3,
            "ratios": [0.5, 1.0, 2.0], "strides": [8, 16, 32, 64, 128]}"#,
    )
}
pub(super) fn bbox_coder() -> Node {
    json(
        r#"{"type": "DeltaXYWHBBoxCoder", "clip_border": true, "target_means": [0, 0, 0, 0], "target_stds": [1, 1, 1, 1]}"#,
    )
}
pub(super) fn loss_cls() -> Node {
    json(r#"{"type": "CrossEntropyLoss", "use_sigmoid": true, "loss_weight": 1.0}"#)
}
pub(super) fn loss_bbox() -> Node {
    let mut node = json(r#"{"type": "SmoothL1Loss", "loss_weight": 1.0}"#);
    node.set("beta", 1.0 / 9.0);
    node
}
pub(super) fn init_cfg() -> Node {
    json(
        r#"{"type": "Normal", "layer": "Conv2d", "std": 0.01,
            "override": {"type": "Normal", "name": "retina_cls", "std": 0.01, "bias_prob": 0.01}}"#,
    )
}

/// Keys: `cls_convs.{i}.*`, `reg_convs.{i}.*`, `retina_cls.*`, `retina_reg.*`.
pub struct RetinaHead {
    cls_convs: Vec<ConvModule>,
    reg_convs: Vec<ConvModule>,
    retina_cls: Conv2d,
    retina_reg: Conv2d,
    pub(super) anchors: AnchorHead,
}

impl RetinaHead {
    /// The head at `args.vb`.
    pub fn new(cfg: &RetinaHeadConfig, args: HeadArgs) -> mmcv::Result<Self> {
        if cfg.num_classes == 0 {
            return Err(mmcv::Error::config("is 0, expected 1 or more").under("num_classes"));
        }
        let vb = args.vb;
        let anchors = AnchorHead::new(AnchorHeadArgs {
            num_classes: cfg.num_classes,
            anchor_generator: &cfg.anchor_generator,
            bbox_coder: &cfg.bbox_coder,
            reg_decoded_bbox: cfg.reg_decoded_bbox,
            loss_cls: &cfg.loss_cls,
            loss_bbox: &cfg.loss_bbox,
            vb: &vb,
            train_cfg: cfg.train_cfg.as_ref().or(args.train_cfg.as_ref()),
            test_cfg: cfg.test_cfg.as_ref().or(args.test_cfg.as_ref()),
        })?;
        vb.init_cfg(&cfg.init_cfg);
        let stack = |name: &str, i: usize| -> mmcv::Result<ConvModule> {
            let from = if i == 0 { cfg.in_channels } else { cfg.feat_channels };
            let spec = ConvSpec::new(from, cfg.feat_channels, 3).padding(1);
            let made = ConvModuleConfig::new(spec).conv(cfg.conv_cfg.as_ref()).norm(cfg.norm_cfg.as_ref());
            ConvModule::new(made, vb.pp(name).pp(i))
        };
        let (mut cls_convs, mut reg_convs) = (Vec::new(), Vec::new());
        for i in 0..cfg.stacked_convs {
            cls_convs.push(stack("cls_convs", i)?);
        }
        for i in 0..cfg.stacked_convs {
            reg_convs.push(stack("reg_convs", i)?);
        }
        let from = if cfg.stacked_convs == 0 { cfg.in_channels } else { cfg.feat_channels };
        let predict = |channels: usize, vb: VarBuilder| {
            Conv2d::from_spec(ConvSpec::new(from, channels, 3).padding(1).bias(true), &vb)
        };
        let base = anchors.num_base_priors();
        Ok(Self {
            cls_convs,
            reg_convs,
            retina_cls: predict(base * anchors.cls_out_channels(), vb.pp("retina_cls"))?,
            retina_reg: predict(base * 4, vb.pp("retina_reg"))?,
            anchors,
        })
    }
}

impl DenseHead for RetinaHead {
    /// `outs[0][l]` `[B, anchors * classes, H_l, W_l]` logits, `outs[1][l]` `[B, anchors * 4, H_l, W_l]` box deltas.
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Vec<Tensor>>> {
        let (mut cls, mut reg) = (Vec::new(), Vec::new());
        let run = |convs: &[ConvModule], x: &Tensor| convs.iter().try_fold(x.clone(), |x, c| c.forward(&x, ctx));
        for x in feats {
            cls.push(self.retina_cls.forward(&run(&self.cls_convs, x)?, ctx)?);
            reg.push(self.retina_reg.forward(&run(&self.reg_convs, x)?, ctx)?);
        }
        Ok(vec![cls, reg])
    }

    fn loss(&self, outs: &[Vec<Tensor>], batch: &DetBatch, ctx: &Ctx) -> Result<Losses> {
        self.anchors.loss(outs, batch, ctx)
    }

    fn get_bboxes(&self, outs: &[Vec<Tensor>], metas: &[ImgMeta], rescale: bool) -> Result<Vec<Detections>> {
        self.anchors.get_bboxes(outs, metas, rescale)
    }

    fn aug_test_bboxes(&self, views: &[(Vec<Vec<Tensor>>, ImgMeta)], rescale: bool) -> Result<Detections> {
        self.anchors.aug_test_bboxes(views, rescale)
    }

    fn num_classes(&self) -> usize {
        self.anchors.num_classes()
    }
}

register!(HEADS: dyn DenseHead, "RetinaHead" => RetinaHead, RetinaHeadConfig);
