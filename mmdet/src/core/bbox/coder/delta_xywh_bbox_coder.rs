//! Shift of the centre and logarithm of the sides, relative to the prior (R-CNN): mmdet's `delta_xywh_bbox_coder.py`.

use candle_core::{Result, Tensor};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::box_map::{self, BoxMap, through_clip};
use super::{BBOX_CODERS, BBoxCoder, CoderArgs};
use crate::core::BBox;
use crate::core::bbox::transforms::{clamp, clip};

/// `type = "DeltaXYWHBBoxCoder"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeltaXYWHBBoxCoderConfig {
    /// Subtracted from the code; default 0.
    #[serde(default)]
    pub target_means: [f64; 4],
    /// Divides the code; default 1.
    #[serde(default = "ones")]
    pub target_stds: [f64; 4],
    /// Decoded boxes are clipped to the image; default true.
    #[serde(default = "yes")]
    pub clip_border: bool,
    /// The centre moves by at most `ctr_clamp` pixels (YOLOF); default false.
    #[serde(default)]
    pub add_ctr_clamp: bool,
    /// Pixels; default 32.
    #[serde(default = "ctr_clamp")]
    pub ctr_clamp: f64,
}

pub(super) fn ones() -> [f64; 4] {
    [1.0; 4]
}
fn yes() -> bool {
    true
}
fn ctr_clamp() -> f64 {
    32.0
}

/// `type = "DeltaXYWHBBoxCoder"`.
#[derive(Debug, Clone)]
pub struct DeltaXYWHBBoxCoder(DeltaXYWHBBoxCoderConfig);

impl DeltaXYWHBBoxCoder {
    /// Never an error.
    pub fn new(cfg: &DeltaXYWHBBoxCoderConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }

    fn map(&self, args: &CoderArgs) -> Map {
        let cfg = &self.0;
        Map {
            means: cfg.target_means.map(|v| v as f32),
            stds: cfg.target_stds.map(|v| v as f32),
            ctr_clamp: cfg.add_ctr_clamp.then_some(cfg.ctr_clamp as f32),
            max_ratio: args.wh_ratio_clip.ln().abs() as f32,
            max_shape: args.max_shape.filter(|_| cfg.clip_border),
        }
    }
}

/// Centre, width and height.
pub(super) fn centre(b: &BBox, one: f32) -> [f32; 4] {
    [(b[0] + b[2]) * 0.5, (b[1] + b[3]) * 0.5, b[2] - b[0] + one, b[3] - b[1] + one]
}

/// The code of `gt`; `one` is added to sides (mmdet 1.x).
pub(super) fn bbox2delta(prior: &BBox, gt: &BBox, means: &[f64; 4], stds: &[f64; 4], one: f32) -> [f32; 4] {
    let ([px, py, pw, ph], [gx, gy, gw, gh]) = (centre(prior, one), centre(gt, one));
    let code = [(gx - px) / pw, (gy - py) / ph, (gw / pw).ln(), (gh / ph).ln()];
    std::array::from_fn(|i| (code[i] - means[i] as f32) / stds[i] as f32)
}

#[derive(Debug, Clone)]
struct Map {
    means: [f32; 4],
    stds: [f32; 4],
    ctr_clamp: Option<f32>,
    max_ratio: f32,
    max_shape: Option<(usize, usize)>,
}

impl Map {
    /// Shift in pixels and logarithm of the sides, before they are bounded.
    fn raw(&self, prior: &[f32; 4], code: &[f32; 4]) -> [f32; 4] {
        let d: [f32; 4] = std::array::from_fn(|i| code[i] * self.stds[i] + self.means[i]);
        [prior[2] * d[0], prior[3] * d[1], d[2], d[3]]
    }

    /// The bounds of shifts and of logarithms.
    fn bounds(&self) -> ((f32, f32), (f32, f32)) {
        match self.ctr_clamp {
            Some(c) => ((-c, c), (f32::NEG_INFINITY, self.max_ratio)),
            None => ((f32::NEG_INFINITY, f32::INFINITY), (-self.max_ratio, self.max_ratio)),
        }
    }

    /// Halves of the decoded sides; also their derivatives by the logarithms.
    fn half_sides(&self, prior: &[f32; 4], raw: &[f32; 4]) -> [f32; 2] {
        let (_, (low, high)) = self.bounds();
        [0, 1].map(|i| prior[2 + i] * clamp(raw[2 + i], low, high).exp() * 0.5)
    }

    fn unclipped(&self, prior: &[f32; 4], raw: &[f32; 4]) -> BBox {
        let ((low, high), _) = self.bounds();
        let [gx, gy] = [0, 1].map(|i| prior[i] + clamp(raw[i], low, high));
        let [w, h] = self.half_sides(prior, raw);
        [gx - w, gy - h, gx + w, gy + h]
    }
}

impl BoxMap for Map {
    const NAME: &'static str = "delta2bbox";

    fn decode(&self, _: usize, prior: &BBox, code: &[f32; 4]) -> BBox {
        let prior = centre(prior, 0.0);
        let b = self.unclipped(&prior, &self.raw(&prior, code));
        self.max_shape.map_or(b, |shape| clip(b, shape))
    }

    fn backward(&self, _: usize, prior: &BBox, code: &[f32; 4], grad: &BBox) -> [f32; 4] {
        let prior = centre(prior, 0.0);
        let raw = self.raw(&prior, code);
        let b = self.unclipped(&prior, &raw);
        let grad = self.max_shape.map_or(*grad, |(h, w)| through_clip(&b, grad, (w as f32, h as f32)));
        let (shift, log) = self.bounds();
        let within = |v: f32, (low, high): (f32, f32)| if v >= low && v <= high { 1.0 } else { 0.0 };
        let half = self.half_sides(&prior, &raw);
        [
            (grad[0] + grad[2]) * prior[2] * self.stds[0] * within(raw[0], shift),
            (grad[1] + grad[3]) * prior[3] * self.stds[1] * within(raw[1], shift),
            (grad[2] - grad[0]) * half[0] * self.stds[2] * within(raw[2], log),
            (grad[3] - grad[1]) * half[1] * self.stds[3] * within(raw[3], log),
        ]
    }
}

impl BBoxCoder for DeltaXYWHBBoxCoder {
    fn encode_with(&self, priors: &[BBox], gt_bboxes: &[BBox], _: &CoderArgs) -> Result<Vec<[f32; 4]>> {
        let one = |(p, g): (&BBox, &BBox)| bbox2delta(p, g, &self.0.target_means, &self.0.target_stds, 0.0);
        Ok(priors.iter().zip(gt_bboxes).map(one).collect())
    }

    fn decode_with(&self, priors: &[BBox], codes: &[f32], args: &CoderArgs) -> Result<Vec<BBox>> {
        box_map::decode(&self.map(args), priors, codes)
    }

    fn decode_tensor_with(&self, priors: &[BBox], codes: &Tensor, args: &CoderArgs) -> Result<Tensor> {
        box_map::decode_tensor(self.map(args), priors, codes)
    }
}

register!(BBOX_CODERS: dyn BBoxCoder, "DeltaXYWHBBoxCoder" => DeltaXYWHBBoxCoder(DeltaXYWHBBoxCoderConfig));
