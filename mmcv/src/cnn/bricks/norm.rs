//! `NORM_LAYERS`: what `norm_cfg` chooses from.

use candle_core::{Result, Tensor, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::cnn::flops;
use crate::config::Node;
use crate::nn::{Ctx, Init, Param, VarBuilder};
use crate::ops;
use crate::registry::{self, register, registry};

/// A normalisation layer.
pub trait NormLayer: Send + Sync {
    /// `[B, C, H, W]` to the same shape.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        self.forward_fused(x, None, false, ctx)
    }

    /// Normalises, adds `add`, rectifies when `relu`: one pass over memory where the layer can.
    fn forward_fused(&self, x: &Tensor, add: Option<&Tensor>, relu: bool, ctx: &Ctx) -> Result<Tensor>;

    /// The batch norm that it is, if it is one: those are folded into convolutions in evaluation.
    fn as_batch_norm(&self) -> Option<&BatchNorm2d> {
        None
    }
}

/// What a norm layer's `new` takes beside its config.
#[derive(Debug, Clone)]
pub struct NormArgs {
    /// Channels.
    pub num_features: usize,
    /// Where its parameters are.
    pub vb: VarBuilder,
}

registry!(
    /// Normalisation layers (`norm_cfg`).
    pub NORM_LAYERS: dyn NormLayer, NormArgs
);

/// The child's name that a norm of `norm_cfg`'s type has: `bn`, `gn`, `ln`, `in` (mmcv's `infer_abbr`) and `postfix`.
pub fn norm_name(cfg: &Node, postfix: &str) -> String {
    let name = cfg.type_name().unwrap_or_default();
    let lower = name.to_lowercase();
    let abbr = match name {
        "IN" | "IN1d" | "IN2d" | "IN3d" => "in",
        "GN" => "gn",
        "LN" => "ln",
        _ if lower.contains("bn") || lower.contains("batch") => "bn",
        _ if lower.contains("group") => "gn",
        _ if lower.contains("layer") => "ln",
        _ if lower.contains("instance") => "in",
        _ => "norm_layer",
    };
    format!("{abbr}{postfix}")
}

/// The norm layer that `norm_cfg` names, at its place `vb` (its own name included).
pub fn build_norm_layer(cfg: &Node, num_features: usize, vb: VarBuilder) -> crate::Result<Box<dyn NormLayer>> {
    registry::build_at(&NORM_LAYERS, "norm_cfg", cfg, NormArgs { num_features, vb })
}

fn eps() -> f64 {
    1e-5
}
fn momentum() -> Option<f64> {
    Some(0.1)
}
fn yes() -> bool {
    true
}

/// `type = "BN"`, also `"BN1d"`, `"BN2d"`, `"BN3d"`, `"SyncBN"`: any number of axes after the channels will do.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm2dConfig {
    /// Added to the variance; default 1e-5.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Share of the new batch in the running statistics; default 0.1, none is a plain average of all batches.
    #[serde(default = "momentum")]
    pub momentum: Option<f64>,
    /// Whether there are weight and bias; default true.
    #[serde(default = "yes")]
    pub affine: bool,
    /// Whether running statistics are kept; default true. Without them every pass uses the batch's.
    #[serde(default = "yes")]
    pub track_running_stats: bool,
    /// Whether weight and bias are trained; default true.
    #[serde(default = "yes")]
    pub requires_grad: bool,
}

impl Default for BatchNorm2dConfig {
    fn default() -> Self {
        Self { eps: eps(), momentum: momentum(), affine: true, track_running_stats: true, requires_grad: true }
    }
}

/// Ioffe and Szegedy 2015. Keys: `weight`, `bias`, `running_mean`, `running_var` `[C]`, `num_batches_tracked` `[]`.
///
/// On one rank `SyncBN` is the same layer.
#[derive(Debug)]
pub struct BatchNorm2d {
    weight: Option<Param>,
    bias: Option<Param>,
    running: Option<Running>,
    unit: (Tensor, Tensor),
    cfg: BatchNorm2dConfig,
    path: String,
}

#[derive(Debug)]
struct Running {
    mean: Param,
    var: Param,
    batches: Param,
}

impl BatchNorm2d {
    /// A layer of `args.num_features` channels.
    pub fn new(cfg: &BatchNorm2dConfig, args: NormArgs) -> Result<Self> {
        let NormArgs { num_features: c, vb } = args;
        let vb = vb.layer("_BatchNorm");
        vb.note("eps", cfg.eps);
        let affine = |name: &str, value: f64| -> Result<Option<Param>> {
            if !cfg.affine {
                return Ok(None);
            }
            let param = vb.param(name, c, Init::Const(value))?;
            if !cfg.requires_grad {
                param.set_trainable(false);
            }
            Ok(Some(param))
        };
        let (weight, bias) = (affine("weight", 1.0)?, affine("bias", 0.0)?);
        let running = if cfg.track_running_stats {
            Some(Running {
                mean: vb.buffer("running_mean", c, Init::Const(0.0))?,
                var: vb.buffer("running_var", c, Init::Const(1.0))?,
                batches: vb.buffer("num_batches_tracked", (), Init::Const(0.0))?,
            })
        } else {
            None
        };
        let unit = (
            Tensor::ones(c, candle_core::DType::F32, vb.device())?,
            Tensor::zeros(c, candle_core::DType::F32, vb.device())?,
        );
        Ok(Self { weight, bias, running, unit, cfg: cfg.clone(), path: vb.path().to_owned() })
    }

    fn affine(&self) -> (Tensor, Tensor) {
        let get = |p: &Option<Param>, unit: &Tensor| p.as_ref().map_or_else(|| unit.clone(), Param::get);
        (get(&self.weight, &self.unit.0), get(&self.bias, &self.unit.1))
    }

    /// The weight and bias of the convolution that does what one of these followed by this layer's evaluation does.
    pub(crate) fn fold_into(&self, conv_weight: &Tensor, conv_bias: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        let Some(running) = &self.running else { bail!("{}: no running statistics to fold", self.path) };
        let (gamma, beta) = (self.weight.as_ref().map(Param::value), self.bias.as_ref().map(Param::value));
        ops::fold_batch_norm(
            conv_weight,
            conv_bias,
            gamma,
            beta,
            running.mean.value(),
            running.var.value(),
            self.cfg.eps,
        )
    }

    /// Rises with each change of what [`Self::fold_into`] answers.
    pub(crate) fn version(&self) -> u64 {
        let of = |p: Option<&Param>| p.map_or(0, Param::version);
        let running = self.running.as_ref().map_or(0, |r| r.mean.version() + r.var.version());
        of(self.weight.as_ref()) + of(self.bias.as_ref()) + running
    }

    /// Tells this layer from every other of its model.
    pub(crate) fn identity(&self) -> u64 {
        crate::rng::fnv1a64(self.path.as_bytes())
    }

    /// Whether a pass in `ctx` uses running statistics.
    pub(crate) fn uses_running(&self, ctx: &Ctx) -> bool {
        !ctx.train && self.running.is_some()
    }

    pub(super) fn count(&self, y: &Tensor) {
        flops::record(&self.path, "BatchNorm2d", || y.elem_count() as u64 * if self.cfg.affine { 2 } else { 1 });
    }

    fn update(&self, running: &Running, mean: &Tensor, var: &Tensor) -> Result<()> {
        let seen = running.batches.value().to_scalar::<f32>()? + 1.0;
        running.batches.set(&Tensor::new(seen, mean.device())?)?;
        let share = self.cfg.momentum.unwrap_or(1.0 / f64::from(seen)) as f32;
        for (param, batch) in [(&running.mean, mean), (&running.var, var)] {
            let (old, new) = (param.value().to_vec1::<f32>()?, batch.to_vec1::<f32>()?);
            let mixed: Vec<f32> = old.iter().zip(&new).map(|(o, n)| (1.0 - share) * o + share * n).collect();
            param.set(&Tensor::from_vec(mixed, old.len(), mean.device())?)?;
        }
        Ok(())
    }
}

impl NormLayer for BatchNorm2d {
    fn forward_fused(&self, x: &Tensor, add: Option<&Tensor>, relu: bool, ctx: &Ctx) -> Result<Tensor> {
        self.count(x);
        let (weight, bias) = self.affine();
        match &self.running {
            Some(running) if !ctx.train => ops::batch_norm_act(
                x,
                &weight,
                &bias,
                (running.mean.value(), running.var.value()),
                self.cfg.eps,
                add,
                relu,
            ),
            running => {
                let (y, mean, var) = ops::batch_norm_train_act(x, &weight, &bias, self.cfg.eps, add, relu)?;
                // A recomputed or gradient-free training pass moves the statistics too, as PyTorch's does.
                if let (Some(running), true) = (running, ctx.train) {
                    self.update(running, &mean, &var)?;
                }
                Ok(y)
            }
        }
        .map_err(|e| e.context(format!("in {}", self.path)))
    }

    fn as_batch_norm(&self) -> Option<&BatchNorm2d> {
        Some(self)
    }
}

register!(NORM_LAYERS: dyn NormLayer, "BN" => BatchNorm2d, BatchNorm2dConfig);
register!(NORM_LAYERS: dyn NormLayer, "BN2d" => BatchNorm2d, BatchNorm2dConfig);
register!(NORM_LAYERS: dyn NormLayer, "SyncBN" => BatchNorm2d, BatchNorm2dConfig);
register!(NORM_LAYERS: dyn NormLayer, "MMSyncBN" => BatchNorm2d, BatchNorm2dConfig);
register!(NORM_LAYERS: dyn NormLayer, "BN1d" => BatchNorm2d, BatchNorm2dConfig);
register!(NORM_LAYERS: dyn NormLayer, "BN3d" => BatchNorm2d, BatchNorm2dConfig);
