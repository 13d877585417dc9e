//! Which parameter gets which learning rate and weight decay (mmcv `runner/optimizer/default_constructor.py`).

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::group::ParamSpec;
use crate::error::{Error, Result};
use crate::nn::{Param, ParamStore};
use crate::registry::{register, registry};

registry!(
    /// Constructors, the optimizer's `constructor`. Their fields are those of `paramwise_cfg`.
    pub OPTIMIZER_BUILDERS: dyn OptimizerConstructor, ()
);

/// The optimizer's own settings, that a constructor multiplies.
#[derive(Debug, Clone, Copy, Default)]
pub struct Base {
    /// `lr`, if the config names it.
    pub lr: Option<f64>,
    /// `weight_decay`, if the config names it.
    pub weight_decay: Option<f64>,
}

/// Groups the parameters of a model.
pub trait OptimizerConstructor: Send + Sync {
    /// The groups of the parameters of `store` under `prefix` (with its dot; empty for all); buffers are left out.
    fn groups(&self, base: Base, store: &ParamStore, prefix: &str) -> Result<Vec<ParamSpec>>;
}

/// Multipliers for the parameters whose name contains a key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomKey {
    /// Of the learning rate.
    #[serde(default = "one")]
    pub lr_mult: f64,
    /// Of the weight decay.
    #[serde(default)]
    pub decay_mult: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// `paramwise_cfg`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParamwiseCfg {
    /// Settings by a part of the parameter's name; the longest that fits wins, the alphabetically first of equals.
    /// Such a parameter ignores the other rules.
    #[serde(default)]
    pub custom_keys: Option<IndexMap<String, CustomKey>>,
    /// Learning rate of biases, but for those of norms and of DCN's offset layers.
    #[serde(default)]
    pub bias_lr_mult: Option<f64>,
    /// Weight decay of biases, but for those of norms, depthwise convolutions and DCN's offset layers.
    #[serde(default)]
    pub bias_decay_mult: Option<f64>,
    /// Weight decay of norms.
    #[serde(default)]
    pub norm_decay_mult: Option<f64>,
    /// Weight decay of depthwise convolutions.
    #[serde(default)]
    pub dwconv_decay_mult: Option<f64>,
    /// Learning rate of DCN's offset layers.
    #[serde(default)]
    pub dcn_offset_lr_mult: Option<f64>,
    /// Skips a parameter that was met before. Here a shared parameter has one name and is met once: nothing to skip.
    #[serde(default)]
    pub bypass_duplicate: bool,
}

/// `constructor = "DefaultOptimizerConstructor"`. With an empty `paramwise_cfg` all parameters are one group,
/// otherwise each is its own, as in mmcv.
#[derive(Debug, Clone)]
pub struct DefaultOptimizerConstructor(ParamwiseCfg);

impl DefaultOptimizerConstructor {
    /// With these multipliers.
    pub fn new(cfg: &ParamwiseCfg) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }

    fn is_plain(&self) -> bool {
        let c = &self.0;
        let mults = [c.bias_lr_mult, c.bias_decay_mult, c.norm_decay_mult, c.dwconv_decay_mult, c.dcn_offset_lr_mult];
        c.custom_keys.is_none() && mults.iter().all(Option::is_none) && !c.bypass_duplicate
    }

    fn check(&self, base: Base) -> Result<()> {
        let c = &self.0;
        let decays = [c.bias_decay_mult, c.norm_decay_mult, c.dwconv_decay_mult].iter().any(Option::is_some)
            || c.custom_keys.iter().flatten().any(|(_, k)| k.decay_mult.is_some());
        if decays && base.weight_decay.is_none() {
            return Err(Error::config("multipliers of the weight decay need the optimizer's weight_decay"));
        }
        Ok(())
    }

    fn spec(&self, base: Base, store: &ParamStore, param: &Param, prefix: &str) -> Result<ParamSpec> {
        let mut spec = ParamSpec { params: vec![param.clone()], ..ParamSpec::default() };
        if !param.trainable() {
            return Ok(spec);
        }
        let c = &self.0;
        let lr = |mult: f64| match base.lr {
            Some(lr) => Ok(Some(lr * mult)),
            None => Err(Error::config("paramwise_cfg needs the optimizer's lr")),
        };
        let name = param.name().strip_prefix(prefix).unwrap_or(param.name());
        let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
        let mut keys: Vec<_> = c.custom_keys.iter().flatten().collect();
        keys.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(b.0)));
        let spelt = format!("{module}.{leaf}");
        if let Some((_, custom)) = keys.into_iter().find(|(key, _)| spelt.contains(key.as_str())) {
            spec.lr = lr(custom.lr_mult)?;
            spec.weight_decay = base.weight_decay.map(|wd| wd * custom.decay_mult.unwrap_or(1.0));
            return Ok(spec);
        }
        let (norm, in_dcn) = (is_norm(param.layer()), in_dcn(store, param));
        if leaf == "bias" && !norm && !in_dcn {
            spec.lr = lr(c.bias_lr_mult.unwrap_or(1.0))?;
        }
        if module.contains("conv_offset") && in_dcn && is_conv2d(param.layer()) {
            spec.lr = lr(c.dcn_offset_lr_mult.unwrap_or(1.0))?;
        }
        let mult = if norm {
            c.norm_decay_mult.unwrap_or(1.0)
        } else if is_depthwise(store, param) {
            c.dwconv_decay_mult.unwrap_or(1.0)
        } else if leaf == "bias" && !in_dcn {
            c.bias_decay_mult.unwrap_or(1.0)
        } else {
            return Ok(spec);
        };
        spec.weight_decay = base.weight_decay.map(|wd| wd * mult);
        Ok(spec)
    }
}

impl OptimizerConstructor for DefaultOptimizerConstructor {
    fn groups(&self, base: Base, store: &ParamStore, prefix: &str) -> Result<Vec<ParamSpec>> {
        self.check(base)?;
        let params = params_under(store, prefix);
        if self.is_plain() {
            return Ok(vec![ParamSpec { params, ..ParamSpec::default() }]);
        }
        params.iter().map(|p| self.spec(base, store, p, prefix)).collect()
    }
}

/// The parameters, frozen ones included, whose name starts with `prefix`.
pub(super) fn params_under(store: &ParamStore, prefix: &str) -> Vec<Param> {
    let kind = crate::nn::ParamKind::Param;
    store.all().into_iter().filter(|p| p.kind() == kind && p.name().starts_with(prefix)).collect()
}

/// `_BatchNorm`, `_InstanceNorm`, `GroupNorm` and `LayerNorm` of PyTorch, with what derives from them.
fn is_norm(layer: &str) -> bool {
    let kinds = ["BatchNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm", "InstanceNorm"];
    let more = ["InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d", "GroupNorm", "LayerNorm", "LayerNorm2d"];
    let layer = layer.trim_start_matches('_');
    kinds.contains(&layer) || more.contains(&layer)
}

/// `Conv2d` of PyTorch, with what derives from it.
fn is_conv2d(layer: &str) -> bool {
    matches!(layer, "Conv" | "Conv2d" | "ConvWS" | "ConvWS2d" | "ConvAWS" | "ConvAWS2d" | "Conv2dAdaptivePadding")
        || matches!(layer, "MaskedConv2d" | "SAConv2d")
}

/// Whether the layer convolves each channel alone: `in_channels == groups`, so a filter sees one channel.
fn is_depthwise(store: &ParamStore, param: &Param) -> bool {
    let weight = param.name().rsplit_once('.').map_or("weight".to_owned(), |(module, _)| format!("{module}.weight"));
    is_conv2d(param.layer()) && store.get(&weight).is_some_and(|w| matches!(w.shape().dims(), [_, 1, _, _]))
}

/// Whether the layer is a child of a deformable convolution, known by the weight beside it.
fn in_dcn(store: &ParamStore, param: &Param) -> bool {
    let Some((parent, _)) = param.name().rsplit_once('.').and_then(|(module, _)| module.rsplit_once('.')) else {
        return false;
    };
    store.get(&format!("{parent}.weight")).is_some_and(|w| {
        matches!(
            w.layer(),
            "DCN"
                | "DCNv2"
                | "DeformConv2d"
                | "DeformConv2dPack"
                | "ModulatedDeformConv2d"
                | "ModulatedDeformConv2dPack"
        )
    })
}

register!(OPTIMIZER_BUILDERS: dyn OptimizerConstructor, "DefaultOptimizerConstructor" => DefaultOptimizerConstructor(ParamwiseCfg));
