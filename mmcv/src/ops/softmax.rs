//! Softmax and its logarithm over any axis.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, shape::Dim};

use super::kernel::{CHUNK, LANES, build, values, with_values};
use super::math::exp;
use crate::nn::apply1;

/// Columns that are worked on together when the axis is not the last.
const STRIP: usize = 64;

simd! {
    /// Largest value; may be NaN when there is one (the sum of the exponentials is then NaN in any case).
    fn largest(x: &[f32]) -> f32 {
        let mut acc = [f32::NEG_INFINITY; LANES];
        let chunks = x.chunks_exact(LANES);
        let rest = chunks.remainder();
        for c in chunks {
            for l in 0..LANES {
                acc[l] = if c[l] > acc[l] || c[l].is_nan() { c[l] } else { acc[l] };
            }
        }
        acc.iter().chain(rest).fold(f32::NEG_INFINITY, |m, v| if *v > m || v.is_nan() { *v } else { m })
    }
}
simd! {
    /// `out = e^(x - m)`; returns the sum.
    fn exp_sum(x: &[f32], m: f32, out: &mut [f32]) -> f32 {
        let mut acc = [0.0f32; LANES];
        let whole = x.len() / LANES * LANES;
        for i in (0..whole).step_by(LANES) {
            let (x, o) = (&x[i..i + LANES], &mut out[i..i + LANES]);
            for l in 0..LANES {
                o[l] = exp(x[l] - m);
                acc[l] += o[l];
            }
        }
        let mut total: f32 = acc.iter().sum();
        for i in whole..x.len() {
            out[i] = exp(x[i] - m);
            total += out[i];
        }
        total
    }
}
simd! {
    fn scale(x: &mut [f32], by: f32) {
        for v in x {
            *v *= by;
        }
    }
}
simd! {
    fn shift(x: &[f32], by: f32, out: &mut [f32]) {
        for (o, x) in out.iter_mut().zip(x) {
            *o = x - by;
        }
    }
}
simd! {
    fn dot(x: &[f32], y: &[f32]) -> f32 {
        let mut acc = [0.0f32; LANES];
        let whole = x.len() / LANES * LANES;
        for i in (0..whole).step_by(LANES) {
            let (x, y) = (&x[i..i + LANES], &y[i..i + LANES]);
            for l in 0..LANES {
                acc[l] += x[l] * y[l];
            }
        }
        let rest: f32 = x[whole..].iter().zip(&y[whole..]).map(|(a, b)| a * b).sum();
        acc.iter().sum::<f32>() + rest
    }
}
simd! {
    /// `y (g - s)`, or of a logarithm `g - e^y s`.
    fn grad_row(y: &[f32], g: &[f32], s: f32, log: bool, out: &mut [f32]) {
        for ((o, y), g) in out.iter_mut().zip(y).zip(g) {
            *o = if log { g - exp(*y) * s } else { y * (g - s) };
        }
    }
}
simd! {
    /// Rows `step` apart, all columns at once.
    fn forward_columns(x: &[f32], len: usize, step: usize, log: bool, out: &mut [f32], width: usize) {
        let (mut m, mut s) = ([f32::NEG_INFINITY; STRIP], [0.0f32; STRIP]);
        let (m, s) = (&mut m[..width], &mut s[..width]);
        for r in 0..len {
            for (m, x) in m.iter_mut().zip(&x[r * step..r * step + width]) {
                *m = if *x > *m || x.is_nan() { *x } else { *m };
            }
        }
        for r in 0..len {
            let (x, o) = (&x[r * step..r * step + width], &mut out[r * step..r * step + width]);
            for j in 0..width {
                o[j] = exp(x[j] - m[j]);
                s[j] += o[j];
            }
        }
        if log {
            for j in 0..width {
                s[j] = m[j] + s[j].ln();
            }
        } else {
            for v in s.iter_mut() {
                *v = 1.0 / *v;
            }
        }
        for r in 0..len {
            let (x, o) = (&x[r * step..r * step + width], &mut out[r * step..r * step + width]);
            for j in 0..width {
                o[j] = if log { x[j] - s[j] } else { o[j] * s[j] };
            }
        }
    }
}
simd! {
    fn backward_columns(y: &[f32], g: &[f32], len: usize, step: usize, log: bool, out: &mut [f32], width: usize) {
        let mut s = [0.0f32; STRIP];
        let s = &mut s[..width];
        for r in 0..len {
            let (y, g) = (&y[r * step..r * step + width], &g[r * step..r * step + width]);
            for j in 0..width {
                s[j] += if log { g[j] } else { y[j] * g[j] };
            }
        }
        for r in 0..len {
            let range = r * step..r * step + width;
            let (y, g, o) = (&y[range.clone()], &g[range.clone()], &mut out[range]);
            for j in 0..width {
                o[j] = if log { g[j] - exp(y[j]) * s[j] } else { y[j] * (g[j] - s[j]) };
            }
        }
    }
}

struct Softmax {
    len: usize,
    /// Elements behind one step of the axis.
    inner: usize,
    log: bool,
}

impl Softmax {
    fn rows(&self, n: usize, row: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
        let block = self.len * self.inner;
        build(n, (CHUNK / block.max(1)).max(1) * block, |at, out: &mut [f32]| {
            for (i, out) in out.chunks_exact_mut(block).enumerate() {
                row(at + i * block, out);
            }
        })
    }

    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let block = self.len * self.inner;
        self.rows(x.len(), |at, out| {
            let x = &x[at..at + block];
            if self.inner > 1 {
                for j in (0..self.inner).step_by(STRIP) {
                    let width = STRIP.min(self.inner - j);
                    forward_columns(&x[j..], self.len, self.inner, self.log, &mut out[j..], width);
                }
                return;
            }
            let m = largest(x);
            let total = exp_sum(x, m, out);
            if self.log {
                shift(x, m + total.ln(), out);
            } else {
                scale(out, 1.0 / total);
            }
        })
    }

    fn backward(&self, y: &[f32], g: &[f32]) -> Vec<f32> {
        let block = self.len * self.inner;
        self.rows(y.len(), |at, out| {
            let (y, g) = (&y[at..at + block], &g[at..at + block]);
            if self.inner > 1 {
                for j in (0..self.inner).step_by(STRIP) {
                    let width = STRIP.min(self.inner - j);
                    backward_columns(&y[j..], &g[j..], self.len, self.inner, self.log, &mut out[j..], width);
                }
                return;
            }
            let s = if self.log { super::kernel::sum(g) as f32 } else { dot(y, g) };
            grad_row(y, g, s, self.log, out);
        })
    }
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.forward(values(self.name(), s, l)?)), l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let out = with_values(self.name(), res, |y| with_values(self.name(), grad, |g| Ok(self.backward(y, g))))?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

fn apply(x: &Tensor, axis: impl Dim, log: bool) -> Result<Tensor> {
    let axis = axis.to_index(x.shape(), "softmax")?;
    let inner = x.dims()[axis + 1..].iter().product();
    apply1(x, Softmax { len: x.dims()[axis], inner, log })
}

/// `e^x / sum(e^x)` over `axis` of a tensor of any shape.
pub fn softmax(x: &Tensor, axis: impl Dim) -> Result<Tensor> {
    apply(x, axis, false)
}

/// [`softmax`] over the last axis.
pub fn softmax_last(x: &Tensor) -> Result<Tensor> {
    apply(x, D::Minus1, false)
}

/// `x - ln(sum(e^x))` over `axis` of a tensor of any shape.
pub fn log_softmax(x: &Tensor, axis: impl Dim) -> Result<Tensor> {
    apply(x, axis, true)
}

#[cfg(test)]
#[allow(clippy::approx_constant)] // printed numbers
mod tests {
    use super::super::testing::{check_gradient, close, grad, tensor, var, wave, weighted_grad};
    use super::*;

    // y = F.softmax(wave(2, 5, 3) * 3, axis) or F.log_softmax; (y * weights(2, 5, 3)).sum().backward()
    #[test]
    fn values_and_gradients_are_torchs() {
        #[rustfmt::skip]
        let cases: &[(usize, bool, &[f32], &[f32])] = &[
            (0, false, &[0.9442172, 0.9935948, 0.9868068, 0.92342645, 0.26835415, 0.027405541, 0.0049399, 0.016942116, 0.32404354, 0.9562814, 0.99573, 0.9934321, 0.9150771, 0.28893137, 0.015515575, 0.055782754, 0.0064052325, 0.013193202, 0.076573595, 0.7316459, 0.9725945, 0.99506, 0.9830579, 0.6759564, 0.04371849, 0.004270053, 0.0065679383, 0.084922925, 0.7110687, 0.98448443], &[0.08966706, 0.00087729795, -0.020535575, -0.11093001, 0.030262671, 0.045542657, 0.0068616536, -0.0073658843, -0.39364386, -0.049670704, 0.003058388, 0.012009792, 0.073864706, -0.20100266, -0.028076068, -0.089667015, -0.00087732094, 0.020535594, 0.11093009, -0.030262655, -0.045542598, -0.006861686, 0.007365837, 0.3936439, 0.049670655, -0.003058388, -0.012009835, -0.073864736, 0.20100263, 0.028076077]),
            (0, true, &[-0.057399035, -0.006425791, -0.013280977, -0.07966414, -1.3154478, -3.5970101, -5.31041, -4.077953, -1.1268773, -0.044703003, -0.0042791474, -0.0065895882, -0.088746935, -1.2415661, -4.165911, -2.8862906, -5.05064, -4.3280535, -2.569503, -0.3124587, -0.027788049, -0.0049521886, -0.017087264, -0.39162663, -3.1299841, -5.456129, -5.025555, -2.4660113, -0.34098625, -0.015637163], &[0.7189982, -0.310816, -0.9835557, -0.61242276, -0.10102235, 0.71665275, 0.9477402, 0.14068408, -0.86778504, -0.32470465, 0.71185327, 0.9470816, 0.2007776, -0.3511114, -0.95190024, -0.71899813, 0.31081593, 0.9835556, 0.6124228, 0.10102227, -0.71665275, -0.9477402, -0.14068408, 0.86778504, 0.32470462, -0.71185327, -0.9470816, -0.20077762, 0.35111138, 0.95190024]),
            (1, false, &[0.045374483, 0.3557143, 0.44001845, 0.3407806, 0.08975204, 0.013086376, 0.002367498, 0.0025148264, 0.004712967, 0.044629607, 0.40709218, 0.5319057, 0.5668478, 0.1449267, 0.010276535, 0.0047657792, 0.0030520784, 0.0051798862, 0.05023956, 0.3256909, 0.40892556, 0.84784216, 0.1942174, 0.008656475, 0.0036274102, 0.0023235558, 0.0030963996, 0.09352505, 0.47471607, 0.5741417], &[0.03955568, 0.12134715, -0.35215092, -0.3802155, -0.037677225, 0.0065021156, 0.0019460669, 0.000102892445, -0.0048209, -0.04540753, -0.04397973, 0.36243936, 0.38412127, -0.0397931, -0.011969709, -0.0016105411, -0.0001111794, 0.004552324, 0.047515582, -0.26499444, -0.45388773, -0.068871595, 0.047284782, 0.007583537, 0.0024062654, -0.002479369, -0.0032742221, 0.020560278, 0.22030023, 0.44502607]),
            (1, true, &[-3.0928054, -1.0336275, -0.82093865, -1.0765164, -2.4107046, -4.3361835, -6.0459213, -5.9855514, -5.3574376, -3.1093578, -0.8987157, -0.63128906, -0.5676644, -1.9315271, -4.5778923, -5.3462944, -5.7919326, -5.2629724, -2.9909525, -1.1218065, -0.89422214, -0.16506079, -1.6387771, -4.749448, -5.6192365, -6.0646567, -5.7775154, -2.369526, -0.7450384, -0.55487907], &[0.9600956, 0.40310305, -0.25819194, -1.2871778, -0.32007304, 0.71849334, 0.94815046, 0.1530169, -0.80755514, -0.92844045, -0.05336037, 1.2924924, 0.3073721, -0.18268655, -0.94523865, -0.7004312, 0.31406125, 0.98411024, 0.60204506, -0.641008, -1.3731422, -0.0959648, 0.48856947, 0.978145, 0.30039415, -0.71616787, -0.95026356, -0.10604325, 0.5545451, 0.36115053]),
            (2, false, &[0.053402428, 0.3213722, 0.6252254, 0.80093753, 0.16192943, 0.037132975, 0.23703513, 0.19328088, 0.569684, 0.0446608, 0.31271872, 0.64262044, 0.82091624, 0.16111593, 0.017967826, 0.23222457, 0.1524941, 0.61528134, 0.036378298, 0.24181621, 0.72180545, 0.7937929, 0.1864505, 0.019756623, 0.2675475, 0.17572784, 0.55672467, 0.047237977, 0.24585584, 0.70690614], &[0.062415164, 0.20001125, -0.2624264, -0.13865747, 0.08210274, 0.056554653, 0.27434838, 0.06968894, -0.34403732, -0.06363519, -0.16612832, 0.22976355, 0.15397307, -0.12574066, -0.028232384, -0.2777047, -0.027098909, 0.3048036, 0.050694674, 0.0848178, -0.13551247, -0.17657262, 0.15268108, 0.023891548, 0.23330571, -0.024912728, -0.208393, -0.04554468, -0.00080987625, 0.046354573]),
            (2, true, &[-2.9298992, -1.1351554, -0.46964306, -0.22197233, -1.8205947, -3.2932498, -1.439547, -1.6436108, -0.56267345, -3.1086593, -1.1624511, -0.44220102, -0.19733422, -1.8256311, -4.0191727, -1.4600503, -1.8806293, -0.48567563, -3.3137827, -1.4195772, -0.32599962, -0.2309327, -1.6795895, -3.9242666, -1.3184583, -1.7388189, -0.5856845, -3.052557, -1.4030099, -0.34685734], &[0.9538018, 0.17557867, -1.1293805, -0.5180159, -0.2124191, 0.730435, 0.8808966, 0.09683661, -0.97773325, -0.8895681, 0.0017861414, 0.887782, 1.0596976, -0.11230007, -0.9473976, -0.84223896, 0.22391422, 0.61832476, 0.6133386, -0.24864286, -0.36469573, -1.3474301, 0.38382858, 0.9636015, 0.6636793, -0.47529492, -0.18838443, -0.21815777, 0.43350884, -0.21535122]),
        ];
        for (axis, log, y, dx) in cases {
            let x = (wave(&[2, 5, 3]) * 3.0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let x = var(&x, &[2, 5, 3]);
            let ours = apply(&x, *axis, *log).unwrap();
            close(&ours, y);
            close(&weighted_grad(&ours, &x), dx);
        }
    }

    #[test]
    fn long_rows_and_many_columns_add_up_to_1() {
        for shape in [[2, 1001, 1], [2, 7, 200]] {
            let x = (wave(&shape) * 20.0).unwrap();
            let y = softmax(&x, 1).unwrap();
            let total = y.sum(1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(total.iter().all(|t| (t - 1.0).abs() < 1e-5), "{total:?}");
            let log = log_softmax(&x, 1).unwrap().exp().unwrap();
            let apart = (y - log).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(apart < 1e-5);
        }
    }

    #[test]
    fn two_uses_add_up_infinities_and_empty_batches_pass() {
        check_gradient(&wave(&[3, 4]), 1e-2, |x| softmax(x, 1)? + log_softmax(&x.t()?, 0)?.t());
        // F.softmax of [0, -inf, inf], [nan, 0, 1], [-inf, 0, 0]
        let x = [0.0, f32::NEG_INFINITY, f32::INFINITY, f32::NAN, 0.0, 1.0, f32::NEG_INFINITY, 0.0, 0.0];
        let nan = f32::NAN;
        let wanted = [nan, nan, nan, nan, nan, nan, 0.0, 0.5, 0.5];
        close(&softmax_last(&tensor(&x, &[3, 3])).unwrap(), &wanted);
        close(&softmax(&tensor(&x, &[3, 3]).t().unwrap(), 0).unwrap().t().unwrap(), &wanted);
        let x = var(&[], &[0, 3, 4]);
        assert_eq!(grad(&softmax(&x, 1).unwrap(), &x).dims(), &[0, 3, 4]);
    }
}
