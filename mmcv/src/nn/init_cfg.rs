//! `init_cfg`: how a module's weights start (mmcv `cnn/utils/weight_init.py`).

use schemars::JsonSchema;
use serde::Deserialize;

use super::init::Init;
use super::param::{Param, ParamStore};
use crate::config::{Node, Value};
use crate::error::{Error, Result};

/// Which side of a weight Kaiming's variance is kept on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FanMode {
    /// Forward activations.
    FanIn,
    /// Backward gradients.
    #[default]
    FanOut,
}

/// Shape of a random initial distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Uniform.
    Uniform,
    /// Normal.
    Normal,
}

fn one() -> f64 {
    1.0
}
fn normal() -> Distribution {
    Distribution::Normal
}
fn relu() -> String {
    "relu".into()
}
fn minus_two() -> f64 {
    -2.0
}
fn two() -> f64 {
    2.0
}

/// The kinds of `init_cfg` that draw values. `Pretrained` loads a checkpoint, which the checkpoint module does.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Initializer {
    /// One value.
    Constant {
        /// Of weights.
        val: f64,
    },
    /// Glorot and Bengio 2010.
    Xavier {
        /// Scale.
        #[serde(default = "one")]
        gain: f64,
        /// Shape.
        #[serde(default = "normal")]
        distribution: Distribution,
    },
    /// Normal.
    Normal {
        /// Mean.
        #[serde(default)]
        mean: f64,
        /// Standard deviation.
        #[serde(default = "one")]
        std: f64,
    },
    /// Normal, cut to `[a, b]`.
    TruncNormal {
        /// Mean.
        #[serde(default)]
        mean: f64,
        /// Standard deviation.
        #[serde(default = "one")]
        std: f64,
        /// Low cut.
        #[serde(default = "minus_two")]
        a: f64,
        /// High cut.
        #[serde(default = "two")]
        b: f64,
    },
    /// Uniform in `[a, b)`.
    Uniform {
        /// Low end.
        #[serde(default)]
        a: f64,
        /// High end.
        #[serde(default = "one")]
        b: f64,
    },
    /// He et al. 2015.
    Kaiming {
        /// Negative slope of the rectifier behind the layer.
        #[serde(default)]
        a: f64,
        /// Side.
        #[serde(default)]
        mode: FanMode,
        /// As PyTorch's `calculate_gain` names them: `relu`, `leaky_relu`, `linear`, `conv2d`, `sigmoid`, `tanh`, `selu`, ...
        #[serde(default = "relu")]
        nonlinearity: String,
        /// Shape.
        #[serde(default = "normal")]
        distribution: Distribution,
    },
    /// `XavierFill` of Caffe2: Kaiming uniform with `a = 1`, fan in.
    Caffe2Xavier {},
}

impl Initializer {
    /// The distribution for a weight of `dims` (`[out, in / groups, ...]`).
    fn weight(&self, dims: &[usize]) -> std::result::Result<Init, String> {
        if let (Self::Xavier { .. } | Self::Kaiming { .. } | Self::Caffe2Xavier {}, 0..2) = (self, dims.len()) {
            return Err("Xavier, Kaiming and Caffe2Xavier need weights of 2 dimensions or more".into());
        }
        let receptive: usize = dims.iter().skip(2).product();
        let fan_in = dims.get(1).copied().unwrap_or(1) * receptive;
        let fan_out = dims.first().copied().unwrap_or(1) * receptive;
        Ok(match *self {
            Self::Constant { val } => Init::Const(val),
            Self::Xavier { gain, distribution } => {
                spread(distribution, gain * (2.0 / (fan_in + fan_out).max(1) as f64).sqrt())
            }
            Self::Normal { mean, std } => Init::Normal(mean, std),
            Self::TruncNormal { mean, std, a, b } if a < b && std > 0.0 => Init::TruncNormal(mean, std, a, b),
            Self::TruncNormal { std, a, b, .. } => {
                return Err(format!("TruncNormal: empty range {a}..{b} or std {std}"));
            }
            Self::Uniform { a, b } => Init::Uniform(a, b),
            Self::Kaiming { a, mode, ref nonlinearity, distribution } => {
                let gain = match nonlinearity.as_str() {
                    "relu" => 2f64.sqrt(),
                    "leaky_relu" => (2.0 / (1.0 + a * a)).sqrt(),
                    "linear" | "sigmoid" | "conv1d" | "conv2d" | "conv3d" | "conv_transpose1d" | "conv_transpose2d"
                    | "conv_transpose3d" => 1.0,
                    "tanh" => 5.0 / 3.0,
                    "selu" => 0.75,
                    other => return Err(format!("Kaiming: unknown nonlinearity '{other}'")),
                };
                let fan = if mode == FanMode::FanIn { fan_in } else { fan_out };
                spread(distribution, gain / (fan.max(1) as f64).sqrt())
            }
            Self::Caffe2Xavier {} => spread(Distribution::Uniform, (1.0 / fan_in.max(1) as f64).sqrt()),
        })
    }
}

/// A centred distribution of standard deviation `std`.
fn spread(distribution: Distribution, std: f64) -> Init {
    match distribution {
        Distribution::Normal => Init::Normal(0.0, std),
        Distribution::Uniform => Init::Uniform(-(3f64.sqrt()) * std, 3f64.sqrt() * std),
    }
}

/// `-log((1 - p) / p)`: the bias that makes a sigmoid answer `p` at the start.
pub fn bias_init_with_prob(p: f64) -> f64 {
    -((1.0 - p) / p).ln()
}

/// Draws the parameters under `prefix` anew as `init_cfg` (a dict or a list of dicts) says.
/// `None` changes nothing.
///
/// As in mmcv, a dict reaches the layers that its `layer` names, and none without it; an `override` (a dict or list with
/// `name`) reaches all layers of the child of that name. `Pretrained` entries are left to the caller.
pub fn initialize(store: &ParamStore, prefix: &str, init_cfg: &Node) -> Result<()> {
    initialize_with(store, prefix, init_cfg, &mut |_, _| Ok(()))
}

/// [`initialize`], with `pretrained` to load a `Pretrained` entry into the module of the given path.
fn initialize_with(
    store: &ParamStore,
    prefix: &str,
    init_cfg: &Node,
    pretrained: &mut dyn FnMut(&str, &Node) -> Result<()>,
) -> Result<()> {
    let cfgs = match &init_cfg.value {
        Value::Null => return Ok(()),
        Value::List(list) => list.as_slice(),
        _ => std::slice::from_ref(init_cfg),
    };
    cfgs.iter().try_for_each(|cfg| apply(store, prefix, cfg, pretrained))
}

/// Applies every `init_cfg` that the modules of `store` asked for ([`super::VarBuilder::init_cfg`]), parents before
/// children. `pretrained` loads a `Pretrained` entry into the module of the given path, whose children then keep what was
/// loaded where the entry is all of the module's `init_cfg` (a list is followed by the children's own, as in mmcv).
pub fn init_weights(store: &ParamStore, mut pretrained: impl FnMut(&str, &Node) -> Result<()>) -> Result<()> {
    let mut loaded: Vec<String> = Vec::new();
    for (prefix, init_cfg) in store.inits() {
        let inside = |l: &String| l.is_empty() || prefix.strip_prefix(l.as_str()).is_some_and(|r| r.starts_with('.'));
        if loaded.iter().any(|l| *l != prefix && inside(l)) {
            continue;
        }
        initialize_with(store, &prefix, &init_cfg, &mut pretrained)?;
        if init_cfg.type_name() == Some("Pretrained") {
            loaded.push(prefix);
        }
    }
    Ok(())
}

fn apply(
    store: &ParamStore,
    prefix: &str,
    cfg: &Node,
    pretrained: &mut dyn FnMut(&str, &Node) -> Result<()>,
) -> Result<()> {
    let layers: Vec<String> = match cfg.get("layer") {
        Some(node) if node.as_str().is_some() => vec![node.parse()?],
        Some(node) if !node.is_null() => node.parse().map_err(|e: Error| e.under("layer"))?,
        _ => Vec::new(),
    };
    let overrides = match cfg.get("override").map(|o| (&o.value, o)) {
        Some((Value::List(list), _)) => list.clone(),
        Some((Value::Null, _)) | None => Vec::new(),
        Some((_, one)) => vec![one.clone()],
    };
    let plain = cfg.without("layer").without("override");
    if plain.type_name() == Some("Pretrained") {
        pretrained(prefix, &plain)?;
    } else {
        draw(store, prefix, Some(&layers), &plain)?;
    }
    for o in overrides {
        let Some(name) = o.get("name").and_then(Node::as_str) else {
            return Err(o.error("missing required field 'name'").under("override"));
        };
        let child = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
        if under(store, &child).is_empty() {
            return Err(o.error(format!("there is no module '{child}' to override")).under("override"));
        }
        // `layer` has no say in an override.
        let own = o.without("name").without("layer");
        let own = match own.type_name() {
            Some(_) => &own,
            None if o.as_dict().is_some_and(|d| d.len() == 1) => &plain,
            None => return Err(o.error("missing required field 'type'").under("override")),
        };
        if own.type_name() == Some("Pretrained") {
            pretrained(&child, own)?;
        } else {
            draw(store, &child, None, own).map_err(|e| e.under("override"))?;
        }
    }
    Ok(())
}

fn under(store: &ParamStore, prefix: &str) -> Vec<Param> {
    let inside = |name: &str| {
        prefix.is_empty() || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.') || rest.is_empty())
    };
    store.all().into_iter().filter(|p| inside(p.name())).collect()
}

fn draw(store: &ParamStore, prefix: &str, layers: Option<&[String]>, cfg: &Node) -> Result<()> {
    let prob: Option<f64> = cfg.get("bias_prob").map(Node::parse).transpose()?.flatten();
    let bias: f64 = match prob {
        Some(p) => bias_init_with_prob(p),
        None => cfg.get("bias").map(Node::parse).transpose()?.unwrap_or(0.0),
    };
    let init: Initializer = cfg.without("bias").without("bias_prob").parse()?;
    for param in under(store, prefix).iter().filter(|p| p.trainable_kind() && matches(p.layer(), layers)) {
        let leaf = param.name().rsplit('.').next().unwrap_or_default();
        let init = match leaf {
            "weight" => init.weight(param.shape().dims()).map_err(|e| cfg.error(format!("{}: {e}", param.name())))?,
            "bias" => Init::Const(bias),
            _ => continue,
        };
        store.reset(param, init)?;
    }
    Ok(())
}

/// Whether a layer is of one of the named classes, or their direct base (`_BatchNorm`, `_ConvNd`); all are without names.
fn matches(layer: &str, layers: Option<&[String]>) -> bool {
    let Some(layers) = layers else { return true };
    let norm =
        |name: &str| matches!(name, "_BatchNorm" | "BatchNorm2d" | "BatchNorm1d" | "BatchNorm3d" | "SyncBatchNorm");
    let base = match layer {
        "Conv1d" | "Conv2d" | "Conv3d" => "_ConvNd",
        "ConvTranspose1d" | "ConvTranspose2d" | "ConvTranspose3d" => "_ConvTransposeNd",
        "InstanceNorm1d" | "InstanceNorm2d" | "InstanceNorm3d" => "_InstanceNorm",
        _ => "",
    };
    layers.iter().any(|l| l == layer || l == base || (norm(l) && norm(layer)))
}

impl Param {
    /// A parameter rather than a buffer, frozen or not.
    fn trainable_kind(&self) -> bool {
        self.kind() == super::param::ParamKind::Param
    }
}

#[cfg(test)]
mod tests {
    use super::super::VarBuilder;
    use super::*;

    fn model() -> ParamStore {
        let vb = VarBuilder::scratch();
        for (name, layer) in [("a", "Conv2d"), ("head", "Conv2d"), ("fc", "Linear")] {
            let at = vb.pp("m").pp(name).layer(layer);
            let dims: &[usize] = if layer == "Linear" { &[64, 100] } else { &[64, 32, 3, 3] };
            at.param("weight", dims, Init::Const(9.0)).unwrap();
            at.param("bias", 64, Init::Const(9.0)).unwrap();
        }
        vb.pp("m.bn").layer("_BatchNorm").param("weight", 4, Init::Const(9.0)).unwrap();
        vb.store().clone()
    }

    fn moments(store: &ParamStore, name: &str) -> (f64, f64) {
        let v: Vec<f32> = store.get(name).unwrap().value().flatten_all().unwrap().to_vec1().unwrap();
        let n = v.len() as f64;
        let mean = v.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        (mean, (v.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    fn init(json: &str) -> Result<ParamStore> {
        let store = model();
        initialize(&store, "m", &Node::from_json(json).unwrap())?;
        Ok(store)
    }

    #[test]
    fn layer_and_override_reach_what_they_name() {
        let s = init(
            r#"{"type": "Normal", "layer": "Conv2d", "std": 0.01,
                "override": {"type": "Normal", "name": "head", "std": 0.1, "bias_prob": 0.01}}"#,
        )
        .unwrap();
        assert!((moments(&s, "m.a.weight").1 - 0.01).abs() < 5e-4);
        assert!((moments(&s, "m.head.weight").1 - 0.1).abs() < 5e-3);
        assert!((moments(&s, "m.head.bias").0 + 4.595_12).abs() < 1e-4);
        assert_eq!(moments(&s, "m.a.bias").0, 0.0);
        assert_eq!(moments(&s, "m.fc.weight").0, 9.0);
    }

    #[test]
    fn kaiming_and_xavier_have_their_deviation() {
        let s = init(
            r#"[{"type": "Kaiming", "layer": "Conv2d"}, {"type": "Xavier", "layer": "Linear", "distribution": "uniform"},
                {"type": "Constant", "val": 1, "layer": ["_BatchNorm", "GroupNorm"]}]"#,
        )
        .unwrap();
        assert!((moments(&s, "m.a.weight").1 / (2.0f64 / (64.0 * 9.0)).sqrt() - 1.0).abs() < 0.02);
        assert!((moments(&s, "m.fc.weight").1 / (2.0f64 / 164.0).sqrt() - 1.0).abs() < 0.02);
        assert_eq!(moments(&s, "m.bn.weight"), (1.0, 0.0));
    }

    /// What mmcv's `initialize` leaves as it was and what it changes.
    #[test]
    fn without_a_layer_only_overrides_are_reached() {
        let s = init(r#"{"type": "Constant", "val": 1}"#).unwrap();
        assert!(s.all().iter().all(|p| moments(&s, p.name()) == (9.0, 0.0)));
        let s = init(
            r#"{"type": "Constant", "val": 1, "bias": 2, "override": [{"name": "a"},
                {"type": "Uniform", "a": 3, "b": 4, "name": "bn", "layer": "Linear"}]}"#,
        )
        .unwrap();
        let means = ["m.a.weight", "m.a.bias", "m.head.weight", "m.fc.bias"].map(|n| moments(&s, n).0);
        assert_eq!(means, [1.0, 2.0, 9.0, 9.0]);
        // A norm's weights are drawn as any others.
        assert!((3.0..4.0).contains(&moments(&s, "m.bn.weight").0));
        let s = init(r#"{"type": "Constant", "val": 1, "layer": ["_ConvNd", "BatchNorm2d"]}"#).unwrap();
        assert_eq!(["m.head.weight", "m.fc.weight", "m.bn.weight"].map(|n| moments(&s, n).0), [1.0, 9.0, 1.0]);
    }

    #[test]
    fn all_kinds_draw_what_they_say() {
        // (init_cfg, mean and deviation of a 64x32x3x3 weight) by the formulas of torch.nn.init
        let (fan_in, fan_out) = (32.0 * 9.0, 64.0 * 9.0);
        for (json, mean, std) in [
            (r#"{"type": "Constant", "val": 0.5"#, 0.5, 0.0),
            (r#"{"type": "Xavier", "gain": 2"#, 0.0, 2.0 * (2.0f64 / (fan_in + fan_out)).sqrt()),
            (r#"{"type": "Normal", "mean": 1, "std": 0.1"#, 1.0, 0.1),
            // The deviation of a standard normal cut at -1 and 1.
            (r#"{"type": "TruncNormal", "std": 0.5, "a": -0.5, "b": 0.5"#, 0.0, 0.5 * 0.539_56),
            (r#"{"type": "Uniform", "a": 1, "b": 3"#, 2.0, 2.0 / 12f64.sqrt()),
            (
                r#"{"type": "Kaiming", "mode": "fan_in", "nonlinearity": "leaky_relu", "a": 1"#,
                0.0,
                (1.0 / fan_in).sqrt(),
            ),
            (r#"{"type": "Kaiming", "nonlinearity": "selu", "distribution": "uniform""#, 0.0, 0.75 / fan_out.sqrt()),
            (r#"{"type": "Caffe2Xavier""#, 0.0, (1.0 / fan_in).sqrt()),
        ] {
            let s = init(&format!(r#"{json}, "layer": "Conv2d", "bias_prob": 0.25}}"#)).unwrap();
            let (m, d) = moments(&s, "m.a.weight");
            assert!((m - mean).abs() < 0.03 * std + 1e-6, "{json}: mean {m}");
            assert!((d - std).abs() <= 0.02 * std + 1e-6, "{json}: deviation {d}, expected {std}");
            assert!((moments(&s, "m.a.bias").0 + 3f64.ln()).abs() < 1e-6, "{json}");
        }
    }

    #[test]
    fn checkpoints_come_in_their_turn() {
        let vb = VarBuilder::scratch();
        let tell = |json: &str| Node::from_json(json).unwrap();
        vb.pp("a").init_cfg(&tell(
            r#"{"type": "Pretrained", "checkpoint": "x", "override": {"type": "Constant", "val": 5, "name": "n"}}"#,
        ));
        vb.pp("b").init_cfg(&tell(
            r#"[{"type": "Pretrained", "checkpoint": "y"}, {"type": "Constant", "val": 3, "layer": "Conv2d"}]"#,
        ));
        for name in ["a.n", "a.o", "b.n", "ab.n"] {
            let at = vb.pp(name).layer("Conv2d");
            at.init_cfg(&tell(r#"{"type": "Constant", "val": 7, "layer": "Conv2d"}"#));
            at.param("weight", &[1, 1, 1, 1][..], Init::Const(9.0)).unwrap();
        }
        let store = vb.store();
        let mut asked = Vec::new();
        init_weights(store, |path, cfg| {
            asked.push(format!("{path} {}", cfg.get("checkpoint").unwrap().as_str().unwrap()));
            let named = store.all().into_iter().filter(|p| p.name().starts_with(&format!("{path}.")));
            named.for_each(|p| store.reset(&p, Init::Const(1.0)).unwrap());
            Ok(())
        })
        .unwrap();
        assert_eq!(asked, ["a x", "b y"]);
        // Children keep what a lone Pretrained loaded, not what a list did.
        let values = ["a.n", "a.o", "b.n", "ab.n"].map(|n| moments(store, &format!("{n}.weight")).0);
        assert_eq!(values, [5.0, 1.0, 7.0, 7.0]);
    }

    #[test]
    fn errors_name_the_field() {
        let e = init(r#"{"type": "Normal", "override": {"std": 1, "name": "head"}}"#).unwrap_err().to_string();
        assert!(e.contains("override: missing required field 'type'"), "{e}");
        let e = init(r#"{"type": "Kaiming", "layer": "_BatchNorm"}"#).unwrap_err().to_string();
        assert!(e.contains("m.bn.weight: Xavier, Kaiming"), "{e}");
        let e = init(r#"{"type": "Norml", "layer": "Conv2d"}"#).unwrap_err().to_string();
        assert!(e.contains("did you mean 'Normal'"), "{e}");
        let e = init(r#"{"type": "Normal", "override": {"type": "Normal", "name": "haed"}}"#).unwrap_err().to_string();
        assert!(e.contains("no module 'm.haed'"), "{e}");
        assert!(init(r#"{"type": "Normal", "stdd": 1}"#).is_err());
    }
}
