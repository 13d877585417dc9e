//! Upsampling, filtering and downsampling of StyleGAN2, Karras et al., CVPR 2020 (<https://arxiv.org/abs/1912.04958>): mmcv's
//! `upfirdn2d` and `fused_bias_leakyrelu`. There are no CUDA kernels yet.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::check;
use super::kernel::{build, to_vec, values, with_values};
use super::reduce::{Reduction, reduce};
use crate::nn::{apply1, apply2};

/// Factors and padding; pairs are (horizontal, vertical), as mmcv's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpFirDnConfig {
    /// Each pixel is followed by so many zeros less one.
    pub up: (usize, usize),
    /// Every so many pixels are kept.
    pub down: (usize, usize),
    /// Zeros left, right, above and below; negative ones cut pixels off.
    pub pad: [i64; 4],
}

impl Default for UpFirDnConfig {
    fn default() -> Self {
        Self { up: (1, 1), down: (1, 1), pad: [0; 4] }
    }
}

/// One axis: factors, padding before, sizes.
#[derive(Debug, Clone, Copy)]
struct Axis {
    up: usize,
    down: usize,
    before: i64,
    input: usize,
    output: usize,
}

impl Axis {
    /// The input pixel that tap `k` of output `i` reads.
    fn source(&self, i: usize, k: usize) -> Option<usize> {
        let at = usize::try_from((i * self.down + k) as i64 - self.before).ok()?;
        (at % self.up == 0 && at / self.up < self.input).then_some(at / self.up)
    }
}

struct Op {
    /// Rows of the filter, already turned round.
    filter: Vec<f32>,
    size: [usize; 2],
    axes: [Axis; 2],
}

impl Op {
    /// Calls `f(output pixel, input pixel, weight)`.
    fn each(&self, mut f: impl FnMut(usize, usize, f32)) {
        let [ya, xa] = self.axes;
        for oy in 0..ya.output {
            for ky in 0..self.size[0] {
                let Some(iy) = ya.source(oy, ky) else { continue };
                for ox in 0..xa.output {
                    for kx in 0..self.size[1] {
                        if let Some(ix) = xa.source(ox, kx) {
                            f(oy * xa.output + ox, iy * xa.input + ix, self.filter[ky * self.size[1] + kx]);
                        }
                    }
                }
            }
        }
    }

    fn areas(&self) -> (usize, usize) {
        let [y, x] = self.axes;
        (y.input * x.input, y.output * x.output)
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "upfirdn2d"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("upfirdn2d", s, l)?;
        let (input, output) = self.areas();
        let (n, c) = (l.dims()[0], l.dims()[1]);
        let out = build(n * c * output, output, |at, out: &mut [f32]| {
            let x = &x[at / output * input..][..input];
            self.each(|to, from, w| out[to] += w * x[from]);
        });
        Ok((CpuStorage::F32(out), Shape::from((n, c, self.axes[0].output, self.axes[1].output))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (input, output) = self.areas();
        let dx = with_values("upfirdn2d_backward", grad, |g| {
            Ok(build(x.elem_count(), input, |at, out: &mut [f32]| {
                let g = &g[at / input * output..][..output];
                self.each(|from, to, w| out[to] += w * g[from]);
            }))
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// `x` spread out by `up`, padded, convolved with `filter` and thinned out by `down`. Gradients flow into `x`.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`
/// - `filter`: `[kh, kw]`
/// - output: `[N, C, (H·up + padding - kh) / down + 1, ...]`
pub fn upfirdn2d(x: &Tensor, filter: &Tensor, cfg: &UpFirDnConfig) -> Result<Tensor> {
    const OP: &str = "upfirdn2d";
    check::f32s(OP, "x", x)?;
    check::f32s(OP, "filter", filter)?;
    let [_, _, h, w] = check::dims(OP, "x", x, "[N, C, H, W]")?;
    let [kh, kw] = check::dims(OP, "filter", filter, "[kh, kw]")?;
    let ((up_x, up_y), (down_x, down_y), [left, right, top, bottom]) = (cfg.up, cfg.down, cfg.pad);
    if [up_x, up_y, down_x, down_y, kh, kw].contains(&0) {
        bail!(
            "{OP}: filter has shape {:?} and up and down are {:?} and {:?}, expected positive",
            filter.dims(),
            cfg.up,
            cfg.down
        );
    }
    let axis = |input: usize, up: usize, down: usize, before: i64, after: i64, k: usize| {
        let room = (input * up) as i64 + before + after - k as i64;
        match usize::try_from(room) {
            Ok(room) => Ok(Axis { up, down, before, input, output: room / down + 1 }),
            Err(_) => {
                bail!("{OP}: x has {input} rows or columns, expected more for pads {before}, {after} and filter {k}")
            }
        }
    };
    let axes = [axis(h, up_y, down_y, top, bottom, kh)?, axis(w, up_x, down_x, left, right, kw)?];
    let mut filter = to_vec(filter)?;
    filter.reverse();
    apply1(x, Op { filter, size: [kh, kw], axes })
}

/// `scale · leaky_relu(x + bias)`.
struct BiasAct {
    slope: f32,
    scale: f32,
    area: usize,
}

impl CustomOp2 for BiasAct {
    fn name(&self) -> &'static str {
        "fused_bias_leakyrelu"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, b) = (values("fused_bias_leakyrelu", s1, l1)?, values("fused_bias_leakyrelu", s2, l2)?);
        let out = build(x.len(), self.area, |at, out: &mut [f32]| {
            let b = b[at / self.area % b.len()];
            for (o, x) in out.iter_mut().zip(&x[at..]) {
                let v = x + b;
                *o = if v < 0.0 { v * self.slope } else { v } * self.scale;
            }
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, b: &Tensor, y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        const OP: &str = "fused_bias_leakyrelu_backward";
        // By the result's sign, as the original; of 0 the slope is that of negatives.
        let dx = with_values(OP, y, |y| {
            with_values(OP, grad, |g| {
                Ok(build(y.len(), self.area, |at, out: &mut [f32]| {
                    for ((o, y), g) in out.iter_mut().zip(&y[at..]).zip(&g[at..]) {
                        *o = g * self.scale * if *y > 0.0 { 1.0 } else { self.slope };
                    }
                }))
            })
        })?;
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        let axes: Vec<usize> = (0..x.rank()).filter(|a| *a != 1).collect();
        let db = if axes.is_empty() { dx.clone() } else { reduce(&dx, &axes, false, Reduction::Sum)? };
        Ok((Some(dx), Some(db.reshape(b.shape())?)))
    }
}

/// `scale · leaky_relu(x + bias)`, one bias a channel. Gradients flow into both; mmcv's defaults are 0.2 and the root of 2.
///
/// # Shapes
/// - `x` and output: `[N, C, ...]`
/// - `bias`: `[C]`
pub fn fused_bias_leakyrelu(x: &Tensor, bias: &Tensor, negative_slope: f64, scale: f64) -> Result<Tensor> {
    const OP: &str = "fused_bias_leakyrelu";
    check::f32s(OP, "x", x)?;
    check::f32s(OP, "bias", bias)?;
    let (_, c, area) = super::kernel::planes(OP, x)?;
    check::shape(OP, "bias", bias, &[c], "[C]")?;
    if scale.is_nan() || scale <= 0.0 {
        bail!("{OP}: scale is {scale}, expected more than 0");
    }
    let op = BiasAct { slope: negative_slope as f32, scale: scale as f32, area };
    apply2(x, bias, op)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, grad, tensor, var, wave};
    use super::*;

    // tests/golden/ops/make.py upfirdn2d
    #[test]
    fn values_and_gradients_are_mmcvs() {
        for case in golden("upfirdn2d") {
            if case.get("slope").is_some() {
                let (slope, scale) = (case.number("slope"), case.number("scale"));
                case.check("y", &["x", "b"], |t| fused_bias_leakyrelu(&t["x"], &t["b"], slope, scale));
                continue;
            }
            let two = |name: &str| (case.list(name)[0], case.list(name)[1]);
            let pad: Vec<i64> = case.text("pad").split(',').map(|v| v.parse().unwrap()).collect();
            let cfg = UpFirDnConfig { up: two("up"), down: two("down"), pad: pad.try_into().unwrap() };
            case.check("y", &["x"], |t| upfirdn2d(&t["x"], &t["filter"], &cfg));
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let x = var(&[], &[0, 2, 3, 3]);
        let y = upfirdn2d(&x, &wave(&[2, 2]), &UpFirDnConfig::default()).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 2, 2, 2][..], &[0, 2, 3, 3][..]));
        let e = upfirdn2d(&wave(&[1, 1, 1, 1]), &wave(&[2, 2]), &UpFirDnConfig::default()).unwrap_err().to_string();
        assert!(e.contains("x has 1 rows or columns, expected more"), "{e}");
        let e = fused_bias_leakyrelu(&wave(&[1, 2]), &tensor(&[0.0], &[1]), 0.2, 1.0).unwrap_err().to_string();
        assert!(e.contains("bias has shape [1], expected [C] = [2]"), "{e}");
    }
}
