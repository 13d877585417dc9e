//! SSD's head: SSD: Single Shot MultiBox Detector, Liu et al., ECCV 2016 (<https://arxiv.org/abs/1512.02325>).

use candle_core::{Result, Tensor};
use mmcv::cnn::bricks::{DepthwiseSeparableConfig, DepthwiseSeparableConvModule};
use mmcv::cnn::{Conv2d, ConvLayer as _, ConvModule, ConvModuleConfig, ConvSpec};
use mmcv::config::Node;
use mmcv::nn::Ctx;
use mmcv::runner::Losses;
use mmcv::{Error, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::anchor_head::{AnchorHead, AnchorHeadArgs, scores_and_boxes, to_rows};
use super::{DenseHead, HEADS, HeadArgs};
use crate::core::post_processing::Detections;
use crate::core::{BBox, DetBatch, ImgMeta};
use crate::models::losses::{Reduction, cross_entropy, smooth_l1_loss, weight_reduce_loss, zero_loss};

/// `type = "SSDHead"`. Fields and defaults are mmdet's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SsdHeadConfig {
    /// Number of classes, background not counted; default 80.
    #[serde(default = "eighty")]
    pub num_classes: usize,
    /// Channels of each level; default SSD300's.
    #[serde(default = "in_channels")]
    pub in_channels: Vec<usize>,
    /// Convolutions before each prediction; default 0.
    #[serde(default)]
    pub stacked_convs: usize,
    /// Their channels; default 256.
    #[serde(default = "super::retina_head::feat_channels")]
    pub feat_channels: usize,
    /// Whether convolutions are depthwise separable; default false.
    #[serde(default)]
    pub use_depthwise: bool,
    /// Kind of convolution.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default none.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// Kind of activation; default none.
    #[serde(default)]
    pub act_cfg: Option<Node>,
    /// Anchors; default SSD300's.
    #[serde(default = "anchor_generator")]
    pub anchor_generator: Node,
    /// Box coder; default `DeltaXYWHBBoxCoder`.
    #[serde(default = "super::retina_head::bbox_coder")]
    pub bbox_coder: Node,
    /// Whether the box loss sees decoded boxes; default false.
    #[serde(default)]
    pub reg_decoded_bbox: bool,
    /// In place of the detector's `train_cfg`.
    #[serde(default)]
    pub train_cfg: Option<Node>,
    /// In place of the detector's `test_cfg`.
    #[serde(default)]
    pub test_cfg: Option<Node>,
    /// How weights start; default Xavier uniform.
    #[serde(default = "init_cfg")]
    pub init_cfg: Node,
}

fn eighty() -> usize {
    80
}
fn in_channels() -> Vec<usize> {
    vec![512, 1024, 512, 256, 256, 256]
}
fn json(text: &str) -> Node {
    Node::from_json(text).expect("the default is JSON")
}
fn anchor_generator() -> Node {
    json(
        r#"{"type": "SSDAnchorGenerator", "scale_major": false, "input_size": 300, "strides": [8, 16, 32, 64, 100, 300],
            "ratios": [[2], [2, 3], [2, 3], [2, 3], [2], [2]], "basesize_ratio_range": [0.1, 0.9]}"#,
    )
}
fn init_cfg() -> Node {
    json(r#"{"type": "Xavier", "layer": "Conv2d", "distribution": "uniform", "bias": 0}"#)
}

/// What `train_cfg` has beside an anchor head's.
#[derive(Debug, Clone, Copy)]
struct Mining {
    /// Negatives that count, for each positive.
    neg_pos_ratio: f64,
    /// Where the box loss becomes linear.
    smoothl1_beta: f64,
}

/// A step of a level's prediction.
enum Step {
    Plain(ConvModule),
    Separable(DepthwiseSeparableConvModule),
    Last(Conv2d),
}

impl Step {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        match self {
            Self::Plain(conv) => conv.forward(x, ctx),
            Self::Separable(conv) => conv.forward(x, ctx),
            Self::Last(conv) => conv.forward(x, ctx),
        }
    }
}

/// Keys: `cls_convs.{level}.{i}.*`, `reg_convs.{level}.{i}.*`.
pub struct SsdHead {
    cls_convs: Vec<Vec<Step>>,
    reg_convs: Vec<Vec<Step>>,
    anchors: AnchorHead,
    mining: Option<Mining>,
}

impl SsdHead {
    /// The head at `args.vb`.
    pub fn new(cfg: &SsdHeadConfig, args: HeadArgs) -> mmcv::Result<Self> {
        if cfg.num_classes == 0 {
            return Err(Error::config("is 0, expected 1 or more").under("num_classes"));
        }
        let vb = args.vb;
        vb.init_cfg(&cfg.init_cfg);
        let train_cfg = cfg.train_cfg.as_ref().or(args.train_cfg.as_ref()).filter(|n| !n.is_null());
        let number = |key: &str| -> mmcv::Result<f64> {
            let missing = || Error::config("is missing, expected a number").under(key).under("train_cfg");
            train_cfg.and_then(|t| t.get(key)).and_then(Node::as_f64).ok_or_else(missing)
        };
        let mining = match train_cfg {
            Some(_) => {
                Some(Mining { neg_pos_ratio: number("neg_pos_ratio")?, smoothl1_beta: number("smoothl1_beta")? })
            }
            None => None,
        };
        // The original takes every assigned anchor, whatever the sampler.
        let anchor_cfg = train_cfg.map(|t| t.without("neg_pos_ratio").without("smoothl1_beta").without("sampler"));
        let anchors = AnchorHead::new(AnchorHeadArgs {
            num_classes: cfg.num_classes,
            anchor_generator: &cfg.anchor_generator,
            bbox_coder: &cfg.bbox_coder,
            reg_decoded_bbox: cfg.reg_decoded_bbox,
            loss_cls: &json(r#"{"type": "CrossEntropyLoss"}"#),
            loss_bbox: &json(r#"{"type": "SmoothL1Loss"}"#),
            vb: &vb,
            train_cfg: anchor_cfg.as_ref(),
            test_cfg: cfg.test_cfg.as_ref().or(args.test_cfg.as_ref()),
        })?;
        let base = anchors.priors.num_base_priors();
        if base.len() != cfg.in_channels.len() {
            let message = format!("has {} values for {} levels of anchors", cfg.in_channels.len(), base.len());
            return Err(Error::config(message).under("in_channels"));
        }
        let branch = |name: &str, level: usize, channels: usize| -> mmcv::Result<Vec<Step>> {
            let vb = vb.pp(name).pp(level);
            let made = |spec: ConvSpec| {
                let made = ConvModuleConfig::new(spec).conv(cfg.conv_cfg.as_ref());
                made.norm(cfg.norm_cfg.as_ref()).act(cfg.act_cfg.as_ref())
            };
            let mut steps = Vec::new();
            let mut from = cfg.in_channels[level];
            for i in 0..cfg.stacked_convs {
                let spec = ConvSpec::new(from, cfg.feat_channels, 3).padding(1);
                steps.push(if cfg.use_depthwise {
                    let separable = DepthwiseSeparableConfig::new(made(spec));
                    Step::Separable(DepthwiseSeparableConvModule::new(separable, vb.pp(i))?)
                } else {
                    Step::Plain(ConvModule::new(made(spec), vb.pp(i))?)
                });
                from = cfg.feat_channels;
            }
            let mut last = ConvSpec::new(from, channels, 3).padding(1).bias(true);
            if cfg.use_depthwise {
                let spec = ConvSpec::new(from, from, 3).padding(1).groups(from);
                steps.push(Step::Plain(ConvModule::new(made(spec), vb.pp(steps.len()))?));
                last = ConvSpec::new(from, channels, 1).bias(true);
            }
            steps.push(Step::Last(Conv2d::from_spec(last, &vb.pp(steps.len()))?));
            Ok(steps)
        };
        let all = |name: &str, per_anchor: usize| -> mmcv::Result<Vec<Vec<Step>>> {
            base.iter().enumerate().map(|(level, n)| branch(name, level, n * per_anchor)).collect()
        };
        let (cls_convs, reg_convs) = (all("cls_convs", anchors.cls_out_channels())?, all("reg_convs", 4)?);
        Ok(Self { cls_convs, reg_convs, anchors, mining })
    }
}

impl DenseHead for SsdHead {
    /// `outs[0][l]` `[B, anchors * (classes + 1), H_l, W_l]` logits, `outs[1][l]` `[B, anchors * 4, H_l, W_l]` box deltas.
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Vec<Tensor>>> {
        let run = |branches: &[Vec<Step>]| -> Result<Vec<Tensor>> {
            let level = |(x, steps): (&Tensor, &Vec<Step>)| steps.iter().try_fold(x.clone(), |x, s| s.forward(&x, ctx));
            feats.iter().zip(branches).map(level).collect()
        };
        Ok(vec![run(&self.cls_convs)?, run(&self.reg_convs)?])
    }

    /// `loss_cls`, of positives and the hardest negatives, and `loss_bbox`.
    fn loss(&self, outs: &[Vec<Tensor>], batch: &DetBatch, ctx: &Ctx) -> Result<Losses> {
        let (cls, reg) = scores_and_boxes(outs)?;
        let Some(mining) = self.mining else { candle_core::bail!("the head was built without train_cfg") };
        let targets = self.anchors.batch_targets(cls, batch, ctx)?;
        let total = targets.num_pos as f64;
        let priors: Vec<BBox> = targets.levels.concat();
        let images = batch.metas.len();
        let rows = |levels: &[Tensor], channels: usize| -> Result<Tensor> {
            let each = levels.iter().map(|x| to_rows(x, channels)?.reshape((images, (), channels)));
            Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 1)
        };
        let (scores, deltas) = (rows(cls, self.anchors.cls_out_channels())?, rows(reg, 4)?);
        let device = scores.device();
        let background = self.anchors.num_classes() as i64;
        let (mut loss_cls, mut loss_bbox) = (Vec::new(), Vec::new());
        for (i, t) in targets.images.iter().enumerate() {
            let n = t.labels.len();
            let labels = Tensor::from_vec(t.labels.clone(), n, device)?;
            let weights = Tensor::from_vec(t.label_weights.clone(), n, device)?;
            let each = (cross_entropy(&scores.get(i)?, &labels, None, None)? * weights)?;
            let values = each.detach().to_vec1::<f32>()?;
            let mut negatives: Vec<u32> = (0..n as u32).filter(|a| t.labels[*a as usize] == background).collect();
            let mut counted: Vec<u32> = (0..n as u32).filter(|a| t.labels[*a as usize] != background).collect();
            let hard = ((mining.neg_pos_ratio * counted.len() as f64) as usize).min(negatives.len());
            let by_loss = |a: &u32, b: &u32| values[*b as usize].total_cmp(&values[*a as usize]).then(a.cmp(b));
            if hard > 0 && hard < negatives.len() {
                negatives.select_nth_unstable_by(hard - 1, by_loss);
            }
            counted.extend_from_slice(&negatives[..hard]);
            loss_cls.push(if counted.is_empty() {
                zero_loss(&each)?
            } else {
                let n = counted.len();
                (each.index_select(&Tensor::from_vec(counted, n, device)?, 0)?.sum_all()? / total)?
            });

            let deltas = deltas.get(i)?;
            if t.positives.is_empty() {
                loss_bbox.push(zero_loss(&deltas)?);
                continue;
            }
            let n = t.positives.len();
            let at: Vec<u32> = t.positives.iter().map(|(a, _)| *a as u32).collect();
            let boxes: Vec<BBox> = t.positives.iter().map(|(_, b)| *b).collect();
            let mut pred = deltas.index_select(&Tensor::from_vec(at, n, device)?, 0)?;
            if self.anchors.reg_decoded_bbox {
                let own: Vec<BBox> = t.positives.iter().map(|(a, _)| priors[*a]).collect();
                pred = self.anchors.coder.decode_tensor(&own, &pred, None)?;
            }
            let target = Tensor::from_vec(boxes.concat(), (n, 4), device)?;
            let loss = smooth_l1_loss(&pred, &target, mining.smoothl1_beta)?;
            loss_bbox.push(weight_reduce_loss(&loss, None, Reduction::Mean, Some(total))?);
        }
        let mut losses = Losses::new();
        losses.push_sum("loss_cls", &loss_cls)?;
        losses.push_sum("loss_bbox", &loss_bbox)?;
        Ok(losses)
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

register!(HEADS: dyn DenseHead, "SSDHead" => SsdHead, SsdHeadConfig);
