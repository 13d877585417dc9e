//! SSD's VGG: Very Deep Convolutional Networks, Simonyan and Zisserman, 2014 (<https://arxiv.org/abs/1409.1556>), with the
//! layers of SSD, Liu et al., ECCV 2016 (<https://arxiv.org/abs/1512.02325>), in place of the fully connected ones.

use candle_core::{Result, Tensor};
use mmcv::cnn::{Backbone, Conv2d, ConvSpec, conv_norm_act, vgg_stages};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::ops::{self, Act};
use mmcv::{Error, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::BACKBONES;

/// `type = "SSDVGG"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SsdVggConfig {
    /// 11, 13, 16 or 19.
    pub depth: usize,
    /// Whether VGG's last pool is kept; default false.
    #[serde(default)]
    pub with_last_pool: bool,
    /// Whether pools round sizes up; default true.
    #[serde(default = "yes")]
    pub ceil_mode: bool,
    /// Accepted; the original doesn't use it either.
    #[serde(default)]
    pub out_indices: Option<Vec<usize>>,
    /// Places in `features` whose output is handed on; default 22 and 34.
    #[serde(default = "out_feature_indices")]
    pub out_feature_indices: Vec<usize>,
    /// Checkpoint to start from (older spelling of a `Pretrained` `init_cfg`).
    #[serde(default)]
    pub pretrained: Option<String>,
    /// How weights start; default Kaiming for convolutions.
    #[serde(default)]
    pub init_cfg: Option<Node>,
    /// Accepted for old configs.
    #[serde(default)]
    pub input_size: Option<usize>,
    /// Accepted for old configs: `SSDNeck` has it.
    #[serde(default)]
    pub l2_norm_scale: Option<f64>,
}

fn yes() -> bool {
    true
}
fn out_feature_indices() -> Vec<usize> {
    vec![22, 34]
}

/// One place in `features`.
enum Layer {
    /// A convolution; the ReLU behind it is done with it.
    Conv(Box<Conv2d>),
    /// The ReLU behind a convolution.
    Relu,
    /// Kernel, stride, padding, whether sizes are rounded up.
    Pool(usize, usize, usize, bool),
}

/// Keys: `features.{i}.*`.
pub struct SsdVgg {
    features: Vec<Layer>,
    outs: Vec<usize>,
}

impl SsdVgg {
    /// The network at `vb`.
    pub fn new(cfg: &SsdVggConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        let blocks = vgg_stages(cfg.depth)?;
        let own = cfg.init_cfg.as_ref().filter(|i| !i.is_null());
        vb.init_cfg(&match (own, &cfg.pretrained) {
            (Some(_), Some(_)) => {
                return Err(Error::config("init_cfg and pretrained can't both be set").under("pretrained"));
            }
            (Some(init), None) => init.clone(),
            (None, Some(file)) => {
                let mut node = Node::from_json(r#"{"type": "Pretrained"}"#)?;
                node.set("checkpoint", file.as_str());
                node
            }
            (None, None) => Node::from_json(
                r#"[{"type": "Kaiming", "layer": "Conv2d"}, {"type": "Constant", "val": 1, "layer": "BatchNorm2d"},
                    {"type": "Normal", "std": 0.01, "layer": "Linear"}]"#,
            )?,
        });
        let mut features = Vec::new();
        let push = |features: &mut Vec<Layer>, spec: ConvSpec| -> mmcv::Result<()> {
            let vb = vb.pp("features").pp(features.len());
            features.push(Layer::Conv(Box::new(Conv2d::from_spec(spec.bias(true), &vb)?)));
            features.push(Layer::Relu);
            Ok(())
        };
        let mut from = 3;
        for (i, blocks) in blocks.into_iter().enumerate() {
            let planes = if i < 4 { 64 << i } else { 512 };
            for _ in 0..blocks {
                push(&mut features, ConvSpec::new(from, planes, 3).padding(1))?;
                from = planes;
            }
            if i < 4 || cfg.with_last_pool {
                features.push(Layer::Pool(2, 2, 0, cfg.ceil_mode));
            }
        }
        features.push(Layer::Pool(3, 1, 1, false));
        push(&mut features, ConvSpec::new(512, 1024, 3).padding(6).dilation(6))?;
        push(&mut features, ConvSpec::new(1024, 1024, 1))?;
        if let Some(bad) = cfg.out_feature_indices.iter().find(|i| **i >= features.len()) {
            let message = format!("{bad} is past the last of {} layers", features.len());
            return Err(Error::config(message).under("out_feature_indices"));
        }
        Ok(Self { features, outs: cfg.out_feature_indices.clone() })
    }
}

impl Backbone for SsdVgg {
    /// One map for each of `out_feature_indices`.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let (mut x, mut outs) = (x.clone(), Vec::new());
        for (i, layer) in self.features.iter().enumerate() {
            x = match layer {
                // The original rectifies in place, so a convolution's own output is rectified too.
                Layer::Conv(conv) => conv_norm_act(conv.as_ref(), None, &x, None, Act::Relu, ctx)?,
                Layer::Relu => x,
                Layer::Pool(k, s, p, ceil) => ops::max_pool2d(&x, [*k; 2], [*s; 2], [*p; 2], *ceil)?,
            };
            if self.outs.contains(&i) {
                outs.push(x.clone());
            }
        }
        Ok(outs)
    }
}

register!(BACKBONES: dyn Backbone, "SSDVGG" => SsdVgg, SsdVggConfig);
