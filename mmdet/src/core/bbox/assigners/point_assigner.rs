//! Points nearest to a ground truth's centre, on the level of its size (RepPoints).

use candle_core::Result;
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{AssignInput, AssignResult, Assigner, BBOX_ASSIGNERS, check_labels};
use crate::core::post_processing::smallest;

/// `type = "PointAssigner"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PointAssignerConfig {
    /// Side of a box on level 0, pixels; default 4.
    #[serde(default = "four")]
    pub scale: f64,
    /// Points for each ground truth; default 3.
    #[serde(default = "three")]
    pub pos_num: usize,
}

fn four() -> f64 {
    4.0
}
fn three() -> usize {
    3
}

/// `type = "PointAssigner"`.
#[derive(Debug, Clone)]
pub struct PointAssigner(PointAssignerConfig);

impl PointAssigner {
    /// Never an error.
    pub fn new(cfg: &PointAssignerConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

impl Assigner for PointAssigner {
    /// Priors are points `[x, y, stride, ..]`. The result's overlaps are 0.
    ///
    /// Differs from mmdet: a level with fewer than `pos_num` points gives all it has, where mmdet stops with an error.
    fn assign_input(&self, input: &AssignInput) -> Result<AssignResult> {
        check_labels(input)?;
        let (n, k) = (input.bboxes.len(), input.gt_bboxes.len());
        let mut gt_inds = vec![0; n];
        let levels: Vec<i32> = input.bboxes.iter().map(|p| p[2].log2() as i32).collect();
        let range = levels.iter().copied().min().zip(levels.iter().copied().max());
        let mut nearest = vec![f32::INFINITY; n];
        for (gt, b) in input.gt_bboxes.iter().enumerate() {
            let Some((low, high)) = range else { break };
            let (cx, cy) = ((b[0] + b[2]) / 2.0, (b[1] + b[3]) / 2.0);
            let [w, h] = [b[2] - b[0], b[3] - b[1]].map(|v| if v < 1e-6 { 1e-6 } else { v });
            let scale = self.0.scale as f32;
            let level = ((((w / scale).log2() + (h / scale).log2()) / 2.0) as i32).clamp(low, high);
            let points: Vec<usize> = (0..n).filter(|i| levels[*i] == level).collect();
            let distance = |i: &usize| {
                let (dx, dy) = ((input.bboxes[*i][0] - cx) / w, (input.bboxes[*i][1] - cy) / h);
                (dx * dx + dy * dy).sqrt()
            };
            let distances: Vec<f32> = points.iter().map(distance).collect();
            for j in smallest(&distances, self.0.pos_num) {
                if distances[j] < nearest[points[j]] {
                    nearest[points[j]] = distances[j];
                    gt_inds[points[j]] = gt as i64 + 1;
                }
            }
        }
        Ok(AssignResult::new(k, gt_inds, vec![0.0; n], input.gt_labels))
    }
}

register!(BBOX_ASSIGNERS: dyn Assigner, "PointAssigner" => PointAssigner(PointAssignerConfig));
