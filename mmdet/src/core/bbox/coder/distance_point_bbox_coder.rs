//! Distances from a point to the four sides (FCOS): mmdet's `distance_point_bbox_coder.py`.

use candle_core::{Result, Tensor};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::box_map::{self, BoxMap, through_clip};
use super::{BBOX_CODERS, BBoxCoder, CoderArgs};
use crate::core::BBox;
use crate::core::bbox::transforms::{bbox2distance, distance2bbox};

/// `type = "DistancePointBBoxCoder"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DistancePointBBoxCoderConfig {
    /// Decoded boxes are clipped to the image; default true.
    #[serde(default = "yes")]
    pub clip_border: bool,
}

fn yes() -> bool {
    true
}

/// `type = "DistancePointBBoxCoder"`: codes `left, top, right, bottom` from priors `[x, y, ..]`.
#[derive(Debug, Clone)]
pub struct DistancePointBBoxCoder(DistancePointBBoxCoderConfig);

impl DistancePointBBoxCoder {
    /// Never an error.
    pub fn new(cfg: &DistancePointBBoxCoderConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }

    fn map(&self, args: &CoderArgs) -> Map {
        Map { max_shape: args.max_shape.filter(|_| self.0.clip_border) }
    }
}

#[derive(Debug, Clone)]
struct Map {
    max_shape: Option<(usize, usize)>,
}

impl BoxMap for Map {
    const NAME: &'static str = "distance2bbox";

    fn decode(&self, _: usize, prior: &BBox, code: &[f32; 4]) -> BBox {
        distance2bbox(prior, code, self.max_shape)
    }

    fn backward(&self, _: usize, prior: &BBox, code: &[f32; 4], grad: &BBox) -> [f32; 4] {
        let b = distance2bbox(prior, code, None);
        let grad = self.max_shape.map_or(*grad, |(h, w)| through_clip(&b, grad, (w as f32, h as f32)));
        [-grad[0], -grad[1], grad[2], grad[3]]
    }
}

impl BBoxCoder for DistancePointBBoxCoder {
    fn encode_with(&self, priors: &[BBox], gt_bboxes: &[BBox], args: &CoderArgs) -> Result<Vec<[f32; 4]>> {
        Ok(priors.iter().zip(gt_bboxes).map(|(p, g)| bbox2distance(p, g, args.max_dis, args.eps)).collect())
    }

    fn decode_with(&self, priors: &[BBox], codes: &[f32], args: &CoderArgs) -> Result<Vec<BBox>> {
        box_map::decode(&self.map(args), priors, codes)
    }

    fn decode_tensor_with(&self, priors: &[BBox], codes: &Tensor, args: &CoderArgs) -> Result<Tensor> {
        box_map::decode_tensor(self.map(args), priors, codes)
    }
}

register!(BBOX_CODERS: dyn BBoxCoder, "DistancePointBBoxCoder" => DistancePointBBoxCoder(DistancePointBBoxCoderConfig));
