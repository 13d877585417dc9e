//! A depthwise and a pointwise convolution in a row (mmcv `depthwise_separable_conv_module.py`; Howard et al., MobileNets, 2017).

use candle_core::{Result, Tensor};

use super::conv::ConvSpec;
use super::conv_module::{ConvModule, ConvModuleConfig};
use crate::config::Node;
use crate::nn::{Ctx, VarBuilder};

/// What a [`DepthwiseSeparableConvModule`] is made of. `None` for one of the four is what `shared` has.
#[derive(Debug, Clone)]
pub struct DepthwiseSeparableConfig {
    /// Geometry of the depthwise part, and everything that both parts share.
    pub shared: ConvModuleConfig,
    /// Norm of the depthwise part.
    pub dw_norm_cfg: Option<Option<Node>>,
    /// Activation of the depthwise part.
    pub dw_act_cfg: Option<Option<Node>>,
    /// Norm of the pointwise part.
    pub pw_norm_cfg: Option<Option<Node>>,
    /// Activation of the pointwise part.
    pub pw_act_cfg: Option<Option<Node>>,
}

impl DepthwiseSeparableConfig {
    /// Both parts as `shared`.
    pub fn new(shared: ConvModuleConfig) -> Self {
        Self { shared, dw_norm_cfg: None, dw_act_cfg: None, pw_norm_cfg: None, pw_act_cfg: None }
    }
}

/// Keys: `depthwise_conv.*`, `pointwise_conv.*`.
pub struct DepthwiseSeparableConvModule {
    depthwise_conv: ConvModule,
    pointwise_conv: ConvModule,
}

impl DepthwiseSeparableConvModule {
    /// The module at `vb`.
    pub fn new(cfg: DepthwiseSeparableConfig, vb: VarBuilder) -> crate::Result<Self> {
        let ConvSpec { in_channels, out_channels, .. } = cfg.shared.spec;
        let part = |spec: ConvSpec, norm: &Option<Option<Node>>, act: &Option<Option<Node>>| ConvModuleConfig {
            spec,
            norm_cfg: norm.clone().unwrap_or_else(|| cfg.shared.norm_cfg.clone()),
            act_cfg: act.clone().unwrap_or_else(|| cfg.shared.act_cfg.clone()),
            ..cfg.shared.clone()
        };
        let depth = ConvSpec { out_channels: in_channels, groups: in_channels, ..cfg.shared.spec };
        let point = ConvSpec::new(in_channels, out_channels, 1);
        Ok(Self {
            depthwise_conv: ConvModule::new(part(depth, &cfg.dw_norm_cfg, &cfg.dw_act_cfg), vb.pp("depthwise_conv"))?,
            pointwise_conv: ConvModule::new(part(point, &cfg.pw_norm_cfg, &cfg.pw_act_cfg), vb.pp("pointwise_conv"))?,
        })
    }

    /// `[B, in, H, W]` to `[B, out, H', W']`.
    pub fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        self.pointwise_conv.forward(&self.depthwise_conv.forward(x, ctx)?, ctx)
    }
}
