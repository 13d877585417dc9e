//! Norms over parts of one sample: group, layer and instance.

use candle_core::{Result, Tensor, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use super::norm::{NORM_LAYERS, NormArgs, NormLayer};
use crate::cnn::flops;
use crate::error::Error;
use crate::nn::{Ctx, Init, Param, VarBuilder};
use crate::ops;
use crate::registry::register;

fn eps() -> f64 {
    1e-5
}
fn tenth() -> f64 {
    0.1
}
fn yes() -> bool {
    true
}

/// A norm's weight and bias, when it has them.
#[derive(Debug)]
struct Affine(Option<(Param, Param)>);

impl Affine {
    fn new(affine: bool, requires_grad: bool, shape: &[usize], vb: &VarBuilder) -> Result<Self> {
        if !affine {
            return Ok(Self(None));
        }
        let (weight, bias) = (vb.param("weight", shape, Init::Const(1.0))?, vb.param("bias", shape, Init::Const(0.0))?);
        for param in [&weight, &bias] {
            param.set_trainable(requires_grad);
        }
        Ok(Self(Some((weight, bias))))
    }

    fn get(&self) -> (Option<Tensor>, Option<Tensor>) {
        match &self.0 {
            Some((weight, bias)) => (Some(weight.get()), Some(bias.get())),
            None => (None, None),
        }
    }

    fn count(&self, kind: &'static str, path: &str, x: &Tensor) {
        flops::record(path, kind, || x.elem_count() as u64 * if self.0.is_some() { 2 } else { 1 });
    }
}

/// The sum and the ReLU after a norm.
fn finish(y: Tensor, add: Option<&Tensor>, relu: bool) -> Result<Tensor> {
    match add {
        Some(add) if relu => ops::add_relu(&y, add),
        Some(add) => y + add,
        None if relu => ops::relu(&y),
        None => Ok(y),
    }
}

/// `type = "GN"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupNormConfig {
    /// Number of groups that the channels make.
    pub num_groups: usize,
    /// Added to the variance; default 1e-5.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Whether there are weight and bias; default true.
    #[serde(default = "yes")]
    pub affine: bool,
    /// Whether weight and bias are trained; default true.
    #[serde(default = "yes")]
    pub requires_grad: bool,
}

/// Wu and He, ECCV 2018 (<https://arxiv.org/abs/1803.08494>). Keys: `weight`, `bias` `[C]`.
#[derive(Debug)]
pub struct GroupNorm {
    affine: Affine,
    groups: usize,
    eps: f64,
    path: String,
}

impl GroupNorm {
    /// A layer of `args.num_features` channels.
    pub fn new(cfg: &GroupNormConfig, args: NormArgs) -> crate::Result<Self> {
        let NormArgs { num_features: c, vb } = args;
        if cfg.num_groups == 0 || c % cfg.num_groups != 0 {
            return Err(
                Error::config(format!("is {}, which doesn't divide {c} channels", cfg.num_groups)).under("num_groups")
            );
        }
        let vb = vb.layer("GroupNorm");
        Ok(Self {
            affine: Affine::new(cfg.affine, cfg.requires_grad, &[c], &vb)?,
            groups: cfg.num_groups,
            eps: cfg.eps,
            path: vb.path().to_owned(),
        })
    }
}

impl NormLayer for GroupNorm {
    fn forward_fused(&self, x: &Tensor, add: Option<&Tensor>, relu: bool, _: &Ctx) -> Result<Tensor> {
        self.affine.count("GroupNorm", &self.path, x);
        let (weight, bias) = self.affine.get();
        let y = ops::group_norm(x, self.groups, weight.as_ref(), bias.as_ref(), self.eps)
            .map_err(|e| e.context(format!("in {}", self.path)))?;
        finish(y, add, relu)
    }
}

/// `type = "LN"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerNormConfig {
    /// Added to the variance; default 1e-5.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Whether there are weight and bias; default true.
    #[serde(default = "yes")]
    pub elementwise_affine: bool,
    /// Whether weight and bias are trained; default true.
    #[serde(default = "yes")]
    pub requires_grad: bool,
}

impl Default for LayerNormConfig {
    fn default() -> Self {
        Self { eps: eps(), elementwise_affine: true, requires_grad: true }
    }
}

/// Ba, Kiros and Hinton, 2016 (<https://arxiv.org/abs/1607.06450>), over the last axis, or over the last axes as
/// PyTorch's layer of several lengths. Keys: `weight`, `bias`, of those lengths.
#[derive(Debug)]
pub struct LayerNorm {
    affine: Affine,
    axes: usize,
    eps: f64,
    path: String,
}

impl LayerNorm {
    /// A layer over the last axis, of `args.num_features` values.
    pub fn new(cfg: &LayerNormConfig, args: NormArgs) -> Result<Self> {
        Self::over(cfg, &[args.num_features], &args.vb)
    }

    /// A layer over the last axes, of the lengths `shape`.
    pub fn over(cfg: &LayerNormConfig, shape: &[usize], vb: &VarBuilder) -> Result<Self> {
        let vb = vb.layer("LayerNorm");
        Ok(Self {
            affine: Affine::new(cfg.elementwise_affine, cfg.requires_grad, shape, &vb)?,
            axes: shape.len(),
            eps: cfg.eps,
            path: vb.path().to_owned(),
        })
    }
}

impl NormLayer for LayerNorm {
    fn forward_fused(&self, x: &Tensor, add: Option<&Tensor>, relu: bool, _: &Ctx) -> Result<Tensor> {
        self.affine.count("LayerNorm", &self.path, x);
        let (weight, bias) = self.affine.get();
        let y = ops::layer_norm(x, self.axes, weight.as_ref(), bias.as_ref(), self.eps)
            .map_err(|e| e.context(format!("in {}", self.path)))?;
        finish(y, add, relu)
    }
}

/// `type = "IN"`, also `"IN1d"`, `"IN2d"`, `"IN3d"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceNormConfig {
    /// Added to the variance; default 1e-5.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Share of the new batch in the running statistics; default 0.1.
    #[serde(default = "tenth")]
    pub momentum: f64,
    /// Whether there are weight and bias; default false.
    #[serde(default)]
    pub affine: bool,
    /// Whether running statistics are kept, and used in evaluation; default false.
    #[serde(default)]
    pub track_running_stats: bool,
    /// Whether weight and bias are trained; default true.
    #[serde(default = "yes")]
    pub requires_grad: bool,
}

/// Ulyanov, Vedaldi and Lempitsky, 2016 (<https://arxiv.org/abs/1607.08022>), of `[N, C, ...]`.
/// Keys: `weight`, `bias` with `affine`; `running_mean`, `running_var`, `num_batches_tracked` with `track_running_stats`.
#[derive(Debug)]
pub struct InstanceNorm {
    affine: Affine,
    running: Option<(Param, Param)>,
    channels: usize,
    eps: f64,
    momentum: f64,
    path: String,
}

impl InstanceNorm {
    /// A layer of `args.num_features` channels.
    pub fn new(cfg: &InstanceNormConfig, args: NormArgs) -> Result<Self> {
        let NormArgs { num_features: c, vb } = args;
        let vb = vb.layer("InstanceNorm2d");
        let affine = Affine::new(cfg.affine, cfg.requires_grad, &[c], &vb)?;
        let running = if cfg.track_running_stats {
            let both =
                (vb.buffer("running_mean", c, Init::Const(0.0))?, vb.buffer("running_var", c, Init::Const(1.0))?);
            // PyTorch has the counter and never counts.
            vb.buffer("num_batches_tracked", (), Init::Const(0.0))?;
            Some(both)
        } else {
            None
        };
        let path = vb.path().to_owned();
        Ok(Self { affine, running, channels: c, eps: cfg.eps, momentum: cfg.momentum, path })
    }

    /// Moves the running statistics by the mean of the samples' own.
    fn update(&self, mean: &Param, var: &Param, x: &Tensor) -> Result<()> {
        let (n, c) = (x.dim(0)?, self.channels);
        let rows = x.detach().flatten_from(2)?;
        let size = rows.dim(2)?;
        let values = rows.flatten_all()?.to_vec1::<f32>()?;
        let (mut means, mut vars) = (vec![0f64; c], vec![0f64; c]);
        for (i, row) in values.chunks_exact(size.max(1)).enumerate() {
            let m = row.iter().map(|v| f64::from(*v)).sum::<f64>() / size as f64;
            let m2: f64 = row.iter().map(|v| (f64::from(*v) - m).powi(2)).sum();
            means[i % c] += m / n as f64;
            vars[i % c] += m2 / (size as f64 - 1.0) / n as f64;
        }
        for (param, batch) in [(mean, means), (var, vars)] {
            let old = param.value().to_vec1::<f32>()?;
            let mix = |(o, b): (&f32, f64)| ((1.0 - self.momentum) * f64::from(*o) + self.momentum * b) as f32;
            let mixed: Vec<f32> = old.iter().zip(batch).map(mix).collect();
            param.set(&Tensor::from_vec(mixed, c, x.device())?)?;
        }
        Ok(())
    }
}

impl NormLayer for InstanceNorm {
    fn forward_fused(&self, x: &Tensor, add: Option<&Tensor>, relu: bool, ctx: &Ctx) -> Result<Tensor> {
        self.affine.count("InstanceNorm2d", &self.path, x);
        if x.dim(1)? != self.channels {
            bail!("{}: the input is {:?}, expected {} channels", self.path, x.dims(), self.channels);
        }
        let (weight, bias) = self.affine.get();
        let y = match &self.running {
            Some((mean, var)) if !ctx.train => {
                let unit = |t: Option<Tensor>, v: f32| t.map_or_else(|| Tensor::full(v, self.channels, x.device()), Ok);
                ops::batch_norm(x, &unit(weight, 1.0)?, &unit(bias, 0.0)?, mean.value(), var.value(), self.eps)?
            }
            running => {
                let size: usize = x.dims()[2..].iter().product();
                if ctx.train && size == 1 {
                    bail!("{}: a single value of each channel has no variance to train by: {:?}", self.path, x.dims());
                }
                if let (Some((mean, var)), true) = (running, ctx.train && x.elem_count() > 0) {
                    self.update(mean, var, x)?;
                }
                ops::instance_norm(x, weight.as_ref(), bias.as_ref(), self.eps)?
            }
        };
        finish(y, add, relu)
    }
}

register!(NORM_LAYERS: dyn NormLayer, "GN" => GroupNorm, GroupNormConfig);
register!(NORM_LAYERS: dyn NormLayer, "LN" => LayerNorm, LayerNormConfig);
register!(NORM_LAYERS: dyn NormLayer, "IN" => InstanceNorm, InstanceNormConfig);
register!(NORM_LAYERS: dyn NormLayer, "IN1d" => InstanceNorm, InstanceNormConfig);
register!(NORM_LAYERS: dyn NormLayer, "IN2d" => InstanceNorm, InstanceNormConfig);
register!(NORM_LAYERS: dyn NormLayer, "IN3d" => InstanceNorm, InstanceNormConfig);

#[cfg(test)]
#[allow(clippy::excessive_precision)] // printed numbers
mod tests {
    use super::super::norm::{build_norm_layer, norm_name};
    use super::*;
    use crate::Rng;
    use crate::config::Node;
    use crate::ops::testing::{close, var, wave, weighted_grad};
    use crate::testing::fill_by_name;

    /// Output, the gradient by the input of its sum weighted by `cos(1.1 i)`, and `key` afterwards.
    fn run(cfg: &str, shape: &[usize], channels: usize, train: bool, key: &str) -> (Tensor, Tensor, Tensor) {
        let cfg = Node::from_json(cfg).unwrap();
        let vb = VarBuilder::scratch();
        let layer = build_norm_layer(&cfg, channels, vb.pp(norm_name(&cfg, ""))).unwrap();
        fill_by_name(vb.store()).unwrap();
        let x = wave(shape);
        let x = var(&x.flatten_all().unwrap().to_vec1::<f32>().unwrap(), shape);
        let ctx = if train { Ctx::train(Rng::new(0)) } else { Ctx::eval() };
        let y = layer.forward(&x, &ctx).unwrap();
        let grad = weighted_grad(&y, &x);
        let param = vb.store().get(key).map_or_else(|| y.clone(), |p| p.value().clone());
        (y, grad, param)
    }

    // l = build_norm_layer(cfg, C)[1] with weights by name; y = l(x = wave(shape)); (y * cos(1.1 i)).sum().backward(); x.grad
    // {'type': 'GN', 'num_groups': 2}
    #[test]
    #[rustfmt::skip]
    fn group_norm() {
        let (y, dx, p) = run(r#"{"type": "GN", "num_groups": 2}"#, &[2, 4, 2, 3], 4, false, "gn.weight");
        close(&y, &[-0.043890465, 0.89008969, 1.2364206, 1.0053813, 0.17346218, -0.59290403, -1.5565579, -1.6557901, -1.1301519, -0.12856567, 0.81783634, 1.1680796, 1.2985681, 0.44426015, -0.70661098, -1.5104973, -1.7311598, -0.99927849, -0.20661433, 0.77316523, 1.3388191, 1.2550807, 0.50576168, -0.65529948, -1.0171182, -1.2145365, -0.67297792, 0.50907779, 1.2837721, 1.7797843, 1.3098705, 0.70223159, -0.19376476, -1.0347694, -0.94886076, -0.45045599, -0.17853317, 0.87643921, 1.2754087, 1.0964037, 0.048879862, -1.0216388, -1.518448, -1.6383436, -0.93810236, -0.10892743, 0.85725665, 1.1307039]);
        close(&dx, &[1.4727292, 0.78664058, -0.77836555, -1.4425474, -0.52941632, 0.91976815, 1.0230653, -0.15840672, -1.4648572, -1.3871907, 0.097496063, 1.4610845, 1.4453397, -0.23621419, -1.6937448, -1.4479845, 0.11376635, 1.3085102, 0.78810143, -0.64632368, -1.3758639, -0.53147501, 0.94389307, 1.3319955, 0.59959018, -0.7890262, -1.2256521, -0.33241615, 0.86546534, 0.86268044, -0.34289718, -1.3757074, -1.0556531, 0.4044295, 1.4191016, 0.97008485, -0.4400737, -1.699638, -1.1842434, 0.4110145, 1.4675459, 0.90752667, -0.47506598, -1.0028073, -0.16892844, 1.0960382, 1.1718359, -0.08320462]);
        close(&p, &[1.0411894, 0.97292858, 1.0445163, 1.029759]);
    }

    // {'type': 'LN', 'eps': 1e-06}
    #[test]
    #[rustfmt::skip]
    fn layer_norm_is_over_the_last_axis() {
        let (y, dx, p) = run(r#"{"type": "LN", "eps": 1e-06}"#, &[2, 3, 4], 4, false, "ln.bias");
        close(&y, &[-1.7160057, 0.26387489, 1.0256158, 0.48524451, 1.4478104, 0.44962865, -0.94996709, -0.97661442, -1.5060763, -0.31628618, 0.76314682, 1.1013829, 1.3302708, 0.54137629, -0.60636026, -1.2663277, -1.3151655, -0.43927228, 0.34560665, 1.4183366, 0.91271085, 0.81762421, -0.15385234, -1.5488689]);
        close(&dx, &[-0.20314145, 2.0689206, 0.1096611, -1.9754412, -0.56660891, 0.88736498, 0.78462243, -1.105379, 0.47757587, -0.74294978, -0.38329846, 0.64867198, 0.40089157, -0.31594521, -0.63258445, 0.54763812, -0.81082773, 0.78249204, 0.64611959, -0.61778378, -0.77187234, 0.2032932, 0.99118006, -0.42260092]);
        close(&p, &[-0.012782163, 0.025421185, -0.01067285, 0.012823278]);
    }

    // {'type': 'IN', 'affine': True, 'track_running_stats': True}
    #[test]
    #[rustfmt::skip]
    fn instance_norm_keeps_statistics() {
        let (y, dx, p) = run(r#"{"type": "IN", "affine": true, "track_running_stats": true}"#, &[2, 3, 2, 2], 3, true, "in.running_var");
        close(&y, &[-1.5913216, 0.28168854, 0.97622305, 0.51289511, 1.3956646, 0.40093723, -0.88118166, -1.0190196, -1.603267, -0.40878442, 0.71988595, 1.1375829, 1.3351154, 0.5573042, -0.49051511, -1.2224195, -1.2934893, -0.49347648, 0.29851493, 1.3848513, 0.93104887, 0.81946772, -0.17899564, -1.7261032]);
        close(&dx, &[-0.17818743, 2.0087223, 0.19137569, -2.0219104, -0.5774489, 0.91617101, 0.67717409, -1.0158961, 0.52675343, -0.82204688, -0.4134298, 0.70872349, 0.37642452, -0.32301039, -0.52981931, 0.47640508, -0.80644011, 0.81676418, 0.57610035, -0.58642465, -0.77024728, 0.21844169, 0.96332318, -0.41151759]);
        close(&p, &[0.99490386, 1.2722623, 1.2090244]);
    }

    // {'type': 'IN2d', 'affine': True, 'track_running_stats': True}
    #[test]
    #[rustfmt::skip]
    fn instance_norm_uses_statistics() {
        let (y, dx, p) = run(r#"{"type": "IN2d", "affine": true, "track_running_stats": true}"#, &[2, 3, 2, 2], 3, false, "in.running_mean");
        close(&y, &[0.1024448, 0.66928065, 0.87947017, 0.73925155, 0.16146182, -0.25355151, -0.78846836, -0.84597617, -0.52013421, 0.12268391, 0.73008484, 0.954871, 0.89996278, 0.38569599, -0.30709255, -0.79100704, -0.87198478, -0.47886884, -0.089694515, 0.4441171, 0.9125284, 0.86200291, 0.40988505, -0.29066646]);
        close(&dx, &[0.9474932, 0.42977923, -0.5576008, -0.93563038, -0.2598311, 0.59913689, 0.80336344, 0.12966822, -0.75941318, -0.83253521, 0.0041437089, 0.83629429, 0.76356953, -0.15360233, -0.90291643, -0.66551644, 0.26694202, 0.83600146, 0.49147201, -0.39014184, -0.93624705, -0.4172923, 0.55768275, 0.92321771]);
        close(&p, &[0.039235927, 0.01760745, -0.077825844]);
    }

    // {'type': 'IN1d'}
    #[test]
    #[rustfmt::skip]
    fn instance_norm_is_plain() {
        let (y, dx, _) = run(r#"{"type": "IN1d"}"#, &[2, 3, 4], 3, true, "");
        close(&y, &[-1.6742843, 0.24233042, 0.95303404, 0.4789196, 1.435815, 0.43111598, -0.8638556, -1.0030754, -1.467972, -0.34727475, 0.71167582, 1.1035709, 1.3202816, 0.52436262, -0.54785043, -1.2967938, -1.2802966, -0.47226387, 0.32766697, 1.4248935, 0.90979481, 0.80510628, -0.13168038, -1.5832205]);
        close(&dx, &[-0.18233572, 2.0554864, 0.19583102, -2.0689816, -0.58323759, 0.92535526, 0.68396252, -1.02608, 0.49421501, -0.77126771, -0.38789156, 0.66494447, 0.38518786, -0.33053023, -0.54215378, 0.48749605, -0.81452435, 0.82495195, 0.58187556, -0.59230334, -0.72266787, 0.2049482, 0.90381712, -0.38609749]);
    }

    // {'type': 'BN1d'}
    #[test]
    #[rustfmt::skip]
    fn batch_norm_of_one_axis() {
        let (y, dx, p) = run(r#"{"type": "BN1d"}"#, &[4, 3, 2], 3, true, "bn.running_var");
        close(&y, &[-0.051208433, 0.87003362, 0.92898685, 0.7225042, 0.32571501, -0.48136854, -1.5670432, -1.6717892, -1.1808729, -0.22294092, 1.154355, 1.5490856, 1.2449466, 0.40914163, -0.81831777, -1.530919, -1.6840464, -0.91954702, -0.29428163, 0.67801422, 0.95409083, 0.87879747, 0.59207565, -0.63811153]);
        close(&dx, &[0.90017587, 0.19458531, 0.25698379, -0.29236895, -1.3185591, 0.24010563, 0.60006279, -0.64246261, 0.021256592, -0.12169223, -0.69121361, 0.82473731, 0.792346, -0.82149583, -0.18953571, 0.18533297, -0.57249647, 0.64005023, 0.21961758, -1.2428291, -0.31799865, 0.4580223, 0.20293713, 0.67443907]);
        close(&p, &[1.2752274, 1.0775537, 1.2705052]);
    }

    // {'type': 'BN3d'}
    #[test]
    #[rustfmt::skip]
    fn batch_norm_of_three_axes() {
        let (y, dx, p) = run(r#"{"type": "BN3d"}"#, &[2, 2, 2, 1, 2], 2, false, "bn.weight");
        close(&y, &[-0.034461923, 0.48634285, 0.67946345, 0.55063158, 0.15647216, -0.28994912, -0.86534816, -0.92720807, -0.636953, -0.039265189, 0.52549201, 0.73449659, 0.79533267, 0.30173016, -0.36322072, -0.82769054]);
        close(&dx, &[0.8705501, 0.39487815, -0.51231968, -0.85965061, -0.279495, 0.64447927, 0.86416155, 0.13948143, -0.70609713, -0.77408546, 0.0038527919, 0.77758062, 0.73288786, -0.14743029, -0.86663544, -0.63877463]);
        close(&p, &[1.0158499, 0.96929461]);
    }

    #[test]
    fn groups_that_do_not_divide_the_channels_are_refused() {
        let cfg = Node::from_json(r#"{"type": "GN", "num_groups": 5}"#).unwrap();
        let e = build_norm_layer(&cfg, 8, VarBuilder::scratch()).err().unwrap().to_string();
        assert!(e.contains("norm_cfg.num_groups"), "{e}");
    }
}
