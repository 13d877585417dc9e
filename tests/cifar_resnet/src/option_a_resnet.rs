//! Deep Residual Learning for Image Recognition, He et al., CVPR 2016 (<https://arxiv.org/abs/1512.03385>), section 4.2: three
//! stages of 16, 32 and 64 channels with shortcuts that have no parameters (option A).

use candle_core::{Result, Tensor};
use mmcls::models::backbones::BACKBONES;
use mmcv::cnn::{Backbone, Conv2d, ConvSpec, NormLayer, build_norm_layer, conv_norm_act};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::ops::{self, Act, AvgPoolOptions};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

/// `type = "OptionAResNet"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptionAResNetConfig {
    /// Layers with weights, the last linear one included: 6n + 2, as 20, 32, 44, 56 and 110.
    pub depth: usize,
    /// Norm behind each convolution; default `BN`.
    #[serde(default = "bn")]
    pub norm_cfg: Node,
}

fn bn() -> Node {
    Node::from_json(r#"{"type": "BN"}"#).expect("the default is JSON")
}

/// A 3x3 convolution and its norm.
struct Unit {
    conv: Conv2d,
    norm: Box<dyn NormLayer>,
}

impl Unit {
    /// Keys: `conv{number}.*`, `bn{number}.*`.
    fn new(channels: [usize; 2], stride: usize, number: usize, norm: &Node, vb: &VarBuilder) -> mmcv::Result<Self> {
        let spec = ConvSpec::new(channels[0], channels[1], 3).stride(stride).padding(1);
        Ok(Self {
            conv: Conv2d::from_spec(spec, &vb.pp(format!("conv{number}")))?,
            norm: build_norm_layer(norm, channels[1], vb.pp(format!("bn{number}")))?,
        })
    }

    /// `relu(norm(conv(x)) + add)`.
    fn forward(&self, x: &Tensor, add: Option<&Tensor>, ctx: &Ctx) -> Result<Tensor> {
        conv_norm_act(&self.conv, Some(self.norm.as_ref()), x, add, Act::Relu, ctx)
    }
}

/// Two units and a shortcut.
struct Block {
    units: [Unit; 2],
    /// Where the block halves the map: channels of zeros on each side of the shortcut's.
    widens_by: Option<usize>,
}

impl Block {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let [a, b] = &self.units;
        let y = a.forward(x, None, ctx)?;
        match self.widens_by {
            None => b.forward(&y, Some(x), ctx),
            Some(zeros) => b.forward(&y, Some(&shortcut(x, zeros)?), ctx),
        }
    }
}

/// Every second row and column of `[B, C, H, W]`, with `zeros` channels of zeros before and behind.
fn shortcut(x: &Tensor, zeros: usize) -> Result<Tensor> {
    let x = ops::avg_pool2d(x, [1, 1], [2, 2], [0, 0], AvgPoolOptions::default())?;
    let (b, _, h, w) = x.dims4()?;
    let side = Tensor::zeros((b, zeros, h, w), x.dtype(), x.device())?;
    Tensor::cat(&[&side, &x, &side], 1)
}

/// Keys: `conv1.*`, `bn1.*`, `layer{1..3}.{block}.{conv, bn}{1, 2}.*`.
pub struct OptionAResNet {
    stem: Unit,
    blocks: Vec<Block>,
}

impl OptionAResNet {
    /// The network at `vb`; an error for a depth that is none.
    pub fn new(cfg: &OptionAResNetConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        if cfg.depth < 8 || cfg.depth % 6 != 2 {
            let message = format!("is {}, expected 6n + 2: 20, 32, 44, 56, 110, ...", cfg.depth);
            return Err(mmcv::Error::config(message).under("depth"));
        }
        let stem = Unit::new([3, 16], 1, 1, &cfg.norm_cfg, &vb)?;
        let (mut from, mut blocks) = (16, Vec::new());
        for (stage, to) in [16, 32, 64].into_iter().enumerate() {
            let layer = vb.pp(format!("layer{}", stage + 1));
            for i in 0..(cfg.depth - 2) / 6 {
                let at = layer.pp(i);
                let halves = from != to;
                let stride = if halves { 2 } else { 1 };
                let units = [
                    Unit::new([from, to], stride, 1, &cfg.norm_cfg, &at)?,
                    Unit::new([to, to], 1, 2, &cfg.norm_cfg, &at)?,
                ];
                blocks.push(Block { units, widens_by: halves.then_some((to - from) / 2) });
                from = to;
            }
        }
        Ok(Self { stem, blocks })
    }
}

impl Backbone for OptionAResNet {
    /// `[B, 3, H, W]` to the last stage's `[B, 64, H / 4, W / 4]`, rounded up.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let x = self.stem.forward(x, None, ctx)?;
        Ok(vec![self.blocks.iter().try_fold(x, |x, block| block.forward(&x, ctx))?])
    }
}

register!(BACKBONES: dyn Backbone, "OptionAResNet" => OptionAResNet, OptionAResNetConfig);

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    // F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1)) of torch.arange(9.).view(1, 1, 3, 3)
    #[test]
    fn the_shortcut_takes_every_second_pixel() {
        let x = Tensor::arange(0f32, 9.0, &Device::Cpu).unwrap().reshape((1, 1, 3, 3)).unwrap();
        let y = shortcut(&x, 1).unwrap();
        assert_eq!(y.dims(), [1, 3, 2, 2]);
        let values: Vec<f32> = y.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(values, [0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 6.0, 8.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn depths_are_those_of_the_paper() {
        // The README of the published weights: 0.27 M parameters, the linear layer's 650 included.
        let vb = VarBuilder::scratch();
        let cfg = |depth| OptionAResNetConfig { depth, norm_cfg: bn() };
        OptionAResNet::new(&cfg(20), vb.clone()).unwrap();
        assert_eq!(vb.store().num_params(), 269_722 - 650);
        let e = OptionAResNet::new(&cfg(18), VarBuilder::scratch()).err().unwrap();
        assert!(e.is_usage() && e.to_string().contains("depth: is 18"), "{e}");
    }
}
