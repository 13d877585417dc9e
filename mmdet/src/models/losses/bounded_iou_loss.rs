//! Improving Object Localization with Fitness NMS and Bounded IoU Loss, Tychsen-Smith and Petersson, CVPR 2018
//! (<https://arxiv.org/abs/1711.00164>): `bounded_iou_loss` of mmdet's `iou_loss.py`.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use mmcv::register;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::dual::Dual;
use super::element::{GRAIN, values};
use super::pairwise::reduced;
use super::utils::{Loss, Reduction, one};
use crate::registry::LOSSES;

#[derive(Debug, Clone, Copy)]
struct Op {
    beta: f32,
    eps: f32,
}

/// `|v|` with torch's slope of 0 at 0.
fn abs(v: Dual) -> Dual {
    if v.v < 0.0 {
        v.scale(-1.0)
    } else if v.v > 0.0 {
        v
    } else {
        Dual::constant(v.v)
    }
}

impl Op {
    /// The losses of centre x, centre y, width and height, with their derivatives by the predicted corners.
    fn terms(self, p: &[f32], t: &[f32]) -> [Dual; 4] {
        let axis = |i: usize| {
            let (low, high) = (Dual::variable(p[i], i), Dual::variable(p[i + 2], i + 2));
            let (center, side) = ((low + high).scale(0.5), high - low);
            let (t_center, t_side) = (Dual::constant((t[i] + t[i + 2]) * 0.5), Dual::constant(t[i + 2] - t[i]));
            let twice = abs(t_center - center).scale(2.0);
            let shift = ((t_side - twice) / (t_side + twice).plus(self.eps)).max(Dual::constant(0.0));
            let size = (t_side / side.plus(self.eps)).min(side / t_side.plus(self.eps));
            [shift, size].map(|v| self.smooth(v.one_minus()))
        };
        let ([x, w], [y, h]) = (axis(0), axis(1));
        [x, y, w, h]
    }

    /// Smooth L1 of a number that is not negative.
    fn smooth(self, v: Dual) -> Dual {
        if v.v < self.beta { v.square().scale(0.5 / self.beta) } else { v.plus(-0.5 * self.beta) }
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        "bounded_iou_loss"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (p, t) = (values(self.name(), s1, l1)?, values(self.name(), s2, l2)?);
        let pairs = (p.par_chunks_exact(4), t.par_chunks_exact(4)).into_par_iter().with_min_len(GRAIN / 16);
        let out: Vec<[f32; 4]> = pairs.map(|(p, t)| self.terms(p, t).map(|d| d.v)).collect();
        Ok((CpuStorage::F32(out.into_flattened()), l1.shape().clone()))
    }

    fn bwd(&self, p: &Tensor, t: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        // One op takes two tensors: the gradient rides beside the target.
        let both = Tensor::cat(&[t, grad], 1)?;
        Ok((Some(p.apply_op2_no_bwd(&both, &Backward(*self))?), None))
    }
}

struct Backward(Op);

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "bounded_iou_loss_backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (p, both) = (values(self.name(), s1, l1)?, values(self.name(), s2, l2)?);
        let pairs = (p.par_chunks_exact(4), both.par_chunks_exact(8)).into_par_iter().with_min_len(GRAIN / 16);
        let one = |(p, both): (&[f32], &[f32])| {
            let terms = self.0.terms(p, &both[..4]);
            std::array::from_fn(|i| (0..4).map(|term| terms[term].d[i] * both[4 + term]).sum())
        };
        let out: Vec<[f32; 4]> = pairs.map(one).collect();
        Ok((CpuStorage::F32(out.into_flattened()), l1.shape().clone()))
    }
}

/// Bounded IoU loss, unreduced `[N, 4]`: of centre x, centre y, width and height.
///
/// # Shapes
/// - `pred`, `target`: `[N, 4]` corners, pixels
pub fn bounded_iou_loss(pred: &Tensor, target: &Tensor, beta: f64, eps: f64) -> Result<Tensor> {
    if pred.dims() != target.dims() || pred.dims2()?.1 != 4 {
        bail!("bounded_iou_loss: pred is {:?} and target {:?}, expected [N, 4]", pred.dims(), target.dims());
    }
    let target = target.detach().contiguous()?;
    pred.contiguous()?.apply_op2(&target, Op { beta: beta as f32, eps: eps as f32 })
}

/// `type = "BoundedIoULoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BoundedIoULossConfig {
    /// Where the quadratic part ends; default 0.2.
    #[serde(default = "beta")]
    pub beta: f64,
    /// Added to divisors; default 1e-3.
    #[serde(default = "eps")]
    pub eps: f64,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
}

fn beta() -> f64 {
    0.2
}
fn eps() -> f64 {
    1e-3
}

/// Bounded IoU loss.
#[derive(Debug, Clone)]
pub struct BoundedIoULoss(BoundedIoULossConfig);

impl BoundedIoULoss {
    /// Always succeeds.
    pub fn new(cfg: &BoundedIoULossConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }
}

reduced!(BoundedIoULoss, |cfg, pred, target| bounded_iou_loss(pred, target, cfg.beta, cfg.eps));

register!(LOSSES: dyn Loss, "BoundedIoULoss" => BoundedIoULoss(BoundedIoULossConfig));
