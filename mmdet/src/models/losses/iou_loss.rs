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
("iou linear", &[0.30578512, 0.999998987, 0.0, 0.699999988, 0.867549658, 0.405156553], &[-0.0286865663, 0.0228809528, -0.0366550535, 0.0191243775, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.0300000012, -0.0100000007, 0.0300000012, 0.0100000007, 0.0101749925, 0.0662251636, -0.0101749925, 0.00877154432, 0.0612177812, -0.0186230913, -0.0612177812, 0.0186230913]),
        ("iou square", &[0.518065691, 1.0, 0.0, 0.909999967, 0.982456923, 0.646161318], &[-0.0398292802, 0.0317685977, -0.0508929752, 0.0265528541, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.0180000011, -0.00600000005, 0.0180000011, 0.00600000005, 0.00269536208, 0.0175430886, -0.00269536208, 0.00232358789, 0.0728299916, -0.0221556481, -0.0728299916, 0.0221556481]),
        ("iou log", &[0.364973724, 13.8155107, -0.0, 1.20397282, 2.02154756, 0.519457042], &[-0.0413223132, 0.0329594649, -0.0528007299, 0.0275482088, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.100000001, -0.0333333351, 0.100000001, 0.0333333351, 0.0768211931, 0.5, -0.0768211931, 0.0662251636, 0.102914095, -0.031307552, -0.102914095, 0.031307552]),
        ("giou", &[0.319372058, 1.77777779, 0.0, 0.699999988, 1.17329681, 0.460808754], &[-0.030813219, 0.0255983435, -0.0393724479, 0.0227758717, 0.0037037041, 0.0037037041, -0.0111111114, -0.0111111114, 0.0, 0.0, 0.0, 0.0, -0.0300000012, -0.0100000016, 0.0300000012, 0.0100000016, 0.0262669474, 0.0662251636, -0.0262669474, 0.0553615838, 0.0751308203, -0.0301164724, -0.0751308203, 0.0301164724]),
        ("diou", &[0.312385261, 1.44444442, 0.0, 0.706249952, 0.938669741, 0.406980693], &[-0.0301008578, 0.0241687819, -0.0382648408, 0.020140212, 0.00370370317, 0.00370370317, -0.0111111114, -0.0111111114, 0.0, 0.0, 0.0, 0.0, -0.0298750009, -0.00712500047, 0.0298750009, 0.0121250004, 0.00181611814, 0.0692900866, -0.0185338669, 0.0106474971, 0.0604881197, -0.0170413163, -0.0619474426, 0.0199599601]),
        ("ciou", &[0.31238538, 1.44444442, f32::NAN, 0.706249952, 0.938669741, 0.408020496], &[-0.0301005673, 0.0241685882, -0.0382651314, 0.0201404057, 0.00370370317, 0.00370370317, -0.0111111114, -0.0111111114, f32::NAN, f32::NAN, f32::NAN, f32::NAN, -0.0298750009, -0.00712500047, 0.0298750009, 0.0121250004, 0.00181611814, 0.0692900866, -0.0185338669, 0.0106474971, 0.0608371645, -0.01717031, -0.0622964837, 0.0200889539]),
    ];

    // The modules with loss_weight=2.0, avg_factor=3.0 and weights [1, .5, 0, 2, 1, .25] expanded to [6, 4].
    #[rustfmt::skip]
    const MODULES: &[(&str, &[f32], &[f32])] = &[
        ("IoULoss", &[7.88805771], &[-0.0275482107, 0.0219729785, -0.035200499, 0.0183654744, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.13333334, -0.0444444455, 0.13333334, 0.0444444455, 0.0512141287, 0.333333313, -0.0512141287, 0.0441501103, 0.0171523504, -0.00521792518, -0.0171523504, 0.00521792518]),
        ("GIoULoss", &[2.59784007], &[-0.0205421466, 0.0170655623, -0.0262482986, 0.0151839145, 0.00123456866, 0.00123456866, -0.00370370364, -0.00370370364, 0.0, 0.0, 0.0, 0.0, -0.0400000066, -0.0133333355, 0.0400000066, 0.0133333355, 0.017511297, 0.0441501103, -0.017511297, 0.036907725, 0.0125218034, -0.00501941284, -0.0125218034, 0.00501941284]),
        ("DIoULoss", &[2.32501483], &[-0.0200672373, 0.0161125213, -0.0255098958, 0.0134268077, 0.00123456819, 0.00123456819, -0.00370370364, -0.00370370364, 0.0, 0.0, 0.0, 0.0, -0.0398333371, -0.00950000063, 0.0398333371, 0.0161666684, 0.00121074449, 0.0461933911, -0.0123559106, 0.00709833158, 0.0100813517, -0.00284021953, -0.0103245722, 0.00332666002]),
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
