//! A dense head whose classes and boxes come from one tower: what mmdet would write as a subclass of `AnchorHead` owns one.

use candle_core::{Result, Tensor};
use mmcv::cnn::{Conv2d, ConvLayer as _, ConvModule, ConvModuleConfig, ConvSpec};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::register;
use mmcv::runner::Losses;
use mmdet::core::post_processing::Detections;
use mmdet::core::{DetBatch, ImgMeta};
use mmdet::models::dense_heads::{AnchorHead, AnchorHeadArgs, DenseHead, HEADS, HeadArgs};
use schemars::JsonSchema;
use serde::Deserialize;

/// `type = "SharedTowerHead"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SharedTowerHeadConfig {
    /// Number of classes, background not counted.
    pub num_classes: usize,
    /// Channels of each level.
    pub in_channels: usize,
    /// Channels of the tower.
    pub feat_channels: usize,
    /// Anchors.
    pub anchor_generator: Node,
    /// Box coder.
    pub bbox_coder: Node,
    /// Class loss.
    pub loss_cls: Node,
    /// Box loss.
    pub loss_bbox: Node,
    /// How weights start; default normal of deviation 0.01, class scores at 0.01.
    #[serde(default = "init_cfg")]
    pub init_cfg: Node,
}

fn init_cfg() -> Node {
    Node::from_json(
        r#"{"type": "Normal", "layer": "Conv2d", "std": 0.01,
            "override": {"type": "Normal", "name": "classes", "std": 0.01, "bias_prob": 0.01}}"#,
    )
    .expect("the default is JSON")
}

/// Keys: `tower.conv.*`, `classes.*`, `boxes.*`.
pub struct SharedTowerHead {
    tower: ConvModule,
    classes: Conv2d,
    boxes: Conv2d,
    /// Targets, losses and boxes are those of every anchor-based head.
    anchors: AnchorHead,
}

impl SharedTowerHead {
    /// The head at `args.vb`.
    pub fn new(cfg: &SharedTowerHeadConfig, args: HeadArgs) -> mmcv::Result<Self> {
        let anchors = AnchorHead::new(AnchorHeadArgs {
            vb: &args.vb,
            num_classes: cfg.num_classes,
            anchor_generator: &cfg.anchor_generator,
            bbox_coder: &cfg.bbox_coder,
            reg_decoded_bbox: false,
            loss_cls: &cfg.loss_cls,
            loss_bbox: &cfg.loss_bbox,
            train_cfg: args.train_cfg.as_ref(),
            test_cfg: args.test_cfg.as_ref(),
        })?;
        let vb = args.vb;
        vb.init_cfg(&cfg.init_cfg);
        let tower = ConvModuleConfig::new(ConvSpec::new(cfg.in_channels, cfg.feat_channels, 3).padding(1));
        let predict = |channels: usize, vb: VarBuilder| {
            Conv2d::from_spec(ConvSpec::new(cfg.feat_channels, channels, 1).bias(true), &vb)
        };
        let base = anchors.num_base_priors();
        Ok(Self {
            tower: ConvModule::new(tower, vb.pp("tower"))?,
            classes: predict(base * anchors.cls_out_channels(), vb.pp("classes"))?,
            boxes: predict(base * 4, vb.pp("boxes"))?,
            anchors,
        })
    }
}

impl DenseHead for SharedTowerHead {
    /// `outs[0][l]` `[B, anchors * classes, H_l, W_l]` logits, `outs[1][l]` `[B, anchors * 4, H_l, W_l]` box deltas.
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Vec<Tensor>>> {
        let (mut classes, mut boxes) = (Vec::new(), Vec::new());
        for x in feats {
            let x = self.tower.forward(x, ctx)?;
            classes.push(self.classes.forward(&x, ctx)?);
            boxes.push(self.boxes.forward(&x, ctx)?);
        }
        Ok(vec![classes, boxes])
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

register!(HEADS: dyn DenseHead, "SharedTowerHead" => SharedTowerHead, SharedTowerHeadConfig);
