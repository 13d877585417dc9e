//! Boxes as they are.

use candle_core::{Result, Tensor, bail};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{BBOX_CODERS, BBoxCoder, CoderArgs};
use crate::core::BBox;

/// `type = "PseudoBBoxCoder"`: no fields.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PseudoBBoxCoderConfig {}

/// `type = "PseudoBBoxCoder"`: the code is the box.
#[derive(Debug, Clone, Default)]
pub struct PseudoBBoxCoder;

impl PseudoBBoxCoder {
    /// Never an error.
    pub fn new(_: &PseudoBBoxCoderConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl BBoxCoder for PseudoBBoxCoder {
    fn encode_with(&self, _: &[BBox], gt_bboxes: &[BBox], _: &CoderArgs) -> Result<Vec<[f32; 4]>> {
        Ok(gt_bboxes.to_vec())
    }

    fn decode_with(&self, _: &[BBox], codes: &[f32], _: &CoderArgs) -> Result<Vec<BBox>> {
        let (boxes, rest) = codes.as_chunks();
        if !rest.is_empty() {
            bail!("PseudoBBoxCoder: {} numbers are not a whole number of boxes", codes.len());
        }
        Ok(boxes.to_vec())
    }

    fn decode_tensor_with(&self, _: &[BBox], codes: &Tensor, _: &CoderArgs) -> Result<Tensor> {
        Ok(codes.clone())
    }
}

register!(BBOX_CODERS: dyn BBoxCoder, "PseudoBBoxCoder" => PseudoBBoxCoder(PseudoBBoxCoderConfig));
