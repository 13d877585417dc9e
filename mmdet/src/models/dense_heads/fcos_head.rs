//! FCOS: Fully Convolutional One-Stage Object Detection, Tian et al., ICCV 2019 (<https://arxiv.org/abs/1904.01355>).

use candle_core::{Result, Tensor, bail};
use mmcv::cnn::bricks::{Bias, Scale};
use mmcv::cnn::{Conv2d, ConvLayer as _};
use mmcv::config::Node;
use mmcv::nn::Ctx;
use mmcv::registry::build_at;
use mmcv::runner::Losses;
use mmcv::{Error, ops, register};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::anchor_free_head::{PointOuts, TowerArgs, Towers, point_candidates, predictor};
use super::anchor_head::{level_sizes, to_rows};
use super::base_dense_head::{Candidates, DenseTestConfig, merge_views, post_process};
use super::{DenseHead, HEADS, HeadArgs};
use crate::core::anchor::{MlvlPointGenerator, MlvlPointGeneratorConfig, Pair, PriorGenerator};
use crate::core::bbox::coder::{BBOX_CODERS, BBoxCoder};
use crate::core::post_processing::Detections;
use crate::core::{BBox, DetBatch, ImgMeta};
use crate::models::losses::{Loss, build_loss, zero_loss};

/// Farther than any distance, larger than any area.
const INF: f32 = 1e8;

/// `type = "FCOSHead"`. Fields and defaults are mmdet's, those of its `AnchorFreeHead` included.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FcosHeadConfig {
    /// Number of classes, background not counted.
    pub num_classes: usize,
    /// Channels of each level.
    pub in_channels: usize,
    /// Convolutions before the prediction; default 4.
    #[serde(default = "super::retina_head::four")]
    pub stacked_convs: usize,
    /// Their channels; default 256.
    #[serde(default = "super::retina_head::feat_channels")]
    pub feat_channels: usize,
    /// Stride of each level; default 4 to 64.
    #[serde(default = "strides")]
    pub strides: Vec<Pair>,
    /// Distances, least and greatest, that each level learns; default -1 to 64, 128, 256, 512 and beyond.
    #[serde(default = "regress_ranges")]
    pub regress_ranges: Vec<[f64; 2]>,
    /// Whether only points near a box's centre learn it; default false.
    #[serde(default)]
    pub center_sampling: bool,
    /// How near, in strides; default 1.5.
    #[serde(default = "radius")]
    pub center_sample_radius: f64,
    /// Whether distances are in strides; default false.
    #[serde(default)]
    pub norm_on_bbox: bool,
    /// Whether centerness comes from the boxes' tower; default false.
    #[serde(default)]
    pub centerness_on_reg: bool,
    /// Whether the last convolution of each tower is deformable; default false.
    #[serde(default)]
    pub dcn_on_last_conv: bool,
    /// Bias of the towers; default `auto`: where no norm follows.
    #[serde(default)]
    pub conv_bias: Bias,
    /// Class loss; default focal.
    #[serde(default = "loss_cls")]
    pub loss_cls: Node,
    /// Box loss; default IoU.
    #[serde(default = "loss_bbox")]
    pub loss_bbox: Node,
    /// Centerness loss; default cross entropy of sigmoids.
    #[serde(default = "super::retina_head::loss_cls")]
    pub loss_centerness: Node,
    /// Box coder; default `DistancePointBBoxCoder`.
    #[serde(default = "bbox_coder")]
    pub bbox_coder: Node,
    /// Kind of convolution.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default `GN` of 32 groups.
    #[serde(default = "norm_cfg")]
    pub norm_cfg: Option<Node>,
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

fn strides() -> Vec<Pair> {
    [4.0, 8.0, 16.0, 32.0, 64.0].map(Pair::One).to_vec()
}
fn regress_ranges() -> Vec<[f64; 2]> {
    vec![[-1.0, 64.0], [64.0, 128.0], [128.0, 256.0], [256.0, 512.0], [512.0, f64::from(INF)]]
}
fn radius() -> f64 {
    1.5
}
fn json(text: &str) -> Node {
    Node::from_json(text).expect("the default is JSON")
}
fn loss_cls() -> Node {
    json(r#"{"type": "FocalLoss", "use_sigmoid": true, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0}"#)
}
fn loss_bbox() -> Node {
    json(r#"{"type": "IoULoss", "loss_weight": 1.0}"#)
}
fn bbox_coder() -> Node {
    json(r#"{"type": "DistancePointBBoxCoder"}"#)
}
fn norm_cfg() -> Option<Node> {
    Some(json(r#"{"type": "GN", "num_groups": 32, "requires_grad": true}"#))
}
fn init_cfg() -> Node {
    json(
        r#"{"type": "Normal", "layer": "Conv2d", "std": 0.01,
            "override": {"type": "Normal", "name": "conv_cls", "std": 0.01, "bias_prob": 0.01}}"#,
    )
}

/// Keys: `cls_convs.{i}.*`, `reg_convs.{i}.*`, `conv_cls.*`, `conv_reg.*`, `conv_centerness.*`, `scales.{level}.scale`.
pub struct FcosHead {
    cfg: FcosHeadConfig,
    sigmoid: bool,
    towers: Towers,
    conv_centerness: Conv2d,
    scales: Vec<Scale>,
    priors: MlvlPointGenerator,
    coder: Box<dyn BBoxCoder>,
    loss_cls: Box<dyn Loss>,
    loss_bbox: Box<dyn Loss>,
    loss_centerness: Box<dyn Loss>,
    test_cfg: Option<DenseTestConfig>,
}

impl FcosHead {
    /// The head at `args.vb`.
    pub fn new(cfg: &FcosHeadConfig, args: HeadArgs) -> mmcv::Result<Self> {
        if cfg.num_classes == 0 {
            return Err(Error::config("is 0, expected 1 or more").under("num_classes"));
        }
        if cfg.regress_ranges.len() != cfg.strides.len() {
            let message = format!("has {} values for {} strides", cfg.regress_ranges.len(), cfg.strides.len());
            return Err(Error::config(message).under("regress_ranges"));
        }
        let vb = args.vb;
        vb.init_cfg(&cfg.init_cfg);
        let sigmoid = cfg.loss_cls.get("use_sigmoid").and_then(Node::as_bool).unwrap_or(false);
        let loss_cls = build_loss("loss_cls", &cfg.loss_cls, &vb)?;
        let loss_bbox = build_loss("loss_bbox", &cfg.loss_bbox, &vb)?;
        let towers = Towers::new(
            TowerArgs {
                in_channels: cfg.in_channels,
                feat_channels: cfg.feat_channels,
                stacked_convs: cfg.stacked_convs,
                dcn_on_last_conv: cfg.dcn_on_last_conv,
                conv_bias: cfg.conv_bias,
                conv_cfg: cfg.conv_cfg.as_ref(),
                norm_cfg: cfg.norm_cfg.as_ref(),
                cls_channels: cfg.num_classes + usize::from(!sigmoid),
            },
            &vb,
        )?;
        let conv_centerness = predictor(cfg.feat_channels, 1, &vb.pp("conv_centerness"))?;
        let scale = |i: usize| Scale::new(1.0, &vb.pp("scales").pp(i));
        let scales = (0..cfg.strides.len()).map(scale).collect::<Result<Vec<_>>>()?;
        let points = MlvlPointGeneratorConfig { strides: cfg.strides.clone(), offset: 0.5 };
        let test_cfg = cfg.test_cfg.as_ref().or(args.test_cfg.as_ref());
        Ok(Self {
            sigmoid,
            towers,
            conv_centerness,
            scales,
            priors: MlvlPointGenerator::new(&points)?,
            coder: build_at(&BBOX_CODERS, "bbox_coder", &cfg.bbox_coder, ())?,
            loss_cls,
            loss_bbox,
            loss_centerness: build_loss("loss_centerness", &cfg.loss_centerness, &vb)?,
            test_cfg: DenseTestConfig::parse(test_cfg)?,
            cfg: cfg.clone(),
        })
    }

    /// Stride of a level along x.
    fn stride(&self, level: usize) -> f32 {
        self.cfg.strides[level].pair()[0] as f32
    }

    /// Of one image: for each point of each level the object it learns (the smallest that it may) and the distances to
    /// its sides.
    fn targets(&self, levels: &[Vec<BBox>], gts: &[BBox]) -> Vec<Vec<Option<(usize, [f32; 4])>>> {
        let areas: Vec<f32> = gts.iter().map(|b| (b[2] - b[0]) * (b[3] - b[1])).collect();
        let point = |level: usize, p: &BBox| {
            let [low, high] = self.cfg.regress_ranges[level].map(|v| v as f32);
            let reach = self.stride(level) * self.cfg.center_sample_radius as f32;
            let (x, y) = (p[0], p[1]);
            let mut best: Option<(usize, [f32; 4])> = None;
            let mut least = INF;
            for (i, b) in gts.iter().enumerate() {
                let distances = [x - b[0], y - b[1], b[2] - x, b[3] - y];
                let inside = if self.cfg.center_sampling {
                    let (cx, cy) = ((b[0] + b[2]) / 2.0, (b[1] + b[3]) / 2.0);
                    let (x1, y1) = ((cx - reach).max(b[0]), (cy - reach).max(b[1]));
                    let (x2, y2) = ((cx + reach).min(b[2]), (cy + reach).min(b[3]));
                    (x - x1).min(x2 - x).min(y - y1).min(y2 - y) > 0.0
                } else {
                    distances.iter().all(|d| *d > 0.0)
                };
                let farthest = distances.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                if inside && farthest >= low && farthest <= high && areas[i] < least {
                    least = areas[i];
                    best = Some((i, distances));
                }
            }
            best
        };
        levels.iter().enumerate().map(|(l, points)| points.iter().map(|p| point(l, p)).collect()).collect()
    }

    fn parts<'a>(&self, outs: &'a [Vec<Tensor>]) -> Result<(&'a [Tensor], &'a [Tensor], &'a [Tensor])> {
        let [cls, reg, centerness] = outs else { bail!("FCOSHead has three outputs, not {}", outs.len()) };
        Ok((cls, reg, centerness))
    }

    fn candidates(&self, outs: &[Vec<Tensor>], image: usize, meta: &ImgMeta) -> Result<Candidates> {
        let (cls, reg, centerness) = self.parts(outs)?;
        let outs = PointOuts { cls, reg, factors: Some(centerness) };
        point_candidates(&outs, image, meta, self.test_cfg()?, self.sigmoid, &self.priors, self.coder.as_ref())
    }

    fn test_cfg(&self) -> Result<&DenseTestConfig> {
        match &self.test_cfg {
            Some(cfg) => Ok(cfg),
            None => bail!("the head was built without test_cfg"),
        }
    }
}

/// How near a point is to the middle of its box, by its distances: 1 there, 0 at the border.
fn centerness([l, t, r, b]: &[f32; 4]) -> f32 {
    ((l.min(*r) / l.max(*r)) * (t.min(*b) / t.max(*b))).sqrt()
}

impl DenseHead for FcosHead {
    /// `outs[0][l]` `[B, classes, H_l, W_l]` logits, `outs[1][l]` `[B, 4, H_l, W_l]` distances, `outs[2][l]`
    /// `[B, 1, H_l, W_l]` centerness logits.
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Vec<Tensor>>> {
        if feats.len() != self.scales.len() {
            bail!("FCOSHead: {} levels came in, strides has {}", feats.len(), self.scales.len());
        }
        let (mut all_cls, mut all_reg, mut all_centerness) = (Vec::new(), Vec::new(), Vec::new());
        for (l, x) in feats.iter().enumerate() {
            let [cls, reg, cls_feat, reg_feat] = self.towers.forward(x, ctx)?;
            let source = if self.cfg.centerness_on_reg { &reg_feat } else { &cls_feat };
            all_centerness.push(self.conv_centerness.forward(source, ctx)?);
            let reg = self.scales[l].forward(&reg)?;
            all_reg.push(if self.cfg.norm_on_bbox {
                let reg = ops::clamp(&reg, 0.0, f64::INFINITY)?;
                if ctx.train { reg } else { (reg * f64::from(self.stride(l)))? }
            } else {
                reg.exp()?
            });
            all_cls.push(cls);
        }
        Ok(vec![all_cls, all_reg, all_centerness])
    }

    /// `loss_cls`, `loss_bbox`, `loss_centerness`.
    fn loss(&self, outs: &[Vec<Tensor>], batch: &DetBatch, _: &Ctx) -> Result<Losses> {
        let (cls, reg, center) = self.parts(outs)?;
        let levels = self.priors.grid_priors(&level_sizes(cls)?)?;
        let targets: Vec<_> = batch.gt_bboxes.par_iter().map(|gts| self.targets(&levels, gts)).collect();
        let background = self.cfg.num_classes as i64;
        // Rows are levels, in each the images, in each the points.
        let mut labels = Vec::new();
        let (mut at, mut points, mut distances) = (Vec::new(), Vec::<BBox>::new(), Vec::<[f32; 4]>::new());
        for (l, priors) in levels.iter().enumerate() {
            let unit = if self.cfg.norm_on_bbox { self.stride(l) } else { 1.0 };
            for (image, of_image) in targets.iter().enumerate() {
                for (point, target) in of_image[l].iter().enumerate() {
                    let Some((gt, d)) = target else {
                        labels.push(background);
                        continue;
                    };
                    at.push(labels.len() as u32);
                    labels.push(batch.gt_labels[image][*gt]);
                    points.push(priors[point]);
                    distances.push(d.map(|v| v / unit));
                }
            }
        }
        let device = cls[0].device();
        let rows = |levels: &[Tensor]| -> Result<Tensor> {
            let each = levels.iter().map(|x| to_rows(x, x.dim(1)?)).collect::<Result<Vec<_>>>()?;
            Tensor::cat(&each, 0)
        };
        let (scores, boxes, center) = (rows(cls)?, rows(reg)?, rows(center)?);
        let num_pos = at.len().max(1) as f64;
        let n = labels.len();
        let labels = Tensor::from_vec(labels, n, device)?;
        let mut losses = Losses::new();
        losses.push("loss_cls", &self.loss_cls.forward(&scores, &labels, None, Some(num_pos), None)?)?;
        if at.is_empty() {
            losses.push("loss_bbox", &zero_loss(&boxes)?)?;
            losses.push("loss_centerness", &zero_loss(&center)?)?;
            return Ok(losses);
        }
        let n = at.len();
        let at = Tensor::from_vec(at, n, device)?;
        let weights: Vec<f32> = distances.iter().map(centerness).collect();
        let sum = f64::from(weights.iter().sum::<f32>()).max(1e-6);
        let weights = Tensor::from_vec(weights, n, device)?;
        let pred = self.coder.decode_tensor(&points, &boxes.index_select(&at, 0)?, None)?;
        let target = self.coder.decode(&points, distances.as_flattened(), None)?;
        let target = Tensor::from_vec(target.concat(), (n, 4), device)?;
        losses.push("loss_bbox", &self.loss_bbox.forward(&pred, &target, Some(&weights), Some(sum), None)?)?;
        let center = center.index_select(&at, 0)?.flatten_all()?;
        let loss = self.loss_centerness.forward(&center, &weights, None, Some(num_pos), None)?;
        losses.push("loss_centerness", &loss)?;
        Ok(losses)
    }

    fn get_bboxes(&self, outs: &[Vec<Tensor>], metas: &[ImgMeta], rescale: bool) -> Result<Vec<Detections>> {
        let cfg = self.test_cfg()?;
        let one = |(i, meta): (usize, &ImgMeta)| post_process(self.candidates(outs, i, meta)?, meta, cfg, rescale);
        metas.par_iter().enumerate().map(one).collect()
    }

    fn aug_test_bboxes(&self, views: &[(Vec<Vec<Tensor>>, ImgMeta)], rescale: bool) -> Result<Detections> {
        let mut found = Vec::new();
        for (outs, meta) in views {
            found.push((self.candidates(outs, 0, meta)?, meta));
        }
        merge_views(found, self.test_cfg()?, rescale)
    }

    fn num_classes(&self) -> usize {
        self.cfg.num_classes
    }
}

register!(HEADS: dyn DenseHead, "FCOSHead" => FcosHead, FcosHeadConfig);

#[cfg(test)]
mod tests {
    use super::*;
    use mmcv::nn::VarBuilder;

    fn head(json: &str) -> FcosHead {
        let cfg = Node::from_json(json).unwrap().parse().unwrap();
        FcosHead::new(&cfg, HeadArgs { vb: VarBuilder::scratch(), train_cfg: None, test_cfg: None }).unwrap()
    }

    #[test]
    fn a_point_learns_the_smallest_box_around_it_within_its_levels_range() {
        let points = vec![vec![[4.0, 4.0, 8.0, 8.0], [12.0, 4.0, 8.0, 8.0]]];
        let gts = [[0.0, 0.0, 20.0, 20.0], [1.0, 1.0, 9.0, 9.0]];
        let base = r#"{"num_classes": 2, "in_channels": 8, "feat_channels": 32, "strides": [8],"#;
        let found = head(&format!(r#"{base} "regress_ranges": [[-1, 64]]}}"#)).targets(&points, &gts);
        assert_eq!(found[0][0], Some((1, [3.0, 3.0, 5.0, 5.0])));
        assert_eq!(found[0][1], Some((0, [12.0, 4.0, 8.0, 16.0])));
        // The large box is within 4 pixels of its centre only.
        let near = r#""center_sampling": true, "center_sample_radius": 0.5, "regress_ranges": [[-1, 64]]"#;
        assert_eq!(head(&format!("{base} {near}}}")).targets(&points, &gts)[0][1], None);
        let far = head(&format!(r#"{base} "regress_ranges": [[16, 64]]}}"#)).targets(&points, &gts);
        assert_eq!(far[0], [Some((0, [4.0, 4.0, 16.0, 16.0])), Some((0, [12.0, 4.0, 8.0, 16.0]))]);
    }
}
