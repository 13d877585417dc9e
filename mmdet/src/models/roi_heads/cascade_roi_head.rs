//! Cascade R-CNN: Delving into High Quality Object Detection, Cai and Vasconcelos, CVPR 2018
//! (<https://arxiv.org/abs/1712.00726>).

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};
use mmcv::config::Node;
use mmcv::nn::{Ctx, no_grad};
use mmcv::registry::build_at;
use mmcv::runner::Losses;
use mmcv::{Error, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::bbox_head::{BBOX_HEADS, BBoxOuts, RcnnTestConfig, box_of};
use super::roi_extractor::{ROI_EXTRACTORS, Roi, RoiExtractor};
use super::stage::{BBoxStage, RcnnTraining, merged_detections};
use super::{ROI_HEADS, RoiHead};
use crate::core::bbox::{bbox2result, bbox2roi};
use crate::core::post_processing::Detections;
use crate::core::{BBox, DetBatch, DetResult, ImgMeta};
use crate::models::dense_heads::HeadArgs;

/// `type = "CascadeRoIHead"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CascadeRoIHeadConfig {
    /// Number of stages.
    pub num_stages: usize,
    /// Factor of each stage's losses.
    pub stage_loss_weights: Vec<f64>,
    /// What cuts regions out: one for all stages or one for each.
    pub bbox_roi_extractor: Node,
    /// Box head: one config for all stages or one for each.
    pub bbox_head: Node,
    /// In place of the detector's `train_cfg.rcnn`: a list of stages.
    #[serde(default)]
    pub train_cfg: Option<Node>,
    /// In place of the detector's `test_cfg.rcnn`.
    #[serde(default)]
    pub test_cfg: Option<Node>,
    /// Accepted for old configs.
    #[serde(default)]
    pub pretrained: Option<String>,
    /// How weights start.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

/// Keys: `bbox_head.{stage}.*`.
pub struct CascadeRoIHead {
    stages: Vec<BBoxStage>,
    weights: Vec<f64>,
    training: Option<Vec<RcnnTraining>>,
    test_cfg: Option<RcnnTestConfig>,
}

impl CascadeRoIHead {
    /// The head at `args.vb`.
    pub fn new(cfg: &CascadeRoIHeadConfig, args: HeadArgs) -> mmcv::Result<Self> {
        let (vb, n) = (args.vb, cfg.num_stages);
        let bad = |key: &str, found: usize| Error::config(format!("has {found} values for {n} stages")).under(key);
        if n == 0 || cfg.stage_loss_weights.len() != n {
            return Err(bad("stage_loss_weights", cfg.stage_loss_weights.len()));
        }
        if let Some(init) = cfg.init_cfg.as_ref().filter(|i| !i.is_null()) {
            vb.init_cfg(init);
        }
        let each = |key: &str, node: &Node| -> mmcv::Result<Vec<Node>> {
            match node.as_list() {
                Some(list) if list.len() == n => Ok(list.to_vec()),
                Some(list) => Err(bad(key, list.len())),
                None => Ok(vec![node.clone(); n]),
            }
        };
        let extractors = each("bbox_roi_extractor", &cfg.bbox_roi_extractor)?;
        let heads = each("bbox_head", &cfg.bbox_head)?;
        let mut stages = Vec::new();
        for (i, (extractor, head)) in extractors.iter().zip(&heads).enumerate() {
            let extractor: Arc<dyn RoiExtractor> =
                build_at(&ROI_EXTRACTORS, "bbox_roi_extractor", extractor, vb.pp("bbox_roi_extractor").pp(i))?.into();
            stages.push(BBoxStage {
                extractor,
                head: build_at(&BBOX_HEADS, "bbox_head", head, vb.pp("bbox_head").pp(i))?,
            });
        }
        let train_cfg = cfg.train_cfg.as_ref().or(args.train_cfg.as_ref()).filter(|t| !t.is_null());
        let training = match train_cfg {
            Some(node) => {
                let each = each("train_cfg", node)?;
                Some(
                    each.iter()
                        .map(RcnnTraining::new)
                        .collect::<mmcv::Result<_>>()
                        .map_err(|e| e.under("train_cfg"))?,
                )
            }
            None => None,
        };
        let test_cfg = cfg.test_cfg.as_ref().or(args.test_cfg.as_ref()).filter(|t| !t.is_null());
        Ok(Self {
            stages,
            weights: cfg.stage_loss_weights.clone(),
            training,
            test_cfg: test_cfg.map(|t| t.parse().map_err(|e: Error| e.under("test_cfg"))).transpose()?,
        })
    }

    fn test_cfg(&self) -> Result<&RcnnTestConfig> {
        match &self.test_cfg {
            Some(cfg) => Ok(cfg),
            None => bail!("the head was built without test_cfg"),
        }
    }

    fn result(&self, found: &Detections) -> DetResult {
        DetResult { bboxes: bbox2result(&found.dets, &found.labels, self.num_classes()), masks: None }
    }

    /// Through all stages: the regions as the last one saw them, the mean logits, the last one's codes.
    fn run(&self, feats: &[Tensor], mut rois: Vec<Roi>, metas: &[ImgMeta], ctx: &Ctx) -> Result<(Vec<Roi>, BBoxOuts)> {
        let mut sum: Option<Tensor> = None;
        let mut last = BBoxOuts { cls_score: None, bbox_pred: None };
        for (i, stage) in self.stages.iter().enumerate() {
            let (outs, _) = stage.forward(feats, &rois, ctx)?;
            let Some(cls) = &outs.cls_score else { bail!("a cascade's heads must predict classes") };
            sum = Some(match sum {
                Some(sum) => (sum + cls)?,
                None => cls.clone(),
            });
            if i + 1 < self.stages.len() {
                let labels = best_classes(cls)?;
                rois = refined(stage, &rois, &labels, &outs, metas)?;
            }
            last = outs;
        }
        let mean = sum.map(|s| s / self.stages.len() as f64).transpose()?;
        Ok((rois, BBoxOuts { cls_score: mean, ..last }))
    }

    fn detections(
        &self,
        feats: &[Tensor],
        proposals: &[Vec<BBox>],
        metas: &[ImgMeta],
        rescale: bool,
    ) -> Result<Vec<Detections>> {
        let cfg = self.test_cfg()?;
        let rois = bbox2roi(proposals);
        if rois.is_empty() {
            return Ok(vec![Detections::default(); metas.len()]);
        }
        let (rois, outs) = self.run(feats, rois, metas, &Ctx::eval())?;
        let parts = super::stage::split(&outs, proposals)?;
        let mut start = 0;
        let mut all = Vec::new();
        for ((outs, own), meta) in parts.iter().zip(proposals).zip(metas) {
            let own = &rois[start..start + own.len()];
            start += own.len();
            let Some(stage) = self.stages.last() else { bail!("a cascade has stages") };
            all.push(if own.is_empty() {
                Detections::default()
            } else {
                stage.head.get_bboxes(own, outs, meta, rescale, cfg)?
            });
        }
        Ok(all)
    }
}

/// Each row's best class, the background aside.
fn best_classes(cls: &Tensor) -> Result<Vec<i64>> {
    let width = cls.dim(1)?;
    let values = cls.detach().flatten_all()?.to_vec1::<f32>()?;
    let best = |row: &[f32]| {
        let mut at = 0;
        for (i, v) in row[..width - 1].iter().enumerate() {
            if *v > row[at] {
                at = i;
            }
        }
        at as i64
    };
    Ok(values.chunks_exact(width).map(best).collect())
}

/// All images' regions moved to where the stage's codes say.
fn refined(stage: &BBoxStage, rois: &[Roi], labels: &[i64], outs: &BBoxOuts, metas: &[ImgMeta]) -> Result<Vec<Roi>> {
    let Some(reg) = &outs.bbox_pred else { bail!("a cascade's heads must predict boxes") };
    let mut moved = Vec::with_capacity(rois.len());
    for (i, meta) in metas.iter().enumerate() {
        // Rows of one image are together.
        let start = rois.iter().take_while(|r| (r[0] as usize) < i).count();
        let n = rois[start..].iter().take_while(|r| r[0] as usize == i).count();
        if n > 0 {
            let codes = reg.narrow(0, start, n)?;
            moved.extend(stage.head.regress_by_class(
                &rois[start..start + n],
                &labels[start..start + n],
                &codes,
                meta,
            )?);
        }
    }
    Ok(moved)
}

impl RoiHead for CascadeRoIHead {
    /// `s{stage}.loss_cls`, `s{stage}.acc`, `s{stage}.loss_bbox`.
    fn loss(&self, feats: &[Tensor], proposals: &[Vec<BBox>], batch: &DetBatch, ctx: &Ctx) -> Result<Losses> {
        let Some(training) = &self.training else { bail!("the head was built without train_cfg") };
        let mut proposals = proposals.to_vec();
        let mut losses = Losses::new();
        for (i, (stage, training)) in self.stages.iter().zip(training).enumerate() {
            let sampled = training.sample(stage, feats, &proposals, batch, ctx)?;
            let rois = bbox2roi(&sampled.iter().map(|s| s.bboxes()).collect::<Vec<_>>());
            let (outs, _) = stage.forward(feats, &rois, ctx)?;
            let targets = stage.head.targets(&sampled, training.pos_weight)?;
            for (name, value) in stage.head.loss(&outs, &rois, &targets)?.iter() {
                let value = if name.contains("loss") { (value * self.weights[i])? } else { value.clone() };
                losses.push(format!("s{i}.{name}"), &value)?;
            }
            if i + 1 == self.stages.len() {
                break;
            }
            let Some(cls) = &outs.cls_score else { bail!("a cascade's heads must predict classes") };
            let background = stage.head.num_classes() as i64;
            let labels: Vec<i64> = targets
                .labels
                .iter()
                .zip(best_classes(cls)?)
                .map(|(label, best)| if *label == background { best } else { *label })
                .collect();
            let moved = refined(stage, &rois, &labels, &outs, &batch.metas)?;
            let mut start = 0;
            proposals = sampled
                .iter()
                .map(|s| {
                    let n = s.pos_bboxes.len() + s.neg_bboxes.len();
                    let own = &moved[start..start + n];
                    start += n;
                    // Ground truth that was added comes again by itself.
                    let kept = |(k, _): &(usize, &Roi)| !s.pos_is_gt.get(*k).copied().unwrap_or(false);
                    own.iter().enumerate().filter(kept).map(|(_, r)| box_of(r)).collect()
                })
                .collect();
        }
        Ok(losses)
    }

    fn simple_test(
        &self,
        feats: &[Tensor],
        proposals: &[Vec<BBox>],
        metas: &[ImgMeta],
        rescale: bool,
    ) -> Result<Vec<DetResult>> {
        let found = no_grad(|| self.detections(feats, proposals, metas, rescale))?;
        Ok(found.iter().map(|d| self.result(d)).collect())
    }

    fn aug_test(&self, views: &[(Vec<Tensor>, ImgMeta)], proposals: &[BBox], _: bool) -> Result<DetResult> {
        let cfg = self.test_cfg()?;
        let merged = no_grad(|| {
            merged_detections(views, proposals, self.num_classes(), cfg, &|feats, rois, meta| {
                let (rois, outs) = self.run(feats, rois.to_vec(), std::slice::from_ref(meta), &Ctx::eval())?;
                let Some(stage) = self.stages.last() else { bail!("a cascade has stages") };
                stage.head.boxes_and_scores(&rois, &outs, meta, false)
            })
        })?;
        // In the file's frame whatever `rescale` says, as in the original.
        Ok(self.result(&merged))
    }

    fn named_outputs(&self, feats: &[Tensor], rois: &[BBox], ctx: &Ctx) -> Result<Vec<(String, Tensor)>> {
        let rois = bbox2roi(&[rois]);
        let mut named = Vec::new();
        for (i, stage) in self.stages.iter().enumerate() {
            let (outs, _) = stage.forward(feats, &rois, ctx)?;
            named.extend(outs.cls_score.map(|t| (format!("bbox{i}.cls_score"), t)));
            named.extend(outs.bbox_pred.map(|t| (format!("bbox{i}.bbox_pred"), t)));
        }
        Ok(named)
    }

    fn num_classes(&self) -> usize {
        self.stages.last().map_or(0, |s| s.head.num_classes())
    }
}

register!(ROI_HEADS: dyn RoiHead, "CascadeRoIHead" => CascadeRoIHead, CascadeRoIHeadConfig);
