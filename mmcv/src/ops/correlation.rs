//! Correlation of two feature maps, as FlowNet's (Dosovitskiy et al., ICCV 2015): mmcv's `Correlation`. There is no CUDA
//! kernel yet.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::check;
use super::kernel::{build, values, with_values};
use crate::nn::apply2;

/// mmcv's arguments, one for both axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CorrelationConfig {
    /// Size of the window that is compared.
    pub kernel_size: usize,
    /// How far windows of the second map are moved: this many places along each axis, odd.
    pub max_displacement: usize,
    /// Step between outputs.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Step between the pixels of a window.
    pub dilation: usize,
    /// Step between the places.
    pub dilation_patch: usize,
}

impl Default for CorrelationConfig {
    fn default() -> Self {
        Self { kernel_size: 1, max_displacement: 1, stride: 1, padding: 0, dilation: 1, dilation_patch: 1 }
    }
}

struct Op {
    cfg: CorrelationConfig,
    dims: [usize; 4],
    output: [usize; 2],
    patch: usize,
}

impl Op {
    /// Calls `f(output pixel, pixel of the first map, pixel of the second)` for one displacement.
    fn pairs(&self, displacement: usize, mut f: impl FnMut(usize, usize, usize)) {
        let CorrelationConfig { kernel_size: k, stride, padding, dilation, dilation_patch, .. } = self.cfg;
        let [_, _, h, w] = self.dims;
        let radius = (dilation_patch * (self.patch - 1) / 2) as isize;
        let moved = |i: usize| (i * dilation_patch) as isize - radius;
        let (dy, dx) = (moved(displacement / self.patch), moved(displacement % self.patch));
        let inside = |at: isize, size: usize| (at >= 0 && at < size as isize).then_some(at as usize);
        for oy in 0..self.output[0] {
            for ox in 0..self.output[1] {
                for i in 0..k {
                    let y = (oy * stride + i * dilation) as isize - padding as isize;
                    let (Some(y1), Some(y2)) = (inside(y, h), inside(y + dy, h)) else { continue };
                    for j in 0..k {
                        let x = (ox * stride + j * dilation) as isize - padding as isize;
                        if let (Some(x1), Some(x2)) = (inside(x, w), inside(x + dx, w)) {
                            f(oy * self.output[1] + ox, y1 * w + x1, y2 * w + x2);
                        }
                    }
                }
            }
        }
    }

    fn forward(&self, a: &[f32], b: &[f32]) -> Vec<f32> {
        let ([n, c, h, w], patches) = (self.dims, self.patch * self.patch);
        let (area, out_area) = (h * w, self.output[0] * self.output[1]);
        build(n * patches * out_area, out_area, |at, out: &mut [f32]| {
            let (image, displacement) = (at / out_area / patches, at / out_area % patches);
            for channel in 0..c {
                let first = (image * c + channel) * area;
                let (a, b) = (&a[first..first + area], &b[first..first + area]);
                self.pairs(displacement, |o, p, q| out[o] += a[p] * b[q]);
            }
        })
    }

    /// The gradient of the first map, or of the second.
    fn backward(&self, other: &[f32], g: &[f32], second: bool) -> Vec<f32> {
        let ([_, c, h, w], patches) = (self.dims, self.patch * self.patch);
        let (area, out_area) = (h * w, self.output[0] * self.output[1]);
        build(other.len(), area, |at, out: &mut [f32]| {
            let (image, other) = (at / area / c, &other[at..at + area]);
            for displacement in 0..patches {
                let g = &g[(image * patches + displacement) * out_area..][..out_area];
                if second {
                    self.pairs(displacement, |o, p, q| out[q] += g[o] * other[p]);
                } else {
                    self.pairs(displacement, |o, p, q| out[p] += g[o] * other[q]);
                }
            }
        })
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        "correlation"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = self.forward(values("correlation", s1, l1)?, values("correlation", s2, l2)?);
        let [oh, ow] = self.output;
        Ok((CpuStorage::F32(y), Shape::from(vec![self.dims[0], self.patch, self.patch, oh, ow])))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        const OP: &str = "correlation_backward";
        let grad_of = |other: &Tensor, second: bool| {
            let d = with_values(OP, other, |o| with_values(OP, grad, |g| Ok(self.backward(o, g, second))))?;
            Tensor::from_vec(d, other.shape(), other.device()).map(Some)
        };
        Ok((grad_of(b, false)?, grad_of(a, true)?))
    }
}

/// The products of windows of `a` with windows of `b` around the same place, summed over window and channels. Gradients flow
/// into both.
///
/// # Shapes
/// - `a`, `b`: `[N, C, H, W]`
/// - output: `[N, P, P, OH, OW]` with `P = 2 · max_displacement + 1`, vertical displacement first
pub fn correlation(a: &Tensor, b: &Tensor, cfg: &CorrelationConfig) -> Result<Tensor> {
    const OP: &str = "correlation";
    check::f32s(OP, "a", a)?;
    check::f32s(OP, "b", b)?;
    let dims = check::dims::<4>(OP, "a", a, "[N, C, H, W]")?;
    check::shape(OP, "b", b, &dims, "a's shape")?;
    if [cfg.kernel_size, cfg.stride, cfg.dilation, cfg.dilation_patch].contains(&0) {
        bail!("{OP}: the config is {cfg:?}, expected positive sizes and steps");
    }
    let extent = cfg.dilation * (cfg.kernel_size - 1) + 1;
    let output =
        [dims[2], dims[3]].map(|size| (size + 2 * cfg.padding).checked_sub(extent).map(|r| r / cfg.stride + 1));
    let [Some(oh), Some(ow)] = output else {
        bail!("{OP}: a has shape {dims:?}, expected rows and columns for a window of {extent}");
    };
    let op = Op { cfg: *cfg, dims, output: [oh, ow], patch: 2 * cfg.max_displacement + 1 };
    apply2(a, b, op)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, grad, tensor, var, wave};
    use super::*;

    // tests/golden/ops/make.py correlation
    #[test]
    fn values_and_gradients_are_the_reference_s() {
        for case in golden("correlation") {
            let cfg = CorrelationConfig {
                kernel_size: case.size("kernel"),
                max_displacement: case.size("displacement"),
                stride: case.size("stride"),
                padding: case.size("padding"),
                dilation: case.size("dilation"),
                dilation_patch: case.size("patch"),
            };
            case.check("y", &["a", "b"], |t| correlation(&t["a"], &t["b"], &cfg));
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let a = var(&[], &[0, 2, 3, 3]);
        let y = correlation(&a, &tensor(&[], &[0, 2, 3, 3]), &CorrelationConfig::default()).unwrap();
        assert_eq!((y.dims(), grad(&y, &a).dims()), (&[0, 3, 3, 3, 3][..], &[0, 2, 3, 3][..]));
        let e = correlation(&wave(&[1, 1, 2, 2]), &wave(&[1, 1, 2, 3]), &CorrelationConfig::default()).unwrap_err();
        assert!(e.to_string().contains("b has shape [1, 1, 2, 3], expected a's shape"), "{e}");
    }
}
