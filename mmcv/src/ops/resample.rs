//! Operations that weigh neighbours along each axis by itself: average pooling of all kinds and resizing by area, linear and
//! bicubic interpolation, over the last one to three axes.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::kernel::{CHUNK, build, sum, values, with_values};
use super::max_pool::pooled;
use crate::nn::apply1;

/// For each output position of one axis, the input positions it reads (a range) and their weights.
#[derive(Debug, Clone)]
struct Taps {
    input: usize,
    /// First input position.
    start: Vec<usize>,
    weights: Vec<Vec<f32>>,
    /// Each output is its one input.
    identity: bool,
    /// There is one output, and it weighs all inputs alike.
    mean: bool,
}

impl Taps {
    /// `of(i)` lists positions and weights of output `i`; positions may repeat.
    fn new(input: usize, output: usize, of: impl Fn(usize) -> Vec<(usize, f32)>) -> Self {
        let (mut start, mut weights) = (Vec::with_capacity(output), Vec::with_capacity(output));
        for i in 0..output {
            let taps = of(i);
            let low = taps.iter().map(|t| t.0).min().unwrap_or(0);
            let high = taps.iter().map(|t| t.0 + 1).max().unwrap_or(0);
            let mut w = vec![0.0f32; high.saturating_sub(low)];
            for (at, weight) in taps {
                w[at - low] += weight;
            }
            start.push(low);
            weights.push(w);
        }
        let identity =
            input == output && start.iter().zip(&weights).enumerate().all(|(i, (s, w))| *s == i && *w == [1.0]);
        let mean = output == 1 && weights[0].len() == input && weights[0].iter().all(|w| *w == weights[0][0]);
        Self { input, start, weights, identity, mean }
    }

    fn output(&self) -> usize {
        self.start.len()
    }

    /// The taps of the gradient: inputs and outputs change places.
    fn transposed(&self) -> Self {
        let mut of: Vec<Vec<(usize, f32)>> = vec![Vec::new(); self.input];
        for (o, (start, weights)) in self.start.iter().zip(&self.weights).enumerate() {
            for (k, w) in weights.iter().enumerate() {
                of[start + k].push((o, *w));
            }
        }
        Self::new(self.output(), self.input, |i| of[i].clone())
    }

    /// Applies to `[outer, input, inner]`.
    fn apply(&self, x: &[f32], outer: usize, inner: usize, out: &mut [f32]) {
        let (input, output) = (self.input, self.output());
        for o in 0..outer {
            let x = &x[o * input * inner..][..input * inner];
            let out = &mut out[o * output * inner..][..output * inner];
            for (i, (start, weights)) in self.start.iter().zip(&self.weights).enumerate() {
                if inner == 1 {
                    let x = &x[*start..*start + weights.len()];
                    out[i] = x.iter().zip(weights).map(|(x, w)| x * w).sum();
                    continue;
                }
                let row = &mut out[i * inner..(i + 1) * inner];
                row.fill(0.0);
                for (k, w) in weights.iter().enumerate() {
                    add_scaled(&x[(start + k) * inner..(start + k + 1) * inner], *w, row);
                }
            }
        }
    }
}

simd! {
    fn add_scaled(x: &[f32], weight: f32, out: &mut [f32]) {
        for (o, x) in out.iter_mut().zip(x) {
            *o += weight * x;
        }
    }
}

/// Taps of the last axes, outermost first.
struct Resample {
    name: &'static str,
    taps: Vec<Taps>,
}

impl Resample {
    fn run(&self, x: &[f32], planes: usize) -> Vec<f32> {
        let input: usize = self.taps.iter().map(|t| t.input).product();
        let output: usize = self.taps.iter().map(Taps::output).product();
        // Axes that shrink first, so that less is left to do.
        let mut order: Vec<usize> = (0..self.taps.len()).filter(|i| !self.taps[*i].identity).collect();
        order.sort_by_key(|i| self.taps[*i].output() > self.taps[*i].input);
        if self.taps.iter().all(|t| t.mean) {
            let weight: f64 = self.taps.iter().map(|t| f64::from(t.weights[0][0])).product();
            let total = |x: &[f32]| x.chunks(4096).map(sum).sum::<f64>();
            return build(planes, CHUNK.div_ceil(input), |at, out: &mut [f32]| {
                for (o, x) in out.iter_mut().zip(x[at * input..].chunks_exact(input)) {
                    *o = (total(x) * weight) as f32;
                }
            });
        }
        build(planes * output, output, |at, out: &mut [f32]| {
            let x = &x[at / output * input..][..input];
            let mut dims: Vec<usize> = self.taps.iter().map(|t| t.input).collect();
            let mut current: Vec<f32> = Vec::new();
            for (step, axis) in order.iter().enumerate() {
                let taps = &self.taps[*axis];
                let outer: usize = dims[..*axis].iter().product();
                let inner: usize = dims[axis + 1..].iter().product();
                dims[*axis] = taps.output();
                let source = if step == 0 { x } else { &current };
                if step + 1 == order.len() {
                    taps.apply(source, outer, inner, out);
                } else {
                    let mut next = vec![0.0f32; dims.iter().product()];
                    taps.apply(source, outer, inner, &mut next);
                    current = next;
                }
            }
            if order.is_empty() {
                out.copy_from_slice(x);
            }
        })
    }
}

impl CustomOp1 for Resample {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values(self.name, s, l)?;
        let (outer, _) = l.dims().split_at(l.dims().len() - self.taps.len());
        let out = self.run(x, outer.iter().product());
        let dims: Vec<usize> = outer.iter().copied().chain(self.taps.iter().map(Taps::output)).collect();
        Ok((CpuStorage::F32(out), Shape::from(dims)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = Self { name: self.name, taps: self.taps.iter().map(Taps::transposed).collect() };
        let outer: usize = x.dims()[..x.dims().len() - self.taps.len()].iter().product();
        let out = with_values(self.name, grad, |g| Ok(back.run(g, outer)))?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

/// Applies `taps(axis, length)` to the last `axes` axes of `x`, which come after batch and channels.
fn apply(name: &'static str, x: &Tensor, axes: usize, taps: impl Fn(usize, usize) -> Result<Taps>) -> Result<Tensor> {
    if x.rank() != axes + 2 {
        bail!("{name}: the input is {:?}, expected [N, C] and {axes} axes", x.dims());
    }
    let dims = &x.dims()[2..];
    if dims.contains(&0) {
        bail!("{name}: the input is {:?}, expected sizes above 0", x.dims());
    }
    let taps = dims.iter().enumerate().map(|(i, len)| taps(i, *len)).collect::<Result<Vec<_>>>()?;
    if taps.iter().any(|t| t.output() == 0) {
        bail!("{name}: the output of {:?} has no elements", x.dims());
    }
    apply1(x, Resample { name, taps })
}

/// The windows of average pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AvgPoolOptions {
    /// Round the output size up.
    pub ceil_mode: bool,
    /// Padding counts as zeros; without it, averages are over real elements only. (torch's default is true.)
    pub count_include_pad: bool,
}

/// Average pooling over `D` axes, 1 to 3; torch's `avg_pool1d`, `2d`, `3d` without `divisor_override`.
///
/// # Shapes
/// - `x`: `[N, C]` and `D` axes
/// - output: the axes as in [`max_pool2d`](super::max_pool2d)
pub fn avg_pool<const DIMS: usize>(
    x: &Tensor,
    kernel: [usize; DIMS],
    stride: [usize; DIMS],
    padding: [usize; DIMS],
    options: AvgPoolOptions,
) -> Result<Tensor> {
    apply("avg_pool", x, DIMS, |axis, len| {
        let (k, s, p) = (kernel[axis], stride[axis], padding[axis]);
        if k == 0 || s == 0 || p > k / 2 {
            bail!("avg_pool: kernel {k}, stride {s}, padding {p}: padding is at most half the kernel");
        }
        let Some(output) = pooled(len, k, s, p, 1, options.ceil_mode) else {
            bail!("avg_pool: the input is {:?}, smaller than the kernel {kernel:?}", x.dims());
        };
        Ok(Taps::new(len, output, |i| {
            let (start, end) = (i * s, (i * s + k).min(len + 2 * p));
            // The part of the window past the right padding counts for nothing in either mode.
            let (low, high) = (start.max(p) - p, end.min(len + p).saturating_sub(p));
            let count = if options.count_include_pad { end - start } else { high - low };
            (low..high).map(|at| (at, 1.0 / count as f32)).collect()
        }))
    })
}

/// [`avg_pool`] of `[N, C, H, W]`.
pub fn avg_pool2d(
    x: &Tensor,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    options: AvgPoolOptions,
) -> Result<Tensor> {
    avg_pool(x, kernel, stride, padding, options)
}

/// Averages over windows that divide each of `D` axes into `output` parts, from `floor(i in / out)` to
/// `ceil((i + 1) in / out)`.
pub fn adaptive_avg_pool<const DIMS: usize>(x: &Tensor, output: [usize; DIMS]) -> Result<Tensor> {
    apply("adaptive_avg_pool", x, DIMS, |axis, len| {
        let output = output[axis];
        Ok(Taps::new(len, output, |i| {
            let (low, high) = adaptive_window(i, len, output);
            (low..high).map(|at| (at, 1.0 / (high - low) as f32)).collect()
        }))
    })
}

/// [`adaptive_avg_pool`] of `[N, C, H, W]` to `[N, C, output.0, output.1]`.
pub fn adaptive_avg_pool2d(x: &Tensor, output: (usize, usize)) -> Result<Tensor> {
    adaptive_avg_pool(x, [output.0, output.1])
}

/// Input positions of output `i` of an adaptive pool.
pub(super) fn adaptive_window(i: usize, input: usize, output: usize) -> (usize, usize) {
    (i * input / output, ((i + 1) * input).div_ceil(output))
}

/// Resizing by area, torch's mode `area`: an adaptive average.
pub fn interpolate_area(x: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    adaptive_avg_pool2d(x, size)
}

/// Source coordinate of output `i`.
fn source(i: usize, input: usize, output: usize, align_corners: bool) -> f32 {
    match (align_corners, output) {
        (true, 0 | 1) => 0.0,
        (true, _) => (input - 1) as f32 / (output - 1) as f32 * i as f32,
        (false, _) => input as f32 / output as f32 * (i as f32 + 0.5) - 0.5,
    }
}

/// Linear interpolation over `D` axes: torch's modes `linear`, `bilinear` and `trilinear`.
pub fn interpolate_linear<const DIMS: usize>(x: &Tensor, size: [usize; DIMS], align_corners: bool) -> Result<Tensor> {
    apply("interpolate_linear", x, DIMS, |axis, len| {
        let output = size[axis];
        Ok(Taps::new(len, output, |i| {
            if output == len {
                return vec![(i, 1.0)];
            }
            let at = source(i, len, output, align_corners).max(0.0);
            let low = (at as usize).min(len - 1);
            let weight = (at - low as f32).clamp(0.0, 1.0);
            vec![(low, 1.0 - weight), ((low + 1).min(len - 1), weight)]
        }))
    })
}

/// Output length and input step of one axis that is enlarged by `factor`, as torch's `scale_factor` gives them: the step is the
/// factor's inverse even where the length was rounded down.
fn scaled(op: &str, len: usize, factor: f64) -> Result<(usize, f32)> {
    if !(factor > 0.0 && factor.is_finite()) {
        bail!("{op}: factor {factor}, expected a number above 0");
    }
    Ok(((len as f64 * factor).floor() as usize, (1.0 / factor) as f32))
}

/// Nearest neighbour by factors: torch's mode `nearest` with `scale_factor`.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`
/// - output: `[N, C, floor(factors[0] H), floor(factors[1] W)]`
pub fn upsample_nearest(x: &Tensor, factors: [f64; 2]) -> Result<Tensor> {
    apply("upsample_nearest", x, 2, |axis, len| {
        let (output, step) = scaled("upsample_nearest", len, factors[axis])?;
        Ok(Taps::new(len, output, |i| vec![(((i as f32 * step).floor() as usize).min(len - 1), 1.0)]))
    })
}

/// Bilinear by factors: torch's mode `bilinear` with `scale_factor`. Shapes as [`upsample_nearest`].
pub fn upsample_bilinear(x: &Tensor, factors: [f64; 2], align_corners: bool) -> Result<Tensor> {
    apply("upsample_bilinear", x, 2, |axis, len| {
        let (output, step) = scaled("upsample_bilinear", len, factors[axis])?;
        Ok(Taps::new(len, output, |i| {
            let at = if align_corners { source(i, len, output, true) } else { step * (i as f32 + 0.5) - 0.5 }.max(0.0);
            let low = (at as usize).min(len - 1);
            let weight = (at - low as f32).clamp(0.0, 1.0);
            vec![(low, 1.0 - weight), ((low + 1).min(len - 1), weight)]
        }))
    })
}

/// Nearest neighbour over `D` axes: torch's mode `nearest`.
pub fn interpolate_nearest_nd<const DIMS: usize>(x: &Tensor, size: [usize; DIMS]) -> Result<Tensor> {
    apply("interpolate_nearest", x, DIMS, |axis, len| {
        let output = size[axis];
        let scale = len as f32 / output as f32;
        Ok(Taps::new(len, output, |i| vec![(((i as f32 * scale).floor() as usize).min(len - 1), 1.0)]))
    })
}

/// Bicubic, torch's mode `bicubic` (a = -0.75) without antialiasing; pixels beyond the border repeat it.
pub fn interpolate_bicubic(x: &Tensor, size: (usize, usize), align_corners: bool) -> Result<Tensor> {
    const A: f32 = -0.75;
    let near = |t: f32| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
    let far = |t: f32| ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A;
    apply("interpolate_bicubic", x, 2, |axis, len| {
        let output = if axis == 0 { size.0 } else { size.1 };
        Ok(Taps::new(len, output, |i| {
            if output == len {
                return vec![(i, 1.0)];
            }
            let at = source(i, len, output, align_corners);
            let low = at.floor();
            let t = at - low;
            let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
            let clamped = |k: usize| (low as i64 - 1 + k as i64).clamp(0, len as i64 - 1) as usize;
            weights.into_iter().enumerate().map(|(k, w)| (clamped(k), w)).collect()
        }))
    })
}

#[cfg(test)]
#[allow(clippy::approx_constant)] // printed numbers
mod tests {
    use super::super::testing::{check_gradient, close, grad, var, wave, weighted_grad};
    use super::*;

    type Case = (&'static str, fn(&Tensor) -> Result<Tensor>, &'static [f32], &'static [f32]);

    // torch's functions of the same names (avg_pool2d, avg_pool3d, F.interpolate) on wave(*shape)
    fn check(shape: &[usize], cases: &[Case]) {
        for (name, f, y, dx) in cases {
            println!("{name}");
            let x = var(&wave(shape).flatten_all().unwrap().to_vec1::<f32>().unwrap(), shape);
            let ours = f(&x).unwrap();
            close(&ours, y);
            close(&weighted_grad(&ours, &x), dx);
        }
    }

    #[test]
    fn planes_are_torchs() {
        #[rustfmt::skip]
        let cases: &[Case] = &[
            ("avg_pool(x, [3, 3], [2, 2], [1, 1], AvgPoolOptions { ceil_mode: false, count_include_pad: true })", |x| avg_pool(x, [3, 3], [2, 2], [1, 1], AvgPoolOptions { ceil_mode: false, count_include_pad: true }), &[-0.11539083, 0.10449311, 0.28673983, 0.0021775563, 0.01883371, 0.046117205, -0.16581194, 0.08680936, 0.3153301], &[0.11111111, 0.16151068, 0.050399568, -0.014989439, -0.06538901, -0.06538901, 0.0013911426, 0.01764261, 0.01625147, 0.029603552, 0.013352081, 0.013352081, -0.10971997, -0.14386806, -0.034148097, 0.04459299, 0.07874109, 0.07874109, -0.004138574, -0.021245122, -0.017106555, -0.028486915, -0.0113803595, -0.0113803595, 0.105581395, 0.12262294, 0.017041542, -0.07307991, -0.09012145, -0.09012145]),
            ("avg_pool(x, [3, 3], [2, 2], [1, 1], AvgPoolOptions { ceil_mode: true, count_include_pad: true })", |x| avg_pool(x, [3, 3], [2, 2], [1, 1], AvgPoolOptions { ceil_mode: true, count_include_pad: true }), &[-0.11539083, 0.10449311, 0.28673983, 0.121939816, 0.0021775563, 0.01883371, 0.046117205, 0.019688716, -0.16581194, 0.08680936, 0.3153301, 0.11736581], &[0.11111111, 0.16151068, 0.050399568, -0.014989439, -0.06538901, -0.22996897, 0.076963015, 0.20610367, 0.12914066, 0.16933304, 0.040192388, -0.09882526, -0.034148097, 0.04459299, 0.07874109, 0.18432248, 0.105581395, 0.1311437, -0.124269545, -0.14432748, -0.020057932, 0.0860152, 0.10607314, 0.28050312, -0.09012145, -0.18892047, -0.09879902, -0.098307274, 0.0004917442, 0.14935942]),
            ("avg_pool(x, [3, 2], [2, 3], [1, 0], AvgPoolOptions { ceil_mode: true, count_include_pad: false })", |x| avg_pool(x, [3, 2], [2, 3], [1, 0], AvgPoolOptions { ceil_mode: true, count_include_pad: false }), &[-0.25962937, 0.46225488, 0.0032663345, 0.0494871, -0.37307686, 0.5334439], &[0.25, 0.25, 0.0, 0.11339903, 0.11339903, 0.0, 0.15191647, 0.15191647, 0.0, -0.05118093, -0.05118093, 0.0, -0.09808352, -0.09808352, 0.0, -0.16457996, -0.16457996, 0.0, -0.17491674, -0.17491674, 0.0, 0.012587488, 0.012587488, 0.0, -0.07683322, -0.07683322, 0.0, 0.17716745, 0.17716745, 0.0]),
            ("adaptive_avg_pool2d(x, (3, 4))", |x| adaptive_avg_pool2d(x, (3, 4)), &[-0.25962937, 0.018464774, 0.46225488, 0.4285199, 0.0032663345, 0.005645146, 0.0494871, 0.04657037, -0.37307686, -0.06303045, 0.5334439, 0.45114112], &[0.25, 0.36339903, 0.11339903, -0.14712527, -0.39399523, -0.24686994, 0.19877785, 0.43028852, 0.23151067, 0.011246815, -0.21006082, -0.22130762, -0.051222146, 0.06688949, 0.11811163, 0.15837209, 0.1839344, 0.02556231, -0.25399542, -0.35818157, -0.104186155, 0.15947852, 0.40834236, 0.24886385, -0.20277326, -0.42507106, -0.22229779, 0.0011064245, 0.22440796, 0.22330153]),
            ("adaptive_avg_pool2d(x, (1, 1))", |x| adaptive_avg_pool2d(x, (1, 1)), &[0.07094452], &[0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335, 0.033333335]),
            ("interpolate_area(x, (3, 7))", |x| interpolate_area(x, (3, 7)), &[-0.39218605, -0.25962937, 0.018464774, 0.29864582, 0.46225488, 0.4285199, 0.36581945, -0.00016948457, 0.0032663345, 0.005645146, 0.024899492, 0.0494871, 0.04657037, 0.039377432, -0.49589726, -0.37307686, -0.06303045, 0.32044932, 0.5334439, 0.45114112, 0.35209742], &[0.613399, -0.033726245, -0.39399523, -0.32370317, 0.10033423, 0.6522837, 0.52934146, -0.31710696, -0.54145616, -0.17409788, 0.3835159, 0.73255956, -0.084057555, -0.2833807, -0.14746091, 0.1496053, 0.28318167, 0.08027583, -0.7361333, -0.38004404, 0.17868437, 0.54214513, 0.31314546, -0.53507125, -0.6520757, -0.096663326, 0.3261453, 0.3925398, 0.029963784, -0.6153471]),
            ("interpolate_bicubic(x, (7, 9), false)", |x| interpolate_bicubic(x, (7, 9), false), &[0.1210033, 0.48305947, 0.9186494, 1.0386916, 1.0107304, 0.72658265, 0.33327222, -0.1333406, -0.3964828, -0.68546885, -0.5710749, -0.32675228, -0.07986973, 0.2634157, 0.5528081, 0.6948934, 0.68969727, 0.61457473, -0.43891206, -0.6289143, -0.81349856, -0.7939462, -0.57454777, -0.18769552, 0.16849256, 0.5532951, 0.752207, 0.9888287, 0.73887897, 0.25576213, -0.19238304, -0.6430031, -0.9154909, -1.0122666, -0.7638076, -0.4778091, 0.34808758, 0.5717256, 0.80944496, 0.8234247, 0.68300796, 0.37147167, 0.04649364, -0.3920106, -0.6574389, -0.5679569, -0.36093697, 0.0011701947, 0.29347032, 0.626189, 0.78384477, 0.72614926, 0.456786, 0.22205767, -0.9854729, -1.139516, -1.1815916, -0.955626, -0.38617307, 0.25334334, 0.6097187, 1.0010924, 1.1993322], &[0.9932184, 0.05835555, -1.0249836, 0.104530945, 0.9970268, -0.26405787, -0.3778175, -0.35995102, 0.44593152, 0.29287004, -0.48715132, -0.20744295, 0.0577039, 0.46802878, -0.13662893, -0.4515226, 0.20633963, 0.40821546, 0.27208117, -0.49766576, -0.19557263, 0.5345009, 0.10905418, -0.54057205, -0.92862004, 0.46559638, 0.87203, -0.61000437, -0.7660328, 0.72104967]),
            ("interpolate_bicubic(x, (3, 8), true)", |x| interpolate_bicubic(x, (3, 8), true), &[0.1, 0.51614803, 0.8658199, 0.9266336, 0.8348587, 0.5028084, 0.051443998, -0.25166285, 0.94171363, 0.62209505, 0.075216934, -0.44974396, -0.7797265, -1.0133067, -0.8757987, -0.51817226, -0.9339446, -1.079118, -0.9934418, -0.5651339, 0.009542824, 0.49739286, 0.85214436, 1.051192], &[1.1814477, 0.062070426, -1.3857206, -0.13103393, 1.3260834, 0.3297121, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0461698, -0.82964575, 1.075707, 0.9146211, -0.991929, -0.9368174, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5156342, 1.2837694, -0.35927624, -1.3526517, 0.28300995, 1.18998]),
            ("interpolate_linear(x, [7, 4], false)", |x| interpolate_linear(x, [7, 4], false), &[0.24956198, 0.864626, 0.6388778, -0.12894166, -0.4081177, -0.019251207, 0.4204713, 0.47232848, -0.4135489, -0.5299528, -0.06752743, 0.478224, 0.80602217, -0.1494373, -0.87801194, -0.63441837, 0.30172095, 0.5622653, 0.29441988, -0.29550585, -0.3581318, 0.14720577, 0.55911905, 0.3213965, -0.96897465, -0.7857812, 0.2867545, 0.96317947], &[0.6512144, 0.4063994, 0.5679838, -0.13594396, -0.27575168, -0.69131106, -0.5662282, -0.24628831, -0.17263675, 0.4096135, 0.31794944, 0.54423493, 0.49826658, 0.13267782, -0.10023315, -0.58919734, -0.34115982, -0.4342821, -0.25940606, 0.026439425, 0.33872434, 0.5666942, 0.24735682, 0.1753762, -0.09724265, -0.25888845, -0.67942274, -0.51912445, -0.10354911, 0.2084771]),
        ];
        check(&[1, 1, 5, 6], cases);
    }

    #[test]
    fn volumes_are_torchs() {
        #[rustfmt::skip]
        let cases: &[Case] = &[
            ("avg_pool(x, [2, 3, 2], [1, 2, 2], [1, 1, 0], AvgPoolOptions { ceil_mode: true, count_include_pad: false })", |x| avg_pool(x, [2, 3, 2], [1, 2, 2], [1, 1, 0], AvgPoolOptions { ceil_mode: true, count_include_pad: false }), &[0.19645178, -0.03614594, -0.12750979, -0.027561307, 0.07814245, -0.10050978, -0.023647085, 0.057460964, -0.052292928, 0.003141731, 0.10434529, 0.053600278, -0.064419, 0.17115706, 0.12847489, -0.03528268], &[0.21158339, 0.21158339, 0.20198275, 0.20198275, 0.1832372, 0.1832372, -0.025715452, -0.025715452, -0.028346203, -0.028346203, -0.2276982, -0.2276982, -0.13980323, -0.13980323, -0.022565171, -0.022565171, -0.020470954, -0.020470954, 0.10825732, 0.10825732, 0.119332284, 0.119332284, 0.1308225, 0.1308225, 0.10008436, 0.10008436, -0.1516775, -0.1516775, -0.13760066, -0.13760066, -0.215626, -0.215626, -0.23768502, -0.23768502, -0.0639485, -0.0639485]),
            ("adaptive_avg_pool(x, [2, 1, 3])", |x| adaptive_avg_pool(x, [2, 1, 3]), &[0.16247775, 0.17466956, 0.081389435, 0.013951222, -0.075268134, -0.10723237], &[0.083333336, 0.121133015, -0.011242084, -0.04904176, 0.083333336, 0.121133015, -0.011242084, -0.04904176, 0.083333336, 0.121133015, -0.011242084, -0.04904176, 0.001043357, 0.013231963, 0.02220266, 0.010014057, 0.001043357, 0.013231963, 0.02220266, 0.010014057, 0.001043357, 0.013231963, 0.02220266, 0.010014057, -0.08228998, -0.10790105, 0.033444744, 0.059055816, -0.08228998, -0.10790105, 0.033444744, 0.059055816, -0.08228998, -0.10790105, 0.033444744, 0.059055816]),
            ("interpolate_linear(x, [2, 4, 5], false)", |x| interpolate_linear(x, [2, 4, 5], false), &[0.3104284, 0.52952456, 0.6152144, 0.5354035, 0.36833128, 0.07492781, 0.04687486, -0.080554545, -0.2027807, -0.21869269, -0.12006081, -0.098649025, -0.13320783, -0.15769847, -0.11279427, -0.20954123, 0.1414609, 0.47480565, 0.6556228, 0.6507271, -0.46503, -0.6335771, -0.65306735, -0.44985768, -0.09877177, -0.0002820436, 0.10288721, 0.154115, 0.18224514, 0.23151982, 0.17800578, 0.2150764, 0.20473804, 0.15410331, 0.09714906, 0.010404199, -0.3344059, -0.51807255, -0.5249026, -0.4570938], &[1.1315484, 0.2260953, -0.8772305, -0.7712036, 0.59349704, 0.82970446, -0.09450763, -1.0003624, -0.3791465, 0.82575685, 0.7574191, -0.49699906, 0.00009848769, 0.0028689087, 0.0013884822, -0.0024545924, -0.0024083245, 0.0009698905, 0.0026130797, 0.00042547254, -0.00315164, -0.0016393363, 0.0019242351, 0.0029939883, -1.1312529, -0.21748859, 0.881396, 0.7638399, -0.600722, -0.82679474, 0.10234688, 1.0016388, 0.36969158, -0.8306749, -0.75164634, 0.50598097]),
            ("interpolate_linear(x, [4, 2, 5], true)", |x| interpolate_linear(x, [4, 2, 5], true), &[0.1, 0.5486859, 0.80916667, 0.8830881, 0.77209634, -0.5920809, -0.07715835, 0.41885048, 0.80323935, 0.9833019, 0.6611424, 0.53932154, 0.2919607, -0.012247524, -0.30461046, 0.4280249, 0.5726838, 0.5680643, 0.4105277, 0.09643572, 0.31649414, 0.010081303, -0.2717201, -0.46659085, -0.51221174, 0.52577835, 0.33909813, 0.12678498, -0.116458334, -0.3959291, -0.9339446, -1.0390347, -0.8818757, -0.47994193, 0.14929225, -0.29882032, -0.7779152, -0.9049871, -0.7777187, -0.49379262], &[1.189308, 0.40356204, -0.94107497, -0.8853633, 0.0, 0.0, 0.0, 0.0, 0.73840755, 1.0331035, -0.22149618, -1.1973431, -0.58910406, 0.69093084, 0.87913793, -0.298715, 0.0, 0.0, 0.0, 0.0, -1.0501384, -0.034441635, 0.9801855, 0.5153532, -0.60802567, -1.0853193, 0.07360948, 1.1801121, 0.0, 0.0, 0.0, 0.0, 0.29778796, -0.99911916, -0.7456753, 0.6888323]),
            ("interpolate_nearest_nd(x, [4, 2, 5])", |x| interpolate_nearest_nd(x, [4, 2, 5]), &[0.1, 0.1, 0.6982479, 0.9200854, 0.77209634, 0.2392222, 0.2392222, -0.25166294, -0.8843721, -0.95239335, 0.1, 0.1, 0.6982479, 0.9200854, 0.77209634, 0.2392222, 0.2392222, -0.25166294, -0.8843721, -0.95239335, 0.94171363, 0.94171363, 0.39894798, -0.33223248, -0.8429638, -0.9831568, -0.9831568, -0.51817226, -0.05784997, 0.5735519, -0.9339446, -0.9339446, -1.0740647, -0.68968666, 0.14929225, 0.69914126, 0.69914126, 1.0511922, 0.8432803, 0.38174236], &[2.3512278, 0.21738285, -1.1495942, -1.2602859, 1.2722491, 1.1422112, -0.2297712, -1.3506578, 0.0, 0.0, 0.0, 0.0, -1.4456508, 0.59563434, 0.9860448, 0.2988979, -1.6623248, -0.14462127, 0.8162385, 0.8851065, 0.0, 0.0, 0.0, 0.0, -0.91042787, -0.80061173, 0.1708423, 0.9555986, 0.3719394, -0.99011743, -0.574097, 0.46930113, 0.0, 0.0, 0.0, 0.0]),
        ];
        check(&[1, 1, 3, 3, 4], cases);
    }

    #[test]
    fn a_mean_of_many_is_accurate_and_two_uses_add_up() {
        let x = (wave(&[1, 1, 200, 300]) + 100.0).unwrap();
        let mean = adaptive_avg_pool2d(&x, (1, 1)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
        let v = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let wanted = v.iter().map(|v| f64::from(*v)).sum::<f64>() / v.len() as f64;
        assert!((f64::from(mean) - wanted).abs() < 2e-5, "{mean} {wanted}");
        check_gradient(&wave(&[2, 1, 4, 3]), 1e-2, |x| {
            let t = x.transpose(2, 3)?;
            avg_pool2d(&t, [3, 3], [1, 1], [1, 1], AvgPoolOptions::default())? + adaptive_avg_pool2d(x, (3, 4))
        });
    }

    #[test]
    fn an_empty_batch_passes_and_bad_shapes_are_refused() {
        let x = var(&[], &[0, 3, 4, 4]);
        let y = interpolate_bicubic(&adaptive_avg_pool2d(&x, (2, 2)).unwrap(), (5, 5), false).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 3, 5, 5][..], &[0, 3, 4, 4][..]));
        assert!(adaptive_avg_pool2d(&wave(&[1, 1, 4, 4]), (0, 2)).is_err());
        assert!(avg_pool2d(&wave(&[1, 1, 2, 2]), [3, 3], [1, 1], [0, 0], AvgPoolOptions::default()).is_err());
        assert!(adaptive_avg_pool2d(&wave(&[1, 4, 4]), (1, 1)).is_err());
    }
}
