//! The second stage: mmdet's `standard_roi_head.py`.

use candle_core::{Result, Tensor, bail};
use mmcv::config::Node;
use mmcv::nn::{Ctx, no_grad};
use mmcv::registry::build_at;
use mmcv::runner::Losses;
use mmcv::{Error, register};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::bbox_head::{BBOX_HEADS, BBoxOuts, RcnnTestConfig};
use super::roi_extractor::{ROI_EXTRACTORS, Roi};
use super::stage::{BBoxStage, RcnnTraining, merged_detections, split};
use super::{ROI_HEADS, RoiHead};
use crate::core::bbox::{bbox2result, bbox2roi};
use crate::core::post_processing::Detections;
use crate::core::{BBox, DetBatch, DetResult, ImgMeta};
use crate::models::dense_heads::HeadArgs;

/// `type = "StandardRoIHead"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StandardRoIHeadConfig {
    /// What cuts regions out for the box head.
    pub bbox_roi_extractor: Node,
    /// Box head.
    pub bbox_head: Node,
    /// In place of the detector's `train_cfg.rcnn`.
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

/// Keys: `bbox_head.*`.
pub struct StandardRoIHead {
    bbox: BBoxStage,
    training: Option<RcnnTraining>,
    test_cfg: Option<RcnnTestConfig>,
}

impl StandardRoIHead {
    /// The head at `args.vb`.
    pub fn new(cfg: &StandardRoIHeadConfig, args: HeadArgs) -> mmcv::Result<Self> {
        let vb = args.vb;
        if let Some(init) = cfg.init_cfg.as_ref().filter(|i| !i.is_null()) {
            vb.init_cfg(init);
        }
        let extractor = build_at(&ROI_EXTRACTORS, "bbox_roi_extractor", &cfg.bbox_roi_extractor, vb.clone())?;
        let head = build_at(&BBOX_HEADS, "bbox_head", &cfg.bbox_head, vb.pp("bbox_head"))?;
        let train_cfg = cfg.train_cfg.as_ref().or(args.train_cfg.as_ref()).filter(|n| !n.is_null());
        let test_cfg = cfg.test_cfg.as_ref().or(args.test_cfg.as_ref()).filter(|n| !n.is_null());
        Ok(Self {
            bbox: BBoxStage { extractor: extractor.into(), head },
            training: train_cfg.map(|n| RcnnTraining::new(n).map_err(|e| e.under("train_cfg"))).transpose()?,
            test_cfg: test_cfg.map(|n| n.parse().map_err(|e: Error| e.under("test_cfg"))).transpose()?,
        })
    }

    fn test_cfg(&self) -> Result<&RcnnTestConfig> {
        match &self.test_cfg {
            Some(cfg) => Ok(cfg),
            None => bail!("the head was built without test_cfg"),
        }
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
        let (outs, _) = self.bbox.forward(feats, &rois, &Ctx::eval())?;
        let parts = split(&outs, proposals)?;
        let mut start = 0;
        let mut jobs: Vec<(&[Roi], BBoxOuts, &ImgMeta)> = Vec::new();
        for ((outs, own), meta) in parts.into_iter().zip(proposals).zip(metas) {
            jobs.push((&rois[start..start + own.len()], outs, meta));
            start += own.len();
        }
        jobs.into_par_iter()
            .map(|(rois, outs, meta)| match rois {
                [] => Ok(Detections::default()),
                rois => self.bbox.head.get_bboxes(rois, &outs, meta, rescale, cfg),
            })
            .collect()
    }
}

impl RoiHead for StandardRoIHead {
    fn loss(&self, feats: &[Tensor], proposals: &[Vec<BBox>], batch: &DetBatch, ctx: &Ctx) -> Result<Losses> {
        let Some(training) = &self.training else { bail!("the head was built without train_cfg") };
        let sampled = training.sample(&self.bbox, feats, proposals, batch, ctx)?;
        let rois = bbox2roi(&sampled.iter().map(|s| s.bboxes()).collect::<Vec<_>>());
        let (outs, _) = self.bbox.forward(feats, &rois, ctx)?;
        let targets = self.bbox.head.targets(&sampled, training.pos_weight)?;
        self.bbox.head.loss(&outs, &rois, &targets)
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

    fn aug_test(&self, views: &[(Vec<Tensor>, ImgMeta)], proposals: &[BBox], rescale: bool) -> Result<DetResult> {
        let cfg = self.test_cfg()?;
        let mut merged = no_grad(|| {
            merged_detections(views, proposals, self.num_classes(), cfg, &|feats, rois, meta| {
                let (outs, _) = self.bbox.forward(feats, rois, &Ctx::eval())?;
                self.bbox.head.boxes_and_scores(rois, &outs, meta, false)
            })
        })?;
        if let (false, Some((_, meta))) = (rescale, views.first()) {
            for b in &mut merged.dets {
                b.iter_mut().zip(meta.scale_factor).for_each(|(v, s)| *v *= s);
            }
        }
        Ok(self.result(&merged))
    }

    fn named_outputs(&self, feats: &[Tensor], rois: &[BBox], ctx: &Ctx) -> Result<Vec<(String, Tensor)>> {
        let (outs, roi_feats) = self.bbox.forward(feats, &bbox2roi(&[rois]), ctx)?;
        let mut named = Vec::new();
        named.extend(outs.cls_score.map(|t| ("bbox.cls_score".to_owned(), t)));
        named.extend(outs.bbox_pred.map(|t| ("bbox.bbox_pred".to_owned(), t)));
        named.push(("bbox.bbox_feats".to_owned(), roi_feats));
        Ok(named)
    }

    fn num_classes(&self) -> usize {
        self.bbox.head.num_classes()
    }
}

impl StandardRoIHead {
    fn result(&self, found: &Detections) -> DetResult {
        DetResult { bboxes: bbox2result(&found.dets, &found.labels, self.num_classes()), masks: None }
    }
}

register!(ROI_HEADS: dyn RoiHead, "StandardRoIHead" => StandardRoIHead, StandardRoIHeadConfig);
