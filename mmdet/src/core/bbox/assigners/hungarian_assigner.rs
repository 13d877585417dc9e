//! One prediction for each ground truth, at the least total cost (DETR).

use candle_core::{Result, bail};
use mmcv::config::Node;
use mmcv::register;
use mmcv::registry::build_at;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{AssignInput, AssignResult, Assigner, BBOX_ASSIGNERS, check_labels, linear_sum_assignment};
use crate::core::BBox;
use crate::core::bbox::bbox_cxcywh_to_xyxy;
use crate::core::bbox::match_costs::{MATCH_COST, MatchCost, MatchInput};

/// `type = "HungarianAssigner"`: components of `MATCH_COST`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HungarianAssignerConfig {
    /// Cost of the class; default `ClassificationCost`.
    #[serde(default = "class")]
    #[schemars(with = "serde_json::Value")]
    pub cls_cost: Node,
    /// Cost of the coordinates; default `BBoxL1Cost`.
    #[serde(default = "l1")]
    #[schemars(with = "serde_json::Value")]
    pub reg_cost: Node,
    /// Cost of the overlap; default `IoUCost` of `giou`.
    #[serde(default = "iou")]
    #[schemars(with = "serde_json::Value")]
    pub iou_cost: Node,
}

fn of_type(name: &str) -> Node {
    let mut node = Node::from(indexmap::IndexMap::new());
    node.set("type", Node::from(name));
    node
}
fn class() -> Node {
    of_type("ClassificationCost")
}
fn l1() -> Node {
    of_type("BBoxL1Cost")
}
fn iou() -> Node {
    of_type("IoUCost")
}

/// `type = "HungarianAssigner"`.
pub struct HungarianAssigner {
    costs: [Box<dyn MatchCost>; 3],
}

impl HungarianAssigner {
    /// An error for an unknown cost.
    pub fn new(cfg: &HungarianAssignerConfig) -> mmcv::Result<Self> {
        let cost = |key: &str, node: &Node| build_at(&MATCH_COST, key, node, ());
        Ok(Self {
            costs: [
                cost("cls_cost", &cfg.cls_cost)?,
                cost("reg_cost", &cfg.reg_cost)?,
                cost("iou_cost", &cfg.iou_cost)?,
            ],
        })
    }
}

impl Assigner for HungarianAssigner {
    /// Needs `pred_bboxes` (`[cx, cy, w, h]` in parts of the image; `bboxes` is not looked at), `pred_scores` (logits),
    /// `img_shape` and labels. The result's overlaps are 0.
    fn assign_input(&self, input: &AssignInput) -> Result<AssignResult> {
        check_labels(input)?;
        let Some(preds) = input.pred_bboxes else { bail!("HungarianAssigner: needs predicted boxes") };
        let (n, k) = (preds.len(), input.gt_bboxes.len());
        if n == 0 || k == 0 {
            return Ok(AssignResult::empty(k, n, Some(input.gt_labels.unwrap_or(&[]))));
        }
        let (Some(scores), Some(labels)) = (input.pred_scores, input.gt_labels) else {
            bail!("HungarianAssigner: needs predicted scores and labels");
        };
        let (h, w) = (input.img_shape.0 as f32, input.img_shape.1 as f32);
        let factor = [w, h, w, h];
        let normalized: Vec<BBox> = input.gt_bboxes.iter().map(|b| std::array::from_fn(|i| b[i] / factor[i])).collect();
        let in_pixels = |b: &BBox| {
            let b = bbox_cxcywh_to_xyxy(b);
            std::array::from_fn(|i| b[i] * factor[i])
        };
        let bboxes: Vec<BBox> = preds.iter().map(in_pixels).collect();
        let matching = MatchInput {
            queries: n,
            gts: k,
            cls_pred: scores,
            gt_labels: labels,
            bbox_pred: preds,
            gt_bboxes_normalized: &normalized,
            bboxes: &bboxes,
            gt_bboxes: input.gt_bboxes,
            ..MatchInput::default()
        };
        let [class, l1, iou] = [0, 1, 2].map(|i| self.costs[i].cost(&matching));
        let (class, l1, iou) = (class?, l1?, iou?);
        let cost: Vec<f64> = (0..n * k).map(|i| f64::from(class[i] + l1[i] + iou[i])).collect();
        let mut gt_inds = vec![0; n];
        for (query, gt) in linear_sum_assignment(&cost, n, k)? {
            gt_inds[query] = gt as i64 + 1;
        }
        Ok(AssignResult::new(k, gt_inds, vec![0.0; n], Some(labels)))
    }
}

register!(BBOX_ASSIGNERS: dyn Assigner, "HungarianAssigner" => HungarianAssigner(HungarianAssignerConfig));
