//! High-Resolution Representations for Labeling Pixels and Regions, Sun et al., 2019 (<https://arxiv.org/abs/1904.04514>):
//! mmdet's `hrnet.py`.

use candle_core::{Result, Tensor, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use super::backbone::Backbone;
use super::bricks::{ConvLayer, ConvSpec, NormLayer, build_conv_layer, build_norm_layer, conv_norm_act, norm_name};
use super::resnet::{ResLayer, ResLayerSpec, default_init, typed};
use crate::config::{Node, Value};
use crate::error::{Error, Result as CoreResult};
use crate::nn::{Ctx, VarBuilder};
use crate::ops::{self, Act};

/// Kind of residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HrBlock {
    /// Two 3x3s.
    Basic,
    /// 1x1, 3x3, 1x1; puts out 4 times its channels.
    Bottleneck,
}

impl HrBlock {
    fn expansion(self) -> usize {
        if self == Self::Bottleneck { 4 } else { 1 }
    }
}

/// One stage.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HrStage {
    /// Number of modules, each of which ends in an exchange between the branches.
    pub num_modules: usize,
    /// Number of branches.
    pub num_branches: usize,
    /// Kind of block.
    pub block: HrBlock,
    /// Blocks of each branch.
    pub num_blocks: Vec<usize>,
    /// Base channels of each branch.
    pub num_channels: Vec<usize>,
}

/// The four stages.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HrExtra {
    /// The first: one branch, of which the first figures count.
    pub stage1: HrStage,
    /// The second.
    pub stage2: HrStage,
    /// The third.
    pub stage3: HrStage,
    /// The fourth.
    pub stage4: HrStage,
}

/// `type = "HRNet"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HrNetConfig {
    /// The stages.
    pub extra: HrExtra,
    /// Channels of the image; default 3.
    #[serde(default = "three")]
    pub in_channels: usize,
    /// Kind of convolution; default `Conv2d`.
    #[serde(default)]
    pub conv_cfg: Option<Node>,
    /// Kind of norm; default `BN`.
    #[serde(default = "bn")]
    pub norm_cfg: Node,
    /// Whether batch norms keep their running statistics in training; default true.
    #[serde(default = "yes")]
    pub norm_eval: bool,
    /// Run blocks again in the backward pass to save memory.
    #[serde(default)]
    pub with_cp: bool,
    /// Accepted; the original never applies it.
    #[serde(default)]
    pub zero_init_residual: bool,
    /// Whether all branches are handed on, or the finest alone; default true.
    #[serde(default = "yes")]
    pub multiscale_output: bool,
    /// Checkpoint to start from (older spelling of a `Pretrained` `init_cfg`).
    #[serde(default)]
    pub pretrained: Option<String>,
    /// How weights start; default Kaiming and 1 for norms.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

fn three() -> usize {
    3
}
fn yes() -> bool {
    true
}
fn bn() -> Node {
    typed("BN", &[])
}

/// A convolution, a norm, and a ReLU where `relu`. Keys: `0.*`, `1.*`.
struct Unit {
    conv: Box<dyn ConvLayer>,
    norm: Box<dyn NormLayer>,
    relu: bool,
}

/// What layers are made with.
struct Kinds<'a> {
    conv: Option<&'a Node>,
    norm: &'a Node,
    with_cp: bool,
}

impl Kinds<'_> {
    fn unit(&self, spec: ConvSpec, relu: bool, vb: &VarBuilder) -> CoreResult<Unit> {
        self.unit_at(spec, relu, vb.pp(0), vb.pp(1))
    }

    fn unit_at(&self, spec: ConvSpec, relu: bool, conv: VarBuilder, norm: VarBuilder) -> CoreResult<Unit> {
        let conv = build_conv_layer(self.conv, spec, conv)?;
        Ok(Unit { conv, norm: build_norm_layer(self.norm, spec.out_channels, norm)?, relu })
    }

    fn layer(
        &self,
        block: HrBlock,
        from: usize,
        planes: usize,
        blocks: usize,
        vb: &VarBuilder,
    ) -> CoreResult<ResLayer> {
        let spec = ResLayerSpec {
            bottleneck: block == HrBlock::Bottleneck,
            inplanes: from,
            planes,
            expansion: block.expansion(),
            num_blocks: blocks,
            width: planes,
            conv_cfg: self.conv.cloned(),
            norm_cfg: self.norm.clone(),
            with_cp: self.with_cp,
            ..ResLayerSpec::default()
        };
        ResLayer::new(&spec, vb)
    }
}

impl Unit {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let act = if self.relu { Act::Relu } else { Act::None };
        conv_norm_act(self.conv.as_ref(), Some(self.norm.as_ref()), x, None, act, ctx)
    }
}

fn chain(units: &[Unit], x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
    units.iter().try_fold(x.clone(), |x, unit| unit.forward(&x, ctx))
}

/// From one branch to another of the same module: 1x1 and enlarging, or 3x3s of stride 2, or nothing.
struct Fuse {
    units: Vec<Unit>,
    /// Factor of the enlarging, 1 where there is none.
    factor: usize,
}

/// Branches that run beside each other and then exchange. Keys: `branches.{i}.{block}.*`, `fuse_layers.{to}.{from}.*`.
struct HrModule {
    branches: Vec<ResLayer>,
    /// `[to][from]`; none to itself.
    fuse_layers: Vec<Vec<Option<Fuse>>>,
}

impl HrModule {
    fn new(stage: &HrStage, from: &[usize], outs: usize, kinds: &Kinds, vb: &VarBuilder) -> CoreResult<Self> {
        let n = stage.num_branches;
        let widths: Vec<usize> = stage.num_channels.iter().map(|c| c * stage.block.expansion()).collect();
        let mut branches = Vec::new();
        for i in 0..n {
            let vb = vb.pp("branches").pp(i);
            branches.push(kinds.layer(stage.block, from[i], stage.num_channels[i], stage.num_blocks[i], &vb)?);
        }
        let mut fuse_layers = Vec::new();
        for i in 0..if n == 1 { 0 } else { outs } {
            let mut row = Vec::new();
            for j in 0..n {
                let vb = vb.pp("fuse_layers").pp(i).pp(j);
                row.push(match j.cmp(&i) {
                    std::cmp::Ordering::Equal => None,
                    std::cmp::Ordering::Greater => {
                        let unit = kinds.unit(ConvSpec::new(widths[j], widths[i], 1), false, &vb)?;
                        Some(Fuse { units: vec![unit], factor: 1 << (j - i) })
                    }
                    std::cmp::Ordering::Less => {
                        let mut units = Vec::new();
                        for k in 0..i - j {
                            let last = k + 1 == i - j;
                            let to = if last { widths[i] } else { widths[j] };
                            let spec = ConvSpec::new(widths[j], to, 3).stride(2).padding(1);
                            units.push(kinds.unit(spec, !last, &vb.pp(k))?);
                        }
                        Some(Fuse { units, factor: 1 })
                    }
                });
            }
            fuse_layers.push(row);
        }
        Ok(Self { branches, fuse_layers })
    }

    fn forward(&self, x: &[Tensor], ctx: &Ctx) -> Result<Vec<Tensor>> {
        let x = self.branches.iter().zip(x).map(|(b, x)| b.forward(x, ctx)).collect::<Result<Vec<_>>>()?;
        if self.branches.len() == 1 {
            return Ok(x);
        }
        let mut outs = Vec::new();
        for row in &self.fuse_layers {
            let mut sum: Option<Tensor> = None;
            for (fuse, x) in row.iter().zip(&x) {
                let y = match fuse {
                    None => x.clone(),
                    Some(fuse) => {
                        let y = chain(&fuse.units, x, ctx)?;
                        let (_, _, h, w) = y.dims4()?;
                        match fuse.factor {
                            1 => y,
                            f => ops::interpolate_nearest(&y, (h * f, w * f))?,
                        }
                    }
                };
                sum = Some(match sum {
                    Some(sum) => (sum + y)?,
                    None => y,
                });
            }
            let Some(sum) = sum else { bail!("an HRNet module has no branches") };
            outs.push(ops::relu(&sum)?);
        }
        Ok(outs)
    }
}

/// From one stage's branches to the next one's: per branch nothing, or units (of the coarsest where the branch is new).
type Transition = Vec<Option<Vec<Unit>>>;

fn transition(from: &[usize], to: &[usize], kinds: &Kinds, vb: &VarBuilder) -> CoreResult<Transition> {
    let mut all = Vec::new();
    for (i, &width) in to.iter().enumerate() {
        let vb = vb.pp(i);
        all.push(match from.get(i) {
            Some(&same) if same == width => None,
            Some(&other) => Some(vec![kinds.unit(ConvSpec::new(other, width, 3).padding(1), true, &vb)?]),
            None => {
                let last = from.last().copied().unwrap_or(0);
                let steps = i + 1 - from.len();
                let mut units = Vec::new();
                for j in 0..steps {
                    let out = if j + 1 == steps { width } else { last };
                    let spec = ConvSpec::new(last, out, 3).stride(2).padding(1);
                    units.push(kinds.unit(spec, true, &vb.pp(j))?);
                }
                Some(units)
            }
        });
    }
    Ok(all)
}

/// Keys: `conv1.*`, `bn1.*`, `conv2.*`, `bn2.*`, `layer1.*`, `transition{1..3}.{branch}.*`, `stage{2..4}.{module}.*`.
pub struct HrNet {
    stem: [Unit; 2],
    layer1: ResLayer,
    stages: Vec<(Transition, Vec<HrModule>)>,
    norm_eval: bool,
}

impl HrNet {
    /// The network at `vb`.
    pub fn new(cfg: &HrNetConfig, vb: VarBuilder) -> CoreResult<Self> {
        let extra = &cfg.extra;
        for (i, stage) in (1..).zip([&extra.stage1, &extra.stage2, &extra.stage3, &extra.stage4]) {
            let n = stage.num_branches;
            let fits = n > 0 && stage.num_blocks.len() == n && stage.num_channels.len() == n && stage.num_modules > 0;
            if !fits || stage.num_blocks.contains(&0) {
                let message = format!("{n} branches need as many num_blocks and num_channels, none of them 0");
                return Err(Error::config(message).under(&format!("extra.stage{i}")));
            }
        }
        let own = cfg.init_cfg.clone().filter(|i| !i.is_null());
        if own.is_some() && cfg.pretrained.is_some() {
            return Err(Error::config("init_cfg and pretrained can't both be set").under("pretrained"));
        }
        let pretrained = cfg.pretrained.as_deref().map(|f| typed("Pretrained", &[("checkpoint", Value::from(f))]));
        vb.init_cfg(&pretrained.or(own).unwrap_or_else(default_init));

        let kinds =
            Kinds { conv: cfg.conv_cfg.as_ref().filter(|c| !c.is_null()), norm: &cfg.norm_cfg, with_cp: cfg.with_cp };
        let stem = |i: usize, from: usize| {
            let norm = vb.pp(norm_name(kinds.norm, &i.to_string()));
            let spec = ConvSpec::new(from, 64, 3).stride(2).padding(1);
            kinds.unit_at(spec, true, vb.pp(format!("conv{i}")), norm)
        };
        let stem = [stem(1, cfg.in_channels)?, stem(2, 64)?];
        let first = &extra.stage1;
        let layer1 = kinds.layer(first.block, 64, first.num_channels[0], first.num_blocks[0], &vb.pp("layer1"))?;
        let mut widths = vec![first.num_channels[0] * first.block.expansion()];
        let mut stages = Vec::new();
        for (i, stage) in (2..).zip([&extra.stage2, &extra.stage3, &extra.stage4]) {
            let next: Vec<usize> = stage.num_channels.iter().map(|c| c * stage.block.expansion()).collect();
            let between = transition(&widths, &next, &kinds, &vb.pp(format!("transition{}", i - 1)))?;
            let mut modules = Vec::new();
            for m in 0..stage.num_modules {
                let finest_only = i == 4 && m + 1 == stage.num_modules && !cfg.multiscale_output;
                let outs = if finest_only { 1 } else { stage.num_branches };
                modules.push(HrModule::new(stage, &next, outs, &kinds, &vb.pp(format!("stage{i}")).pp(m))?);
            }
            stages.push((between, modules));
            widths = next;
        }
        Ok(Self { stem, layer1, stages, norm_eval: cfg.norm_eval })
    }
}

impl Backbone for HrNet {
    /// One map per branch of the last stage, at 1/4, 1/8, ... of the image.
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let still = ctx.still();
        let ctx = if self.norm_eval { &still } else { ctx };
        let mut branches = vec![self.layer1.forward(&chain(&self.stem, x, ctx)?, ctx)?];
        for (between, modules) in &self.stages {
            let mut next = Vec::new();
            for (i, units) in between.iter().enumerate() {
                next.push(match (units, branches.get(i), branches.last()) {
                    (None, Some(same), _) => same.clone(),
                    // As in the original a changed width starts from the coarsest branch too.
                    (Some(units), _, Some(last)) => chain(units, last, ctx)?,
                    _ => bail!("HRNet: {} branches came in, {} go on", branches.len(), between.len()),
                });
            }
            branches = next;
            for module in modules {
                branches = module.forward(&branches, ctx)?;
            }
        }
        Ok(branches)
    }
}
