//! Feature Pyramid Networks for Object Detection, Lin et al., CVPR 2017 (<https://arxiv.org/abs/1612.03144>).

use candle_core::{Result, Tensor, bail};
use mmcv::cnn::{ConvModule, ConvModuleConfig, ConvSpec};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::{Error, ops, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{NECKS, Neck};

/// What the levels past the backbone's are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(try_from = "AddExtraConvsText", rename_all = "snake_case")]
pub enum AddExtraConvs {
    /// No convolution: each further level is the last output, every second value.
    #[default]
    False,
    /// A stride-2 convolution of the backbone's last level.
    OnInput,
    /// A stride-2 convolution of the last lateral.
    OnLateral,
    /// A stride-2 convolution of the last output.
    OnOutput,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum AddExtraConvsText {
    Flag(bool),
    Text(String),
}

impl TryFrom<AddExtraConvsText> for AddExtraConvs {
    type Error = String;
    fn try_from(text: AddExtraConvsText) -> std::result::Result<Self, String> {
        match text {
            AddExtraConvsText::Flag(false) => Ok(Self::False),
            AddExtraConvsText::Flag(true) => Ok(Self::OnInput),
            AddExtraConvsText::Text(t) => match t.as_str() {
                "on_input" => Ok(Self::OnInput),
                "on_lateral" => Ok(Self::OnLateral),
                "on_output" => Ok(Self::OnOutput),
                _ => Err(format!("'{t}', expected true, false, 'on_input', 'on_lateral' or 'on_output'")),
            },
        }
    }
}

/// How a coarse level is enlarged onto the next finer one.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpsampleConfig {
    /// `nearest` or `bilinear`; default `nearest`.
    #[serde(default)]
    pub mode: UpsampleMode,
    /// Factor; default is whatever reaches the finer level's size.
    #[serde(default)]
    pub scale_factor: Option<f64>,
    /// For `bilinear`; default false.
    #[serde(default)]
    pub align_corners: Option<bool>,
}

/// Interpolation of a neck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpsampleMode {
    /// Repeats values.
    #[default]
    Nearest,
    /// Mixes the four nearest values.
    Bilinear,
}

/// `type = "FPN"`. Fields and defaults are OpenMMLab's.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FpnConfig {
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
    /// How levels are enlarged; default nearest.
    #[serde(default = "nearest")]
    pub upsample_cfg: UpsampleConfig,
    /// How weights start; default Xavier uniform for convolutions.
    #[serde(default = "xavier")]
    pub init_cfg: Node,
}

pub(super) fn minus_one() -> i64 {
    -1
}
pub(super) fn nearest() -> UpsampleConfig {
    UpsampleConfig { mode: UpsampleMode::Nearest, scale_factor: None, align_corners: None }
}
pub(super) fn xavier() -> Node {
    Node::from_json(r#"{"type": "Xavier", "layer": "Conv2d", "distribution": "uniform"}"#).expect("the default is JSON")
}

/// Keys: `lateral_convs.{i}.conv.*` and `fpn_convs.{i}.conv.*`, `i` counted from `start_level`.
pub struct Fpn {
    lateral_convs: Vec<ConvModule>,
    fpn_convs: Vec<ConvModule>,
    end: usize,
    cfg: FpnConfig,
}

impl Fpn {
    /// The neck at `vb`.
    pub fn new(cfg: &FpnConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        let ins = cfg.in_channels.len();
        let to_last = cfg.end_level == -1 || cfg.end_level == ins as i64 - 1;
        let end = if to_last { ins } else { usize::try_from(cfg.end_level + 1).unwrap_or(0) };
        let bad = |key: &str, message: String| Err(Error::config(message).under(key));
        if cfg.start_level >= end || end > ins {
            return bad("end_level", format!("levels {}..{end} of a backbone with {ins}", cfg.start_level));
        }
        let used = end - cfg.start_level;
        if cfg.num_outs < used || (!to_last && cfg.num_outs != used) {
            return bad(
                "num_outs",
                format!("is {}, but the levels {}..{end} of the backbone make {used}", cfg.num_outs, cfg.start_level),
            );
        }
        vb.init_cfg(&cfg.init_cfg);
        let module = |spec: ConvSpec, norm: bool, vb: VarBuilder| {
            let norm = cfg.norm_cfg.as_ref().filter(|_| norm);
            let made = ConvModuleConfig::new(spec).conv(cfg.conv_cfg.as_ref()).norm(norm).act(cfg.act_cfg.as_ref());
            ConvModule::new(made, vb)
        };
        let out = cfg.out_channels;
        let (laterals, fpns) = (vb.pp("lateral_convs"), vb.pp("fpn_convs"));
        let (mut lateral_convs, mut fpn_convs) = (Vec::new(), Vec::new());
        for (i, &channels) in cfg.in_channels[cfg.start_level..end].iter().enumerate() {
            lateral_convs.push(module(ConvSpec::new(channels, out, 1), !cfg.no_norm_on_lateral, laterals.pp(i))?);
        }
        for i in 0..used {
            fpn_convs.push(module(ConvSpec::new(out, out, 3).padding(1), true, fpns.pp(i))?);
        }
        if cfg.add_extra_convs != AddExtraConvs::False {
            for i in used..cfg.num_outs {
                let from_backbone = i == used && cfg.add_extra_convs == AddExtraConvs::OnInput;
                let channels = if from_backbone { cfg.in_channels[end - 1] } else { out };
                fpn_convs.push(module(ConvSpec::new(channels, out, 3).stride(2).padding(1), true, fpns.pp(i))?);
            }
        }
        Ok(Self { lateral_convs, fpn_convs, end, cfg: cfg.clone() })
    }

    fn enlarge(&self, x: &Tensor, finer: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        let size = match self.cfg.upsample_cfg.scale_factor {
            Some(s) => ((h as f64 * s).floor() as usize, (w as f64 * s).floor() as usize),
            None => (finer.dim(2)?, finer.dim(3)?),
        };
        match self.cfg.upsample_cfg.mode {
            UpsampleMode::Nearest => ops::interpolate_nearest(x, size),
            UpsampleMode::Bilinear => {
                ops::interpolate_bilinear(x, size, self.cfg.upsample_cfg.align_corners.unwrap_or(false))
            }
        }
    }
}

impl Fpn {
    /// The laterals with the top-down path added: one for each used level.
    pub(super) fn top_down(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Tensor>> {
        if feats.len() != self.cfg.in_channels.len() {
            bail!("FPN: {} levels came in, in_channels names {}", feats.len(), self.cfg.in_channels.len());
        }
        let used = &feats[self.cfg.start_level..self.end];
        let mut laterals =
            self.lateral_convs.iter().zip(used).map(|(conv, x)| conv.forward(x, ctx)).collect::<Result<Vec<_>>>()?;
        for i in (1..laterals.len()).rev() {
            laterals[i - 1] = (&laterals[i - 1] + self.enlarge(&laterals[i], &laterals[i - 1])?)?;
        }
        Ok(laterals)
    }

    /// The output convolutions of the laterals.
    pub(super) fn outputs(&self, laterals: &[Tensor], ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.fpn_convs.iter().zip(laterals).map(|(conv, x)| conv.forward(x, ctx)).collect()
    }

    /// Adds the levels past the backbone's.
    pub(super) fn extend(
        &self,
        outs: &mut Vec<Tensor>,
        feats: &[Tensor],
        laterals: &[Tensor],
        ctx: &Ctx,
    ) -> Result<()> {
        let mut source = match self.cfg.add_extra_convs {
            AddExtraConvs::OnInput => feats[self.end - 1].clone(),
            AddExtraConvs::OnLateral => laterals[laterals.len() - 1].clone(),
            AddExtraConvs::OnOutput | AddExtraConvs::False => outs[outs.len() - 1].clone(),
        };
        for (i, conv) in self.fpn_convs[laterals.len()..].iter().enumerate() {
            if i > 0 && self.cfg.relu_before_extra_convs {
                source = ops::relu(&source)?;
            }
            source = conv.forward(&source, ctx)?;
            outs.push(source.clone());
        }
        while outs.len() < self.cfg.num_outs {
            source = ops::max_pool2d(&source, [1, 1], [2, 2], [0, 0], false)?;
            outs.push(source.clone());
        }
        Ok(())
    }

    /// Number of levels that come from the backbone.
    pub(super) fn used_levels(&self) -> usize {
        self.end - self.cfg.start_level
    }
}

impl Neck for Fpn {
    /// # Shapes
    /// - `feats[l]`: `[B, in_channels[l], H_l, W_l]`, one per backbone level
    /// - output `l` of `num_outs`: `[B, out_channels, H, W]` of backbone level `start_level + l`, halved (rounding up)
    ///   for each level past the last
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Tensor>> {
        let laterals = self.top_down(feats, ctx)?;
        let mut outs = self.outputs(&laterals, ctx)?;
        self.extend(&mut outs, feats, &laterals, ctx)?;
        Ok(outs)
    }
}

register!(NECKS: dyn Neck, "FPN" => Fpn, FpnConfig);
