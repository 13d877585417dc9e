//! Res2Net: A New Multi-scale Backbone Architecture, Gao et al., TPAMI 2021 (<https://arxiv.org/abs/1904.01169>): blocks whose
//! 3x3 is a chain over slices of the channels.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::block::{Downsample, PluginPosition, ResLayer, ResLayerSpec};
use crate::cnn::bricks::{
    ConvLayer, ConvSpec, NormLayer, PluginLayer, build_conv_layer, build_norm_layer, build_plugin_layer, conv_norm_act,
    norm_name,
};
use crate::cnn::flops;
use crate::error::{Error, Result as CoreResult};
use crate::nn::{Ctx, Recomputable, VarBuilder};
use crate::ops::{self, Act, AvgPoolOptions};

type Unit = (Box<dyn ConvLayer>, Box<dyn NormLayer>);

/// A block. Keys: `conv1.*`, `bn1.*`, `conv3.*`, `bn3.*`, `downsample.{1, 2}.*`, plugins, `convs.{i}.*`, `bns.{i}.*`.
struct Bottle2neck {
    conv1: Unit,
    conv3: Unit,
    downsample: Option<Downsample>,
    plugins: Vec<(PluginPosition, Box<dyn PluginLayer>)>,
    chain: Vec<Unit>,
    width: usize,
    /// Stride of the chain.
    stride: usize,
    /// The first block of a stage: slices don't wait for each other, the last one is pooled.
    first: bool,
}

impl Bottle2neck {
    fn new(spec: &ResLayerSpec, scales: usize, first: bool, vb: &VarBuilder) -> CoreResult<Self> {
        let (out, w) = (spec.out_channels(), spec.width);
        let (inplanes, stride) = if first { (spec.inplanes, spec.stride) } else { (out, 1) };
        let unit = |conv: ConvSpec, conv_vb: VarBuilder, norm_vb: VarBuilder| -> CoreResult<Unit> {
            Ok((
                build_conv_layer(spec.conv_cfg.as_ref(), conv, conv_vb)?,
                build_norm_layer(&spec.norm_cfg, conv.out_channels, norm_vb)?,
            ))
        };
        let named = |i: usize, conv: ConvSpec| {
            unit(conv, vb.pp(format!("conv{i}")), vb.pp(norm_name(&spec.norm_cfg, &i.to_string())))
        };
        let conv1 = named(1, ConvSpec::new(inplanes, w * scales, 1))?;
        let conv3 = named(3, ConvSpec::new(w * scales, out, 1))?;
        let downsample = if first { Downsample::new(spec, &vb.pp("downsample"))? } else { None };
        let mut plugins = Vec::new();
        for (position, cfg) in &spec.plugins {
            // The original makes them for the parent's widths.
            let channels = if *position == PluginPosition::AfterConv3 { out } else { spec.planes };
            plugins.push((*position, build_plugin_layer(cfg, channels, vb)?));
        }
        let narrow = ConvSpec::new(w, w, 3).stride(stride).padding(spec.dilation).dilation(spec.dilation);
        let dcn = spec.dcn_of(first);
        let (mut convs, mut bns) = (Vec::new(), Vec::new());
        for i in 0..scales - 1 {
            convs.push(build_conv_layer(dcn.as_ref().or(spec.conv_cfg.as_ref()), narrow, vb.pp("convs").pp(i))?);
        }
        for i in 0..scales - 1 {
            bns.push(build_norm_layer(&spec.norm_cfg, w, vb.pp("bns").pp(i))?);
        }
        let chain = convs.into_iter().zip(bns).collect();
        Ok(Self { conv1, conv3, downsample, plugins, chain, width: w, stride, first })
    }

    fn plug(&self, at: PluginPosition, x: Tensor, ctx: &Ctx) -> Result<Tensor> {
        self.plugins.iter().filter(|(p, _)| *p == at).try_fold(x, |x, (_, plugin)| plugin.forward(&x, ctx))
    }

    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let run = |(conv, norm): &Unit, x: &Tensor, add: Option<&Tensor>, act: Act| {
            conv_norm_act(conv.as_ref(), Some(norm.as_ref()), x, add, act, ctx)
        };
        let y = self.plug(PluginPosition::AfterConv1, run(&self.conv1, x, None, Act::Relu)?, ctx)?;
        let slice = |i: usize| y.narrow(1, i * self.width, self.width)?.contiguous();
        let mut parts: Vec<Tensor> = Vec::new();
        for (i, unit) in self.chain.iter().enumerate() {
            let input = match parts.last() {
                Some(last) if !self.first => (last + slice(i)?)?,
                _ => slice(i)?,
            };
            parts.push(run(unit, &input, None, Act::Relu)?);
        }
        let last = slice(self.chain.len())?;
        parts.push(if self.first && self.stride != 1 {
            let options = AvgPoolOptions { ceil_mode: false, count_include_pad: true };
            flops::record("pool", "AvgPool2d", || last.elem_count() as u64);
            ops::avg_pool2d(&last, [3, 3], [self.stride; 2], [1, 1], options)?
        } else {
            last
        });
        let y = self.plug(PluginPosition::AfterConv2, Tensor::cat(&parts, 1)?, ctx)?;
        let short = self.downsample.as_ref().map(|down| down.forward(x, ctx)).transpose()?;
        let identity = short.as_ref().unwrap_or(x);
        if !self.plugins.iter().any(|(p, _)| *p == PluginPosition::AfterConv3) {
            return run(&self.conv3, &y, Some(identity), Act::Relu);
        }
        let y = self.plug(PluginPosition::AfterConv3, run(&self.conv3, &y, None, Act::None)?, ctx)?;
        ops::relu(&(y + identity)?)
    }
}

impl ResLayer {
    /// The stage of `spec`, whose `width` is that of one slice, made of chains, at `vb`.
    pub(super) fn res2(spec: &ResLayerSpec, scales: usize, vb: &VarBuilder) -> CoreResult<Self> {
        if scales < 2 {
            return Err(Error::config(format!("is {scales}, expected 2 or more")).under("scales"));
        }
        let one = |i: usize| {
            let vb = vb.pp(i);
            let block = Bottle2neck::new(spec, scales, i == 0, &vb)?;
            Ok(Recomputable::new(Arc::new(move |x, ctx| block.forward(x, ctx)), spec.with_cp))
        };
        let blocks = (0..spec.num_blocks).map(one).collect::<CoreResult<_>>()?;
        // Its chain slices and joins by candle's own operations.
        Ok(Self::of(blocks, spec, false))
    }
}
