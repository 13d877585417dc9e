//! Designing Network Design Spaces, Radosavovic et al., CVPR 2020 (<https://arxiv.org/abs/2003.13678>): mmdet's `regnet.py`.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    ResLayer, ResLayerSpec, ResNet, StagePlugin, StemLayers, Style, default_init, default_norm, minus_one, of_own_ops,
    own_init, stage_dcn, yes,
};
use crate::cnn::backbone::Backbone;
use crate::cnn::bricks::{ConvSpec, build_conv_layer, build_norm_layer, norm_name};
use crate::config::Node;
use crate::error::{Error, Result as CoreResult};
use crate::nn::{Ctx, VarBuilder};

/// A network of the design space.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchSettings {
    /// Width of the first block.
    pub w0: usize,
    /// Slope of the width.
    pub wa: f64,
    /// Step of the width.
    pub wm: f64,
    /// Width of a group.
    pub group_w: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Bottleneck ratio.
    pub bot_mul: f64,
}

/// A network by name (`regnetx_800mf`) or by its figures.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Arch {
    /// `regnetx_400mf`, `_800mf`, `_1.6gf`, `_3.2gf`, `_4.0gf`, `_6.4gf`, `_8.0gf`, `_12gf`.
    Name(String),
    /// Figures.
    Settings(ArchSettings),
}

const NAMED: [(&str, ArchSettings); 8] = [
    ("regnetx_400mf", arch(24, 24.48, 2.54, 16, 22)),
    ("regnetx_800mf", arch(56, 35.73, 2.28, 16, 16)),
    ("regnetx_1.6gf", arch(80, 34.01, 2.25, 24, 18)),
    ("regnetx_3.2gf", arch(88, 26.31, 2.25, 48, 25)),
    ("regnetx_4.0gf", arch(96, 38.65, 2.43, 40, 23)),
    ("regnetx_6.4gf", arch(184, 60.83, 2.07, 56, 17)),
    ("regnetx_8.0gf", arch(80, 49.56, 2.88, 120, 23)),
    ("regnetx_12gf", arch(168, 73.36, 2.37, 112, 19)),
];

const fn arch(w0: usize, wa: f64, wm: f64, group_w: usize, depth: usize) -> ArchSettings {
    ArchSettings { w0, wa, wm, group_w, depth, bot_mul: 1.0 }
}

/// `type = "RegNet"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegNetConfig {
    /// Which network.
    pub arch: Arch,
    /// Channels of the image; default 3.
    #[serde(default = "super::three")]
    pub in_channels: usize,
    /// Channels of the stem; default 32.
    #[serde(default = "thirty_two")]
    pub stem_channels: usize,
    /// Accepted; the original doesn't use it either.
    #[serde(default = "thirty_two")]
    pub base_channels: usize,
    /// Stride of each stage; default 2.
    #[serde(default = "twos")]
    pub strides: Vec<usize>,
    /// Dilation of each stage; default 1.
    #[serde(default = "super::ones")]
    pub dilations: Vec<usize>,
    /// Stages whose output is handed on; default all four.
    #[serde(default = "super::all")]
    pub out_indices: Vec<usize>,
    /// Where a block's stride is; default `pytorch`.
    #[serde(default)]
    pub style: Style,
    /// Accepted; the original doesn't use it either.
    #[serde(default)]
    pub deep_stem: bool,
    /// Average pool before the shortcut's 1x1; default false.
    #[serde(default)]
    pub avg_down: bool,
    /// Stages that are not trained; default -1, none.
    #[serde(default = "minus_one")]
    pub frozen_stages: i64,
    /// Kind of convolution; default `Conv2d`.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default `BN`.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// Whether batch norms keep their running statistics in training; default true.
    #[serde(default = "yes")]
    pub norm_eval: bool,
    /// Deformable convolutions in place of the 3x3s.
    #[serde(default)]
    pub dcn: Option<Node>,
    /// Stages with deformable convolutions.
    #[serde(default)]
    pub stage_with_dcn: Option<Vec<bool>>,
    /// Plugins of the blocks.
    #[serde(default)]
    pub plugins: Option<Vec<StagePlugin>>,
    /// As in `ResNet`.
    #[serde(default)]
    pub with_cp: bool,
    /// Whether the last norm of each block starts at 0; default true.
    #[serde(default = "yes")]
    pub zero_init_residual: bool,
    /// Checkpoint to start from (older spelling).
    #[serde(default)]
    pub pretrained: Option<String>,
    /// How weights start; default Kaiming and 1 for norms.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

fn thirty_two() -> usize {
    32
}
fn twos() -> Vec<usize> {
    vec![2; 4]
}

/// Width and number of blocks of each stage.
fn stages(arch: &ArchSettings) -> Vec<(usize, usize)> {
    let mut stages: Vec<(usize, usize)> = Vec::new();
    for i in 0..arch.depth {
        let continuous = i as f64 * arch.wa + arch.w0 as f64;
        let step = ((continuous / arch.w0 as f64).ln() / arch.wm.ln()).round_ties_even();
        let width = ((arch.w0 as f64 * arch.wm.powf(step) / 8.0).round_ties_even() * 8.0) as usize;
        match stages.last_mut() {
            Some((last, n)) if *last == width => *n += 1,
            _ => stages.push((width, 1)),
        }
    }
    stages
}

/// Keys: `conv1.*`, `bn1.*`, `layer{1..4}.{block}.*`.
pub struct RegNet(ResNet);

impl RegNet {
    /// The network at `vb`.
    pub fn new(cfg: &RegNetConfig, vb: VarBuilder) -> CoreResult<Self> {
        Self::with_pool_at_stride_1(cfg, true, vb)
    }

    /// The network whose shortcuts have a place for a pool of stride 1, or not; see [`ResLayerSpec::pool_at_stride_1`].
    pub fn with_pool_at_stride_1(cfg: &RegNetConfig, pool_at_stride_1: bool, vb: VarBuilder) -> CoreResult<Self> {
        let arch = match &cfg.arch {
            Arch::Settings(settings) => *settings,
            Arch::Name(name) => match NAMED.iter().find(|(n, _)| n == name) {
                Some((_, settings)) => *settings,
                None => {
                    let hint = crate::error::did_you_mean(name, NAMED.iter().map(|(n, _)| *n));
                    return Err(Error::config(format!("unknown RegNet '{name}'{hint}")).under("arch"));
                }
            },
        };
        if arch.w0 == 0 || arch.w0 % 8 != 0 || arch.wa < 0.0 || arch.wm <= 1.0 || arch.depth == 0 || arch.group_w == 0 {
            let message = "w0 must be a multiple of 8, wa at least 0, wm above 1, depth and group_w at least 1";
            return Err(Error::config(message).under("arch"));
        }
        let plan = stages(&arch);
        let n = plan.len();
        let fits = (1..=4).contains(&n) && cfg.strides.len() == n && cfg.dilations.len() == n;
        if !fits || cfg.out_indices.iter().any(|i| *i >= n) || cfg.frozen_stages > n as i64 {
            let message =
                format!("the network has {n} stages; strides, dilations, out_indices or frozen_stages don't fit");
            return Err(Error::config(message).under("arch"));
        }
        let given = own_init(cfg.init_cfg.as_ref(), cfg.pretrained.as_deref())?;
        vb.init_cfg(&given.clone().unwrap_or_else(default_init));

        let norm_cfg = cfg.norm_cfg.clone().filter(|c| !c.is_null());
        let norm_cfg = norm_cfg.unwrap_or_else(default_norm);
        let conv_cfg = cfg.conv_cfg.clone().filter(|c| !c.is_null());
        let spec = ConvSpec::new(cfg.in_channels, cfg.stem_channels, 3).stride(2).padding(1);
        let unit = (
            build_conv_layer(conv_cfg.as_ref(), spec, vb.pp("conv1"))?,
            build_norm_layer(&norm_cfg, cfg.stem_channels, vb.pp(norm_name(&norm_cfg, "1")))?,
        );
        let stem = StemLayers { units: vec![unit], pool: false };
        let mut inplanes = cfg.stem_channels;
        let mut layers = Vec::new();
        for (i, (width, num_blocks)) in plan.into_iter().enumerate() {
            // Widths and groups are made to divide each other.
            let inner = (width as f64 * arch.bot_mul) as usize;
            let group = arch.group_w.min(inner.max(1));
            let inner = ((inner as f64 / group as f64).round_ties_even() as usize) * group;
            let planes = (inner as f64 / arch.bot_mul) as usize;
            let groups = (planes as f64 * arch.bot_mul).round_ties_even() as usize / group;
            let per_group = (planes as f64 * (group as f64 / planes as f64)).floor() as usize;
            let spec = ResLayerSpec {
                bottleneck: true,
                inplanes,
                planes,
                expansion: 1,
                num_blocks,
                stride: cfg.strides[i],
                dilation: cfg.dilations[i],
                groups,
                width: if groups == 1 { planes } else { per_group * groups },
                caffe: cfg.style == Style::Caffe,
                avg_down: cfg.avg_down,
                pool_at_stride_1,
                zero_init_residual: cfg.zero_init_residual && given.is_none(),
                conv_cfg: conv_cfg.clone(),
                norm_cfg: norm_cfg.clone(),
                dcn: stage_dcn(cfg.dcn.as_ref(), cfg.stage_with_dcn.as_deref(), i, n)?,
                plugins: super::stage_plugins(cfg.plugins.as_deref(), i, n)?,
                with_cp: cfg.with_cp,
                ..ResLayerSpec::default()
            };
            inplanes = planes;
            layers.push(ResLayer::new(&spec, &vb.pp(format!("layer{}", i + 1)))?);
        }
        let model = ResNet {
            stem: Arc::new(move |x, ctx| stem.forward(x, ctx)),
            stem_region: of_own_ops(conv_cfg.as_ref(), &norm_cfg),
            layers,
            out_indices: cfg.out_indices.clone(),
            frozen_stages: cfg.frozen_stages,
            norm_eval: cfg.norm_eval,
        };
        model.freeze(&vb);
        Ok(Self(model))
    }
}

impl Backbone for RegNet {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.0.forward(x, ctx)
    }
    fn forward_behind(&self, stage: usize, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.0.forward_behind(stage, x, ctx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // mmdet: RegNet('regnetx_3.2gf'): stage_widths [96, 192, 432, 1008], stage_blocks [2, 6, 15, 2]
    #[test]
    fn widths_are_the_papers() {
        let vb = VarBuilder::scratch();
        let cfg = Node::from_json(r#"{"arch": "regnetx_3.2gf"}"#).unwrap().parse().unwrap();
        RegNet::new(&cfg, vb.clone()).unwrap();
        for (stage, (width, blocks)) in (1..).zip([(96, 2), (192, 6), (432, 15), (1008, 2)]) {
            let last = vb.store().get(&format!("layer{stage}.{}.conv3.weight", blocks - 1)).unwrap();
            assert_eq!(last.shape().dims()[0], width);
            assert!(vb.store().get(&format!("layer{stage}.{blocks}.conv3.weight")).is_none());
        }
    }

    #[test]
    fn an_unknown_network_is_named() {
        let cfg = Node::from_json(r#"{"arch": "regnetx_800mb"}"#).unwrap().parse().unwrap();
        let e = RegNet::new(&cfg, VarBuilder::scratch()).err().unwrap().to_string();
        assert!(e.contains("did you mean 'regnetx_800mf'"), "{e}");
    }
}
