//! Max pooling over the last one to three axes, its indices, and unpooling.

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};

use super::kernel::{build, values, with_values};
use crate::nn::apply1;

/// Output length of a pooled axis as torch counts it: with `ceil`, a last window that would start in the right padding
/// is left out.
pub(crate) fn pooled(
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    ceil: bool,
) -> Option<usize> {
    let span = (size + 2 * padding).checked_sub(dilation * (kernel - 1) + 1)?;
    let len = if ceil { span.div_ceil(stride) } else { span / stride } + 1;
    Some(if ceil && (len - 1) * stride >= size + padding { len - 1 } else { len })
}

simd! {
    /// `acc = max(acc, x)`; NaN wins.
    fn max_into(acc: &mut [f32], x: &[f32]) {
        for (a, x) in acc.iter_mut().zip(x) {
            *a = if *x > *a || x.is_nan() { *x } else { *a };
        }
    }
}
simd! {
    /// [`max_into`] that also keeps where the maximum came from: of equals the lowest position, of NaNs the highest.
    fn argmax_into(acc: &mut [f32], at: &mut [i32], x: &[f32], from: &[i32]) {
        for (((a, p), x), q) in acc.iter_mut().zip(at).zip(x).zip(from) {
            let nan = x.is_nan();
            let take = (*x > *a) | ((*x == *a) & (*q < *p)) | (nan & !(a.is_nan() & (*p > *q)));
            *a = if take { *x } else { *a };
            *p = if take { *q } else { *p };
        }
    }
}
simd! {
    /// [`argmax_into`] of a row whose first element is at `first`.
    fn argmax_row(acc: &mut [f32], at: &mut [i32], x: &[f32], first: i32) {
        for (i, ((a, p), x)) in acc.iter_mut().zip(at).zip(x).enumerate() {
            // Rows come in order, so of equals the one that is there is lower.
            let take = (*x > *a) | x.is_nan();
            *a = if take { *x } else { *a };
            *p = if take { first + i as i32 } else { *p };
        }
    }
}
simd! {
    fn every_second(x: &[f32], out: &mut [f32]) {
        for (o, pair) in out.iter_mut().zip(x.chunks_exact(2)) {
            *o = pair[0];
        }
    }
}
simd! {
    fn every_second_place(x: &[i32], out: &mut [i32]) {
        for (o, pair) in out.iter_mut().zip(x.chunks_exact(2)) {
            *o = pair[0];
        }
    }
}

/// `out[i] = x[i * stride]`; `x` is long enough for one more.
fn strided(x: &[f32], stride: usize, out: &mut [f32]) {
    match stride {
        1 => out.copy_from_slice(&x[..out.len()]),
        2 => every_second(x, out),
        _ => out.iter_mut().zip(x.iter().step_by(stride)).for_each(|(o, x)| *o = *x),
    }
}

/// [`strided`] of places.
fn strided_places(x: &[i32], stride: usize, out: &mut [i32]) {
    match stride {
        1 => out.copy_from_slice(&x[..out.len()]),
        2 => every_second_place(x, out),
        _ => out.iter_mut().zip(x.iter().step_by(stride)).for_each(|(o, x)| *o = *x),
    }
}

/// Geometry over depth, height and width; missing ones have size, kernel and stride 1.
#[derive(Debug, Clone, Copy)]
struct Pool {
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
    dilation: [usize; 3],
    input: [usize; 3],
    output: [usize; 3],
}

impl Pool {
    /// Input positions along `axis` of the window `i`.
    fn window(&self, axis: usize, i: usize) -> impl Iterator<Item = usize> + Clone {
        let (start, pad, dil) = (i * self.stride[axis], self.padding[axis], self.dilation[axis]);
        let from = pad.saturating_sub(start).div_ceil(dil).min(self.kernel[axis]);
        let to = (self.input[axis] + pad).saturating_sub(start).div_ceil(dil).min(self.kernel[axis]);
        (from..to).map(move |k| start + k * dil - pad)
    }

    /// Length of a row with its padding, and a little more so that strided reads need no special end.
    fn width(&self) -> usize {
        let reach = (self.output[2] - 1) * self.stride[2] + (self.kernel[2] - 1) * self.dilation[2] + 1;
        reach.max(self.input[2] + self.padding[2]) + self.stride[2]
    }

    fn forward(&self, x: &[f32], out: &mut [f32]) {
        let ([_, h, w], [_, oh, ow], pw, sw) = (self.input, self.output, self.padding[2], self.stride[2]);
        let mut row = vec![f32::NEG_INFINITY; self.width()];
        let mut column = vec![0.0f32; ow];
        for (i, out) in out.chunks_exact_mut(ow).enumerate() {
            let inner = &mut row[pw..pw + w];
            let mut first = true;
            for z in self.window(0, i / oh) {
                for y in self.window(1, i % oh) {
                    let line = &x[(z * h + y) * w..][..w];
                    if first {
                        inner.copy_from_slice(line);
                        first = false;
                    } else {
                        max_into(inner, line);
                    }
                }
            }
            strided(&row, sw, out);
            for kx in 1..self.kernel[2] {
                strided(&row[kx * self.dilation[2]..], sw, &mut column);
                max_into(out, &column);
            }
        }
    }

    /// Flat input index of each window's maximum, handed to `f(row, indices)` row by row.
    fn each_argmax(&self, x: &[f32], mut f: impl FnMut(usize, &[i32])) {
        let ([_, h, w], [od, oh, ow], pw, sw) = (self.input, self.output, self.padding[2], self.stride[2]);
        let width = self.width();
        let (mut row, mut column, mut best) = (vec![f32::NEG_INFINITY; width], vec![0.0f32; ow], vec![0.0f32; ow]);
        // Positions in the padding never win: they are -inf and come after every real one.
        let (mut row_at, mut column_at, mut best_at) = (vec![i32::MAX; width], vec![0i32; ow], vec![0i32; ow]);
        for i in 0..od * oh {
            let (inner, inner_at) = (&mut row[pw..pw + w], &mut row_at[pw..pw + w]);
            let mut first = true;
            for z in self.window(0, i / oh) {
                for y in self.window(1, i % oh) {
                    let start = (z * h + y) * w;
                    if first {
                        inner.copy_from_slice(&x[start..start + w]);
                        inner_at.iter_mut().enumerate().for_each(|(i, p)| *p = (start + i) as i32);
                        first = false;
                    } else {
                        argmax_row(inner, inner_at, &x[start..start + w], start as i32);
                    }
                }
            }
            strided(&row, sw, &mut best);
            strided_places(&row_at, sw, &mut best_at);
            for kx in 1..self.kernel[2] {
                let kx = kx * self.dilation[2];
                strided(&row[kx..], sw, &mut column);
                strided_places(&row_at[kx..], sw, &mut column_at);
                argmax_into(&mut best, &mut best_at, &column, &column_at);
            }
            f(i, &best_at);
        }
    }
}

/// The op; `rank` of the three axes exist in the tensors.
struct MaxPool {
    pool: Pool,
    rank: usize,
}

impl MaxPool {
    fn plane(&self) -> (usize, usize) {
        (self.pool.input.iter().product(), self.pool.output.iter().product())
    }

    fn shape(&self, n: usize, c: usize) -> Shape {
        let dims: Vec<usize> = [n, c].into_iter().chain(self.pool.output[3 - self.rank..].iter().copied()).collect();
        Shape::from(dims)
    }

    fn indices(&self, x: &Tensor) -> Result<Tensor> {
        let (input, output) = self.plane();
        let ow = self.pool.output[2];
        let places = with_values("max_pool_indices", x, |v| {
            Ok(build(v.len() / input * output, output, |at, out: &mut [u32]| {
                self.pool.each_argmax(&v[at / output * input..][..input], |row, best| {
                    for (o, p) in out[row * ow..].iter_mut().zip(best) {
                        *o = *p as u32;
                    }
                });
            }))
        })?;
        Tensor::from_vec(places, self.shape(x.dims()[0], x.dims()[1]), &Device::Cpu)
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("max_pool", s, l)?;
        let (n, c) = (l.dims()[0], l.dims()[1]);
        let (input, output) = self.plane();
        let out = build(n * c * output, output, |at, out| {
            self.pool.forward(&x[at / output * input..][..input], out);
        });
        Ok((CpuStorage::F32(out), self.shape(n, c)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        const OP: &str = "max_pool_backward";
        let (input, output) = self.plane();
        let ow = self.pool.output[2];
        let out = with_values(OP, x, |v| {
            with_values(OP, grad, |g| {
                Ok(build(v.len(), input, |at, out: &mut [f32]| {
                    let g = &g[at / input * output..][..output];
                    self.pool.each_argmax(&v[at..at + input], |row, best| {
                        for (p, g) in best.iter().zip(&g[row * ow..(row + 1) * ow]) {
                            out[*p as usize] += g;
                        }
                    });
                }))
            })
        })?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

/// Windows of max pooling over `D` axes, outermost first.
#[derive(Debug, Clone, Copy)]
pub struct MaxPoolConfig<const D: usize> {
    /// Size of the window.
    pub kernel: [usize; D],
    /// Steps between windows.
    pub stride: [usize; D],
    /// Rows of -∞ on either side, at most half the kernel.
    pub padding: [usize; D],
    /// Steps between the elements of a window.
    pub dilation: [usize; D],
    /// Round the output size up.
    pub ceil_mode: bool,
}

impl<const D: usize> MaxPoolConfig<D> {
    fn op(&self, x: &Tensor) -> Result<MaxPool> {
        if x.rank() != D + 2 || D == 0 || D > 3 {
            bail!("max_pool: the input is {:?}, expected [N, C] and {D} axes", x.dims());
        }
        let Self { kernel, stride, padding, dilation, ceil_mode } = self;
        let one = [1usize; 3];
        let mut pool = Pool { kernel: one, stride: one, padding: [0; 3], dilation: one, input: one, output: one };
        for i in 0..D {
            let (len, at) = (x.dims()[2 + i], 3 - D + i);
            if kernel[i] == 0 || stride[i] == 0 || dilation[i] == 0 || padding[i] > kernel[i] / 2 {
                bail!("max_pool: {self:?}: kernel, stride and dilation are above 0, padding at most half the kernel");
            }
            let output = pooled(len, kernel[i], stride[i], padding[i], dilation[i], *ceil_mode);
            let Some(output) = output.filter(|_| len > 0) else {
                bail!("max_pool: {:?} is smaller than the kernel {kernel:?}", x.dims());
            };
            (pool.kernel[at], pool.stride[at], pool.padding[at]) = (kernel[i], stride[i], padding[i]);
            (pool.dilation[at], pool.input[at], pool.output[at]) = (dilation[i], len, output);
        }
        if pool.input.iter().product::<usize>() >= i32::MAX as usize {
            bail!("max_pool: {:?} is too big", x.dims());
        }
        for axis in 0..3 {
            // A window that lies in the padding alone can come of dilation.
            if (0..pool.output[axis]).any(|i| pool.window(axis, i).next().is_none()) {
                bail!("max_pool: {self:?} of {:?} has windows without an element", x.dims());
            }
        }
        Ok(MaxPool { pool, rank: D })
    }
}

/// Max pooling over `D` axes, 1 to 3. The first of equal maxima gets the gradient, as in torch; NaN in a window comes
/// through.
///
/// # Shapes
/// - `x`: `[N, C]` and `D` axes
/// - output: each axis `(len + 2 padding - dilation (kernel - 1) - 1) / stride + 1`, rounded up with `ceil_mode` as long as
///   the last window starts inside the image or the left padding
pub fn max_pool<const D: usize>(x: &Tensor, cfg: &MaxPoolConfig<D>) -> Result<Tensor> {
    apply1(x, cfg.op(x)?)
}

/// [`max_pool`], and where in its plane (or volume) each maximum was: u32 of the output's shape.
pub fn max_pool_with_indices<const D: usize>(x: &Tensor, cfg: &MaxPoolConfig<D>) -> Result<(Tensor, Tensor)> {
    let indices = cfg.op(x)?.indices(x)?;
    Ok((max_pool(x, cfg)?, indices))
}

/// [`max_pool`] of `[N, C, H, W]` without dilation; pairs are (vertical, horizontal).
pub fn max_pool2d(
    x: &Tensor,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    ceil_mode: bool,
) -> Result<Tensor> {
    max_pool(x, &MaxPoolConfig { kernel, stride, padding, dilation: [1, 1], ceil_mode })
}

/// Puts values at their places; the gradient picks them from there.
struct Place {
    /// One for each element of the pooled planes.
    places: Vec<u32>,
    /// Elements of a small and of a big plane.
    sizes: (usize, usize),
    /// Gathers instead: from the big planes to the small.
    pick: bool,
    shape: Vec<usize>,
}

impl CustomOp1 for Place {
    fn name(&self) -> &'static str {
        if self.pick { "adaptive_max_pool" } else { "max_unpool" }
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.run(values(self.name(), s, l)?, self.pick)), Shape::from(self.shape.clone())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let out = with_values(self.name(), grad, |g| Ok(self.run(g, !self.pick)))?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

impl Place {
    fn run(&self, x: &[f32], pick: bool) -> Vec<f32> {
        let (small, big) = self.sizes;
        if pick {
            return build(self.places.len(), small, |at, out: &mut [f32]| {
                let x = &x[at / small * big..][..big];
                for (o, p) in out.iter_mut().zip(&self.places[at..]) {
                    *o = x[*p as usize];
                }
            });
        }
        build(self.places.len() / small * big, big, |at, out: &mut [f32]| {
            let at = at / big * small;
            for (x, p) in x[at..at + small].iter().zip(&self.places[at..]) {
                // Pooling can pick one element more than once: its gradients add up. Unpooling sets.
                out[*p as usize] = if self.pick { out[*p as usize] + x } else { *x };
            }
        })
    }
}

/// The inverse of [`max_pool_with_indices`]: values go back to their places in planes of `size`, all else is 0.
///
/// # Shapes
/// - `x`, `indices`: `[N, C, H', W']`
/// - output: `[N, C, size.0, size.1]`
pub fn max_unpool2d(x: &Tensor, indices: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let places = indices.to_dtype(DType::U32)?.flatten_all()?.to_vec1::<u32>()?;
    if h * w == 0 || indices.dims() != x.dims() || places.iter().any(|p| *p as usize >= size.0 * size.1) {
        bail!("max_unpool2d: indices {:?} of {:?} do not lie in planes of {size:?}", indices.dims(), x.dims());
    }
    let op = Place { places, sizes: (h * w, size.0 * size.1), pick: false, shape: vec![n, c, size.0, size.1] };
    apply1(x, op)
}

/// The maximum of each window of an adaptive pool over `D` axes, from `floor(i in / out)` to `ceil((i + 1) in / out)`.
pub fn adaptive_max_pool<const D: usize>(x: &Tensor, output: [usize; D]) -> Result<Tensor> {
    if x.rank() != D + 2 || D == 0 || D > 3 || x.dims()[2..].contains(&0) || output.contains(&0) {
        bail!("adaptive_max_pool: the input is {:?}, expected [N, C] and {D} axes above 0", x.dims());
    }
    let (mut input, mut out) = ([1usize; 3], [1usize; 3]);
    input[3 - D..].copy_from_slice(&x.dims()[2..]);
    out[3 - D..].copy_from_slice(&output);
    let (big, small): (usize, usize) = (input.iter().product(), out.iter().product());
    let window = |axis: usize, i: usize| {
        let (low, high) = super::resample::adaptive_window(i, input[axis], out[axis]);
        low..high
    };
    let x = x.contiguous()?;
    let places = with_values("adaptive_max_pool", &x, |v| {
        Ok(build(v.len() / big * small, small, |at, places: &mut [u32]| {
            let x = &v[at / small * big..][..big];
            for (i, place) in places.iter_mut().enumerate() {
                let mut best: Option<usize> = None;
                for z in window(0, i / (out[1] * out[2])) {
                    for y in window(1, i / out[2] % out[1]) {
                        for column in window(2, i % out[2]) {
                            let p = (z * input[1] + y) * input[2] + column;
                            if best.is_none_or(|b| x[p] > x[b] || x[p].is_nan()) {
                                best = Some(p);
                            }
                        }
                    }
                }
                *place = best.unwrap_or(0) as u32;
            }
        }))
    })?;
    let shape = x.dims()[..2].iter().copied().chain(output).collect();
    apply1(&x, Place { places, sizes: (small, big), pick: true, shape })
}

/// [`adaptive_max_pool`] of `[N, C, H, W]` to `[N, C, output.0, output.1]`.
pub fn adaptive_max_pool2d(x: &Tensor, output: (usize, usize)) -> Result<Tensor> {
    adaptive_max_pool(x, [output.0, output.1])
}

#[cfg(test)]
#[allow(clippy::approx_constant)] // printed numbers
mod tests {
    use super::super::testing::{check_gradient, close, grad, var, wave, weighted_grad};
    use super::*;

    type Case = ([usize; 2], [usize; 2], [usize; 2], bool, [usize; 4], &'static [f32], &'static [f32]);

    // x = wave(1, 2, 5, 6); y = F.max_pool2d(x, kernel, stride, padding, 1, ceil); (y * weights(*y.shape)).sum().backward()
    #[rustfmt::skip]
    const CASES: &[Case] = &[
        ([3, 3], [2, 2], [1, 1], false, [1, 2, 3, 3], &[0.6982479, 0.9200854, 0.9833019, 0.94171363, 0.93807775, 0.9833019, 0.5735519, 0.93807775, 1.0511922, 0.8432803, 1.0370736, 0.9165229, 0.78270626, 1.0370736, 0.9165229, 0.78270626, 1.0746481, 0.8908892], &[0.0, 1.0, 0.45359612, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.120168686, -0.98747975, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.95023257, -0.153959, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.81109303, -0.88919115, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.15768874, -0.0597468, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.103486896, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.31574374, 0.98883736, 0.0, 0.0]),
        ([3, 3], [2, 2], [1, 1], true, [1, 2, 3, 4], &[0.6982479, 0.9200854, 0.9833019, 0.9833019, 0.94171363, 0.93807775, 0.9833019, 0.9833019, 0.5735519, 0.93807775, 1.0511922, 1.0511922, 0.8432803, 1.0370736, 0.9165229, -0.49379262, 0.78270626, 1.0370736, 0.9165229, 0.90665287, 0.78270626, 1.0746481, 0.8908892, -0.34398115], &[0.0, 1.0, 0.45359612, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.47237447, -0.30733287, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.81109303, -0.18052137, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.8976318, 0.80588394, 0.0, 0.0, 0.0, 0.0, -0.70239705, 0.0, 0.0, 0.8267229, -0.3716311, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.4614667, -0.6842171, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.44569, 0.59563434, 0.0, 0.9860448]),
        ([2, 2], [2, 2], [0, 0], true, [1, 2, 3, 3], &[0.6982479, 0.9200854, 0.9833019, 0.94171363, 0.93807775, 0.40122834, -0.9339446, 0.14929225, 1.0511922, 0.8432803, 1.0370736, 0.21106943, 0.78270626, 0.059860997, 0.90665287, 0.6241657, 1.0746481, 0.15852092], &[0.0, 1.0, 0.45359612, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5885011, -0.98747975, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.30733287, 0.0, 0.7086698, 0.0, 0.95023257, 0.0, 0.0, 0.15337387, 0.0, -0.81109303, -0.88919115, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.004425698, 0.0, 0.8932061, 0.0, 0.0, 0.0, 0.0, -0.16211444, 0.0, -0.9529529, 0.80588394, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.70239705, 0.31574374, 0.0, 0.98883736, 0.0]),
        ([3, 2], [1, 3], [1, 0], true, [1, 2, 5, 2], &[0.6982479, 0.77209634, 0.94171363, 0.77209634, 0.94171363, 0.8841139, 0.94171363, 0.8841139, 0.5735519, 0.8841139, 0.8432803, 0.9165229, 0.8432803, 0.9165229, 0.78270626, 0.9165229, 0.78270626, 0.8908892, 0.78270626, 0.8908892], &[0.0, 1.0, 0.0, -0.53388363, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.054398596, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.81109303, 0.0, -0.027147532, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.81030965, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.02869463, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.05588734, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5273707, 0.0, 0.0]),
        ([5, 5], [1, 1], [2, 2], false, [1, 2, 5, 6], &[0.94171363, 0.94171363, 0.94171363, 0.9833019, 0.9833019, 0.9833019, 0.94171363, 0.94171363, 0.94171363, 0.9833019, 0.9833019, 0.9833019, 0.94171363, 0.94171363, 0.94171363, 1.0511922, 1.0511922, 1.0511922, 0.94171363, 0.94171363, 0.94171363, 1.0511922, 1.0511922, 1.0511922, 0.94171363, 0.94171363, 0.94171363, 1.0511922, 1.0511922, 1.0511922, 1.0370736, 1.0370736, 1.0370736, 1.0370736, 1.0370736, 0.9165229, 1.0370736, 1.0370736, 1.0370736, 1.0370736, 1.0370736, 0.9165229, 1.0746481, 1.0746481, 1.0746481, 1.0746481, 1.0746481, 0.9165229, 1.0746481, 1.0746481, 1.0746481, 1.0746481, 1.0746481, 0.9165229, 1.0746481, 1.0746481, 1.0746481, 1.0746481, 1.0746481, 0.90665287], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5777023, -1.3951075, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.294897, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0037985, 1.0901188, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.4770988, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.046862125, 0.0, 0.0, 0.0]),
    ];
    // F.max_pool2d of a 3x3 plane, kernel 2, stride 1
    #[rustfmt::skip]
    const SPECIAL: &[f32] = &[1.0, 1.0, 0.0, f32::NAN, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY, 3.0, 3.0];
    const SPECIAL_Y: &[f32] = &[f32::NAN, 2.0, f32::NAN, 3.0];
    const SPECIAL_DX: &[f32] = &[0.0, 0.0, 0.0, 0.4114989, 0.45359612, 0.0, 0.0, -0.98747975, 0.0];

    #[test]
    fn values_and_gradients_are_torchs() {
        for (kernel, stride, padding, ceil, shape, y, dx) in CASES {
            let x = var(&wave(&[1, 2, 5, 6]).flatten_all().unwrap().to_vec1::<f32>().unwrap(), &[1, 2, 5, 6]);
            let ours = max_pool2d(&x, *kernel, *stride, *padding, *ceil).unwrap();
            assert_eq!(ours.dims(), shape);
            close(&ours, y);
            close(&weighted_grad(&ours, &x), dx);
        }
    }

    #[test]
    fn ties_nan_and_infinity_are_torchs() {
        let x = var(SPECIAL, &[1, 1, 3, 3]);
        let y = max_pool2d(&x, [2, 2], [1, 1], [0, 0], false).unwrap();
        close(&y, SPECIAL_Y);
        close(&weighted_grad(&y, &x), SPECIAL_DX);
        // All -inf, with padding: the first real one gets the gradient. All equal: the first.
        let x = var(&[f32::NEG_INFINITY; 4], &[1, 1, 2, 2]);
        let y = max_pool2d(&x, [3, 3], [2, 2], [1, 1], false).unwrap();
        close(&grad(&y, &x), &[1.0, 0.0, 0.0, 0.0]);
        let x = var(&[1.0; 9], &[1, 1, 3, 3]);
        let y = max_pool2d(&x, [3, 3], [2, 2], [1, 1], false).unwrap();
        close(&grad(&y, &x), &[1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn two_uses_of_a_strided_input_add_up() {
        check_gradient(&wave(&[2, 3, 5, 4]), 1e-2, |x| {
            let t = x.transpose(2, 3)?;
            max_pool2d(&t, [3, 3], [2, 2], [1, 1], true)?.sum_all()? * 0.5
                + max_pool2d(&t, [2, 2], [3, 3], [0, 0], false)?.sum_all()?
        });
    }

    #[test]
    fn an_empty_batch_passes_and_bad_shapes_are_refused() {
        let x = var(&[], &[0, 3, 4, 4]);
        let y = max_pool2d(&x, [3, 3], [2, 2], [1, 1], false).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 3, 2, 2][..], &[0, 3, 4, 4][..]));
        assert!(max_pool2d(&wave(&[1, 1, 2, 2]), [3, 3], [1, 1], [0, 0], false).is_err());
        assert!(max_pool2d(&wave(&[1, 1, 4, 4]), [3, 3], [1, 1], [2, 2], false).is_err());
        assert!(max_pool2d(&wave(&[1, 1, 4, 4]), [3, 3], [0, 1], [1, 1], false).is_err());
    }

    type Case3 = ([usize; 3], [usize; 3], [usize; 3], [usize; 3], bool, &'static [f32], &'static [u32], &'static [f32]);

    // F.max_pool3d(wave(1, 1, 3, 4, 5), kernel, stride, padding, dilation, ceil, return_indices=True)
    #[test]
    fn volumes_dilation_and_indices_are_torchs() {
        #[rustfmt::skip]
        let cases: &[Case3] = &[
            ([2, 3, 2], [1, 2, 2], [1, 1, 0], [1, 1, 1], false, &[0.6982479, 0.9200854, 0.9833019, 0.94171363, 0.93807775, 0.9200854, 0.9833019, 1.0370736, 0.93807775, 0.90665287, 1.0746481, 1.0370736, 0.7198611, 0.90665287, 1.0746481, 0.90665287], &[1, 2, 11, 12, 20, 2, 11, 38, 20, 47, 56, 38, 46, 47, 56, 47], &[0.0, 1.0, 1.1622659, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.36173147, -0.98747975, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.1184258, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.04658, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.80588394, -1.7537026, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.9485272, 0.0, 0.0, 0.0]),
            ([2, 3, 2], [2, 2, 3], [1, 0, 1], [1, 1, 1], true, &[0.7432185, 0.94171363, 0.7432185, 0.94171363, 0.93807775, 0.90665287, 0.8432803, 1.0370736], &[10, 12, 10, 12, 20, 47, 30, 38], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.4114989, 0.0, -0.53388363, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.30733287, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.95023257, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.15337387, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.7086698, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            ([2, 2, 2], [1, 1, 1], [0, 1, 1], [2, 2, 3], false, &[0.90665287, 0.78270626, 0.7198611, 0.90665287, 0.94171363, 0.77209634, 0.9833019, 0.94171363, 0.90665287, 0.78270626, 1.0746481, 0.90665287, 0.94171363, 0.7432185, 0.9833019, 0.94171363], &[47, 48, 46, 47, 12, 3, 11, 12, 47, 48, 56, 47, 12, 10, 11, 12], &[0.0, 0.0, 0.0, 0.7086698, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.16211444, -0.002720356, -0.05047208, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5885011, 0.09463334, -0.43559504, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.004425698, 0.0, 0.0, 0.0]),
        ];
        for (kernel, stride, padding, dilation, ceil_mode, y, places, dx) in cases {
            let x = var(&wave(&[60]).to_vec1::<f32>().unwrap(), &[1, 1, 3, 4, 5]);
            let cfg = MaxPoolConfig {
                kernel: *kernel,
                stride: *stride,
                padding: *padding,
                dilation: *dilation,
                ceil_mode: *ceil_mode,
            };
            let (ours, at) = max_pool_with_indices(&x, &cfg).unwrap();
            close(&ours, y);
            assert_eq!(at.flatten_all().unwrap().to_vec1::<u32>().unwrap(), *places);
            close(&weighted_grad(&ours, &x), dx);
        }
    }

    // F.adaptive_max_pool2d(wave(1, 2, 5, 7), (2, 3)); F.max_unpool2d of F.max_pool2d(wave(1, 1, 4, 6), 2)
    #[test]
    #[rustfmt::skip]
    fn adaptive_pooling_and_unpooling_are_torchs() {
        let x = var(&wave(&[70]).to_vec1::<f32>().unwrap(), &[1, 2, 5, 7]);
        let y = adaptive_max_pool2d(&x, (2, 3)).unwrap();
        close(&y, &[0.9200854, 0.9833019, 0.9833019, 1.0511922, 0.8432803, 0.93807775, 0.76838815, 1.0370736, 0.9165229, 1.0746481, 0.90820616, 0.6241657]);
        close(&weighted_grad(&y, &x), &[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.13490498, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.7086698, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.98747975, -0.30733287, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.95023257, 0.15337387, -0.81109303, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.8932061, -0.88919115, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.004425698, 0.0, 0.0, 0.0, 0.0]);
        let x = var(&wave(&[24]).to_vec1::<f32>().unwrap(), &[1, 1, 4, 6]);
        let cfg = MaxPoolConfig { kernel: [2, 2], stride: [2, 2], padding: [0, 0], dilation: [1, 1], ceil_mode: false };
        let (y, places) = max_pool_with_indices(&x, &cfg).unwrap();
        let y = max_unpool2d(&y, &places, (4, 6)).unwrap();
        close(&y, &[0.0, 0.6982479, 0.9200854, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9833019, 0.94171363, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.93807775, 0.0, 0.40122834, 0.0]);
        close(&weighted_grad(&y, &x), &[0.0, 0.45359612, -0.5885011, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.8932061, 0.80588394, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.99996084, 0.0, 0.59563434, 0.0]);
        assert!(max_unpool2d(&x, &places, (4, 6)).is_err());
        assert!(adaptive_max_pool2d(&x, (0, 1)).is_err());
        let none = var(&[], &[0, 1, 4, 6]);
        assert_eq!(grad(&adaptive_max_pool2d(&none, (2, 2)).unwrap(), &none).dims(), &[0, 1, 4, 6]);
    }
}
