//! Two-stage detectors: backbone, neck, proposals, a second stage over them.
//!
//! Faster R-CNN, Ren et al., NeurIPS 2015 (<https://arxiv.org/abs/1506.01497>); Fast R-CNN, Girshick, ICCV 2015
//! (<https://arxiv.org/abs/1504.08083>), whose proposals come from outside; Cascade R-CNN by its head.

use candle_core::{Result, Tensor, bail};
use mmcv::cnn::Backbone;
use mmcv::config::Node;
use mmcv::nn::{Ctx, no_grad};
use mmcv::registry::build_at;
use mmcv::runner::Losses;
use mmcv::{Error, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{DETECTORS, Detector, DetectorArgs, by_level, child};
use crate::core::bbox::bbox2roi;
use crate::core::{BBox, DetBatch, DetResult, ImgMeta, ScoredBox};
use crate::models::backbones::BACKBONES;
use crate::models::dense_heads::{HeadArgs, ProposalConfig, ProposalHead, RPN_HEADS};
use crate::models::necks::{NECKS, Neck};
use crate::models::roi_heads::{ROI_HEADS, RoiHead};

/// `type = "FasterRCNN"`, `"FastRCNN"`, `"CascadeRCNN"`, `"TwoStageDetector"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TwoStageConfig {
    /// Backbone.
    pub backbone: Node,
    /// Neck; none hands the backbone's levels on.
    #[serde(default)]
    pub neck: Option<Node>,
    /// What proposes boxes; without it they come from the data set.
    #[serde(default)]
    pub rpn_head: Option<Node>,
    /// Second stage.
    pub roi_head: Node,
    /// How the heads are trained: `rpn`, `rpn_proposal`, `rcnn`.
    #[serde(default)]
    pub train_cfg: Option<Node>,
    /// How the heads test: `rpn`, `rcnn`.
    #[serde(default)]
    pub test_cfg: Option<Node>,
    /// Checkpoint of the backbone (older spelling of its `init_cfg`).
    #[serde(default)]
    pub pretrained: Option<String>,
    /// How weights start.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

/// Keys: `backbone.*`, `neck.*`, `rpn_head.*`, `roi_head.*`.
pub struct TwoStageDetector {
    backbone: Box<dyn Backbone>,
    neck: Option<Box<dyn Neck>>,
    rpn_head: Option<Box<dyn ProposalHead>>,
    roi_head: Box<dyn RoiHead>,
    /// How proposals to train on are chosen; none is as in testing.
    proposal_cfg: Option<ProposalConfig>,
}

impl TwoStageDetector {
    /// The detector at `args.vb`.
    pub fn new(cfg: &TwoStageConfig, args: DetectorArgs) -> mmcv::Result<Self> {
        let vb = &args.vb;
        if let Some(init) = &cfg.init_cfg {
            vb.init_cfg(init);
        }
        let mut backbone = cfg.backbone.clone();
        if let Some(file) = &cfg.pretrained {
            backbone.set("pretrained", file.as_str());
        }
        let train = cfg.train_cfg.as_ref().or(args.train_cfg.as_ref()).filter(|n| !n.is_null());
        let test = cfg.test_cfg.as_ref().or(args.test_cfg.as_ref()).filter(|n| !n.is_null());
        let head_args = |name: &str, key: &str| HeadArgs {
            vb: vb.pp(name),
            train_cfg: child(train, key),
            test_cfg: child(test, key),
        };
        let proposal_cfg = child(train, "rpn_proposal")
            .map(|n| n.parse().map_err(|e: Error| e.under("rpn_proposal").under("train_cfg")))
            .transpose()?;
        Ok(Self {
            backbone: build_at(&BACKBONES, "backbone", &backbone, vb.pp("backbone"))?,
            neck: cfg.neck.as_ref().map(|neck| build_at(&NECKS, "neck", neck, vb.pp("neck"))).transpose()?,
            rpn_head: cfg
                .rpn_head
                .as_ref()
                .filter(|n| !n.is_null())
                .map(|head| build_at(&RPN_HEADS, "rpn_head", head, head_args("rpn_head", "rpn")))
                .transpose()?,
            roi_head: build_at(&ROI_HEADS, "roi_head", &cfg.roi_head, head_args("roi_head", "rcnn"))?,
            proposal_cfg,
        })
    }

    fn rpn(&self) -> Result<&dyn ProposalHead> {
        match &self.rpn_head {
            Some(head) => Ok(head.as_ref()),
            None => bail!("the detector has no rpn_head, so its data must bring proposals"),
        }
    }
}

/// Proposals without their scores.
fn plain(proposals: &[Vec<ScoredBox>]) -> Vec<Vec<BBox>> {
    proposals.iter().map(|p| p.iter().map(|b| [b[0], b[1], b[2], b[3]]).collect()).collect()
}

impl Detector for TwoStageDetector {
    fn extract_feat(&self, img: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let feats = self.backbone.forward(img, ctx)?;
        match &self.neck {
            Some(neck) => neck.forward(&feats, ctx),
            None => Ok(feats),
        }
    }

    fn forward_head(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Vec<Tensor>>> {
        match &self.rpn_head {
            Some(head) => head.forward(feats, ctx),
            None => Ok(Vec::new()),
        }
    }

    fn named_outputs(&self, feats: &[Tensor], rois: &[BBox], ctx: &Ctx) -> Result<Vec<(String, Tensor)>> {
        let mut named = by_level("rpn", self.forward_head(feats, ctx)?);
        let rows = bbox2roi(&[rois]);
        named.push(("rois".to_owned(), Tensor::from_vec(rows.concat(), (rows.len(), 5), &candle_core::Device::Cpu)?));
        named.extend(self.roi_head.named_outputs(feats, rois, ctx)?);
        Ok(named)
    }

    fn forward_train(&self, batch: &DetBatch, ctx: &Ctx) -> Result<Losses> {
        let feats = self.extract_feat(&batch.img, ctx)?;
        let mut losses = Losses::new();
        let proposals = match &self.rpn_head {
            Some(rpn) => {
                let outs = rpn.forward(&feats, ctx)?;
                losses = rpn.loss(&outs, batch, ctx)?;
                plain(&rpn.proposals(&outs, &batch.metas, self.proposal_cfg.as_ref())?)
            }
            None => match &batch.proposals {
                Some(proposals) => proposals.clone(),
                None => bail!("the detector has no rpn_head, so its data must bring proposals"),
            },
        };
        losses.extend("", self.roi_head.loss(&feats, &proposals, batch, ctx)?);
        Ok(losses)
    }

    fn simple_test(&self, img: &Tensor, metas: &[ImgMeta], rescale: bool) -> Result<Vec<DetResult>> {
        if img.dim(0)? != metas.len() {
            bail!("simple_test: {} images, {} metas", img.dim(0)?, metas.len());
        }
        no_grad(|| {
            let ctx = Ctx::eval();
            let feats = self.extract_feat(img, &ctx)?;
            let rpn = self.rpn()?;
            let proposals = plain(&rpn.proposals(&rpn.forward(&feats, &ctx)?, metas, None)?);
            self.roi_head.simple_test(&feats, &proposals, metas, rescale)
        })
    }

    fn test_proposals(
        &self,
        img: &Tensor,
        metas: &[ImgMeta],
        proposals: &[Vec<BBox>],
        rescale: bool,
    ) -> Result<Vec<DetResult>> {
        if img.dim(0)? != metas.len() || proposals.len() != metas.len() {
            bail!("{} images, {} metas, {} lists of proposals", img.dim(0)?, metas.len(), proposals.len());
        }
        no_grad(|| self.roi_head.simple_test(&self.extract_feat(img, &Ctx::eval())?, proposals, metas, rescale))
    }

    fn aug_test(&self, views: &[(Tensor, ImgMeta)], rescale: bool) -> Result<DetResult> {
        no_grad(|| {
            let ctx = Ctx::eval();
            let rpn = self.rpn()?;
            let (mut outs, mut feats) = (Vec::new(), Vec::new());
            for (img, meta) in views {
                let x = self.extract_feat(img, &ctx)?;
                outs.push((rpn.forward(&x, &ctx)?, meta.clone()));
                feats.push((x, meta.clone()));
            }
            let proposals = plain(&[rpn.aug_proposals(&outs)?]).concat();
            self.roi_head.aug_test(&feats, &proposals, rescale)
        })
    }

    fn num_classes(&self) -> usize {
        self.roi_head.num_classes()
    }
}

register!(DETECTORS: dyn Detector, "FasterRCNN" => TwoStageDetector, TwoStageConfig);
register!(DETECTORS: dyn Detector, "FastRCNN" => TwoStageDetector, TwoStageConfig);
register!(DETECTORS: dyn Detector, "CascadeRCNN" => TwoStageDetector, TwoStageConfig);
register!(DETECTORS: dyn Detector, "TwoStageDetector" => TwoStageDetector, TwoStageConfig);
