//! Centre within the cell, 0 to 1, and logarithm of the sides (YOLOv3): mmdet's `yolo_bbox_coder.py`.

use candle_core::{Result, Tensor, bail};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::box_map::{self, BoxMap};
use super::delta_xywh_bbox_coder::centre;
use super::{BBOX_CODERS, BBoxCoder, CoderArgs};
use crate::core::BBox;
use crate::core::bbox::transforms::clamp;

/// `type = "YOLOBBoxCoder"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct YOLOBBoxCoderConfig {
    /// Encoded centres keep this far from 0 and 1; default 1e-6.
    #[serde(default = "eps")]
    pub eps: f64,
}

fn eps() -> f64 {
    1e-6
}

/// `type = "YOLOBBoxCoder"`: needs [`CoderArgs::strides`].
#[derive(Debug, Clone)]
pub struct YOLOBBoxCoder(YOLOBBoxCoderConfig);

impl YOLOBBoxCoder {
    /// Never an error.
    pub fn new(cfg: &YOLOBBoxCoderConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }

    fn map(&self, priors: &[BBox], args: &CoderArgs) -> Result<Map> {
        match args.strides.len() {
            1 => {}
            n if n == priors.len() => {}
            n => bail!("YOLOBBoxCoder: {n} strides for {} priors, expected one for each or one for all", priors.len()),
        }
        Ok(Map { strides: args.strides.to_vec() })
    }
}

#[derive(Debug, Clone)]
struct Map {
    strides: Vec<f32>,
}

impl Map {
    fn stride(&self, index: usize) -> f32 {
        if self.strides.len() == 1 { self.strides[0] } else { self.strides[index] }
    }
}

impl BoxMap for Map {
    const NAME: &'static str = "yolo2bbox";

    fn decode(&self, index: usize, prior: &BBox, code: &[f32; 4]) -> BBox {
        let ([px, py, pw, ph], stride) = (centre(prior, 0.0), self.stride(index));
        let (cx, cy) = (px + (code[0] - 0.5) * stride, py + (code[1] - 0.5) * stride);
        let (w, h) = (pw * 0.5 * code[2].exp(), ph * 0.5 * code[3].exp());
        [cx - w, cy - h, cx + w, cy + h]
    }

    fn backward(&self, index: usize, prior: &BBox, code: &[f32; 4], grad: &BBox) -> [f32; 4] {
        let ([_, _, pw, ph], stride) = (centre(prior, 0.0), self.stride(index));
        let (w, h) = (pw * 0.5 * code[2].exp(), ph * 0.5 * code[3].exp());
        [(grad[0] + grad[2]) * stride, (grad[1] + grad[3]) * stride, (grad[2] - grad[0]) * w, (grad[3] - grad[1]) * h]
    }
}

impl BBoxCoder for YOLOBBoxCoder {
    fn encode_with(&self, priors: &[BBox], gt_bboxes: &[BBox], args: &CoderArgs) -> Result<Vec<[f32; 4]>> {
        let map = self.map(priors, args)?;
        let (eps, top) = (self.0.eps as f32, (1.0 - self.0.eps) as f32);
        let one = |(i, (p, g)): (usize, (&BBox, &BBox))| {
            let ([px, py, pw, ph], [gx, gy, gw, gh]) = (centre(p, 0.0), centre(g, 0.0));
            let cell = |d: f32| clamp(d / map.stride(i) + 0.5, eps, top);
            let log = |ratio: f32| if ratio < eps { eps.ln() } else { ratio.ln() };
            [cell(gx - px), cell(gy - py), log(gw / pw), log(gh / ph)]
        };
        Ok(priors.iter().zip(gt_bboxes).enumerate().map(one).collect())
    }

    fn decode_with(&self, priors: &[BBox], codes: &[f32], args: &CoderArgs) -> Result<Vec<BBox>> {
        box_map::decode(&self.map(priors, args)?, priors, codes)
    }

    fn decode_tensor_with(&self, priors: &[BBox], codes: &Tensor, args: &CoderArgs) -> Result<Tensor> {
        box_map::decode_tensor(self.map(priors, args)?, priors, codes)
    }
}

register!(BBOX_CODERS: dyn BBoxCoder, "YOLOBBoxCoder" => YOLOBBoxCoder(YOLOBBoxCoderConfig));
