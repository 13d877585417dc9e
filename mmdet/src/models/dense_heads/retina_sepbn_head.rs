//! RetinaNet's head with batch norms of each level's own over shared convolutions, as NAS-FPN is trained with.

use candle_core::{Result, Tensor, bail};
use mmcv::cnn::bricks::NormLayer;
use mmcv::cnn::bricks::{build_norm_layer, norm_name};
use mmcv::cnn::{Conv2d, ConvLayer, ConvSpec, conv_norm_act};
use mmcv::config::Node;
use mmcv::nn::{Ctx, Init, VarBuilder};
use mmcv::ops::Act;
use mmcv::register;
use mmcv::runner::Losses;
use schemars::JsonSchema;
use serde::Deserialize;

use super::anchor_head::{AnchorHead, AnchorHeadArgs};
use super::retina_head::{anchor_generator, bbox_coder, feat_channels, four, loss_cls};
use super::{DenseHead, HEADS, HeadArgs};
use crate::core::post_processing::Detections;
use crate::core::{DetBatch, ImgMeta};

/// `type = "RetinaSepBNHead"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetinaSepBNHeadConfig {
    /// Number of classes, background not counted.
    pub num_classes: usize,
    /// Number of levels.
    pub num_ins: usize,
    /// Channels of each level.
    pub in_channels: usize,
    /// Convolutions before the prediction; default 4.
    #[serde(default = "four")]
    pub stacked_convs: usize,
    /// Their channels; default 256.
    #[serde(default = "feat_channels")]
    pub feat_channels: usize,
    /// Kind of convolution; `Conv2d` only, whose weights the levels share.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default none.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// Anchors; default as `RetinaHead`.
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
    #[serde(default = "super::retina_head::loss_bbox")]
    pub loss_bbox: Node,
    /// In place of the detector's `train_cfg`.
    #[serde(default)]
    pub train_cfg: Option<Node>,
    /// In place of the detector's `test_cfg`.
    #[serde(default)]
    pub test_cfg: Option<Node>,
}

/// One level's stack: convolutions that all levels share, norms of its own.
type Stack = Vec<Option<Box<dyn NormLayer>>>;

/// Keys: `cls_convs.{level}.{i}.{conv, bn}.*`, `reg_convs.{level}.{i}.{conv, bn}.*`, `retina_cls.*`, `retina_reg.*`;
/// `conv` is one tensor under each level's name.
pub struct RetinaSepBNHead {
    cls_convs: Vec<Conv2d>,
    cls_norms: Vec<Stack>,
    reg_convs: Vec<Conv2d>,
    reg_norms: Vec<Stack>,
    retina_cls: Conv2d,
    retina_reg: Conv2d,
    anchors: AnchorHead,
}

impl RetinaSepBNHead {
    /// The head at `args.vb`.
    pub fn new(cfg: &RetinaSepBNHeadConfig, args: HeadArgs) -> mmcv::Result<Self> {
        if cfg.num_classes == 0 || cfg.num_ins == 0 {
            return Err(mmcv::Error::config("num_classes and num_ins must be 1 or more"));
        }
        if let Some(conv) = cfg.conv_cfg.as_ref().filter(|c| !c.is_null() && c.type_name() != Some("Conv2d")) {
            return Err(conv.error("only Conv2d's weights can be shared by the levels").under("conv_cfg"));
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
        let init = Some(Init::Normal(0.0, 0.01));
        let norm_cfg = cfg.norm_cfg.as_ref().filter(|n| !n.is_null());
        let stacks = |name: &str| -> mmcv::Result<(Vec<Conv2d>, Vec<Stack>)> {
            let (mut convs, mut norms): (Vec<Conv2d>, Vec<Stack>) = (Vec::new(), Vec::new());
            for level in 0..cfg.num_ins {
                let mut stack = Stack::new();
                for i in 0..cfg.stacked_convs {
                    let vb = vb.pp(name).pp(level).pp(i);
                    if level == 0 {
                        let from = if i == 0 { cfg.in_channels } else { cfg.feat_channels };
                        let spec = ConvSpec::new(from, cfg.feat_channels, 3).padding(1).bias(norm_cfg.is_none());
                        convs.push(Conv2d::from_spec(ConvSpec { init, ..spec }, &vb.pp("conv"))?);
                    } else {
                        vb.pp("conv").alias("weight", convs[i].weight());
                        if let Some(bias) = convs[i].bias() {
                            vb.pp("conv").alias("bias", bias);
                        }
                    }
                    stack.push(match norm_cfg {
                        Some(norm) => Some(build_norm_layer(norm, cfg.feat_channels, vb.pp(norm_name(norm, "")))?),
                        None => None,
                    });
                }
                norms.push(stack);
            }
            Ok((convs, norms))
        };
        let (cls_convs, cls_norms) = stacks("cls_convs")?;
        let (reg_convs, reg_norms) = stacks("reg_convs")?;
        let from = if cfg.stacked_convs == 0 { cfg.in_channels } else { cfg.feat_channels };
        let predict = |channels: usize, vb: VarBuilder| {
            let spec = ConvSpec::new(from, channels, 3).padding(1).bias(true);
            Conv2d::from_spec(ConvSpec { init, ..spec }, &vb)
        };
        vb.pp("retina_cls").init_cfg(&class_bias());
        let base = anchors.num_base_priors();
        Ok(Self {
            cls_convs,
            cls_norms,
            reg_convs,
            reg_norms,
            retina_cls: predict(base * anchors.cls_out_channels(), vb.pp("retina_cls"))?,
            retina_reg: predict(base * 4, vb.pp("retina_reg"))?,
            anchors,
        })
    }
}

/// Class scores start at 0.01.
fn class_bias() -> Node {
    Node::from_json(r#"{"type": "Normal", "layer": "Conv2d", "std": 0.01, "bias_prob": 0.01}"#)
        .expect("the default is JSON")
}

fn run(convs: &[Conv2d], norms: &Stack, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
    convs
        .iter()
        .zip(norms)
        .try_fold(x.clone(), |x, (conv, norm)| conv_norm_act(conv, norm.as_deref(), &x, None, Act::Relu, ctx))
}

impl DenseHead for RetinaSepBNHead {
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Vec<Tensor>>> {
        if feats.len() > self.cls_norms.len() {
            bail!("RetinaSepBNHead: {} levels came in, num_ins is {}", feats.len(), self.cls_norms.len());
        }
        let (mut cls, mut reg) = (Vec::new(), Vec::new());
        for (level, x) in feats.iter().enumerate() {
            cls.push(self.retina_cls.forward(&run(&self.cls_convs, &self.cls_norms[level], x, ctx)?, ctx)?);
            reg.push(self.retina_reg.forward(&run(&self.reg_convs, &self.reg_norms[level], x, ctx)?, ctx)?);
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

register!(HEADS: dyn DenseHead, "RetinaSepBNHead" => RetinaSepBNHead, RetinaSepBNHeadConfig);
