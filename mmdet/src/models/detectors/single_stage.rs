//! One-stage detectors: backbone, neck, dense head.
//!
//! RetinaNet, FCOS and the like differ in their heads only.

use candle_core::{Result, Tensor, bail};
use mmcv::cnn::Backbone;
use mmcv::config::Node;
use mmcv::nn::{Ctx, no_grad};
use mmcv::register;
use mmcv::registry::build_at;
use mmcv::runner::Losses;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{DETECTORS, Detector, DetectorArgs};
use crate::core::bbox::bbox2result;
use crate::core::post_processing::Detections;
use crate::core::{DetBatch, DetResult, ImgMeta};
use crate::models::backbones::BACKBONES;
use crate::models::dense_heads::{DenseHead, HEADS, HeadArgs};
use crate::models::necks::{NECKS, Neck};

/// `type = "RetinaNet"`, `"FCOS"` and whatever else is a backbone, a neck and a dense head.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SingleStageConfig {
    /// Backbone.
    pub backbone: Node,
    /// Neck; none hands the backbone's levels to the head.
    #[serde(default)]
    pub neck: Option<Node>,
    /// Head.
    pub bbox_head: Node,
    /// How the head is trained.
    #[serde(default)]
    pub train_cfg: Option<Node>,
    /// How the head tests.
    #[serde(default)]
    pub test_cfg: Option<Node>,
    /// Checkpoint of the backbone (older spelling of its `init_cfg`).
    #[serde(default)]
    pub pretrained: Option<String>,
    /// How weights start.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

/// Keys: `backbone.*`, `neck.*`, `bbox_head.*`.
pub struct SingleStageDetector {
    backbone: Box<dyn Backbone>,
    neck: Option<Box<dyn Neck>>,
    bbox_head: Box<dyn DenseHead>,
}

impl SingleStageDetector {
    /// The detector at `args.vb`.
    pub fn new(cfg: &SingleStageConfig, args: DetectorArgs) -> mmcv::Result<Self> {
        let vb = &args.vb;
        if let Some(init) = &cfg.init_cfg {
            vb.init_cfg(init);
        }
        let mut backbone = cfg.backbone.clone();
        if let Some(file) = &cfg.pretrained {
            backbone.set("pretrained", file.as_str());
        }
        let head_args = HeadArgs {
            vb: vb.pp("bbox_head"),
            train_cfg: cfg.train_cfg.clone().or(args.train_cfg),
            test_cfg: cfg.test_cfg.clone().or(args.test_cfg),
        };
        Ok(Self {
            backbone: build_at(&BACKBONES, "backbone", &backbone, vb.pp("backbone"))?,
            neck: cfg.neck.as_ref().map(|neck| build_at(&NECKS, "neck", neck, vb.pp("neck"))).transpose()?,
            bbox_head: build_at(&HEADS, "bbox_head", &cfg.bbox_head, head_args)?,
        })
    }

    fn result(&self, dets: &Detections) -> DetResult {
        DetResult { bboxes: bbox2result(&dets.dets, &dets.labels, self.num_classes()), masks: None }
    }
}

impl Detector for SingleStageDetector {
    fn extract_feat(&self, img: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let feats = self.backbone.forward(img, ctx)?;
        match &self.neck {
            Some(neck) => neck.forward(&feats, ctx),
            None => Ok(feats),
        }
    }

    fn forward_head(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Vec<Tensor>>> {
        self.bbox_head.forward(feats, ctx)
    }

    fn forward_train(&self, batch: &DetBatch, ctx: &Ctx) -> Result<Losses> {
        let outs = self.forward_head(&self.extract_feat(&batch.img, ctx)?, ctx)?;
        self.bbox_head.loss(&outs, batch, ctx)
    }

    fn simple_test(&self, img: &Tensor, metas: &[ImgMeta], rescale: bool) -> Result<Vec<DetResult>> {
        if img.dim(0)? != metas.len() {
            bail!("simple_test: {} images, {} metas", img.dim(0)?, metas.len());
        }
        no_grad(|| {
            let ctx = Ctx::eval();
            let outs = self.forward_head(&self.extract_feat(img, &ctx)?, &ctx)?;
            let dets = self.bbox_head.get_bboxes(&outs, metas, rescale)?;
            Ok(dets.iter().map(|d| self.result(d)).collect())
        })
    }

    fn aug_test(&self, views: &[(Tensor, ImgMeta)], rescale: bool) -> Result<DetResult> {
        no_grad(|| {
            let ctx = Ctx::eval();
            let outs = views
                .iter()
                .map(|(img, meta)| Ok((self.forward_head(&self.extract_feat(img, &ctx)?, &ctx)?, meta.clone())))
                .collect::<Result<Vec<_>>>()?;
            Ok(self.result(&self.bbox_head.aug_test_bboxes(&outs, rescale)?))
        })
    }

    fn num_classes(&self) -> usize {
        self.bbox_head.num_classes()
    }
}

register!(DETECTORS: dyn Detector, "RetinaNet" => SingleStageDetector, SingleStageConfig);
register!(DETECTORS: dyn Detector, "FCOS" => SingleStageDetector, SingleStageConfig);
register!(DETECTORS: dyn Detector, "SingleStageDetector" => SingleStageDetector, SingleStageConfig);
