//! SSD's further levels: SSD: Single Shot MultiBox Detector, Liu et al., ECCV 2016 (<https://arxiv.org/abs/1512.02325>).

use candle_core::{Result, Tensor, bail};
use mmcv::cnn::bricks::{DepthwiseSeparableConfig, DepthwiseSeparableConvModule};
use mmcv::cnn::{ConvModule, ConvModuleConfig, ConvSpec};
use mmcv::config::Node;
use mmcv::nn::{Ctx, Init, Param, VarBuilder};
use mmcv::{Error, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{NECKS, Neck};

/// `type = "SSDNeck"`. Fields and defaults are OpenMMLab's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SsdNeckConfig {
    /// Channels of each backbone level.
    pub in_channels: Vec<usize>,
    /// Channels of every output level; the first are `in_channels`.
    pub out_channels: Vec<usize>,
    /// Stride of each further level.
    pub level_strides: Vec<usize>,
    /// Padding of each further level.
    pub level_paddings: Vec<usize>,
    /// Where the factors of the first level's L2 norm start; default 20, null or 0 for no norm.
    #[serde(default = "twenty")]
    pub l2_norm_scale: Option<f64>,
    /// Kernel of the last level; default 3.
    #[serde(default = "three")]
    pub last_kernel_size: usize,
    /// Whether levels are made by depthwise separable convolutions; default false.
    #[serde(default)]
    pub use_depthwise: bool,
    /// Kind of convolution.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default none.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// Kind of activation; default `ReLU`.
    #[serde(default = "relu")]
    pub act_cfg: Option<Node>,
    /// How weights start; default Xavier uniform for convolutions, 1 for batch norms.
    #[serde(default = "init_cfg")]
    pub init_cfg: Node,
}

fn twenty() -> Option<f64> {
    Some(20.0)
}
fn three() -> usize {
    3
}
fn relu() -> Option<Node> {
    Some(Node::from_json(r#"{"type": "ReLU"}"#).expect("the default is JSON"))
}
fn init_cfg() -> Node {
    Node::from_json(
        r#"[{"type": "Xavier", "distribution": "uniform", "layer": "Conv2d"},
            {"type": "Constant", "val": 1, "layer": "BatchNorm2d"}]"#,
    )
    .expect("the default is JSON")
}

/// Each position's channels brought to length 1, then scaled channel by channel. Key: `weight` `[C]`.
#[derive(Debug)]
pub struct L2Norm {
    weight: Param,
}

impl L2Norm {
    /// A layer of `channels`, whose factors start at `scale`.
    pub fn new(channels: usize, scale: f64, vb: &VarBuilder) -> Result<Self> {
        Ok(Self { weight: vb.layer("L2Norm").param("weight", channels, Init::Const(scale))? })
    }

    /// `[B, C, H, W]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let norm = (x.sqr()?.sum_keepdim(1)?.sqrt()? + 1e-10)?;
        let weight = self.weight.get().reshape((1, (), 1, 1))?;
        x.broadcast_mul(&weight)?.broadcast_div(&norm)
    }
}

/// A level's second convolution.
enum Second {
    Plain(ConvModule),
    Separable(DepthwiseSeparableConvModule),
}

/// Keys: `l2_norm.weight`, `extra_layers.{i}.{0, 1}.*`.
pub struct SsdNeck {
    l2_norm: Option<L2Norm>,
    extra_layers: Vec<(ConvModule, Second)>,
    num_ins: usize,
}

impl SsdNeck {
    /// The neck at `vb`.
    pub fn new(cfg: &SsdNeckConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        let ins = cfg.in_channels.len();
        let bad = |key: &str, message: String| Err(Error::config(message).under(key));
        if ins == 0 || cfg.out_channels.len() <= ins || cfg.out_channels[..ins] != cfg.in_channels[..] {
            return bad(
                "out_channels",
                format!("{:?} doesn't go on from in_channels {:?}", cfg.out_channels, cfg.in_channels),
            );
        }
        let extra = cfg.out_channels.len() - ins;
        if cfg.level_strides.len() != extra || cfg.level_paddings.len() != extra {
            return bad("level_strides", format!("{extra} further levels need as many strides and paddings"));
        }
        vb.init_cfg(&cfg.init_cfg);
        let l2_norm = match cfg.l2_norm_scale.filter(|s| *s != 0.0) {
            Some(scale) => Some(L2Norm::new(cfg.in_channels[0], scale, &vb.pp("l2_norm"))?),
            None => None,
        };
        let made = |spec: ConvSpec| {
            let made = ConvModuleConfig::new(spec).conv(cfg.conv_cfg.as_ref());
            made.norm(cfg.norm_cfg.as_ref()).act(cfg.act_cfg.as_ref())
        };
        let mut extra_layers = Vec::new();
        for i in 0..extra {
            let (from, to) = (cfg.out_channels[ins - 1 + i], cfg.out_channels[ins + i]);
            let kernel = if i + 1 == extra { cfg.last_kernel_size } else { 3 };
            let vb = vb.pp("extra_layers").pp(i);
            let first = ConvModule::new(made(ConvSpec::new(from, to / 2, 1)), vb.pp(0))?;
            let spec = ConvSpec::new(to / 2, to, kernel).stride(cfg.level_strides[i]).padding(cfg.level_paddings[i]);
            let second = if cfg.use_depthwise {
                let separable = DepthwiseSeparableConfig::new(made(spec));
                Second::Separable(DepthwiseSeparableConvModule::new(separable, vb.pp(1))?)
            } else {
                Second::Plain(ConvModule::new(made(spec), vb.pp(1))?)
            };
            extra_layers.push((first, second));
        }
        Ok(Self { l2_norm, extra_layers, num_ins: ins })
    }
}

impl Neck for SsdNeck {
    /// # Shapes
    /// - `feats[l]`: `[B, in_channels[l], H_l, W_l]`
    /// - output: these, the first normed, and one level more for each further one
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Tensor>> {
        if feats.len() != self.num_ins {
            bail!("SSDNeck: {} levels came in, in_channels names {}", feats.len(), self.num_ins);
        }
        let mut outs = feats.to_vec();
        if let Some(norm) = &self.l2_norm {
            outs[0] = norm.forward(&outs[0])?;
        }
        // Of a single level the further ones start behind its norm, as in the original.
        let mut x = outs[outs.len() - 1].clone();
        for (first, second) in &self.extra_layers {
            x = first.forward(&x, ctx)?;
            x = match second {
                Second::Plain(conv) => conv.forward(&x, ctx)?,
                Second::Separable(conv) => conv.forward(&x, ctx)?,
            };
            outs.push(x.clone());
        }
        Ok(outs)
    }
}

register!(NECKS: dyn Neck, "SSDNeck" => SsdNeck, SsdNeckConfig);

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    // x = arange(1., 9).view(1, 2, 2, 2); m = L2Norm(2, 2.); m.weight.data = tensor([2., 3.]); m(x)
    #[test]
    fn the_norm_is_over_channels() -> Result<()> {
        let vb = VarBuilder::scratch();
        let norm = L2Norm::new(2, 2.0, &vb)?;
        norm.weight.set(&Tensor::new(&[2f32, 3.0], &Device::Cpu)?)?;
        let x = Tensor::arange(1f32, 9.0, &Device::Cpu)?.reshape((1, 2, 2, 2))?;
        let y = norm.forward(&x)?.flatten_all()?.to_vec1::<f32>()?;
        let expected = [0.3922323, 0.6324555, 0.7878386, 0.8944272, 2.941742, 2.84605, 2.757435, 2.683281];
        assert!(y.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-5), "{y:?}");
        Ok(())
    }
}
