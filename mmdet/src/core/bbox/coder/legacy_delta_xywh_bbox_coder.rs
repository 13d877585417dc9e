//! The delta coder of mmdet 1.x, where a box from 0 to 7 is 8 wide: mmdet's `legacy_delta_xywh_bbox_coder.py`.

use candle_core::{Result, Tensor};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::box_map::{self, BoxMap, through_clip};
use super::delta_xywh_bbox_coder::{bbox2delta, centre, ones};
use super::{BBOX_CODERS, BBoxCoder, CoderArgs};
use crate::core::BBox;
use crate::core::bbox::transforms::clamp;

/// `type = "LegacyDeltaXYWHBBoxCoder"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LegacyDeltaXYWHBBoxCoderConfig {
    /// Subtracted from the code; default 0.
    #[serde(default)]
    pub target_means: [f64; 4],
    /// Divides the code; default 1.
    #[serde(default = "ones")]
    pub target_stds: [f64; 4],
}

/// `type = "LegacyDeltaXYWHBBoxCoder"`.
#[derive(Debug, Clone)]
pub struct LegacyDeltaXYWHBBoxCoder(LegacyDeltaXYWHBBoxCoderConfig);

impl LegacyDeltaXYWHBBoxCoder {
    /// Never an error.
    pub fn new(cfg: &LegacyDeltaXYWHBBoxCoderConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }

    fn map(&self, args: &CoderArgs) -> Map {
        Map {
            means: self.0.target_means.map(|v| v as f32),
            stds: self.0.target_stds.map(|v| v as f32),
            max_ratio: args.wh_ratio_clip.ln().abs() as f32,
            last: args.max_shape.map(|(h, w)| (w as f32 - 1.0, h as f32 - 1.0)),
        }
    }
}

#[derive(Debug, Clone)]
struct Map {
    means: [f32; 4],
    stds: [f32; 4],
    max_ratio: f32,
    /// Last column and row of the image.
    last: Option<(f32, f32)>,
}

impl Map {
    /// The corners before clipping, and halves of the sides.
    fn unclipped(&self, [px, py, pw, ph]: [f32; 4], code: &[f32; 4]) -> (BBox, [f32; 2]) {
        let d: [f32; 4] = std::array::from_fn(|i| code[i] * self.stds[i] + self.means[i]);
        let (gx, gy) = (px + pw * d[0], py + ph * d[1]);
        let w = pw * clamp(d[2], -self.max_ratio, self.max_ratio).exp() * 0.5;
        let h = ph * clamp(d[3], -self.max_ratio, self.max_ratio).exp() * 0.5;
        ([gx - w, gy - h, gx + w, gy + h], [w, h])
    }
}

impl BoxMap for Map {
    const NAME: &'static str = "legacy_delta2bbox";

    fn decode(&self, _: usize, prior: &BBox, code: &[f32; 4]) -> BBox {
        let (b, _) = self.unclipped(centre(prior, 1.0), code);
        let Some((x, y)) = self.last else { return b };
        [clamp(b[0], 0.0, x), clamp(b[1], 0.0, y), clamp(b[2], 0.0, x), clamp(b[3], 0.0, y)]
    }

    fn backward(&self, _: usize, prior: &BBox, code: &[f32; 4], grad: &BBox) -> [f32; 4] {
        let prior = centre(prior, 1.0);
        let (b, half) = self.unclipped(prior, code);
        let grad = self.last.map_or(*grad, |last| through_clip(&b, grad, last));
        let side = |i: usize, grad: f32| {
            let log = code[i] * self.stds[i] + self.means[i];
            if log.abs() <= self.max_ratio { grad * half[i - 2] * self.stds[i] } else { 0.0 }
        };
        [
            (grad[0] + grad[2]) * prior[2] * self.stds[0],
            (grad[1] + grad[3]) * prior[3] * self.stds[1],
            side(2, grad[2] - grad[0]),
            side(3, grad[3] - grad[1]),
        ]
    }
}

impl BBoxCoder for LegacyDeltaXYWHBBoxCoder {
    fn encode_with(&self, priors: &[BBox], gt_bboxes: &[BBox], _: &CoderArgs) -> Result<Vec<[f32; 4]>> {
        let one = |(p, g): (&BBox, &BBox)| bbox2delta(p, g, &self.0.target_means, &self.0.target_stds, 1.0);
        Ok(priors.iter().zip(gt_bboxes).map(one).collect())
    }

    fn decode_with(&self, priors: &[BBox], codes: &[f32], args: &CoderArgs) -> Result<Vec<BBox>> {
        box_map::decode(&self.map(args), priors, codes)
    }

    fn decode_tensor_with(&self, priors: &[BBox], codes: &Tensor, args: &CoderArgs) -> Result<Tensor> {
        box_map::decode_tensor(self.map(args), priors, codes)
    }
}

register!(BBOX_CODERS: dyn BBoxCoder, "LegacyDeltaXYWHBBoxCoder" => LegacyDeltaXYWHBBoxCoder(LegacyDeltaXYWHBBoxCoderConfig));
