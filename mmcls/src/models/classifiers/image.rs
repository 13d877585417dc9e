//! The classifier of images; mmcls's `image.py`.

use candle_core::{Result, Tensor};
use mmcv::cnn::Backbone;
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder, no_grad};
use mmcv::registry::build_at;
use mmcv::runner::Losses;
use mmcv::{Error, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{CLASSIFIERS, Classifier};
use crate::datasets::ClsBatch;
use crate::models::augments::Augments;
use crate::models::backbones::BACKBONES;
use crate::models::heads::{HEADS, Head};
use crate::models::necks::{NECKS, Neck};

/// `type = "ImageClassifier"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageClassifierConfig {
    /// The backbone.
    pub backbone: Node,
    /// The neck; none by default.
    #[serde(default)]
    pub neck: Option<Node>,
    /// The head.
    #[serde(default)]
    pub head: Option<Node>,
    /// Checkpoint to start from (older spelling of a `Pretrained` `init_cfg`).
    #[serde(default)]
    pub pretrained: Option<String>,
    /// `augments`: what mixes a batch's images and labels, one or a list ([`Augments`]).
    #[serde(default)]
    pub train_cfg: Option<Node>,
    /// How weights start.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

/// Keys: `backbone.*`, `neck.*`, `head.*`.
pub struct ImageClassifier {
    backbone: Box<dyn Backbone>,
    neck: Option<Box<dyn Neck>>,
    head: Box<dyn Head>,
    augments: Option<Augments>,
}

impl ImageClassifier {
    /// An error without a head.
    pub fn new(cfg: &ImageClassifierConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        let Some(head) = cfg.head.as_ref().filter(|n| !n.is_null()) else {
            return Err(Error::config("missing required field 'head'"));
        };
        let augments = cfg.train_cfg.as_ref().and_then(|t| t.get("augments")).filter(|a| !a.is_null());
        let augments = augments.map(Augments::new).transpose().map_err(|e| e.under("augments").under("train_cfg"))?;
        match (&cfg.init_cfg, &cfg.pretrained) {
            (_, Some(file)) => {
                let mut init = Node::from_json(r#"{"type": "Pretrained"}"#)?;
                init.set("checkpoint", file.as_str());
                vb.init_cfg(&init);
            }
            (Some(init), None) if !init.is_null() => vb.init_cfg(init),
            _ => {}
        }
        let neck = cfg.neck.as_ref().filter(|n| !n.is_null());
        Ok(Self {
            backbone: build_at(&BACKBONES, "backbone", &cfg.backbone, vb.pp("backbone"))?,
            neck: neck.map(|n| build_at(&NECKS, "neck", n, vb.pp("neck"))).transpose()?,
            head: build_at(&HEADS, "head", head, vb.pp("head"))?,
            augments,
        })
    }
}

impl Classifier for ImageClassifier {
    fn extract_feat(&self, img: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let feats = self.backbone.forward(img, ctx)?;
        match &self.neck {
            Some(neck) => neck.forward(&feats),
            None => Ok(feats),
        }
    }
    fn logits(&self, img: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        self.head.logits(&self.extract_feat(img, ctx)?, ctx)
    }
    fn forward_train(&self, batch: &ClsBatch, ctx: &Ctx) -> Result<Losses> {
        let Some(augments) = &self.augments else {
            return self.head.loss(&self.logits(&batch.img, ctx)?, &batch.gt_label);
        };
        let (img, label) = ctx.rng(|rng| augments.apply(&batch.img, &batch.gt_label, rng))?;
        self.head.loss(&self.logits(&img, ctx)?, &label)
    }
    fn simple_test(&self, img: &Tensor) -> Result<Tensor> {
        no_grad(|| self.head.scores(&self.logits(img, &Ctx::eval())?))
    }
    fn num_classes(&self) -> Option<usize> {
        self.head.num_classes()
    }
    fn backbone_feats(&self, img: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.backbone.forward(img, ctx)
    }
    fn feats_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.backbone.forward_behind(stage, x, ctx)
    }
    fn logits_of(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Tensor> {
        match &self.neck {
            Some(neck) => self.head.logits(&neck.forward(feats)?, ctx),
            None => self.head.logits(feats, ctx),
        }
    }
}

register!(CLASSIFIERS: dyn Classifier, "ImageClassifier" => ImageClassifier, ImageClassifierConfig);

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use mmcv::Rng;
    use mmcv::nn::ParamStore;
    use mmcv::registry::build;

    use super::*;

    fn made(train_cfg: &str) -> mmcv::Result<Box<dyn Classifier>> {
        let store = ParamStore::new(&Device::Cpu, 0);
        let node = Node::from_json(&format!(
            r#"{{"type": "ImageClassifier", "backbone": {{"type": "LeNet5", "num_classes": 3}}, "train_cfg": {train_cfg},
                "head": {{"type": "ClsHead", "loss": {{"type": "CrossEntropyLoss", "use_soft": true}}}}}}"#
        ))?;
        build(&CLASSIFIERS, &node, VarBuilder::new(&store))
    }

    #[test]
    fn batches_are_mixed_before_the_backbone() {
        let img = Tensor::zeros((2, 1, 32, 32), DType::F32, &Device::Cpu).unwrap();
        let img =
            Tensor::cat(&[&img.narrow(0, 0, 1).unwrap(), &img.narrow(0, 1, 1).unwrap().affine(1.0, 2.0).unwrap()], 0);
        let batch = ClsBatch { img: img.unwrap(), gt_label: Tensor::new(&[0i64, 2], &Device::Cpu).unwrap() };
        let mixing = r#"{"augments": {"type": "BatchMixup", "alpha": 1.0, "num_classes": 3}}"#;
        let model = made(mixing).unwrap();
        let loss = |seed: u64| -> f32 {
            let losses = model.forward_train(&batch, &Ctx::train(Rng::new(seed))).unwrap();
            losses.get("loss").unwrap().to_scalar::<f32>().unwrap()
        };
        assert_eq!(loss(1), loss(1));
        assert!((2..10).any(|seed| (loss(seed) - loss(1)).abs() > 1e-6));
        // A soft loss takes no plain classes.
        assert!(made("null").unwrap().forward_train(&batch, &Ctx::train(Rng::new(1))).is_err());
        let e = made(r#"{"augments": [{"type": "BatchMixup", "alpha": 1.0}]}"#).err().unwrap();
        assert!(e.is_usage() && e.to_string().contains("train_cfg.augments.0"), "{e}");
    }
}
