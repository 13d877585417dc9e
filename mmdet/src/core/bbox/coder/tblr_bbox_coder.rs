//! Distances from the prior's centre, top, bottom, left, right, in parts of its sides (FSAF): mmdet's `tblr_bbox_coder.py`.

use candle_core::{Result, Tensor};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::box_map::{self, BoxMap, through_clip};
use super::{BBOX_CODERS, BBoxCoder, CoderArgs};
use crate::core::BBox;
use crate::core::bbox::transforms::clip;

/// A factor for all, or for top, bottom, left and right.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Normalizer {
    /// All.
    One(f64),
    /// Top, bottom, left, right.
    Four([f64; 4]),
}

/// `type = "TBLRBBoxCoder"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TBLRBBoxCoderConfig {
    /// Divides the code; default 4.
    #[serde(default = "normalizer")]
    pub normalizer: Normalizer,
    /// Decoded boxes are clipped to the image; default true.
    #[serde(default = "yes")]
    pub clip_border: bool,
}

fn normalizer() -> Normalizer {
    Normalizer::One(4.0)
}
fn yes() -> bool {
    true
}

/// `type = "TBLRBBoxCoder"`.
#[derive(Debug, Clone)]
pub struct TBLRBBoxCoder {
    normalizer: [f32; 4],
    clip_border: bool,
}

impl TBLRBBoxCoder {
    /// Never an error.
    pub fn new(cfg: &TBLRBBoxCoderConfig) -> Result<Self> {
        let normalizer = match cfg.normalizer {
            Normalizer::One(v) => [v; 4],
            Normalizer::Four(v) => v,
        };
        Ok(Self { normalizer: normalizer.map(|v| v as f32), clip_border: cfg.clip_border })
    }

    fn map(&self, args: &CoderArgs) -> Map {
        Map { normalizer: self.normalizer, max_shape: args.max_shape.filter(|_| self.clip_border) }
    }
}

#[derive(Debug, Clone)]
struct Map {
    normalizer: [f32; 4],
    max_shape: Option<(usize, usize)>,
}

/// Centre, width and height.
fn centre(b: &BBox) -> [f32; 4] {
    [(b[0] + b[2]) / 2.0, (b[1] + b[3]) / 2.0, b[2] - b[0], b[3] - b[1]]
}

impl Map {
    fn unclipped(&self, [cx, cy, w, h]: [f32; 4], code: &[f32; 4]) -> BBox {
        let n: [f32; 4] = std::array::from_fn(|i| code[i] * self.normalizer[i]);
        [cx - w * n[2], cy - h * n[0], cx + w * n[3], cy + h * n[1]]
    }
}

impl BoxMap for Map {
    const NAME: &'static str = "tblr2bboxes";

    fn decode(&self, _: usize, prior: &BBox, code: &[f32; 4]) -> BBox {
        let b = self.unclipped(centre(prior), code);
        self.max_shape.map_or(b, |shape| clip(b, shape))
    }

    fn backward(&self, _: usize, prior: &BBox, code: &[f32; 4], grad: &BBox) -> [f32; 4] {
        let prior = centre(prior);
        let b = self.unclipped(prior, code);
        let g = self.max_shape.map_or(*grad, |(h, w)| through_clip(&b, grad, (w as f32, h as f32)));
        let [_, _, w, h] = prior;
        let d = [-g[1] * h, g[3] * h, -g[0] * w, g[2] * w];
        std::array::from_fn(|i| d[i] * self.normalizer[i])
    }
}

impl BBoxCoder for TBLRBBoxCoder {
    fn encode_with(&self, priors: &[BBox], gt_bboxes: &[BBox], _: &CoderArgs) -> Result<Vec<[f32; 4]>> {
        let one = |(p, g): (&BBox, &BBox)| {
            let [cx, cy, w, h] = centre(p);
            let code = [(cy - g[1]) / h, (g[3] - cy) / h, (cx - g[0]) / w, (g[2] - cx) / w];
            std::array::from_fn(|i| code[i] / self.normalizer[i])
        };
        Ok(priors.iter().zip(gt_bboxes).map(one).collect())
    }

    fn decode_with(&self, priors: &[BBox], codes: &[f32], args: &CoderArgs) -> Result<Vec<BBox>> {
        box_map::decode(&self.map(args), priors, codes)
    }

    fn decode_tensor_with(&self, priors: &[BBox], codes: &Tensor, args: &CoderArgs) -> Result<Tensor> {
        box_map::decode_tensor(self.map(args), priors, codes)
    }
}

register!(BBOX_CODERS: dyn BBoxCoder, "TBLRBBoxCoder" => TBLRBBoxCoder(TBLRBBoxCoderConfig));
