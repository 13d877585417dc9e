//! Non-local Neural Networks, Wang et al., CVPR 2018 (<https://arxiv.org/abs/1711.07971>): mmcv's `non_local.py`.

use candle_core::{D, Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::conv::ConvSpec;
use super::conv_module::{Bias, ConvModule, ConvModuleConfig};
use super::plugin::{PLUGIN_LAYERS, PluginArgs, PluginLayer};
use crate::config::{Node, Value};
use crate::error::Error;
use crate::nn::{Ctx, VarBuilder};
use crate::{ops, register};

/// How two positions are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NonLocalMode {
    /// Softmax of products of the inputs.
    Gaussian,
    /// Softmax of products of embeddings.
    #[default]
    EmbeddedGaussian,
    /// Products of embeddings over the number of positions.
    DotProduct,
    /// ReLU of a projection of both embeddings over the number of positions.
    Concatenation,
}

/// `type = "NonLocal2d"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NonLocal2dConfig {
    /// The embedding has this part of the channels; default 2.
    #[serde(default = "two")]
    pub reduction: usize,
    /// Whether embedded products are divided by the root of their length; default true.
    #[serde(default = "yes")]
    pub use_scale: bool,
    /// Kind of convolution; default `Conv2d`.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Norm of the output convolution; default none.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// How positions are compared; default `embedded_gaussian`.
    #[serde(default)]
    pub mode: NonLocalMode,
    /// Whether the positions that are looked at are max-pooled by 2; default false.
    #[serde(default)]
    pub sub_sample: bool,
    /// Deviation of the embeddings' weights at the start; default 0.01.
    #[serde(default = "hundredth")]
    pub std: f64,
    /// Whether the block starts as identity; default true.
    #[serde(default = "yes")]
    pub zeros_init: bool,
}

fn two() -> usize {
    2
}
fn yes() -> bool {
    true
}
fn hundredth() -> f64 {
    0.01
}

/// Keys: `g.*`, `conv_out.*`, `theta.*`, `phi.*`, `concat_project.*`; with `sub_sample` `g.0.*` and `phi.0.*`.
pub struct NonLocal2d {
    g: ConvModule,
    conv_out: ConvModule,
    theta: Option<ConvModule>,
    phi: Option<ConvModule>,
    concat_project: Option<ConvModule>,
    cfg: NonLocal2dConfig,
}

impl NonLocal2d {
    /// The block at `args.vb`.
    pub fn new(cfg: &NonLocal2dConfig, args: PluginArgs) -> crate::Result<Self> {
        let PluginArgs { in_channels: c, vb } = args;
        if cfg.reduction == 0 {
            return Err(Error::config("is 0").under("reduction"));
        }
        let inner = (c / cfg.reduction).max(1);
        let embedded = cfg.mode != NonLocalMode::Gaussian;
        let module = |from: usize, to: usize, norm: Option<&Node>, vb: VarBuilder| {
            ConvModule::new(
                ConvModuleConfig::new(ConvSpec::new(from, to, 1)).conv(cfg.conv_cfg.as_ref()).norm(norm).act(None),
                vb,
            )
        };
        let pooled = |name: &str| if cfg.sub_sample { vb.pp(name).pp(0) } else { vb.pp(name) };
        let embedding = |vb: VarBuilder| {
            vb.init_cfg(&start("Normal", "std", cfg.std));
            module(c, inner, None, vb)
        };
        let g = embedding(pooled("g"))?;
        let out = vb.pp("conv_out");
        let conv_out = module(inner, c, cfg.norm_cfg.as_ref(), out.clone())?;
        let last = match &cfg.norm_cfg {
            Some(norm) => out.pp(super::norm::norm_name(norm, "")),
            None => out.pp("conv"),
        };
        last.init_cfg(&if cfg.zeros_init { start("Constant", "val", 0.0) } else { start("Normal", "std", cfg.std) });
        let theta = if embedded { Some(embedding(vb.pp("theta"))?) } else { None };
        let phi = if embedded { Some(embedding(pooled("phi"))?) } else { None };
        let concat_project = if cfg.mode == NonLocalMode::Concatenation {
            let made = ConvModuleConfig::new(ConvSpec::new(2 * inner, 1, 1)).bias(Bias::False);
            Some(ConvModule::new(made, vb.pp("concat_project"))?)
        } else {
            None
        };
        Ok(Self { g, conv_out, theta, phi, concat_project, cfg: cfg.clone() })
    }

    fn sub_sampled(&self, x: Tensor) -> Result<Tensor> {
        if self.cfg.sub_sample { ops::max_pool2d(&x, [2, 2], [2, 2], [0, 0], false) } else { Ok(x) }
    }
}

/// An `init_cfg` of one value.
fn start(kind: &str, key: &str, value: f64) -> Node {
    let mut node = Node::from(Value::Dict(Default::default()));
    node.set("type", kind);
    node.set(key, value);
    node
}

impl PluginLayer for NonLocal2d {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let (n, _, h, w) = x.dims4()?;
        let flat = |t: &Tensor| t.flatten_from(2);
        let g = flat(&self.sub_sampled(self.g.forward(x, ctx)?)?)?.transpose(1, 2)?.contiguous()?;
        let theta = match &self.theta {
            Some(theta) => flat(&theta.forward(x, ctx)?)?,
            None => flat(x)?,
        };
        let phi = match &self.phi {
            Some(phi) => phi.forward(x, ctx)?,
            None => x.clone(),
        };
        let phi = flat(&self.sub_sampled(phi)?)?;
        let (length, queries, keys) = (theta.dim(1)?, theta.dim(2)?, phi.dim(2)?);
        let weight = match &self.concat_project {
            Some(project) => {
                let pairs =
                    |t: &Tensor, dim: usize| t.unsqueeze(dim)?.broadcast_as((n, length, queries, keys))?.contiguous();
                let both = Tensor::cat(&[pairs(&theta, 3)?, pairs(&phi, 2)?], 1)?;
                (project.forward(&both, ctx)?.reshape((n, queries, keys))? / keys as f64)?
            }
            None => {
                let products = theta.transpose(1, 2)?.contiguous()?.matmul(&phi.contiguous()?)?;
                match self.cfg.mode {
                    NonLocalMode::DotProduct => (products / keys as f64)?,
                    NonLocalMode::EmbeddedGaussian if self.cfg.use_scale => {
                        ops::softmax(&(products / (length as f64).sqrt())?, D::Minus1)?
                    }
                    _ => ops::softmax(&products, D::Minus1)?,
                }
            }
        };
        let y = weight.matmul(&g)?.transpose(1, 2)?.contiguous()?;
        let y = y.reshape((n, y.dim(1)?, h, w))?;
        x + self.conv_out.forward(&y, ctx)?
    }
}

register!(PLUGIN_LAYERS: dyn PluginLayer, "NonLocal2d" => NonLocal2d, NonLocal2dConfig);

#[cfg(test)]
#[allow(clippy::excessive_precision)] // printed numbers
mod tests {
    use super::super::plugin::testing::run;
    use crate::ops::testing::close;

    // name, l = build_plugin_layer(cfg, in_channels=C) with weights by name; y = l(x = wave(shape)); (y * cos(1.1 i)).sum().backward()
    #[test]
    #[rustfmt::skip]
    fn gaussian() {
        let (y, dx, store) = run(r#"{"type": "NonLocal2d", "mode": "gaussian", "reduction": 1}"#, &[1, 2, 2, 2]);
        close(&y, &[0.41200957, 1.1164968, 1.4066229, 1.258405, 0.058079243, -0.38962257, -0.98141688, -1.0473318]);
        close(&dx, &[1.0300988, 0.16082385, -1.2679589, -1.5365045, -0.68436956, 0.33323431, 0.61293989, -0.16515785]);
        let keys: Vec<String> = store.entries().into_iter().map(|(name, _)| name).collect();
        assert_eq!(keys, ["nonlocal_block.g.conv.weight", "nonlocal_block.g.conv.bias", "nonlocal_block.conv_out.conv.weight", "nonlocal_block.conv_out.conv.bias"]);
    }

    #[test]
    #[rustfmt::skip]
    fn embedded_gaussian_pooled() {
        let (y, dx, store) = run(r#"{"type": "NonLocal2d", "sub_sample": true, "norm_cfg": {"type": "BN"}}"#, &[1, 4, 2, 2]);
        close(&y, &[0.43802091, 1.0362688, 1.2581062, 1.1101172, -0.031269878, -0.52215505, -1.1548642, -1.2228854, -0.17526543, 0.51129794, 1.1600339, 1.4001174, 0.60255432, 0.059788674, -0.67139179, -1.1821232]);
        close(&dx, &[0.84588701, 0.45359612, -0.5885011, -0.92866522, -0.17931536, 0.70866978, 0.95023257, 0.16279364, -0.59942424, -0.88919115, 0.004425698, 0.86355442, 0.56671989, -0.16211444, -0.95295292, -0.62794161]);
        let keys: Vec<String> = store.entries().into_iter().map(|(name, _)| name).collect();
        assert_eq!(keys, ["nonlocal_block.g.0.conv.weight", "nonlocal_block.g.0.conv.bias", "nonlocal_block.conv_out.conv.weight", "nonlocal_block.conv_out.bn.weight", "nonlocal_block.conv_out.bn.bias", "nonlocal_block.conv_out.bn.running_mean", "nonlocal_block.conv_out.bn.running_var", "nonlocal_block.conv_out.bn.num_batches_tracked", "nonlocal_block.theta.conv.weight", "nonlocal_block.theta.conv.bias", "nonlocal_block.phi.0.conv.weight", "nonlocal_block.phi.0.conv.bias"]);
    }

    #[test]
    #[rustfmt::skip]
    fn dot_product() {
        let (y, dx, store) = run(r#"{"type": "NonLocal2d", "mode": "dot_product"}"#, &[2, 2, 1, 3]);
        close(&y, &[-0.10456199, 0.50508702, 0.79767287, 0.87429392, 0.33811572, -0.17327261, -0.43537548, -0.93491948, -0.9602676, 0.0072759911, 0.78106916, 1.1329186]);
        close(&dx, &[0.94514704, 0.27085844, -0.70168209, -1.5068032, -0.32318211, 1.2178329, 0.0036091208, -0.38818902, -0.62308133, -1.465016, 0.46680728, 2.2264748]);
        let keys: Vec<String> = store.entries().into_iter().map(|(name, _)| name).collect();
        assert_eq!(keys, ["nonlocal_block.g.conv.weight", "nonlocal_block.g.conv.bias", "nonlocal_block.conv_out.conv.weight", "nonlocal_block.conv_out.conv.bias", "nonlocal_block.theta.conv.weight", "nonlocal_block.theta.conv.bias", "nonlocal_block.phi.conv.weight", "nonlocal_block.phi.conv.bias"]);
    }

    #[test]
    #[rustfmt::skip]
    fn concatenation() {
        let (y, dx, store) = run(r#"{"type": "NonLocal2d", "mode": "concatenation", "use_scale": false}"#, &[1, 4, 2, 2]);
        close(&y, &[0.082272805, 0.67812473, 0.89188695, 0.76359004, 0.27774674, -0.22470385, -0.8963927, -0.94789886, -0.55070877, 0.12915519, 0.75531161, 1.0285896, 0.94796211, 0.39476579, -0.37156975, -0.87070638]);
        close(&dx, &[0.98187757, 0.45327577, -0.58902144, -0.99126869, -0.28710362, 0.71752763, 0.94858414, 0.14137122, -0.82422251, -0.88236868, 0.0029347264, 0.88234991, 0.80880159, -0.14934094, -0.95453042, -0.71388334]);
        let keys: Vec<String> = store.entries().into_iter().map(|(name, _)| name).collect();
        assert_eq!(keys, ["nonlocal_block.g.conv.weight", "nonlocal_block.g.conv.bias", "nonlocal_block.conv_out.conv.weight", "nonlocal_block.conv_out.conv.bias", "nonlocal_block.theta.conv.weight", "nonlocal_block.theta.conv.bias", "nonlocal_block.phi.conv.weight", "nonlocal_block.phi.conv.bias", "nonlocal_block.concat_project.conv.weight"]);
    }
}
