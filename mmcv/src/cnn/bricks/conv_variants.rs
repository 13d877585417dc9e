//! Convolutions of other weights or padding than `Conv2d`'s: along one axis, with standardised weights, with TensorFlow's padding.

use candle_core::{Result, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::conv::{CONV_LAYERS, Conv2dLayerConfig, ConvArgs, ConvLayer, ConvSpec};
use super::padding::{PaddingMode, pad2d_sides};
use crate::cnn::flops;
use crate::nn::{Ctx, Init, Param, VarBuilder};
use crate::ops::conv2d;
use crate::registry::register;

/// Weight and bias of a convolution with weights `shape`.
fn params(spec: &ConvSpec, shape: &[usize], vb: &VarBuilder) -> Result<(Param, Option<Param>)> {
    let fits = |channels: usize| spec.groups > 0 && channels.is_multiple_of(spec.groups);
    if !fits(spec.in_channels) || !fits(spec.out_channels) {
        let ConvSpec { in_channels, out_channels, groups, .. } = spec;
        candle_core::bail!(
            "{}: {in_channels} to {out_channels} channels can't be split into {groups} groups",
            vb.path()
        );
    }
    let fan_in: usize = shape[1..].iter().product();
    let weight = vb.param("weight", shape, spec.init.unwrap_or(Init::torch_default(fan_in)))?;
    let bias_init = if spec.init.is_some() { Init::Const(0.0) } else { Init::torch_default(fan_in) };
    let bias = spec.bias.then(|| vb.param("bias", spec.out_channels, bias_init)).transpose()?;
    Ok((weight, bias))
}

fn count(path: &str, kind: &'static str, y: &Tensor, weight: &Tensor, bias: bool) {
    flops::record(path, kind, || {
        let per_value: usize = weight.dims()[1..].iter().product();
        (y.elem_count() * (per_value + usize::from(bias))) as u64
    });
}

fn weight_shape(spec: &ConvSpec) -> [usize; 4] {
    let ConvSpec { in_channels, out_channels, kernel_size: [kh, kw], groups, .. } = *spec;
    [out_channels, in_channels / groups.max(1), kh, kw]
}

/// `type = "Conv1d"`: `[B, in, L]` to `[B, out, L']`; of the geometry the second figures count.
/// Keys: `weight` `[out, in / groups, k]`, `bias` `[out]`.
#[derive(Debug)]
pub struct Conv1d {
    weight: Param,
    bias: Option<Param>,
    spec: ConvSpec,
    path: String,
}

impl Conv1d {
    /// A layer of `args.spec`.
    pub fn new(_: &Conv2dLayerConfig, args: ConvArgs) -> Result<Self> {
        let (spec, vb) = (args.spec, args.vb.layer("Conv1d"));
        let [o, i, _, k] = weight_shape(&spec);
        let (weight, bias) = params(&spec, &[o, i, k], &vb)?;
        Ok(Self { weight, bias, spec, path: vb.path().to_owned() })
    }
}

impl ConvLayer for Conv1d {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        let weight = self.weight.get().unsqueeze(2)?;
        let mut op = self.spec.op();
        (op.stride[0], op.padding[0], op.dilation[0]) = (1, 0, 1);
        let bias = self.bias.as_ref().map(Param::get);
        let y = conv2d(&x.unsqueeze(2)?, &weight, bias.as_ref(), &op)
            .map_err(|e| e.context(format!("in {}", self.path)))?;
        count(&self.path, "Conv1d", &y, &weight, bias.is_some());
        y.squeeze(2)
    }
}

register!(CONV_LAYERS: dyn ConvLayer, "Conv1d" => Conv1d, Conv2dLayerConfig);

/// `weight` with each output's values moved to mean 0, and their deviations.
fn centred(weight: &Tensor) -> Result<(Tensor, Tensor)> {
    let (o, ..) = weight.dims4()?;
    let flat = weight.flatten_from(1)?;
    let rest = flat.dim(1)?;
    let flat = flat.broadcast_sub(&flat.mean_keepdim(1)?)?;
    let var = (flat.sqr()?.sum_keepdim(1)? / (rest as f64 - 1.0))?;
    Ok((flat.reshape(weight.shape())?, var.reshape((o, 1, 1, 1))?))
}

/// `type = "ConvWS"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvWSConfig {
    /// Added to the deviation; default 1e-5.
    #[serde(default = "eps")]
    pub eps: f64,
}

fn eps() -> f64 {
    1e-5
}

/// Weight standardisation (Qiao et al., 2019, <https://arxiv.org/abs/1903.10520>). Keys: `weight`, `bias` as `Conv2d`.
#[derive(Debug)]
pub struct ConvWS2d {
    weight: Param,
    bias: Option<Param>,
    spec: ConvSpec,
    eps: f64,
    path: String,
}

impl ConvWS2d {
    /// A layer of `args.spec`.
    pub fn new(cfg: &ConvWSConfig, args: ConvArgs) -> Result<Self> {
        let (spec, vb) = (args.spec, args.vb.layer("Conv2d"));
        let (weight, bias) = params(&spec, &weight_shape(&spec), &vb)?;
        Ok(Self { weight, bias, spec, eps: cfg.eps, path: vb.path().to_owned() })
    }
}

impl ConvLayer for ConvWS2d {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        let (weight, var) = centred(&self.weight.get())?;
        let weight = weight.broadcast_div(&(var.sqrt()? + self.eps)?)?;
        let bias = self.bias.as_ref().map(Param::get);
        let y =
            conv2d(x, &weight, bias.as_ref(), &self.spec.op()).map_err(|e| e.context(format!("in {}", self.path)))?;
        count(&self.path, "Conv2d", &y, &weight, bias.is_some());
        Ok(y)
    }
}

register!(CONV_LAYERS: dyn ConvLayer, "ConvWS" => ConvWS2d, ConvWSConfig);

/// `type = "ConvAWS"`: weight standardisation that is undone by two constants, as DetectoRS has it
/// (Qiao et al., CVPR 2021, <https://arxiv.org/abs/2006.02334>).
/// Keys: `weight`, `bias`, and the buffers `weight_gamma`, `weight_beta` `[out, 1, 1, 1]`.
#[derive(Debug)]
pub struct ConvAWS2d {
    weight: Param,
    bias: Option<Param>,
    gamma: Param,
    beta: Param,
    spec: ConvSpec,
    path: String,
}

impl ConvAWS2d {
    /// A layer of `args.spec`.
    pub fn new(_: &Conv2dLayerConfig, args: ConvArgs) -> Result<Self> {
        let (spec, vb) = (args.spec, args.vb.layer("Conv2d"));
        let (weight, bias) = params(&spec, &weight_shape(&spec), &vb)?;
        let shape = (spec.out_channels, 1, 1, 1);
        let gamma = vb.buffer("weight_gamma", shape, Init::Const(1.0))?;
        let beta = vb.buffer("weight_beta", shape, Init::Const(0.0))?;
        Ok(Self { weight, bias, gamma, beta, spec, path: vb.path().to_owned() })
    }
}

impl ConvLayer for ConvAWS2d {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        let (weight, var) = centred(&self.weight.get())?;
        let weight = weight.broadcast_div(&(var + 1e-5)?.sqrt()?)?;
        let weight = weight.broadcast_mul(self.gamma.value())?.broadcast_add(self.beta.value())?;
        let bias = self.bias.as_ref().map(Param::get);
        let y =
            conv2d(x, &weight, bias.as_ref(), &self.spec.op()).map_err(|e| e.context(format!("in {}", self.path)))?;
        count(&self.path, "Conv2d", &y, &weight, bias.is_some());
        Ok(y)
    }
}

register!(CONV_LAYERS: dyn ConvLayer, "ConvAWS" => ConvAWS2d, Conv2dLayerConfig);

/// `type = "Conv2dAdaptivePadding"`: TensorFlow's padding `same`; the spec's own padding is not used. Keys as `Conv2d`.
#[derive(Debug)]
pub struct Conv2dAdaptivePadding {
    weight: Param,
    bias: Option<Param>,
    spec: ConvSpec,
    path: String,
}

impl Conv2dAdaptivePadding {
    /// A layer of `args.spec`.
    pub fn new(_: &Conv2dLayerConfig, args: ConvArgs) -> Result<Self> {
        let (spec, vb) = (ConvSpec { padding: [0; 2], ..args.spec }, args.vb.layer("Conv2d"));
        let (weight, bias) = params(&spec, &weight_shape(&spec), &vb)?;
        Ok(Self { weight, bias, spec, path: vb.path().to_owned() })
    }
}

impl ConvLayer for Conv2dAdaptivePadding {
    fn forward(&self, x: &Tensor, _: &Ctx) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        let ConvSpec { kernel_size, stride, dilation, .. } = self.spec;
        let sides = |axis: usize, n: usize| {
            let covered =
                (n.div_ceil(stride[axis]).max(1) - 1) * stride[axis] + (kernel_size[axis] - 1) * dilation[axis] + 1;
            let pad = covered.saturating_sub(n);
            [pad / 2, pad - pad / 2]
        };
        let x = pad2d_sides(x, [sides(0, h), sides(1, w)], PaddingMode::Zeros)?;
        let (weight, bias) = (self.weight.get(), self.bias.as_ref().map(Param::get));
        let y =
            conv2d(&x, &weight, bias.as_ref(), &self.spec.op()).map_err(|e| e.context(format!("in {}", self.path)))?;
        count(&self.path, "Conv2d", &y, &weight, bias.is_some());
        Ok(y)
    }
}

register!(CONV_LAYERS: dyn ConvLayer, "Conv2dAdaptivePadding" => Conv2dAdaptivePadding, Conv2dLayerConfig);

#[cfg(test)]
#[allow(clippy::excessive_precision)] // printed numbers
mod tests {
    use super::super::conv::build_conv_layer;
    use super::*;
    use crate::config::Node;
    use crate::ops::testing::{close, var, wave, weighted_grad};
    use crate::testing::fill_by_name;

    /// Output, and the gradients by the input and by `c.weight` of its sum weighted by `cos(1.1 i)`.
    fn run(cfg: &str, spec: ConvSpec, shape: &[usize]) -> (Tensor, Tensor, Tensor) {
        let vb = VarBuilder::scratch();
        let layer = build_conv_layer(Some(&Node::from_json(cfg).unwrap()), spec, vb.pp("c")).unwrap();
        fill_by_name(vb.store()).unwrap();
        let x = var(&wave(shape).flatten_all().unwrap().to_vec1::<f32>().unwrap(), shape);
        let y = layer.forward(&x, &Ctx::eval()).unwrap();
        let dx = weighted_grad(&y, &x);
        let dw = weighted_grad(&y, vb.store().get("c.weight").unwrap().var());
        (y, dx, dw)
    }

    // l = build_conv_layer(cfg, ...) with weights by name; y = l(x = wave(shape)); (y * cos(1.1 i)).sum().backward(); x.grad, l.weight.grad
    // {'type': 'Conv1d'}, (2, 2, 3), {'stride': 2, 'padding': 1}
    #[test]
    #[rustfmt::skip]
    fn conv_along_one_axis() {
        let (y, dx, dw) = run(r#"{"type": "Conv1d"}"#, ConvSpec::new(2, 2, 3).stride(2).padding(1).bias(true), &[1, 2, 5]);
        close(&y, &[-0.20748654, -0.61944264, 0.024535293, 0.77954239, 1.4506642, 0.24550167]);
        close(&dx, &[-1.3391464, -0.32481772, -0.51168472, -0.78825116, 0.87494993, -0.20124215, 0.8630172, -0.095805496, -0.44888121, 0.11432814]);
        close(&dw, &[-0.13765699, 0.37656462, 1.0484679, -0.052707493, -0.73926789, -1.1529377, 0.3325668, -0.21199091, -0.92679632, -0.14779323, 0.60817075, 1.0552654]);
    }

    // {'type': 'ConvWS'}, (2, 2, 2), {'groups': 2}
    #[test]
    #[rustfmt::skip]
    fn weights_are_standardised() {
        let (y, dx, dw) = run(r#"{"type": "ConvWS"}"#, ConvSpec::new(2, 2, 2).groups(2).bias(true), &[1, 2, 3, 3]);
        close(&y, &[-0.92351711, -0.55288923, 0.47744963, 0.76545382, -0.33032075, -1.3347287, -1.2936854, -0.09576048]);
        close(&dx, &[0.97674513, -0.57047653, -0.45973068, -1.2698586, 0.048497558, 1.3327864, 0.40903363, 0.2556628, -0.72265965, 0.14589798, -0.27210969, -0.1482954, -0.21281162, -1.2696061, 1.0020782, -0.73674762, 1.2677734, 0.22382091]);
        close(&dw, &[-1.029278, -0.9787755, 1.0205986, 0.98745495, 1.9676013, 1.1557438, -2.5658603, -0.55748487]);
    }

    // {'type': 'ConvAWS'}, (2, 2, 2), {'bias': False}
    #[test]
    #[rustfmt::skip]
    fn weights_are_standardised_and_put_back() {
        let (y, dx, dw) = run(r#"{"type": "ConvAWS"}"#, ConvSpec::new(2, 2, 2), &[1, 2, 3, 3]);
        close(&y, &[-1.4267905, -2.0094304, -0.7647239, 0.7277568, 0.12324307, 1.6210287, 2.6147425, 0.89329815]);
        close(&dx, &[0.828228, 0.055579484, -1.5248199, -0.95209259, -0.53221226, 0.33607042, 0.68891054, -0.92728531, -0.95974725, -0.53952295, -0.32684129, 1.0062317, 0.046018362, 3.3162608, 0.90860766, 0.52286476, -0.39591628, -1.5503336]);
        close(&dw, &[-2.5310674, -0.98210597, 2.0448704, 0.93938327, -4.3650026, 0.20958257, 2.8601625, 1.8241765, 2.915601, 4.2668829, -3.2716315, -1.1900938, 3.6996846, 0.20996833, -2.9401939, -3.6902175]);
    }

    // {'type': 'Conv2dAdaptivePadding'}, (1, 2, 3), {'stride': 2}
    #[test]
    #[rustfmt::skip]
    fn padding_is_the_same_as_tensorflows() {
        let (y, dx, dw) = run(r#"{"type": "Conv2dAdaptivePadding"}"#, ConvSpec::new(1, 2, 3).stride(2).bias(true), &[1, 1, 4, 5]);
        close(&y, &[0.37105122, -0.22640418, -0.27807671, -0.50372744, -0.41204274, 0.24663106, -0.52218068, -1.5654209, -0.3382445, -0.82033724, -0.9986555, 0.04473415]);
        close(&dx, &[-0.56924474, -0.82698148, -0.25091389, -0.07250151, 0.34161758, 0.17452285, 0.0048972517, -0.027420703, -0.26716864, -0.19939874, 0.81892061, 0.85724145, 0.37130088, 0.29347545, -0.48207939, -0.15347227, 0.042846695, 0.060169872, 0.28614077, 0.20805791]);
        close(&dw, &[-0.15713561, -0.88221121, -0.045132734, 0.2084524, 0.65885198, -0.16431108, 0.21124059, 1.3658953, 1.1642631, -0.15845442, -0.91133881, -0.090660393, 0.28856999, 0.79771811, -0.057210565, -0.17277113, 1.1201361, 0.99555367]);
    }

    // {'type': 'deconv', 'output_padding': 1}, (2, 1, 3), {'stride': 2, 'padding': 1}
    #[test]
    #[rustfmt::skip]
    fn deconvolution() {
        let (y, dx, dw) = run(r#"{"type": "deconv", "output_padding": 1}"#, ConvSpec::new(2, 1, 3).stride(2).padding(1).bias(true), &[1, 2, 2, 2]);
        close(&y, &[0.12087913, 0.17602117, -0.18138038, -0.0046670288, -0.44889647, 0.76134211, 0.12005775, 0.29968181, -0.46647015, 0.091732681, -0.4644269, 0.012724761, 0.83705819, -0.076586992, 0.77609491, 0.0078833513]);
        close(&dx, &[-0.31569344, 0.63860792, 0.54435259, -1.1882902, 0.56385505, -0.51725787, -0.92943031, -0.35027105]);
        close(&dw, &[0.54716134, 0.45089859, 0.77045614, -0.36981866, -1.0537775, -0.77263665, 0.36965922, 0.63847518, -0.51351732, -0.67493236, -0.63319862, -0.77280009, 0.73270643, 1.1004192, 0.2927146, -0.023949206, -0.11777437, 0.94325882]);
    }
}
