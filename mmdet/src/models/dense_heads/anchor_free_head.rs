//! What heads without anchors share: mmdet's `anchor_free_head.py`.

use candle_core::{Result, Tensor, bail};
use mmcv::cnn::bricks::Bias;
use mmcv::cnn::{Conv2d, ConvLayer as _, ConvModule, ConvModuleConfig, ConvSpec};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};

use super::anchor_head::level_sizes;
use super::base_dense_head::{Candidates, DenseTestConfig, image_values, pick_candidates};
use crate::core::anchor::PriorGenerator;
use crate::core::bbox::coder::BBoxCoder;
use crate::core::{BBox, ImgMeta};

/// What [`Towers`] are made of.
#[derive(Debug, Clone, Copy)]
pub struct TowerArgs<'a> {
    /// Channels of each level.
    pub in_channels: usize,
    /// Channels of the convolutions.
    pub feat_channels: usize,
    /// Convolutions in each tower.
    pub stacked_convs: usize,
    /// Whether the last of each is deformable (`DCNv2`).
    pub dcn_on_last_conv: bool,
    /// Their bias.
    pub conv_bias: Bias,
    /// Kind of convolution.
    pub conv_cfg: Option<&'a Node>,
    /// Kind of norm.
    pub norm_cfg: Option<&'a Node>,
    /// Channels of the class prediction.
    pub cls_channels: usize,
}

/// Two stacks of convolutions over each level, and the predictions of classes and boxes.
/// Keys: `cls_convs.{i}.*`, `reg_convs.{i}.*`, `conv_cls.*`, `conv_reg.*`.
pub struct Towers {
    cls_convs: Vec<ConvModule>,
    reg_convs: Vec<ConvModule>,
    conv_cls: Conv2d,
    conv_reg: Conv2d,
}

impl Towers {
    /// The towers at `vb`.
    pub fn new(args: TowerArgs, vb: &VarBuilder) -> mmcv::Result<Self> {
        let stack = |name: &str| -> mmcv::Result<Vec<ConvModule>> {
            let deformable = Node::from_json(r#"{"type": "DCNv2"}"#)?;
            let one = |i: usize| {
                let from = if i == 0 { args.in_channels } else { args.feat_channels };
                let last = args.dcn_on_last_conv && i + 1 == args.stacked_convs;
                let conv_cfg = if last { Some(&deformable) } else { args.conv_cfg };
                let made = ConvModuleConfig::new(ConvSpec::new(from, args.feat_channels, 3).padding(1));
                ConvModule::new(made.conv(conv_cfg).norm(args.norm_cfg).bias(args.conv_bias), vb.pp(name).pp(i))
            };
            (0..args.stacked_convs).map(one).collect()
        };
        let (cls_convs, reg_convs) = (stack("cls_convs")?, stack("reg_convs")?);
        let predict = |channels: usize, name: &str| predictor(args.feat_channels, channels, &vb.pp(name));
        let (conv_cls, conv_reg) = (predict(args.cls_channels, "conv_cls")?, predict(4, "conv_reg")?);
        Ok(Self { cls_convs, reg_convs, conv_cls, conv_reg })
    }

    /// Class scores, boxes, and the features that they came from.
    pub fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<[Tensor; 4]> {
        let run = |convs: &[ConvModule]| convs.iter().try_fold(x.clone(), |x, conv| conv.forward(&x, ctx));
        let (cls, reg) = (run(&self.cls_convs)?, run(&self.reg_convs)?);
        Ok([self.conv_cls.forward(&cls, ctx)?, self.conv_reg.forward(&reg, ctx)?, cls, reg])
    }
}

/// A 3x3 convolution with bias that ends a tower.
pub fn predictor(from: usize, to: usize, vb: &VarBuilder) -> Result<Conv2d> {
    Conv2d::from_spec(ConvSpec::new(from, to, 3).padding(1).bias(true), vb)
}

/// What a head predicted at one point of each position.
pub struct PointOuts<'a> {
    /// Class logits `[B, classes, H_l, W_l]`.
    pub cls: &'a [Tensor],
    /// Codes `[B, 4, H_l, W_l]`.
    pub reg: &'a [Tensor],
    /// Logits `[B, 1, H_l, W_l]` whose sigmoid scores are multiplied by, where the head has them.
    pub factors: Option<&'a [Tensor]>,
}

/// What one image's predictions offer before NMS.
pub fn point_candidates(
    outs: &PointOuts,
    image: usize,
    meta: &ImgMeta,
    cfg: &DenseTestConfig,
    sigmoid: bool,
    priors: &dyn PriorGenerator,
    coder: &dyn BBoxCoder,
) -> Result<Candidates> {
    let max_shape = (meta.img_shape[0], meta.img_shape[1]);
    if outs.reg.len() != outs.cls.len() || outs.factors.is_some_and(|f| f.len() != outs.cls.len()) {
        bail!("class scores and boxes of different numbers of levels");
    }
    let mut all = Candidates::default();
    for (l, (h, w)) in level_sizes(outs.cls)?.into_iter().enumerate() {
        let (hw, channels) = (h * w, outs.cls[l].dim(1)?);
        let logits = image_values(&outs.cls[l], image)?;
        let picked = pick_candidates(&logits, hw, channels, sigmoid, cfg.score_thr as f32, cfg.nms_pre);
        let index: Vec<usize> = picked.iter().map(|p| p.prior).collect();
        let points: Vec<BBox> = priors.sparse_priors(&index, (h, w), l);
        let values = image_values(&outs.reg[l], image)?;
        let codes: Vec<f32> =
            index.iter().flat_map(|i| (0..4).map(|c| values[c * hw + i]).collect::<Vec<_>>()).collect();
        all.bboxes.extend(coder.decode(&points, &codes, Some(max_shape))?);
        match outs.factors {
            Some(factors) => {
                let factors = image_values(&factors[l], image)?;
                all.scores.extend(picked.iter().map(|p| p.score / (1.0 + (-factors[p.prior]).exp())));
            }
            None => all.scores.extend(picked.iter().map(|p| p.score)),
        }
        all.labels.extend(picked.iter().map(|p| p.label as i64));
    }
    Ok(all)
}
