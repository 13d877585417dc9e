//! Windows of a plane as columns and back: torch's `unfold` (im2col) and `fold`, each the other's gradient.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::check;
use super::kernel::{build, values, with_values};
use crate::nn::apply1;

/// Windows over a plane, `[vertical, horizontal]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnfoldConfig {
    /// Size of a window.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Zeros on each side.
    pub padding: [usize; 2],
    /// Steps between the elements of a window.
    pub dilation: [usize; 2],
}

impl UnfoldConfig {
    /// Windows of a size, one at each place.
    pub fn new(kernel: [usize; 2]) -> Self {
        Self { kernel, stride: [1; 2], padding: [0; 2], dilation: [1; 2] }
    }

    /// How many windows a plane has along each axis.
    pub fn windows(&self, size: [usize; 2]) -> Result<[usize; 2]> {
        let mut out = [0; 2];
        for axis in 0..2 {
            let (k, stride, dilation) = (self.kernel[axis], self.stride[axis], self.dilation[axis]);
            if k == 0 || stride == 0 || dilation == 0 {
                bail!("unfold: kernel, stride and dilation are {k}, {stride} and {dilation}, expected positive");
            }
            let (padded, extent) = (size[axis] + 2 * self.padding[axis], dilation * (k - 1) + 1);
            if padded < extent {
                bail!("unfold: x has {padded} rows or columns with padding, expected {extent} for the kernel");
            }
            out[axis] = (padded - extent) / stride + 1;
        }
        Ok(out)
    }
}

/// Both directions.
#[derive(Debug, Clone, Copy)]
struct Op {
    cfg: UnfoldConfig,
    size: [usize; 2],
    windows: [usize; 2],
    fold: bool,
}

impl Op {
    fn taps(&self) -> usize {
        self.cfg.kernel.iter().product()
    }

    /// Calls `f(pixel, place, count)` for each run of a channel's columns that lies on the plane: `count` places of the
    /// columns from `place` on read every `stride[1]`th pixel from `pixel` on.
    fn runs(&self, mut f: impl FnMut(usize, usize, usize)) {
        let UnfoldConfig { kernel, stride, padding, dilation } = self.cfg;
        let [oh, ow] = self.windows;
        let inside = |axis: usize, k: usize| {
            let at = k * dilation[axis];
            let from = padding[axis].saturating_sub(at).div_ceil(stride[axis]).min(self.windows[axis]);
            let to =
                (self.size[axis] + padding[axis]).saturating_sub(at).div_ceil(stride[axis]).min(self.windows[axis]);
            (from, to.max(from))
        };
        for ky in 0..kernel[0] {
            let (y0, y1) = inside(0, ky);
            for kx in 0..kernel[1] {
                let (x0, x1) = inside(1, kx);
                if x0 == x1 {
                    continue;
                }
                for oy in y0..y1 {
                    let row = oy * stride[0] + ky * dilation[0] - padding[0];
                    let column = x0 * stride[1] + kx * dilation[1] - padding[1];
                    let place = ((ky * kernel[1] + kx) * oh + oy) * ow + x0;
                    f(row * self.size[1] + column, place, x1 - x0);
                }
            }
        }
    }

    fn run(&self, x: &[f32]) -> Vec<f32> {
        let (area, columns) = (self.size[0] * self.size[1], self.taps() * self.windows[0] * self.windows[1]);
        let step = self.cfg.stride[1];
        if self.fold {
            let channels = x.len() / columns.max(1);
            return build(channels * area, area, |at, out: &mut [f32]| {
                let x = &x[at / area * columns..][..columns];
                self.runs(|pixel, place, count| {
                    for (o, x) in out[pixel..].iter_mut().step_by(step).zip(&x[place..place + count]) {
                        *o += x;
                    }
                });
            });
        }
        let channels = x.len() / area.max(1);
        build(channels * columns, columns, |at, out: &mut [f32]| {
            let x = &x[at / columns * area..][..area];
            self.runs(|pixel, place, count| {
                if step == 1 {
                    out[place..place + count].copy_from_slice(&x[pixel..pixel + count]);
                } else {
                    for (o, x) in out[place..place + count].iter_mut().zip(x[pixel..].iter().step_by(step)) {
                        *o = *x;
                    }
                }
            });
        })
    }

    fn shape(&self, n: usize, channels: usize) -> Shape {
        if self.fold {
            Shape::from((n, channels / self.taps(), self.size[0], self.size[1]))
        } else {
            Shape::from((n, channels * self.taps(), self.windows[0] * self.windows[1]))
        }
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        if self.fold { "fold" } else { "unfold" }
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = self.run(values(self.name(), s, l)?);
        Ok((CpuStorage::F32(out), self.shape(l.dims()[0], l.dims()[1])))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = Op { fold: !self.fold, ..*self };
        let out = with_values(self.name(), grad, |g| Ok(back.run(g)))?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

/// The windows of each plane as columns, as PyTorch's `F.unfold`.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`
/// - output: `[N, C·kh·kw, windows]`
pub fn unfold(x: &Tensor, cfg: &UnfoldConfig) -> Result<Tensor> {
    check::f32s("unfold", "x", x)?;
    let [_, _, h, w] = check::dims("unfold", "x", x, "[N, C, H, W]")?;
    let windows = cfg.windows([h, w])?;
    apply1(x, Op { cfg: *cfg, size: [h, w], windows, fold: false })
}

/// The sum of all columns at their places, as PyTorch's `F.fold`.
///
/// # Shapes
/// - `x`: `[N, C·kh·kw, windows]`
/// - output: `[N, C, size[0], size[1]]`
pub fn fold(x: &Tensor, size: [usize; 2], cfg: &UnfoldConfig) -> Result<Tensor> {
    check::f32s("fold", "x", x)?;
    let [_, channels, columns] = check::dims("fold", "x", x, "[N, C·kh·kw, windows]")?;
    let windows = cfg.windows(size)?;
    let op = Op { cfg: *cfg, size, windows, fold: true };
    if !channels.is_multiple_of(op.taps()) || columns != windows[0] * windows[1] {
        let (taps, wanted) = (op.taps(), windows[0] * windows[1]);
        bail!("fold: x has shape {:?}, expected [N, a multiple of {taps}, {wanted}]", x.dims());
    }
    apply1(x, op)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, grad, tensor, var};
    use super::*;

    // tests/golden/ops/make.py unfold fold
    #[test]
    fn values_and_gradients_are_torchs() {
        for (name, back) in [("unfold", false), ("fold", true)] {
            for case in golden(name) {
                let two = |name: &str| <[usize; 2]>::try_from(case.list(name)).unwrap();
                let cfg = UnfoldConfig {
                    kernel: two("kernel"),
                    stride: two("stride"),
                    padding: two("padding"),
                    dilation: two("dilation"),
                };
                case.check("y", &["x"], |t| {
                    // A strided input gives the same.
                    let x = t["x"].transpose(0, 1)?.contiguous()?.transpose(0, 1)?;
                    if back { fold(&x, two("size"), &cfg) } else { unfold(&x, &cfg) }
                });
            }
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let cfg = UnfoldConfig::new([2, 2]);
        let x = var(&[], &[0, 2, 3, 3]);
        let y = unfold(&x, &cfg).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 8, 4][..], &[0, 2, 3, 3][..]));
        let e = fold(&tensor(&[0.0; 8], &[1, 8, 1]), [3, 3], &cfg).unwrap_err().to_string();
        assert!(e.contains("x has shape [1, 8, 1], expected [N, a multiple of 4, 4]"), "{e}");
        assert!(unfold(&tensor(&[0.0], &[1, 1, 1, 1]), &cfg).is_err());
    }
}
