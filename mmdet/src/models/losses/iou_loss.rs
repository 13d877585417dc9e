//! Losses of aligned boxes `[x1, y1, x2, y2]` (pixels): mmdet's `iou_loss.py`.
//!
//! IoU: Yu et al., UnitBox, 2016. GIoU: Rezatofighi et al., CVPR 2019. DIoU and CIoU: Zheng et al., AAAI 2020.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::dual::Dual;
use super::element::{GRAIN, values};
use super::utils::{Loss, Reduction, one, weight_reduce_loss};

/// How [`iou_loss`] grows as the overlap shrinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IoUMode {
    /// `1 - iou`
    Linear,
    /// `1 - iou²`
    Square,
    /// `-ln(iou)`
    #[default]
    Log,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Iou(IoUMode),
    Giou,
    Diou,
    Ciou,
}

#[derive(Debug, Clone, Copy)]
struct Op {
    kind: Kind,
    eps: f32,
}

/// The eps of mmdet's `bbox_overlaps`, which `iou_loss` leaves at its default.
const OVERLAP_EPS: f32 = 1e-6;

impl Op {
    /// The loss of one pair and its derivatives.
    fn pair(self, p: &[f32], t: &[f32]) -> Dual {
        let p: [Dual; 4] = std::array::from_fn(|i| Dual::variable(p[i], i));
        let t: [Dual; 4] = std::array::from_fn(|i| Dual::constant(t[i]));
        let w = (p[2].min(t[2]) - p[0].max(t[0])).clamp_min(0.0);
        let h = (p[3].min(t[3]) - p[1].max(t[1])).clamp_min(0.0);
        let overlap = w * h;
        let union = (p[2] - p[0]) * (p[3] - p[1]) + (t[2] - t[0]) * (t[3] - t[1]) - overlap;
        let enclosing = || {
            let cw = (p[2].max(t[2]) - p[0].min(t[0])).clamp_min(0.0);
            (cw, (p[3].max(t[3]) - p[1].min(t[1])).clamp_min(0.0))
        };
        match self.kind {
            Kind::Iou(mode) => {
                let iou = (overlap / union.max(Dual::constant(OVERLAP_EPS))).clamp_min(self.eps);
                match mode {
                    IoUMode::Linear => iou.one_minus(),
                    IoUMode::Square => iou.square().one_minus(),
                    IoUMode::Log => iou.ln().scale(-1.0),
                }
            }
            Kind::Giou => {
                let union = union.max(Dual::constant(self.eps));
                let (cw, ch) = enclosing();
                let area = (cw * ch).max(Dual::constant(self.eps));
                (overlap / union - (area - union) / area).one_minus()
            }
            Kind::Diou | Kind::Ciou => {
                let iou = overlap / union.plus(self.eps);
                let (cw, ch) = enclosing();
                let diagonal = (cw.square() + ch.square()).plus(self.eps);
                let dx = (t[0] + t[2]) - (p[0] + p[2]);
                let dy = (t[1] + t[3]) - (p[1] + p[3]);
                let distance = (dx.square() + dy.square()).scale(0.25) / diagonal;
                if matches!(self.kind, Kind::Diou) {
                    return (iou - distance).one_minus();
                }
                let angle = |b: &[Dual; 4]| ((b[2] - b[0]) / (b[3] - b[1]).plus(self.eps)).atan();
                let v = (angle(&t) - angle(&p)).square().scale(4.0 / (std::f32::consts::PI * std::f32::consts::PI));
                // A constant for the gradient, as in mmdet.
                // Differs from mmdet: there two equal boxes can give 0 / 0, a loss that is not a number.
                let alpha = if iou.v > 0.5 && v.v > 0.0 { v.v / (1.0 - iou.v + v.v) } else { 0.0 };
                (iou - (distance + v.scale(alpha))).clamp_min(-1.0).clamp_max(1.0).one_minus()
            }
        }
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Iou(_) => "iou_loss",
            Kind::Giou => "giou_loss",
            Kind::Diou => "diou_loss",
            Kind::Ciou => "ciou_loss",
        }
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (p, t) = (values(self.name(), s1, l1)?, values(self.name(), s2, l2)?);
        let out: Vec<f32> = (p.par_chunks_exact(4), t.par_chunks_exact(4))
            .into_par_iter()
            .with_min_len(GRAIN / 16)
            .map(|(p, t)| self.pair(p, t).v)
            .collect();
        let shape = Shape::from(out.len());
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(&self, p: &Tensor, t: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let slopes = p.apply_op2_no_bwd(t, &Slopes(*self))?;
        Ok((Some(slopes.broadcast_mul(&grad.unsqueeze(1)?)?), None))
    }
}

/// The derivatives of [`Op`], `[N, 4]`.
struct Slopes(Op);

impl CustomOp2 for Slopes {
    fn name(&self) -> &'static str {
        "box_loss_backward"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (p, t) = (values(self.name(), s1, l1)?, values(self.name(), s2, l2)?);
        let mut out = vec![0.0f32; p.len()];
        (out.par_chunks_exact_mut(4), p.par_chunks_exact(4), t.par_chunks_exact(4))
            .into_par_iter()
            .with_min_len(GRAIN / 16)
            .for_each(|(out, p, t)| out.copy_from_slice(&self.0.pair(p, t).d));
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

fn apply(kind: Kind, eps: f64, pred: &Tensor, target: &Tensor) -> Result<Tensor> {
    let op = Op { kind, eps: eps as f32 };
    let dims = pred.dims();
    if dims.len() != 2 || dims[1] != 4 || dims != target.dims() {
        bail!("{}: pred is {dims:?} and target {:?}, expected [N, 4] both", op.name(), target.dims());
    }
    pred.contiguous()?.apply_op2(&target.detach().contiguous()?, op)
}

/// IoU loss of `[N, 4]` boxes, unreduced `[N]`; the IoU is at least `eps`.
pub fn iou_loss(pred: &Tensor, target: &Tensor, mode: IoUMode, eps: f64) -> Result<Tensor> {
    apply(Kind::Iou(mode), eps, pred, target)
}

/// `1 - GIoU` of `[N, 4]` boxes, unreduced `[N]`.
pub fn giou_loss(pred: &Tensor, target: &Tensor, eps: f64) -> Result<Tensor> {
    apply(Kind::Giou, eps, pred, target)
}

/// `1 - DIoU` of `[N, 4]` boxes, unreduced `[N]`.
pub fn diou_loss(pred: &Tensor, target: &Tensor, eps: f64) -> Result<Tensor> {
    apply(Kind::Diou, eps, pred, target)
}

/// `1 - CIoU` of `[N, 4]` boxes, unreduced `[N]`.
pub fn ciou_loss(pred: &Tensor, target: &Tensor, eps: f64) -> Result<Tensor> {
    apply(Kind::Ciou, eps, pred, target)
}

fn small() -> f64 {
    1e-6
}

/// `type = "IoULoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IoULossConfig {
    /// Old spelling of `mode = "linear"`; default false.
    #[serde(default)]
    pub linear: bool,
    /// Least IoU; default 1e-6.
    #[serde(default = "small")]
    pub eps: f64,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
    /// `linear`, `square` or `log`; default `log`.
    #[serde(default)]
    pub mode: IoUMode,
}

/// `type = "GIoULoss"`, `"DIoULoss"` or `"CIoULoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BoxLossConfig {
    /// Keeps divisions finite; default 1e-6.
    #[serde(default = "small")]
    pub eps: f64,
    /// `none`, `mean` or `sum`; default `mean`.
    #[serde(default)]
    pub reduction: Reduction,
    /// Factor of the result; default 1.
    #[serde(default = "one")]
    pub loss_weight: f64,
}

/// What the box losses do around the op: all weights 0 gives a 0 that still reaches `pred`, and `[N, 4]` weights are averaged to `[N]`.
fn forward(
    loss: impl Fn() -> Result<Tensor>,
    pred: &Tensor,
    weight: Option<&Tensor>,
    avg_factor: Option<f64>,
    reduction: Reduction,
    zero_early: bool,
    factor: f64,
) -> Result<Tensor> {
    let Some(weight) = weight else { return weight_reduce_loss(&loss()?, None, reduction, avg_factor)? * factor };
    let weight = weight.to_dtype(pred.dtype())?;
    let positive = weight.flatten_all()?.to_vec1::<f32>()?.iter().any(|w| *w > 0.0);
    if !positive && zero_early {
        let weight = if weight.rank() == 1 { weight.unsqueeze(1)? } else { weight };
        return pred.broadcast_mul(&weight)?.sum_all();
    }
    let weight = match weight.rank() {
        1 => weight,
        _ if weight.dims() == pred.dims() => (weight.sum(1)? * 0.25)?,
        _ => bail!("box loss: weight is {:?} for pred {:?}", weight.dims(), pred.dims()),
    };
    weight_reduce_loss(&loss()?, Some(&weight), reduction, avg_factor)? * factor
}

/// `-ln(IoU)` and its kin.
#[derive(Debug, Clone)]
pub struct IoULoss(IoULossConfig);

impl IoULoss {
    /// Always succeeds.
    pub fn new(cfg: &IoULossConfig) -> Result<Self> {
        let mode = if cfg.linear { IoUMode::Linear } else { cfg.mode };
        Ok(Self(IoULossConfig { mode, ..cfg.clone() }))
    }
}

impl Loss for IoULoss {
    fn forward(
        &self,
        pred: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
        avg_factor: Option<f64>,
        reduction_override: Option<Reduction>,
    ) -> Result<Tensor> {
        let cfg = &self.0;
        let reduction = reduction_override.unwrap_or(cfg.reduction);
        let loss = || iou_loss(pred, target, cfg.mode, cfg.eps);
        forward(loss, pred, weight, avg_factor, reduction, reduction != Reduction::None, cfg.loss_weight)
    }
}

macro_rules! box_loss {
    ($(#[$doc:meta])* $name:ident, $function:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(BoxLossConfig);

        impl $name {
            /// Always succeeds.
            pub fn new(cfg: &BoxLossConfig) -> Result<Self> {
                Ok(Self(cfg.clone()))
            }
        }

        impl Loss for $name {
            fn forward(
                &self,
                pred: &Tensor,
                target: &Tensor,
                weight: Option<&Tensor>,
                avg_factor: Option<f64>,
                reduction_override: Option<Reduction>,
            ) -> Result<Tensor> {
                let cfg = &self.0;
                let reduction = reduction_override.unwrap_or(cfg.reduction);
                forward(|| $function(pred, target, cfg.eps), pred, weight, avg_factor, reduction, true, cfg.loss_weight)
            }
        }
    };
}

box_loss!(
    /// `1 - GIoU`.
    GIoULoss, giou_loss
);
box_loss!(
    /// `1 - DIoU`.
    DIoULoss, diou_loss
);
box_loss!(
    /// `1 - CIoU`.
    CIoULoss, ciou_loss
);

#[cfg(test)]
mod tests {
    use super::super::utils::testing::{close, grad, tensor, var};
    use super::*;

    const P: &[f32] = &[
        10., 10., 30., 40., 0., 0., 10., 10., 5., 5., 20., 25., 50., 50., 60., 80., 3., 4., 13., 9.5, 10.5, 7., 19.,
        30.,
    ];
    const T: &[f32] = &[
        12., 8., 33., 38., 20., 20., 30., 30., 5., 5., 20., 25., 52., 55., 58., 70., 1., 2., 30., 6., 9., 8., 21.5, 27.,
    ];

    // Value and gradient of mmdet.models.losses.iou_loss's functions with eps=1e-6, reduction="none".
    // Among the pairs: apart, identical, one inside the other. NaN is where mmdet has it.
    #[rustfmt::skip]
    const FUNCTIONS: &[(&str, &[f32], &[f32])] = &[
("iou linear", &[0.30578512, 0.999999, 0.0, 0.7, 0.86754966, 0.40515655], &[-0.028686566, 0.022880953, -0.036655053, 0.019124378, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.030000001, -0.010000001, 0.030000001, 0.010000001, 0.0101749925, 0.06622516, -0.0101749925, 0.008771544, 0.06121778, -0.018623091, -0.06121778, 0.018623091]),
        ("iou square", &[0.5180657, 1.0, 0.0, 0.90999997, 0.9824569, 0.6461613], &[-0.03982928, 0.031768598, -0.050892975, 0.026552854, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.018000001, -0.006, 0.018000001, 0.006, 0.002695362, 0.017543089, -0.002695362, 0.002323588, 0.07282999, -0.022155648, -0.07282999, 0.022155648]),
        ("iou log", &[0.36497372, 13.815511, -0.0, 1.2039728, 2.0215476, 0.51945704], &[-0.041322313, 0.032959465, -0.05280073, 0.027548209, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.1, -0.033333335, 0.1, 0.033333335, 0.07682119, 0.5, -0.07682119, 0.06622516, 0.102914095, -0.031307552, -0.102914095, 0.031307552]),
        ("giou", &[0.31937206, 1.7777778, 0.0, 0.7, 1.1732968, 0.46080875], &[-0.030813219, 0.025598343, -0.039372448, 0.022775872, 0.003703704, 0.003703704, -0.011111111, -0.011111111, 0.0, 0.0, 0.0, 0.0, -0.030000001, -0.010000002, 0.030000001, 0.010000002, 0.026266947, 0.06622516, -0.026266947, 0.055361584, 0.07513082, -0.030116472, -0.07513082, 0.030116472]),
        ("diou", &[0.31238526, 1.4444444, 0.0, 0.70624995, 0.93866974, 0.4069807], &[-0.030100858, 0.024168782, -0.03826484, 0.020140212, 0.0037037032, 0.0037037032, -0.011111111, -0.011111111, 0.0, 0.0, 0.0, 0.0, -0.029875001, -0.0071250005, 0.029875001, 0.012125, 0.0018161181, 0.06929009, -0.018533867, 0.010647497, 0.06048812, -0.017041316, -0.061947443, 0.01995996]),
        ("ciou", &[0.31238538, 1.4444444, f32::NAN, 0.70624995, 0.93866974, 0.4080205], &[-0.030100567, 0.024168588, -0.03826513, 0.020140406, 0.0037037032, 0.0037037032, -0.011111111, -0.011111111, f32::NAN, f32::NAN, f32::NAN, f32::NAN, -0.029875001, -0.0071250005, 0.029875001, 0.012125, 0.0018161181, 0.06929009, -0.018533867, 0.010647497, 0.060837165, -0.01717031, -0.062296484, 0.020088954]),
    ];

    // The modules with loss_weight=2.0, avg_factor=3.0 and weights [1, .5, 0, 2, 1, .25] expanded to [6, 4].
    #[rustfmt::skip]
    const MODULES: &[(&str, &[f32], &[f32])] = &[
        ("IoULoss", &[7.8880577], &[-0.02754821, 0.021972978, -0.0352005, 0.018365474, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.13333334, -0.044444446, 0.13333334, 0.044444446, 0.05121413, 0.3333333, -0.05121413, 0.04415011, 0.01715235, -0.005217925, -0.01715235, 0.005217925]),
        ("GIoULoss", &[2.59784], &[-0.020542147, 0.017065562, -0.026248299, 0.015183914, 0.0012345687, 0.0012345687, -0.0037037036, -0.0037037036, 0.0, 0.0, 0.0, 0.0, -0.040000007, -0.0133333355, 0.040000007, 0.0133333355, 0.017511297, 0.04415011, -0.017511297, 0.036907725, 0.012521803, -0.005019413, -0.012521803, 0.005019413]),
        ("DIoULoss", &[2.3250148], &[-0.020067237, 0.016112521, -0.025509896, 0.013426808, 0.0012345682, 0.0012345682, -0.0037037036, -0.0037037036, 0.0, 0.0, 0.0, 0.0, -0.039833337, -0.009500001, 0.039833337, 0.016166668, 0.0012107445, 0.04619339, -0.012355911, 0.0070983316, 0.010081352, -0.0028402195, -0.010324572, 0.00332666]),
    ];

    #[test]
    fn values_and_gradients_are_mmdets() {
        for (name, value, gradient) in FUNCTIONS {
            let (p, t) = (var(P, &[6, 4]), tensor(T, &[6, 4]));
            let loss = match *name {
                "iou linear" => iou_loss(&p, &t, IoUMode::Linear, 1e-6),
                "iou square" => iou_loss(&p, &t, IoUMode::Square, 1e-6),
                "iou log" => iou_loss(&p, &t, IoUMode::Log, 1e-6),
                "giou" => giou_loss(&p, &t, 1e-6),
                "diou" => diou_loss(&p, &t, 1e-6),
                _ => ciou_loss(&p, &t, 1e-6),
            }
            .unwrap();
            close(&loss, value);
            close(&grad(&loss, &p), gradient);
        }
    }

    #[test]
    fn modules_weigh_and_average_as_mmdets() {
        let cfg = BoxLossConfig { eps: 1e-6, reduction: Reduction::Mean, loss_weight: 2.0 };
        let iou = IoULossConfig {
            linear: false,
            eps: 1e-6,
            reduction: Reduction::Mean,
            loss_weight: 2.0,
            mode: IoUMode::Log,
        };
        let weight = tensor(&[1., 0.5, 0., 2., 1., 0.25], &[6]).unsqueeze(1).unwrap().broadcast_as((6, 4)).unwrap();
        for (name, value, gradient) in MODULES {
            let (p, t) = (var(P, &[6, 4]), tensor(T, &[6, 4]));
            let module: Box<dyn Loss> = match *name {
                "IoULoss" => Box::new(IoULoss::new(&iou).unwrap()),
                "GIoULoss" => Box::new(GIoULoss::new(&cfg).unwrap()),
                _ => Box::new(DIoULoss::new(&cfg).unwrap()),
            };
            let loss = module.forward(&p, &t, Some(&weight), Some(3.0), None).unwrap();
            close(&loss, value);
            close(&grad(&loss, &p), gradient);
        }
    }

    #[test]
    fn no_boxes_and_no_weights_give_zero() {
        let giou = GIoULoss::new(&BoxLossConfig { eps: 1e-6, reduction: Reduction::Mean, loss_weight: 1.0 }).unwrap();
        let (p, t) = (var(P, &[6, 4]), tensor(T, &[6, 4]));
        let zero = giou.forward(&p, &t, Some(&tensor(&[0.0; 6], &[6])), Some(1.0), None).unwrap();
        close(&zero, &[0.0]);
        close(&grad(&zero, &p), &[0.0; 24]);
        let empty = tensor(&[], &[0, 4]);
        close(&giou.forward(&empty, &empty, None, Some(1.0), None).unwrap(), &[0.0]);
        assert!(giou_loss(&p, &empty, 1e-6).is_err());
    }
}
