//! `DCN` and `DCNv2`: deformable convolutions that make their own offsets, mmcv's `DeformConv2dPack` and
//! `ModulatedDeformConv2dPack`.

use candle_core::{Result, Tensor, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use super::conv::{CONV_LAYERS, Conv2d, ConvArgs, ConvLayer, ConvSpec};
use crate::nn::{Ctx, Init, Param};
use crate::ops::{DeformConvConfig, deform_conv2d, modulated_deform_conv2d, sigmoid};
use crate::registry::register;

fn one() -> usize {
    1
}

fn step() -> usize {
    32
}

/// `type = "DCN"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DcnConfig {
    /// Groups of input channels with offsets of their own.
    #[serde(default = "one", alias = "deformable_groups")]
    pub deform_groups: usize,
    /// Images that mmcv unfolds at once; makes no difference here, where a few rows are.
    #[serde(default = "step")]
    pub im2col_step: usize,
}

/// `type = "DCNv2"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DcnV2Config {
    /// Groups of input channels with offsets and masks of their own.
    #[serde(default = "one", alias = "deformable_groups")]
    pub deform_groups: usize,
}

/// The shared geometry.
fn config(spec: &ConvSpec, deform_groups: usize) -> DeformConvConfig {
    let ConvSpec { stride, padding, dilation, groups, .. } = *spec;
    DeformConvConfig { stride, padding, dilation, groups, deform_groups }
}

/// An error unless the channels can be split as asked.
fn check(args: &ConvArgs, deform_groups: usize) -> Result<()> {
    let ConvSpec { in_channels, out_channels, groups, .. } = args.spec;
    let bad = |n: usize| groups == 0 || !n.is_multiple_of(groups);
    if bad(in_channels) || bad(out_channels) || deform_groups == 0 || in_channels % deform_groups != 0 {
        bail!(
            "{}: {in_channels} to {out_channels} channels can't be split into {groups} groups and {deform_groups} \
             deform_groups",
            args.vb.path()
        );
    }
    Ok(())
}

/// The convolution that makes `per_tap` values for each tap; starts with zeros.
fn conv_offset(args: &ConvArgs, deform_groups: usize, per_tap: usize) -> Result<Conv2d> {
    let [kh, kw] = args.spec.kernel_size;
    let out_channels = deform_groups * per_tap * kh * kw;
    let spec = ConvSpec { out_channels, groups: 1, bias: true, init: Some(Init::Const(0.0)), ..args.spec };
    Conv2d::from_spec(spec, &args.vb.pp("conv_offset"))
}

/// Deformable convolution. Keys: `weight` `[out, in / groups, kh, kw]` and `conv_offset.{weight,bias}`.
pub struct Dcn {
    weight: Param,
    conv_offset: Conv2d,
    op: DeformConvConfig,
    path: String,
}

impl Dcn {
    /// A layer of `args.spec`, which may have no bias.
    pub fn new(cfg: &DcnConfig, args: ConvArgs) -> Result<Self> {
        let ConvSpec { in_channels, out_channels, kernel_size: [kh, kw], groups, bias, init, .. } = args.spec;
        if bias {
            bail!("{}: a DCN has no bias, expected bias = false", args.vb.path());
        }
        check(&args, cfg.deform_groups)?;
        let vb = args.vb.layer("DeformConv2d");
        let fan_in = in_channels / groups * kh * kw;
        // Kaiming uniform for ReLU.
        let bound = (6.0 / fan_in.max(1) as f64).sqrt();
        let shape = (out_channels, in_channels / groups, kh, kw);
        let weight = vb.param("weight", shape, init.unwrap_or(Init::Uniform(-bound, bound)))?;
        let conv_offset = conv_offset(&args, cfg.deform_groups, 2)?;
        let op = config(&args.spec, cfg.deform_groups);
        Ok(Self { weight, conv_offset, op, path: vb.path().to_owned() })
    }
}

impl ConvLayer for Dcn {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let offset = self.conv_offset.forward(x, ctx)?;
        deform_conv2d(x, &offset, &self.weight.get(), &self.op).map_err(|e| e.context(format!("in {}", self.path)))
    }
}

/// Modulated deformable convolution. Keys: `weight`, `bias` where the spec has one, and `conv_offset.{weight,bias}`.
pub struct DcnV2 {
    weight: Param,
    bias: Option<Param>,
    conv_offset: Conv2d,
    op: DeformConvConfig,
    path: String,
}

impl DcnV2 {
    /// A layer of `args.spec`.
    pub fn new(cfg: &DcnV2Config, args: ConvArgs) -> Result<Self> {
        let ConvSpec { in_channels, out_channels, kernel_size: [kh, kw], groups, bias, init, .. } = args.spec;
        check(&args, cfg.deform_groups)?;
        let vb = args.vb.layer("ModulatedDeformConv2d");
        // By all input channels, not a group's, as in mmcv.
        let bound = 1.0 / ((in_channels * kh * kw).max(1) as f64).sqrt();
        let shape = (out_channels, in_channels / groups, kh, kw);
        let weight = vb.param("weight", shape, init.unwrap_or(Init::Uniform(-bound, bound)))?;
        let bias = bias.then(|| vb.param("bias", out_channels, Init::Const(0.0))).transpose()?;
        let conv_offset = conv_offset(&args, cfg.deform_groups, 3)?;
        let op = config(&args.spec, cfg.deform_groups);
        Ok(Self { weight, bias, conv_offset, op, path: vb.path().to_owned() })
    }
}

impl ConvLayer for DcnV2 {
    fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        let made = self.conv_offset.forward(x, ctx)?;
        let third = made.dim(1)? / 3;
        let (offset, mask) =
            (made.narrow(1, 0, 2 * third)?, sigmoid(&made.narrow(1, 2 * third, third)?.contiguous()?)?);
        let bias = self.bias.as_ref().map(Param::get);
        modulated_deform_conv2d(x, &offset, &mask, &self.weight.get(), bias.as_ref(), &self.op)
            .map_err(|e| e.context(format!("in {}", self.path)))
    }
}

register!(CONV_LAYERS: dyn ConvLayer, "DCN" => Dcn, DcnConfig);
register!(CONV_LAYERS: dyn ConvLayer, "DCNv2" => DcnV2, DcnV2Config);

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::cnn::bricks::build_conv_layer;
    use crate::config::Node;
    use crate::nn::{ParamStore, VarBuilder};
    use crate::ops::testing::golden;

    // tests/golden/ops/make.py dcn
    #[test]
    fn layers_give_what_mmcvs_give_from_their_weights() {
        for case in golden("dcn") {
            let store = ParamStore::new(&Device::Cpu, 0);
            let spec = ConvSpec::new(4, 6, 3).padding(1).stride(2).groups(2).bias(case.size("bias") == 1);
            let cfg = format!(r#"{{"type": "{}", "deform_groups": 2}}"#, case.text("type"));
            let layer = build_conv_layer(Some(&Node::from_json(&cfg).unwrap()), spec, VarBuilder::new(&store)).unwrap();
            for p in store.all() {
                p.set(case.tensor(p.name())).unwrap();
            }
            case.check("y", &["x"], |t| layer.forward(&t["x"], &Ctx::eval()));
        }
    }

    #[test]
    fn offsets_start_at_zero_and_masks_at_a_half() {
        let args =
            ConvArgs { spec: ConvSpec::new(4, 6, 3).padding(1).bias(true), vb: VarBuilder::scratch().pp("conv2") };
        let layer = DcnV2::new(&DcnV2Config { deform_groups: 2 }, args.clone()).unwrap();
        let x = crate::ops::testing::wave(&[1, 4, 5, 6]);
        let y = layer.forward(&x, &Ctx::eval()).unwrap();
        let plain = crate::ops::Conv2dConfig { padding: [1, 1], ..Default::default() };
        let wanted = (crate::ops::conv2d(&x, &layer.weight.get(), None, &plain).unwrap() * 0.5).unwrap();
        crate::ops::testing::close(&y, &wanted.flatten_all().unwrap().to_vec1().unwrap());
        let e = Dcn::new(&DcnConfig { deform_groups: 1, im2col_step: 32 }, args.clone()).err().unwrap().to_string();
        assert!(e.contains("conv2: a DCN has no bias"), "{e}");
        let e = DcnV2::new(&DcnV2Config { deform_groups: 3 }, args).err().unwrap().to_string();
        assert!(e.contains("3 deform_groups"), "{e}");
    }
}
