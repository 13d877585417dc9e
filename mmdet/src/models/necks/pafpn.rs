//! Path Aggregation Network for Instance Segmentation, Liu et al., CVPR 2018 (<https://arxiv.org/abs/1803.01534>):
//! FPN with a second path, from fine to coarse.

use candle_core::{Result, Tensor};
use mmcv::cnn::{ConvModule, ConvModuleConfig, ConvSpec};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fpn::{AddExtraConvs, Fpn, FpnConfig, minus_one, nearest, xavier};
use super::{NECKS, Neck};

/// `type = "PAFPN"`. Fields and defaults are OpenMMLab's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PaFpnConfig {
    /// Channels of each backbone level, fine to coarse.
    pub in_channels: Vec<usize>,
    /// Channels of every output level.
    pub out_channels: usize,
    /// Number of output levels.
    pub num_outs: usize,
    /// First backbone level used; default 0.
    #[serde(default)]
    pub start_level: usize,
    /// Last backbone level used; default -1, the last.
    #[serde(default = "minus_one")]
    pub end_level: i64,
    /// Source of the levels past the backbone's; default false, which pools.
    #[serde(default)]
    pub add_extra_convs: AddExtraConvs,
    /// ReLU before each extra convolution but the first; default false.
    #[serde(default)]
    pub relu_before_extra_convs: bool,
    /// Whether laterals go without norm; default false.
    #[serde(default)]
    pub no_norm_on_lateral: bool,
    /// Kind of convolution.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default none.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// Kind of activation; default none.
    #[serde(default)]
    pub act_cfg: Option<Node>,
    /// How weights start; default Xavier uniform for convolutions.
    #[serde(default = "xavier")]
    pub init_cfg: Node,
}

/// Keys: `FPN`'s, `downsample_convs.{i}.*`, `pafpn_convs.{i}.*`.
pub struct PaFpn {
    fpn: Fpn,
    downsample_convs: Vec<ConvModule>,
    pafpn_convs: Vec<ConvModule>,
}

impl PaFpn {
    /// The neck at `vb`.
    pub fn new(cfg: &PaFpnConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        let fpn = FpnConfig {
            in_channels: cfg.in_channels.clone(),
            out_channels: cfg.out_channels,
            num_outs: cfg.num_outs,
            start_level: cfg.start_level,
            end_level: cfg.end_level,
            add_extra_convs: cfg.add_extra_convs,
            relu_before_extra_convs: cfg.relu_before_extra_convs,
            no_norm_on_lateral: cfg.no_norm_on_lateral,
            conv_cfg: cfg.conv_cfg.clone(),
            norm_cfg: cfg.norm_cfg.clone(),
            act_cfg: cfg.act_cfg.clone(),
            upsample_cfg: nearest(),
            init_cfg: cfg.init_cfg.clone(),
        };
        let fpn = Fpn::new(&fpn, vb.clone())?;
        let c = cfg.out_channels;
        let stack = |name: &str, stride: usize| -> mmcv::Result<Vec<ConvModule>> {
            let one = |i: usize| {
                let made = ConvModuleConfig::new(ConvSpec::new(c, c, 3).stride(stride).padding(1));
                let made = made.conv(cfg.conv_cfg.as_ref()).norm(cfg.norm_cfg.as_ref()).act(cfg.act_cfg.as_ref());
                ConvModule::new(made, vb.pp(name).pp(i))
            };
            (0..fpn.used_levels() - 1).map(one).collect()
        };
        let (downsample_convs, pafpn_convs) = (stack("downsample_convs", 2)?, stack("pafpn_convs", 1)?);
        Ok(Self { fpn, downsample_convs, pafpn_convs })
    }
}

impl Neck for PaFpn {
    /// Shapes as [`Fpn`].
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Tensor>> {
        let laterals = self.fpn.top_down(feats, ctx)?;
        let mut outs = self.fpn.outputs(&laterals, ctx)?;
        for (i, conv) in self.downsample_convs.iter().enumerate() {
            outs[i + 1] = (&outs[i + 1] + conv.forward(&outs[i], ctx)?)?;
        }
        for (out, conv) in outs[1..].iter_mut().zip(&self.pafpn_convs) {
            *out = conv.forward(out, ctx)?;
        }
        self.fpn.extend(&mut outs, feats, &laterals, ctx)?;
        Ok(outs)
    }
}

register!(NECKS: dyn Neck, "PAFPN" => PaFpn, PaFpnConfig);
