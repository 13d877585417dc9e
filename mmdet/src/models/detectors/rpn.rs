//! A region proposal network on its own: mmdet's `rpn.py`.

use candle_core::{Result, Tensor, bail};
use mmcv::cnn::Backbone;
use mmcv::config::Node;
use mmcv::nn::{Ctx, no_grad};
use mmcv::register;
use mmcv::registry::build_at;
use mmcv::runner::Losses;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{DETECTORS, Detector, DetectorArgs, child};
use crate::core::bbox::bbox_mapping;
use crate::core::{BBox, DetBatch, DetResult, ImgMeta, ScoredBox};
use crate::models::backbones::BACKBONES;
use crate::models::dense_heads::{HeadArgs, ProposalHead, RPN_HEADS};
use crate::models::necks::{NECKS, Neck};

/// `type = "RPN"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RpnConfig {
    /// Backbone.
    pub backbone: Node,
    /// Neck; none hands the backbone's levels to the head.
    pub neck: Option<Node>,
    /// Head.
    pub rpn_head: Node,
    /// How the head is trained: `rpn`.
    #[serde(default)]
    pub train_cfg: Option<Node>,
    /// How the head tests: `rpn`.
    #[serde(default)]
    pub test_cfg: Option<Node>,
    /// Checkpoint of the backbone (older spelling of its `init_cfg`).
    #[serde(default)]
    pub pretrained: Option<String>,
    /// How weights start.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

/// Keys: `backbone.*`, `neck.*`, `rpn_head.*`.
pub struct Rpn {
    backbone: Box<dyn Backbone>,
    neck: Option<Box<dyn Neck>>,
    rpn_head: Box<dyn ProposalHead>,
}

impl Rpn {
    /// The detector at `args.vb`.
    pub fn new(cfg: &RpnConfig, args: DetectorArgs) -> mmcv::Result<Self> {
        let vb = &args.vb;
        if let Some(init) = &cfg.init_cfg {
            vb.init_cfg(init);
        }
        let mut backbone = cfg.backbone.clone();
        if let Some(file) = &cfg.pretrained {
            backbone.set("pretrained", file.as_str());
        }
        let head_args = HeadArgs {
            vb: vb.pp("rpn_head"),
            train_cfg: child(cfg.train_cfg.as_ref().or(args.train_cfg.as_ref()), "rpn"),
            test_cfg: child(cfg.test_cfg.as_ref().or(args.test_cfg.as_ref()), "rpn"),
        };
        Ok(Self {
            backbone: build_at(&BACKBONES, "backbone", &backbone, vb.pp("backbone"))?,
            neck: cfg.neck.as_ref().map(|neck| build_at(&NECKS, "neck", neck, vb.pp("neck"))).transpose()?,
            rpn_head: build_at(&RPN_HEADS, "rpn_head", &cfg.rpn_head, head_args)?,
        })
    }
}

/// Proposals as the boxes of a single class.
fn result(proposals: Vec<ScoredBox>) -> DetResult {
    DetResult { bboxes: vec![proposals], masks: None }
}

impl Detector for Rpn {
    fn extract_feat(&self, img: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let feats = self.backbone.forward(img, ctx)?;
        match &self.neck {
            Some(neck) => neck.forward(&feats, ctx),
            None => Ok(feats),
        }
    }

    fn forward_head(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Vec<Tensor>>> {
        self.rpn_head.forward(feats, ctx)
    }

    fn named_outputs(&self, feats: &[Tensor], _: &[BBox], ctx: &Ctx) -> Result<Vec<(String, Tensor)>> {
        Ok(super::by_level("rpn", self.rpn_head.forward(feats, ctx)?))
    }

    fn forward_train(&self, batch: &DetBatch, ctx: &Ctx) -> Result<Losses> {
        let outs = self.forward_head(&self.extract_feat(&batch.img, ctx)?, ctx)?;
        self.rpn_head.loss(&outs, batch, ctx)
    }

    fn simple_test(&self, img: &Tensor, metas: &[ImgMeta], rescale: bool) -> Result<Vec<DetResult>> {
        if img.dim(0)? != metas.len() {
            bail!("simple_test: {} images, {} metas", img.dim(0)?, metas.len());
        }
        let mut all = no_grad(|| {
            let ctx = Ctx::eval();
            let outs = self.forward_head(&self.extract_feat(img, &ctx)?, &ctx)?;
            self.rpn_head.proposals(&outs, metas, None)
        })?;
        if rescale {
            for (proposals, meta) in all.iter_mut().zip(metas) {
                for p in proposals {
                    p.iter_mut().zip(meta.scale_factor).for_each(|(v, s)| *v /= s);
                }
            }
        }
        Ok(all.into_iter().map(result).collect())
    }

    fn aug_test(&self, views: &[(Tensor, ImgMeta)], rescale: bool) -> Result<DetResult> {
        let Some((_, first)) = views.first() else { bail!("aug_test: no views") };
        let mut proposals = no_grad(|| {
            let ctx = Ctx::eval();
            let outs = views
                .iter()
                .map(|(img, meta)| Ok((self.forward_head(&self.extract_feat(img, &ctx)?, &ctx)?, meta.clone())))
                .collect::<Result<Vec<_>>>()?;
            self.rpn_head.aug_proposals(&outs)
        })?;
        if !rescale {
            let plain: Vec<BBox> = proposals.iter().map(|p| [p[0], p[1], p[2], p[3]]).collect();
            let shape = (first.img_shape[0], first.img_shape[1]);
            let flip = first.flip.then_some(first.flip_direction).flatten();
            for (p, b) in proposals.iter_mut().zip(bbox_mapping(&plain, shape, first.scale_factor, flip)) {
                p[..4].copy_from_slice(&b);
            }
        }
        Ok(result(proposals))
    }

    fn num_classes(&self) -> usize {
        1
    }
}

register!(DETECTORS: dyn Detector, "RPN" => Rpn, RpnConfig);
