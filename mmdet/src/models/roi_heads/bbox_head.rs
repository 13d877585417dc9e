//! Class and box of each region: mmdet's `bbox_head.py` and `convfc_bbox_head.py`.

use candle_core::{DType, Result, Tensor, bail};
use mmcv::cnn::bricks::{Linear, Pair};
use mmcv::cnn::{ConvModule, ConvModuleConfig, ConvSpec};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::ops::{self, AvgPoolOptions, NmsConfig};
use mmcv::registry::{build_at, registry};
use mmcv::runner::Losses;
use mmcv::{Error, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::roi_extractor::Roi;
use crate::core::bbox::coder::{BBOX_CODERS, BBoxCoder};
use crate::core::bbox::samplers::SamplingResult;
use crate::core::post_processing::{Detections, multiclass_nms};
use crate::core::{BBox, ImgMeta};
use crate::models::losses::{Loss, Reduction, build_loss, zero_loss};

/// What a box head predicts.
#[derive(Debug, Clone)]
pub struct BBoxOuts {
    /// Logits `[n, classes + 1]`, the background last.
    pub cls_score: Option<Tensor>,
    /// Codes `[n, 4]` or `[n, classes * 4]`.
    pub bbox_pred: Option<Tensor>,
}

/// What it should have predicted, of all images in a row, positives before negatives in each.
#[derive(Debug, Clone, Default)]
pub struct BBoxTargets {
    /// Class of each region; the number of classes is background.
    pub labels: Vec<i64>,
    /// Weight of each region in the class loss.
    pub label_weights: Vec<f32>,
    /// Regions with an object, and its box: encoded, or as it is with `reg_decoded_bbox`.
    pub positives: Vec<(usize, BBox)>,
}

/// How detections are chosen: `test_cfg.rcnn`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RcnnTestConfig {
    /// Score that a detection must exceed.
    pub score_thr: f64,
    /// NMS within each class.
    pub nms: NmsConfig,
    /// Detections kept per image; -1 keeps all.
    pub max_per_img: i64,
    /// Where a mask begins; below 0 masks stay soft.
    #[serde(default)]
    pub mask_thr_binary: Option<f64>,
}

/// Predicts class and box of each region.
pub trait BBoxHead: Send + Sync {
    /// Of features `[n, C, h, w]`.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<BBoxOuts>;

    /// What the regions of `sampled`, one result per image, should be.
    fn targets(&self, sampled: &[SamplingResult], pos_weight: f64) -> Result<BBoxTargets>;

    /// `loss_cls`, `acc` and `loss_bbox`.
    fn loss(&self, outs: &BBoxOuts, rois: &[Roi], targets: &BBoxTargets) -> Result<Losses>;

    /// The class loss of each region for its label.
    fn loss_cls_of_each(&self, cls_score: &Tensor, labels: &[i64]) -> Result<Vec<f32>>;

    /// Detections of one image from its regions' logits and codes, in its file's frame when `rescale`.
    fn get_bboxes(
        &self,
        rois: &[Roi],
        outs: &BBoxOuts,
        meta: &ImgMeta,
        rescale: bool,
        cfg: &RcnnTestConfig,
    ) -> Result<Detections> {
        let (boxes, scores) = self.boxes_and_scores(rois, outs, meta, rescale)?;
        multiclass_nms(&boxes, &scores, self.num_classes(), cfg.score_thr, &cfg.nms, cfg.max_per_img, None)
            .map_err(candle_core::Error::wrap)
    }

    /// Boxes (`[n]` or row-major `[n, classes]`) and softmax scores (row-major `[n, classes + 1]`) before NMS.
    fn boxes_and_scores(
        &self,
        rois: &[Roi],
        outs: &BBoxOuts,
        meta: &ImgMeta,
        rescale: bool,
    ) -> Result<(Vec<BBox>, Vec<f32>)>;

    /// Regions moved to where the codes say, by the class of each; clipped to the image.
    fn regress_by_class(&self, rois: &[Roi], labels: &[i64], bbox_pred: &Tensor, meta: &ImgMeta) -> Result<Vec<Roi>>;

    /// Number of classes.
    fn num_classes(&self) -> usize;
}

registry!(
    /// Heads that predict class and box of each region.
    pub BBOX_HEADS: dyn BBoxHead, VarBuilder
);

/// Declares a head's config with the fields that all have and those of its own.
macro_rules! config {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $ty,)*
            /// Whether features are averaged over the region first; default false.
            #[serde(default)]
            pub with_avg_pool: bool,
            /// Whether classes are predicted; default true.
            #[serde(default = "yes")]
            pub with_cls: bool,
            /// Whether boxes are predicted; default true.
            #[serde(default = "yes")]
            pub with_reg: bool,
            /// Size of the features; default 7.
            #[serde(default = "seven")]
            pub roi_feat_size: Pair,
            /// Their channels; default 256.
            #[serde(default = "channels")]
            pub in_channels: usize,
            /// Number of classes, background not counted; default 80.
            #[serde(default = "eighty")]
            pub num_classes: usize,
            /// Box coder; default `DeltaXYWHBBoxCoder` with deviations 0.1, 0.1, 0.2, 0.2.
            #[serde(default = "bbox_coder")]
            pub bbox_coder: Node,
            /// Whether all classes share one box; default false.
            #[serde(default)]
            pub reg_class_agnostic: bool,
            /// Whether the box loss sees decoded boxes; default false.
            #[serde(default)]
            pub reg_decoded_bbox: bool,
            /// Kind of the box layer; only `Linear`.
            #[serde(default = "linear")]
            pub reg_predictor_cfg: Node,
            /// Kind of the class layer; only `Linear`.
            #[serde(default = "linear")]
            pub cls_predictor_cfg: Node,
            /// Class loss; default cross entropy.
            #[serde(default = "loss_cls")]
            pub loss_cls: Node,
            /// Box loss; default smooth L1.
            #[serde(default = "loss_bbox")]
            pub loss_bbox: Node,
            /// How weights start; default normal of deviation 0.01 (classes) and 0.001 (boxes), Xavier for hidden layers.
            #[serde(default)]
            pub init_cfg: Option<Node>,
        }

        impl $name {
            fn common(&self) -> Common<'_> {
                Common {
                    with_avg_pool: self.with_avg_pool,
                    with_cls: self.with_cls,
                    with_reg: self.with_reg,
                    roi_feat_size: self.roi_feat_size.get(),
                    in_channels: self.in_channels,
                    num_classes: self.num_classes,
                    bbox_coder: &self.bbox_coder,
                    reg_class_agnostic: self.reg_class_agnostic,
                    reg_decoded_bbox: self.reg_decoded_bbox,
                    predictors: [&self.cls_predictor_cfg, &self.reg_predictor_cfg],
                    loss_cls: &self.loss_cls,
                    loss_bbox: &self.loss_bbox,
                    init_cfg: self.init_cfg.as_ref().filter(|i| !i.is_null()),
                }
            }
        }
    };
}

fn yes() -> bool {
    true
}
fn seven() -> Pair {
    Pair::Both(7)
}
fn channels() -> usize {
    256
}
fn fc_channels() -> usize {
    1024
}
fn eighty() -> usize {
    80
}
fn json(text: &str) -> Node {
    Node::from_json(text).expect("the default is JSON")
}
fn bbox_coder() -> Node {
    json(
        r#"{"type": "DeltaXYWHBBoxCoder", "clip_border": true, "target_means": [0, 0, 0, 0],
            "target_stds": [0.1, 0.1, 0.2, 0.2]}"#,
    )
}
fn linear() -> Node {
    json(r#"{"type": "Linear"}"#)
}
fn loss_cls() -> Node {
    json(r#"{"type": "CrossEntropyLoss", "use_sigmoid": false, "loss_weight": 1.0}"#)
}
fn loss_bbox() -> Node {
    json(r#"{"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1.0}"#)
}

/// The fields that all configs have.
#[derive(Debug, Clone, Copy)]
struct Common<'a> {
    with_avg_pool: bool,
    with_cls: bool,
    with_reg: bool,
    roi_feat_size: [usize; 2],
    in_channels: usize,
    num_classes: usize,
    bbox_coder: &'a Node,
    reg_class_agnostic: bool,
    reg_decoded_bbox: bool,
    predictors: [&'a Node; 2],
    loss_cls: &'a Node,
    loss_bbox: &'a Node,
    init_cfg: Option<&'a Node>,
}

/// Numbers of layers.
#[derive(Debug, Clone, Copy, Default)]
struct Layers<'a> {
    shared: [usize; 2],
    cls: [usize; 2],
    reg: [usize; 2],
    conv_channels: usize,
    fc_channels: usize,
    conv_cfg: Option<&'a Node>,
    norm_cfg: Option<&'a Node>,
}

config! {
    /// `type = "BBoxHead"`: no hidden layers.
    PlainBBoxHeadConfig {}
}

config! {
    /// `type = "Shared2FCBBoxHead"`: two linear layers.
    Shared2FCBBoxHeadConfig {
        /// Width of the linear layers; default 1024.
        #[serde(default = "fc_channels")]
        fc_out_channels: usize,
        /// Accepted; there are no convolutions.
        #[serde(default = "channels")]
        conv_out_channels: usize,
        /// Accepted; there are no convolutions.
        #[serde(default)]
        conv_cfg: Option<Node>,
        /// Accepted; there are no convolutions.
        #[serde(default)]
        norm_cfg: Option<Node>,
    }
}

config! {
    /// `type = "Shared4Conv1FCBBoxHead"`: four convolutions and a linear layer.
    Shared4Conv1FCBBoxHeadConfig {
        /// Width of the linear layer; default 1024.
        #[serde(default = "fc_channels")]
        fc_out_channels: usize,
        /// Channels of the convolutions; default 256.
        #[serde(default = "channels")]
        conv_out_channels: usize,
        /// Kind of convolution.
        #[serde(default)]
        conv_cfg: Option<Node>,
        /// Kind of norm; default none.
        #[serde(default)]
        norm_cfg: Option<Node>,
    }
}

config! {
    /// `type = "ConvFCBBoxHead"`.
    ConvFCBBoxHeadConfig {
        /// Convolutions before the branches; default 0.
        #[serde(default)]
        num_shared_convs: usize,
        /// Linear layers before the branches; default 0.
        #[serde(default)]
        num_shared_fcs: usize,
        /// Convolutions of the class branch; default 0.
        #[serde(default)]
        num_cls_convs: usize,
        /// Linear layers of the class branch; default 0.
        #[serde(default)]
        num_cls_fcs: usize,
        /// Convolutions of the box branch; default 0.
        #[serde(default)]
        num_reg_convs: usize,
        /// Linear layers of the box branch; default 0.
        #[serde(default)]
        num_reg_fcs: usize,
        /// Width of the linear layers; default 1024.
        #[serde(default = "fc_channels")]
        fc_out_channels: usize,
        /// Channels of the convolutions; default 256.
        #[serde(default = "channels")]
        conv_out_channels: usize,
        /// Kind of convolution.
        #[serde(default)]
        conv_cfg: Option<Node>,
        /// Kind of norm; default none.
        #[serde(default)]
        norm_cfg: Option<Node>,
    }
}

/// Convolutions, then linear layers.
struct Branch {
    convs: Vec<ConvModule>,
    fcs: Vec<Linear>,
}

/// Keys: `fc_cls.*`, `fc_reg.*`, `{shared, cls, reg}_convs.{i}.*`, `{shared, cls, reg}_fcs.{i}.*`.
pub struct ConvFCBBoxHead {
    shared: Branch,
    cls: Branch,
    reg: Branch,
    fc_cls: Option<Linear>,
    fc_reg: Option<Linear>,
    pool: Option<[usize; 2]>,
    num_classes: usize,
    reg_class_agnostic: bool,
    reg_decoded_bbox: bool,
    coder: Box<dyn BBoxCoder>,
    loss_cls: Box<dyn Loss>,
    loss_bbox: Box<dyn Loss>,
}

impl ConvFCBBoxHead {
    /// The head at `vb`.
    pub fn new(cfg: &ConvFCBBoxHeadConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        let layers = Layers {
            shared: [cfg.num_shared_convs, cfg.num_shared_fcs],
            cls: [cfg.num_cls_convs, cfg.num_cls_fcs],
            reg: [cfg.num_reg_convs, cfg.num_reg_fcs],
            conv_channels: cfg.conv_out_channels,
            fc_channels: cfg.fc_out_channels,
            conv_cfg: cfg.conv_cfg.as_ref(),
            norm_cfg: cfg.norm_cfg.as_ref(),
        };
        if [layers.shared, layers.cls, layers.reg].concat().iter().all(|n| *n == 0) {
            return Err(Error::config("has no layers; that is BBoxHead"));
        }
        if (layers.cls[0] > 0 || layers.reg[0] > 0) && layers.shared[1] > 0 {
            return Err(
                Error::config("linear layers can't come before a branch's convolutions").under("num_shared_fcs")
            );
        }
        Self::build(cfg.common(), layers, &vb)
    }

    fn build(cfg: Common, layers: Layers, vb: &VarBuilder) -> mmcv::Result<Self> {
        if !(cfg.with_cls || cfg.with_reg) || cfg.num_classes == 0 {
            return Err(Error::config("predicts nothing: with_cls, with_reg, num_classes"));
        }
        for (key, node) in ["cls_predictor_cfg", "reg_predictor_cfg"].into_iter().zip(cfg.predictors) {
            if node.type_name() != Some("Linear") {
                return Err(node.error("only Linear is there").under(key));
            }
        }
        let hidden = [layers.shared, layers.cls, layers.reg].concat().iter().any(|n| *n > 0);
        match cfg.init_cfg {
            Some(init) => vb.init_cfg(init),
            None => default_init(&cfg, layers, hidden, vb)?,
        }
        let area: usize = cfg.roi_feat_size.iter().product();
        let out_channels = |(with, n): (bool, usize)| with.then_some(n);
        let cls_out = out_channels((cfg.with_cls, cfg.num_classes + 1));
        let boxes = if cfg.reg_class_agnostic { 1 } else { cfg.num_classes };
        let reg_out = out_channels((cfg.with_reg, 4 * boxes));
        // The original registers the predictions before the hidden layers.
        let branch_width = |[convs, fcs]: [usize; 2], from: usize, shared: bool| -> [usize; 3] {
            let conv = if convs > 0 { layers.conv_channels } else { from };
            let flat = (shared || layers.shared[1] == 0) && !cfg.with_avg_pool;
            let fc_in = if fcs > 0 && flat { conv * area } else { conv };
            [conv, fc_in, if fcs > 0 { layers.fc_channels } else { conv }]
        };
        let shared = branch_width(layers.shared, cfg.in_channels, true);
        let last = |own: [usize; 2]| {
            let [_, _, width] = branch_width(own, shared[2], false);
            if layers.shared[1] == 0 && !cfg.with_avg_pool && own[1] == 0 { width * area } else { width }
        };
        let predict = |name: &str, from: usize, to: Option<usize>| -> mmcv::Result<Option<Linear>> {
            Ok(to.map(|to| Linear::new(from, to, true, &vb.pp(name))).transpose()?)
        };
        let loss_cls = build_loss("loss_cls", cfg.loss_cls, vb)?;
        let loss_bbox = build_loss("loss_bbox", cfg.loss_bbox, vb)?;
        let fc_cls = predict("fc_cls", last(layers.cls), cls_out)?;
        let fc_reg = predict("fc_reg", last(layers.reg), reg_out)?;
        let branch = |name: &str, [convs, fcs]: [usize; 2], from: usize, is_shared: bool| -> mmcv::Result<Branch> {
            let [_, fc_in, _] = branch_width([convs, fcs], from, is_shared);
            let conv = |i: usize| {
                let spec = ConvSpec::new(if i == 0 { from } else { layers.conv_channels }, layers.conv_channels, 3);
                let made = ConvModuleConfig::new(spec.padding(1)).conv(layers.conv_cfg).norm(layers.norm_cfg);
                ConvModule::new(made, vb.pp(format!("{name}_convs")).pp(i))
            };
            let fc = |i: usize| {
                let from = if i == 0 { fc_in } else { layers.fc_channels };
                Linear::new(from, layers.fc_channels, true, &vb.pp(format!("{name}_fcs")).pp(i))
            };
            Ok(Branch {
                convs: (0..convs).map(conv).collect::<mmcv::Result<_>>()?,
                fcs: (0..fcs).map(fc).collect::<Result<_>>()?,
            })
        };
        Ok(Self {
            shared: branch("shared", layers.shared, cfg.in_channels, true)?,
            cls: branch("cls", layers.cls, shared[2], false)?,
            reg: branch("reg", layers.reg, shared[2], false)?,
            fc_cls,
            fc_reg,
            pool: cfg.with_avg_pool.then_some(cfg.roi_feat_size),
            num_classes: cfg.num_classes,
            reg_class_agnostic: cfg.reg_class_agnostic,
            reg_decoded_bbox: cfg.reg_decoded_bbox,
            coder: build_at(&BBOX_CODERS, "bbox_coder", cfg.bbox_coder, ())?,
            loss_cls,
            loss_bbox,
        })
    }

    /// `[n, C, h, w]` to `[n, ..]`, averaged where the head does that.
    fn flat(&self, x: &Tensor) -> Result<Tensor> {
        match self.pool {
            Some(k) => ops::avg_pool2d(x, k, k, [0, 0], AvgPoolOptions { ceil_mode: false, count_include_pad: true })?
                .flatten_from(1),
            None => x.flatten_from(1),
        }
    }

    fn fcs(&self, branch: &Branch, x: &Tensor) -> Result<Tensor> {
        branch.fcs.iter().try_fold(x.clone(), |x, fc| ops::relu(&fc.forward(&x)?))
    }

    fn branch(&self, branch: &Branch, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let x = branch.convs.iter().try_fold(x.clone(), |x, conv| conv.forward(&x, ctx))?;
        let x = if x.rank() > 2 { self.flat(&x)? } else { x };
        self.fcs(branch, &x)
    }

    /// The codes of regions' own classes: `[rows, 4]` of `[n, classes * 4]`.
    fn codes_of(&self, bbox_pred: &Tensor, rows: &[usize], labels: &[i64]) -> Result<Tensor> {
        let (n, width) = bbox_pred.dims2()?;
        let boxes = width / 4;
        let at: Vec<u32> = rows
            .iter()
            .zip(labels)
            .map(|(row, label)| (row * boxes + if self.reg_class_agnostic { 0 } else { *label as usize }) as u32)
            .collect();
        let at = Tensor::from_vec(at, rows.len(), bbox_pred.device())?;
        bbox_pred.reshape((n * boxes, 4))?.index_select(&at, 0)
    }
}

/// mmdet's: normal for predictions, Xavier for hidden linear layers.
fn default_init(cfg: &Common, layers: Layers, hidden: bool, vb: &VarBuilder) -> mmcv::Result<()> {
    for (name, with, std) in [("fc_cls", cfg.with_cls, 0.01), ("fc_reg", cfg.with_reg, 0.001)] {
        if with {
            let mut node = json(r#"{"type": "Normal", "layer": "Linear"}"#);
            node.set("std", std);
            vb.pp(name).init_cfg(&node);
        }
    }
    if hidden {
        for (name, [_, fcs]) in [("shared_fcs", layers.shared), ("cls_fcs", layers.cls), ("reg_fcs", layers.reg)] {
            if fcs > 0 {
                vb.pp(name).init_cfg(&json(r#"{"type": "Xavier", "layer": "Linear", "distribution": "uniform"}"#));
            }
        }
    }
    Ok(())
}

/// Percent of rows whose greatest logit is their label's.
fn accuracy(scores: &[f32], width: usize, labels: &[i64]) -> f64 {
    let best = |row: &[f32]| {
        let mut at = 0;
        for (i, v) in row.iter().enumerate() {
            if *v > row[at] {
                at = i;
            }
        }
        at as i64
    };
    let right = scores.chunks_exact(width).zip(labels).filter(|(row, label)| best(row) == **label).count();
    if labels.is_empty() { 0.0 } else { right as f64 * 100.0 / labels.len() as f64 }
}

impl BBoxHead for ConvFCBBoxHead {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<BBoxOuts> {
        let mut x = self.shared.convs.iter().try_fold(x.clone(), |x, conv| conv.forward(&x, ctx))?;
        if !self.shared.fcs.is_empty() {
            x = self.fcs(&self.shared, &self.flat(&x)?)?;
        }
        let predict = |branch: &Branch, fc: &Option<Linear>| -> Result<Option<Tensor>> {
            fc.as_ref().map(|fc| fc.forward(&self.branch(branch, &x, ctx)?)).transpose()
        };
        Ok(BBoxOuts { cls_score: predict(&self.cls, &self.fc_cls)?, bbox_pred: predict(&self.reg, &self.fc_reg)? })
    }

    fn targets(&self, sampled: &[SamplingResult], pos_weight: f64) -> Result<BBoxTargets> {
        let mut all = BBoxTargets::default();
        let weight = if pos_weight <= 0.0 { 1.0 } else { pos_weight as f32 };
        for one in sampled {
            let n = one.pos_bboxes.len();
            let Some(labels) = &one.pos_gt_labels else { bail!("the sampled regions have no labels") };
            let boxes = if self.reg_decoded_bbox {
                one.pos_gt_bboxes.clone()
            } else {
                self.coder.encode(&one.pos_bboxes, &one.pos_gt_bboxes)?
            };
            let start = all.labels.len();
            all.positives.extend(boxes.into_iter().enumerate().map(|(i, b)| (start + i, b)));
            all.labels.extend_from_slice(&labels[..n]);
            all.labels.extend(std::iter::repeat_n(self.num_classes as i64, one.neg_bboxes.len()));
            all.label_weights.extend(std::iter::repeat_n(weight, n));
            all.label_weights.extend(std::iter::repeat_n(1.0, one.neg_bboxes.len()));
        }
        Ok(all)
    }

    fn loss_cls_of_each(&self, cls_score: &Tensor, labels: &[i64]) -> Result<Vec<f32>> {
        let (n, device) = (labels.len(), cls_score.device());
        let labels = Tensor::from_vec(labels.to_vec(), n, device)?;
        let weights = Tensor::ones(n, DType::F32, device)?;
        let loss = self.loss_cls.forward(cls_score, &labels, Some(&weights), Some(n as f64), Some(Reduction::None))?;
        loss.flatten_all()?.to_vec1()
    }

    fn loss(&self, outs: &BBoxOuts, rois: &[Roi], targets: &BBoxTargets) -> Result<Losses> {
        let mut losses = Losses::new();
        let n = targets.labels.len();
        if let Some(cls) = outs.cls_score.as_ref().filter(|c| c.elem_count() > 0) {
            let device = cls.device();
            let counted = targets.label_weights.iter().filter(|w| **w > 0.0).count().max(1) as f64;
            let labels = Tensor::from_vec(targets.labels.clone(), n, device)?;
            let weights = Tensor::from_vec(targets.label_weights.clone(), n, device)?;
            let loss = self.loss_cls.forward(cls, &labels, Some(&weights), Some(counted), None)?;
            losses.push("loss_cls", &loss)?;
            let values = cls.detach().flatten_all()?.to_vec1::<f32>()?;
            let acc = accuracy(&values, cls.dim(1)?, &targets.labels) as f32;
            losses.push("acc", &Tensor::new(acc, device)?)?;
        }
        if let Some(reg) = &outs.bbox_pred {
            // As in mmdet a label of -1 or less is neither object nor background.
            let positives: Vec<&(usize, BBox)> = targets
                .positives
                .iter()
                .filter(|(i, _)| (0..self.num_classes as i64).contains(&targets.labels[*i]))
                .collect();
            if positives.is_empty() {
                losses.push("loss_bbox", &zero_loss(reg)?)?;
                return Ok(losses);
            }
            let rows: Vec<usize> = positives.iter().map(|(i, _)| *i).collect();
            let labels: Vec<i64> = rows.iter().map(|i| targets.labels[*i]).collect();
            let mut pred = self.codes_of(reg, &rows, &labels)?;
            if self.reg_decoded_bbox {
                let own: Vec<BBox> = rows.iter().map(|i| box_of(&rois[*i])).collect();
                pred = self.coder.decode_tensor(&own, &pred, None)?;
            }
            let boxes: Vec<f32> = positives.iter().flat_map(|(_, b)| *b).collect();
            let target = Tensor::from_vec(boxes, (rows.len(), 4), reg.device())?;
            let weights = Tensor::ones((rows.len(), 4), DType::F32, reg.device())?;
            let loss = self.loss_bbox.forward(&pred, &target, Some(&weights), Some(n as f64), None)?;
            losses.push("loss_bbox", &loss)?;
        }
        Ok(losses)
    }

    fn boxes_and_scores(
        &self,
        rois: &[Roi],
        outs: &BBoxOuts,
        meta: &ImgMeta,
        rescale: bool,
    ) -> Result<(Vec<BBox>, Vec<f32>)> {
        let Some(cls) = &outs.cls_score else { bail!("the head predicts no classes") };
        let scores = ops::softmax_last(&cls.detach())?.flatten_all()?.to_vec1::<f32>()?;
        let own: Vec<BBox> = rois.iter().map(box_of).collect();
        let (h, w) = (meta.img_shape[0], meta.img_shape[1]);
        let mut boxes = match &outs.bbox_pred {
            Some(reg) => {
                let codes = reg.detach().flatten_all()?.to_vec1::<f32>()?;
                self.coder.decode(&own, &codes, Some((h, w)))?
            }
            // The original clips a copy here, to no effect.
            None => own,
        };
        if rescale {
            for b in &mut boxes {
                b.iter_mut().zip(meta.scale_factor).for_each(|(v, s)| *v /= s);
            }
        }
        Ok((boxes, scores))
    }

    fn regress_by_class(&self, rois: &[Roi], labels: &[i64], bbox_pred: &Tensor, meta: &ImgMeta) -> Result<Vec<Roi>> {
        if rois.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<usize> = (0..rois.len()).collect();
        let codes = self.codes_of(&bbox_pred.detach(), &rows, labels)?.flatten_all()?.to_vec1::<f32>()?;
        let own: Vec<BBox> = rois.iter().map(box_of).collect();
        let moved = self.coder.decode(&own, &codes, Some((meta.img_shape[0], meta.img_shape[1])))?;
        Ok(rois.iter().zip(moved).map(|(r, b)| [r[0], b[0], b[1], b[2], b[3]]).collect())
    }

    fn num_classes(&self) -> usize {
        self.num_classes
    }
}

/// A region's box.
pub fn box_of(roi: &Roi) -> BBox {
    [roi[1], roi[2], roi[3], roi[4]]
}

/// `BBoxHead`.
enum Plain {}
/// `Shared2FCBBoxHead`.
enum Shared2Fc {}
/// `Shared4Conv1FCBBoxHead`.
enum Shared4Conv1Fc {}

impl Plain {
    #[allow(clippy::new_ret_no_self)] // one head under several names
    fn new(cfg: &PlainBBoxHeadConfig, vb: VarBuilder) -> mmcv::Result<ConvFCBBoxHead> {
        ConvFCBBoxHead::build(cfg.common(), Layers::default(), &vb)
    }
}

impl Shared2Fc {
    #[allow(clippy::new_ret_no_self)] // one head under several names
    fn new(cfg: &Shared2FCBBoxHeadConfig, vb: VarBuilder) -> mmcv::Result<ConvFCBBoxHead> {
        let layers = Layers {
            shared: [0, 2],
            conv_channels: cfg.conv_out_channels,
            fc_channels: cfg.fc_out_channels,
            conv_cfg: cfg.conv_cfg.as_ref(),
            norm_cfg: cfg.norm_cfg.as_ref(),
            ..Layers::default()
        };
        ConvFCBBoxHead::build(cfg.common(), layers, &vb)
    }
}

impl Shared4Conv1Fc {
    #[allow(clippy::new_ret_no_self)] // one head under several names
    fn new(cfg: &Shared4Conv1FCBBoxHeadConfig, vb: VarBuilder) -> mmcv::Result<ConvFCBBoxHead> {
        let layers = Layers {
            shared: [4, 1],
            conv_channels: cfg.conv_out_channels,
            fc_channels: cfg.fc_out_channels,
            conv_cfg: cfg.conv_cfg.as_ref(),
            norm_cfg: cfg.norm_cfg.as_ref(),
            ..Layers::default()
        };
        ConvFCBBoxHead::build(cfg.common(), layers, &vb)
    }
}

register!(BBOX_HEADS: dyn BBoxHead, "BBoxHead" => Plain, PlainBBoxHeadConfig);
register!(BBOX_HEADS: dyn BBoxHead, "ConvFCBBoxHead" => ConvFCBBoxHead, ConvFCBBoxHeadConfig);
register!(BBOX_HEADS: dyn BBoxHead, "Shared2FCBBoxHead" => Shared2Fc, Shared2FCBBoxHeadConfig);
register!(BBOX_HEADS: dyn BBoxHead, "Shared4Conv1FCBBoxHead" => Shared4Conv1Fc, Shared4Conv1FCBBoxHeadConfig);
