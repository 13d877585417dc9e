//! Content-aware reassembly of features, Wang et al., ICCV 2019 (<https://arxiv.org/abs/1905.02188>): mmcv's `carafe`, whose
//! `carafe_naive` gives the same values. There is no CUDA kernel yet.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::check;
use super::kernel::{build, values, with_values};
use crate::nn::apply2;

struct Op {
    batch: usize,
    channels: usize,
    size: [usize; 2],
    kernel: usize,
    groups: usize,
    scale: usize,
}

simd! {
    fn multiply_add(x: &[f32], w: &[f32], out: &mut [f32]) {
        for ((o, x), w) in out.iter_mut().zip(x).zip(w) {
            *o += x * w;
        }
    }
}

impl Op {
    fn area(&self) -> usize {
        self.size[0] * self.size[1]
    }

    fn output(&self) -> [usize; 2] {
        self.size.map(|s| s * self.scale)
    }

    fn output_area(&self) -> usize {
        self.area() * self.scale * self.scale
    }

    /// The first mask plane of a plane of features.
    fn masks(&self, plane: usize) -> usize {
        let (image, channel) = (plane / self.channels, plane % self.channels);
        (image * self.groups + channel / (self.channels / self.groups)) * self.kernel * self.kernel
    }

    /// Calls `f(tap, source row, output row, columns of the source)` for each tap of each output row that reads the map; the
    /// shift from an output column over `scale` to its source column is `tap % kernel - kernel / 2`.
    fn rows(&self, mut f: impl FnMut(usize, usize, usize)) {
        let (k, radius) = (self.kernel, self.kernel / 2);
        for y in 0..self.output()[0] {
            for ky in 0..k {
                let Some(from) = (y / self.scale + ky).checked_sub(radius).filter(|r| *r < self.size[0]) else {
                    continue;
                };
                (0..k).for_each(|kx| f(ky * k + kx, from, y));
            }
        }
    }

    /// A source row, moved by a tap's column and repeated: `out[x] = row[x / scale + kx - radius]`, 0 off the map.
    fn spread(&self, row: &[f32], kx: usize, out: &mut [f32]) {
        let radius = self.kernel / 2;
        for (x, o) in out.chunks_exact_mut(self.scale).enumerate() {
            o.fill((x + kx).checked_sub(radius).and_then(|x| row.get(x)).copied().unwrap_or(0.0));
        }
    }

    fn forward(&self, x: &[f32], masks: &[f32]) -> Vec<f32> {
        let (area, out_area, [_, ow]) = (self.area(), self.output_area(), self.output());
        build(self.batch * self.channels * out_area, out_area, |at, out: &mut [f32]| {
            let plane = at / out_area;
            let (x, first) = (&x[plane * area..][..area], self.masks(plane));
            let mut line = vec![0.0; ow];
            self.rows(|tap, from, y| {
                self.spread(&x[from * self.size[1]..][..self.size[1]], tap % self.kernel, &mut line);
                let mask = &masks[(first + tap) * out_area + y * ow..][..ow];
                multiply_add(&line, mask, &mut out[y * ow..][..ow]);
            });
        })
    }

    fn backward(&self, x: &[f32], masks: &[f32], g: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (area, out_area, [_, ow]) = (self.area(), self.output_area(), self.output());
        let (w, radius) = (self.size[1], self.kernel / 2);
        let dx = build(x.len(), area, |at, out: &mut [f32]| {
            let plane = at / area;
            let (g, first) = (&g[plane * out_area..][..out_area], self.masks(plane));
            self.rows(|tap, from, y| {
                let mask = &masks[(first + tap) * out_area + y * ow..][..ow];
                let products = g[y * ow..][..ow].chunks_exact(self.scale).zip(mask.chunks_exact(self.scale));
                for (column, (g, m)) in products.enumerate() {
                    if let Some(to) = (column + tap % self.kernel).checked_sub(radius).filter(|c| *c < w) {
                        out[from * w + to] += g.iter().zip(m).map(|(g, m)| g * m).sum::<f32>();
                    }
                }
            });
        });
        // One group's masks at a time add up over its channels.
        let (taps, per_group) = (self.kernel * self.kernel, self.channels / self.groups);
        let dmasks = build(masks.len(), taps * out_area, |at, out: &mut [f32]| {
            let group = at / (taps * out_area);
            let mut line = vec![0.0; ow];
            for channel in 0..per_group {
                let plane = group * per_group + channel;
                let (x, g) = (&x[plane * area..][..area], &g[plane * out_area..][..out_area]);
                self.rows(|tap, from, y| {
                    self.spread(&x[from * w..][..w], tap % self.kernel, &mut line);
                    multiply_add(&line, &g[y * ow..][..ow], &mut out[tap * out_area + y * ow..][..ow]);
                });
            }
        });
        (dx, dmasks)
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        "carafe"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = self.forward(values("carafe", s1, l1)?, values("carafe", s2, l2)?);
        let [h, w] = self.output();
        Ok((CpuStorage::F32(y), Shape::from((self.batch, self.channels, h, w))))
    }

    fn bwd(&self, x: &Tensor, masks: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        const OP: &str = "carafe_backward";
        let (dx, dmasks) =
            with_values(OP, x, |x| with_values(OP, masks, |m| with_values(OP, grad, |g| Ok(self.backward(x, m, g)))))?;
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), x.device())?),
            Some(Tensor::from_vec(dmasks, masks.shape(), masks.device())?),
        ))
    }
}

/// Each output pixel as a sum of the pixels around its place on the smaller map, weighted by a mask of its own. Gradients
/// flow into both.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`
/// - `masks`: `[N, groups·kernel², H·scale, W·scale]`, `kernel` odd
/// - output: `[N, C, H·scale, W·scale]`
pub fn carafe(x: &Tensor, masks: &Tensor, kernel: usize, groups: usize, scale: usize) -> Result<Tensor> {
    const OP: &str = "carafe";
    check::f32s(OP, "x", x)?;
    check::f32s(OP, "masks", masks)?;
    let [batch, channels, h, w] = check::dims(OP, "x", x, "[N, C, H, W]")?;
    if kernel.is_multiple_of(2) || scale == 0 || groups == 0 || channels % groups != 0 {
        bail!("{OP}: kernel {kernel}, groups {groups}, scale {scale}: expected odd, a divisor of {channels}, positive");
    }
    let wanted = [batch, groups * kernel * kernel, h * scale, w * scale];
    check::shape(OP, "masks", masks, &wanted, "[N, groups·kernel², H·scale, W·scale]")?;
    apply2(x, masks, Op { batch, channels, size: [h, w], kernel, groups, scale })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, grad, tensor, var, wave};
    use super::*;

    // tests/golden/ops/make.py carafe
    #[test]
    fn values_and_gradients_are_the_reference_s() {
        for case in golden("carafe") {
            let (k, g, s) = (case.size("kernel"), case.size("groups"), case.size("scale"));
            case.check("y", &["x", "masks"], |t| carafe(&t["x"], &t["masks"], k, g, s));
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let x = var(&[], &[0, 2, 3, 3]);
        let y = carafe(&x, &tensor(&[], &[0, 9, 6, 6]), 3, 1, 2).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 2, 6, 6][..], &[0, 2, 3, 3][..]));
        let e = carafe(&wave(&[1, 2, 3, 3]), &wave(&[1, 9, 3, 3]), 3, 1, 2).unwrap_err().to_string();
        assert!(e.contains("carafe: masks has shape [1, 9, 3, 3], expected"), "{e}");
    }
}
