//! What a residual network is made of, whatever the config is called that asks for it.

use std::sync::Arc;

use super::block::{ResLayer, ResLayerSpec};
use super::{ResNet, StagePlugin, StemLayers, Style, default_init, default_norm, of_own_ops, stage_dcn, stage_plugins};
use crate::cnn::bricks::{ConvSpec, build_conv_layer, build_norm_layer, norm_name};
use crate::config::Node;
use crate::error::{Error, Result};
use crate::nn::VarBuilder;

/// What comes before the first stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stem {
    /// A 7x7 of stride 2 and a 3x3 max pool of stride 2. Keys: `conv1.*`, `bn1.*`.
    #[default]
    Plain,
    /// Three 3x3s, the first of stride 2, and the pool. Keys: `stem.{0, 3, 6}.*`, `stem.{1, 4, 7}.*`.
    Deep,
    /// The same as modules of their own. Keys: `stem.{0, 1, 2}.conv.*`, `stem.{0, 1, 2}.bn.*`.
    DeepModules,
    /// A 3x3 of stride 1 and no pool, for small images. Keys: `conv1.*`, `bn1.*`.
    Small,
}

/// What the stages are made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Family {
    /// Plain blocks.
    #[default]
    Plain,
    /// Bottlenecks with a grouped 3x3.
    Next {
        /// Groups of the 3x3.
        groups: usize,
        /// Channels of each in the first stage.
        base_width: usize,
    },
    /// Bottlenecks with a chain of narrow 3x3s.
    Res2 {
        /// Slices of the channels.
        scales: usize,
        /// Channels of each in the first stage.
        base_width: usize,
    },
}

/// The parts of a residual network. The default is ResNet-50 with the last stage's output.
#[derive(Debug, Clone)]
pub struct ResNetSpec {
    /// 18, 34, 50, 101 or 152.
    pub depth: usize,
    /// Channels of the image.
    pub in_channels: usize,
    /// Channels of the stem.
    pub stem_channels: usize,
    /// Base channels of the first stage, doubled in each next one.
    pub base_channels: usize,
    /// A block puts out this many times its base channels; none: 4 for bottlenecks, 1 for basic blocks.
    pub expansion: Option<usize>,
    /// Number of stages, 1 to 4.
    pub num_stages: usize,
    /// Stride of each stage.
    pub strides: Vec<usize>,
    /// Dilation of each stage.
    pub dilations: Vec<usize>,
    /// Stages whose output is handed on.
    pub out_indices: Vec<usize>,
    /// Where a bottleneck's stride is.
    pub style: Style,
    /// What comes first.
    pub stem: Stem,
    /// Average pool before the shortcut's 1x1.
    pub avg_down: bool,
    /// See [`ResLayerSpec::pool_at_stride_1`].
    pub pool_at_stride_1: bool,
    /// Stages that are not trained: 0 is the stem, -1 none.
    pub frozen_stages: i64,
    /// Kind of convolution; none: `Conv2d`.
    pub conv_cfg: Option<Node>,
    /// Kind of norm; none: `BN`.
    pub norm_cfg: Option<Node>,
    /// Whether batch norms use and keep their running statistics in training.
    pub norm_eval: bool,
    /// Whether the last norm of each block starts at 0.
    pub zero_init_residual: bool,
    /// What the stages are made of.
    pub family: Family,
    /// The channels of each block's output are weighed (SE-ResNet).
    pub se_ratio: Option<usize>,
    /// Probability that a block is left out in training.
    pub drop_path_rate: f64,
    /// Deformable convolutions in place of the 3x3s.
    pub dcn: Option<Node>,
    /// Stages with deformable convolutions; none: all.
    pub stage_with_dcn: Option<Vec<bool>>,
    /// Plugins of the blocks.
    pub plugins: Option<Vec<StagePlugin>>,
    /// Whether blocks are run again in the backward pass in place of being kept.
    pub with_cp: bool,
    /// How weights start; none: Kaiming, and 1 for norms.
    pub init_cfg: Option<Node>,
}

impl Default for ResNetSpec {
    fn default() -> Self {
        Self {
            depth: 50,
            in_channels: 3,
            stem_channels: 64,
            base_channels: 64,
            expansion: None,
            num_stages: 4,
            strides: vec![1, 2, 2, 2],
            dilations: vec![1; 4],
            out_indices: vec![3],
            style: Style::Pytorch,
            stem: Stem::Plain,
            avg_down: false,
            pool_at_stride_1: false,
            frozen_stages: -1,
            conv_cfg: None,
            norm_cfg: None,
            norm_eval: false,
            zero_init_residual: true,
            family: Family::Plain,
            se_ratio: None,
            drop_path_rate: 0.0,
            dcn: None,
            stage_with_dcn: None,
            plugins: None,
            with_cp: false,
            init_cfg: None,
        }
    }
}

/// An error under `key` unless `ok`.
fn check(ok: bool, key: &str, message: impl FnOnce() -> String) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::config(message()).under(key)) }
}

impl ResNetSpec {
    /// Whether blocks are bottlenecks, and how many each stage has.
    fn depths(&self) -> Result<(bool, [usize; 4])> {
        let small = self.family == Family::Plain && self.se_ratio.is_none();
        Ok(match self.depth {
            18 if small => (false, [2, 2, 2, 2]),
            34 if small => (false, [3, 4, 6, 3]),
            50 => (true, [3, 4, 6, 3]),
            101 => (true, [3, 4, 23, 3]),
            152 => (true, [3, 8, 36, 3]),
            other => {
                let more = if small { "18, 34, " } else { "" };
                return Err(Error::config(format!("is {other}, expected {more}50, 101 or 152")).under("depth"));
            }
        })
    }

    fn check(&self) -> Result<()> {
        let stages = self.num_stages;
        check((1..=4).contains(&stages), "num_stages", || format!("is {stages}, expected 1 to 4"))?;
        for (key, list) in [("strides", &self.strides), ("dilations", &self.dilations)] {
            check(list.len() == stages, key, || format!("has {} values for {stages} stages", list.len()))?;
            check(!list.contains(&0), key, || "a value is 0".into())?;
        }
        check(self.out_indices.iter().all(|i| *i < stages), "out_indices", || {
            format!("{:?} names stages past the last, {}", self.out_indices, stages - 1)
        })?;
        check(self.frozen_stages <= stages as i64, "frozen_stages", || format!("more than the {stages} stages"))?;
        check(!matches!(self.family, Family::Next { groups: 0, .. }), "groups", || "is 0".into())?;
        check(self.base_channels > 0, "base_channels", || "is 0".into())?;
        check(self.expansion != Some(0), "expansion", || "is 0".into())?;
        check((0.0..1.0).contains(&self.drop_path_rate), "drop_path_rate", || {
            format!("is {}, expected at least 0 and less than 1", self.drop_path_rate)
        })
    }
}

impl ResNet {
    /// The network of `spec` at `vb`.
    pub fn from_spec(spec: &ResNetSpec, vb: VarBuilder) -> Result<Self> {
        let (bottleneck, depths) = spec.depths()?;
        spec.check()?;
        let own_init = spec.init_cfg.as_ref().filter(|i| !i.is_null());
        vb.init_cfg(&own_init.cloned().unwrap_or_else(default_init));
        let pretrained = own_init.is_some_and(|i| i.type_name() == Some("Pretrained"));

        let norm_cfg = match &spec.norm_cfg {
            Some(norm) if !norm.is_null() => norm.clone(),
            _ => default_norm(),
        };
        let conv_cfg = spec.conv_cfg.clone().filter(|c| !c.is_null());
        let stem = stem(spec, conv_cfg.as_ref(), &norm_cfg, &vb)?;
        let mut inplanes = spec.stem_channels;
        let mut layers = Vec::new();
        for (i, num_blocks) in depths.into_iter().take(spec.num_stages).enumerate() {
            let planes = spec.base_channels << i;
            let scaled = |base: usize| (planes as f64 * (base as f64 / spec.base_channels as f64)).floor() as usize;
            let (groups, width) = match spec.family {
                Family::Next { groups, base_width } if groups > 1 => (groups, scaled(base_width) * groups),
                Family::Res2 { base_width, .. } => (1, scaled(base_width)),
                _ => (1, planes),
            };
            let layer = ResLayerSpec {
                bottleneck,
                inplanes,
                planes,
                expansion: spec.expansion.unwrap_or(if bottleneck { 4 } else { 1 }),
                num_blocks,
                stride: spec.strides[i],
                dilation: spec.dilations[i],
                groups,
                width,
                caffe: spec.style == Style::Caffe,
                avg_down: spec.avg_down,
                pool_at_stride_1: spec.pool_at_stride_1,
                se_ratio: spec.se_ratio,
                drop_path_rate: spec.drop_path_rate,
                zero_init_residual: spec.zero_init_residual && !pretrained,
                conv_cfg: conv_cfg.clone(),
                dcn: stage_dcn(spec.dcn.as_ref(), spec.stage_with_dcn.as_deref(), i, spec.num_stages)?,
                norm_cfg: norm_cfg.clone(),
                plugins: stage_plugins(spec.plugins.as_deref(), i, spec.num_stages)?,
                with_cp: spec.with_cp,
            };
            inplanes = layer.out_channels();
            let vb = vb.pp(format!("layer{}", i + 1));
            layers.push(match spec.family {
                Family::Res2 { scales, .. } => ResLayer::res2(&layer, scales, &vb)?,
                _ => ResLayer::new(&layer, &vb)?,
            });
        }
        let model = Self {
            stem: Arc::new(move |x, ctx| stem.forward(x, ctx)),
            stem_region: of_own_ops(conv_cfg.as_ref(), &norm_cfg),
            layers,
            out_indices: spec.out_indices.clone(),
            frozen_stages: spec.frozen_stages,
            norm_eval: spec.norm_eval,
        };
        model.freeze(&vb);
        Ok(model)
    }
}

fn stem(spec: &ResNetSpec, conv_cfg: Option<&Node>, norm_cfg: &Node, vb: &VarBuilder) -> Result<StemLayers> {
    let unit = |conv: ConvSpec, conv_vb: VarBuilder, norm_vb: VarBuilder| -> Result<_> {
        Ok((build_conv_layer(conv_cfg, conv, conv_vb)?, build_norm_layer(norm_cfg, conv.out_channels, norm_vb)?))
    };
    let channels = spec.stem_channels;
    let pool = spec.stem != Stem::Small;
    let plain = |conv: ConvSpec| -> Result<StemLayers> {
        let unit = unit(conv, vb.pp("conv1"), vb.pp(norm_name(norm_cfg, "1")))?;
        Ok(StemLayers { units: vec![unit], pool })
    };
    if spec.stem == Stem::Plain {
        return plain(ConvSpec::new(spec.in_channels, channels, 7).stride(2).padding(3));
    }
    if spec.stem == Stem::Small {
        return plain(ConvSpec::new(spec.in_channels, channels, 3).padding(1));
    }
    let half = channels / 2;
    let plan = [(spec.in_channels, half, 2), (half, half, 1), (half, channels, 1)];
    let vb = vb.pp("stem");
    let mut units = Vec::new();
    for (i, (from, to, stride)) in plan.into_iter().enumerate() {
        let conv = ConvSpec::new(from, to, 3).stride(stride).padding(1);
        let (conv_vb, norm_vb) = match spec.stem {
            Stem::DeepModules => (vb.pp(i).pp("conv"), vb.pp(i).pp(norm_name(norm_cfg, ""))),
            _ => (vb.pp(3 * i), vb.pp(3 * i + 1)),
        };
        units.push(unit(conv, conv_vb, norm_vb)?);
    }
    Ok(StemLayers { units, pool })
}
