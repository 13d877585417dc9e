//! Batch normalization, Ioffe and Szegedy, ICML 2015 (<https://arxiv.org/abs/1502.03167>), with running or batch statistics,
//! fused with a residual sum and ReLU where wanted.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::join::join;
use super::kernel::{LANES, build_elements, planes, sum, to_vec, values, with_values};
use crate::nn::{apply2, apply3, contiguous, tracked};

/// Elements over which f32 partial sums run before they are added up in f64.
const BLOCK: usize = 4096;

simd! {
    /// Sum of squared distances from `mean` over one block.
    fn squares(x: &[f32], mean: f32) -> f64 {
        let mut acc = [0.0f32; LANES];
        let chunks = x.chunks_exact(LANES);
        let rest = chunks.remainder();
        for c in chunks {
            for l in 0..LANES {
                let d = c[l] - mean;
                acc[l] += d * d;
            }
        }
        acc.iter().map(|v| f64::from(*v)).sum::<f64>() + rest.iter().map(|v| f64::from(v - mean).powi(2)).sum::<f64>()
    }
}
simd! {
    /// Sums of `g` and of `g (x - mean)` over one block, `g` the gradient, 0 where `clip` is and `y` was clipped.
    pub(super) fn grad_sums(x: &[f32], g: &[f32], y: &[f32], mean: f32, clip: bool) -> (f64, f64) {
        let (mut a, mut b) = ([0.0f32; LANES], [0.0f32; LANES]);
        let whole = x.len() / LANES * LANES;
        for i in (0..whole).step_by(LANES) {
            let (x, g, y) = (&x[i..i + LANES], &g[i..i + LANES], &y[i..i + LANES]);
            for l in 0..LANES {
                let g = if clip && y[l] <= 0.0 { 0.0 } else { g[l] };
                a[l] += g;
                b[l] += g * (x[l] - mean);
            }
        }
        let mut sums = (0.0f64, 0.0f64);
        for l in 0..LANES {
            sums.0 += f64::from(a[l]);
            sums.1 += f64::from(b[l]);
        }
        for i in whole..x.len() {
            let g = if clip && y[i] <= 0.0 { 0.0 } else { g[i] };
            sums.0 += f64::from(g);
            sums.1 += f64::from(g * (x[i] - mean));
        }
        sums
    }
}
simd! {
    pub(super) fn affine(x: &[f32], scale: f32, shift: f32, out: &mut [f32]) {
        for (o, x) in out.iter_mut().zip(x) {
            *o = x * scale + shift;
        }
    }
}
simd! {
    fn affine_relu(x: &[f32], scale: f32, shift: f32, out: &mut [f32]) {
        for (o, x) in out.iter_mut().zip(x) {
            let v = x * scale + shift;
            *o = if v <= 0.0 { 0.0 } else { v };
        }
    }
}
simd! {
    fn affine_add(x: &[f32], add: &[f32], scale: f32, shift: f32, relu: bool, out: &mut [f32]) {
        for ((o, x), a) in out.iter_mut().zip(x).zip(add) {
            let v = x * scale + shift + a;
            *o = if relu && v <= 0.0 { 0.0 } else { v };
        }
    }
}
simd! {
    /// `p g - q (x - mean) - r`, `g` as in [`grad_sums`].
    pub(super) fn input_grad(x: &[f32], g: &[f32], y: &[f32], clip: bool, k: [f32; 4], out: &mut [f32]) {
        let [p, q, r, mean] = k;
        for (((o, x), g), y) in out.iter_mut().zip(x).zip(g).zip(y) {
            let g = if clip && *y <= 0.0 { 0.0 } else { *g };
            *o = p * g - q * (x - mean) - r;
        }
    }
}
simd! {
    fn scale_grad(g: &[f32], y: &[f32], clip: bool, p: f32, out: &mut [f32]) {
        for ((o, g), y) in out.iter_mut().zip(g).zip(y) {
            *o = if clip && *y <= 0.0 { 0.0 } else { p * g };
        }
    }
}

/// Mean and sum of squared distances from it, of channel `c`; blocks are merged by Chan's formula.
pub(super) fn moments(x: &[f32], (n, channels, size): (usize, usize, usize), c: usize) -> (f64, f64) {
    let (mut count, mut mean, mut m2) = (0.0f64, 0.0f64, 0.0f64);
    let mut merge = |block: &[f32]| {
        let len = block.len() as f64;
        let block_mean = sum(block) / len;
        // The squares are about the f32 nearest to the mean; the remainder is put right.
        let about = block_mean as f32;
        let off = block_mean - f64::from(about);
        let block_m2 = squares(block, about) - len * off * off;
        let (total, delta) = (count + len, block_mean - mean);
        mean += delta * len / total;
        m2 += block_m2 + delta * delta * count * len / total;
        count = total;
    };
    if size >= 64 {
        for i in 0..n {
            let at = (i * channels + c) * size;
            x[at..at + size].chunks(BLOCK).for_each(&mut merge);
        }
    } else {
        // Small planes are gathered first.
        let per = (BLOCK / size.max(1)).max(1);
        let mut block = Vec::with_capacity(per * size);
        for first in (0..n).step_by(per) {
            block.clear();
            for i in first..(first + per).min(n) {
                let at = (i * channels + c) * size;
                block.extend_from_slice(&x[at..at + size]);
            }
            if !block.is_empty() {
                merge(&block);
            }
        }
    }
    (mean, m2)
}

/// The op on `[N, C, ...]`, the stacked weight and bias `[2, C]` and, fused in, a tensor that is added.
#[derive(Clone)]
struct BatchNorm {
    mean: Vec<f32>,
    inv_std: Vec<f32>,
    /// The statistics are those of the batch, so the gradient flows through them.
    train: bool,
    relu: bool,
}

impl BatchNorm {
    fn forward(&self, x: &[f32], wb: &[f32], add: Option<&[f32]>, dims: (usize, usize, usize)) -> Vec<f32> {
        let (n, channels, size) = dims;
        let (weight, bias) = wb.split_at(channels);
        let factors: Vec<(f32, f32)> = (0..channels)
            .map(|c| {
                let scale = self.inv_std[c] * weight[c];
                (scale, bias[c] - self.mean[c] * scale)
            })
            .collect();
        build_elements(n * channels * size, size, |at, out| {
            let (scale, shift) = factors[at / size % channels];
            let x = &x[at..at + out.len()];
            match add {
                Some(a) => affine_add(x, &a[at..at + out.len()], scale, shift, self.relu, out),
                None if self.relu => affine_relu(x, scale, shift, out),
                None => affine(x, scale, shift, out),
            }
        })
    }

    /// Gradients of the input, of weight and bias stacked, and of what was added.
    fn backward(
        &self,
        (x, wb, res, grad): (&Tensor, &Tensor, &Tensor, &Tensor),
        add: Option<&Tensor>,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        const OP: &str = "batch_norm_backward";
        let dims = planes(OP, x)?;
        let (n, channels, size) = dims;
        let clip = self.relu;
        let weight = to_vec(wb)?;
        let (dx, dwb, dadd) = with_values(OP, x, |x_values| {
            with_values(OP, res, |y| {
                with_values(OP, grad, |g| {
                    let sums: Vec<(f64, f64)> = if self.train || tracked(wb) {
                        (0..channels)
                            .into_par_iter()
                            .map(|c| {
                                let mut total = (0.0, 0.0);
                                for i in 0..n {
                                    let start = (i * channels + c) * size;
                                    for at in (start..start + size).step_by(BLOCK) {
                                        let end = (at + BLOCK).min(start + size);
                                        let (x, g, y) = (&x_values[at..end], &g[at..end], &y[at..end]);
                                        let s = grad_sums(x, g, y, self.mean[c], clip);
                                        total = (total.0 + s.0, total.1 + s.1);
                                    }
                                }
                                total
                            })
                            .collect()
                    } else {
                        Vec::new()
                    };
                    let dx = tracked(x).then(|| {
                        let count = (n * size) as f64;
                        let factors: Vec<[f32; 4]> = (0..channels)
                            .map(|c| {
                                let inv = f64::from(self.inv_std[c]);
                                let p = inv * f64::from(weight[c]);
                                if !self.train {
                                    return [p as f32, 0.0, 0.0, 0.0];
                                }
                                let (sum_g, sum_gx) = sums[c];
                                [
                                    p as f32,
                                    (p * sum_gx * inv * inv / count) as f32,
                                    (p * sum_g / count) as f32,
                                    self.mean[c],
                                ]
                            })
                            .collect();
                        build_elements(n * channels * size, size, |at, out| {
                            let (k, end) = (factors[at / size % channels], at + out.len());
                            if self.train {
                                input_grad(&x_values[at..end], &g[at..end], &y[at..end], clip, k, out);
                            } else {
                                scale_grad(&g[at..end], &y[at..end], clip, k[0], out);
                            }
                        })
                    });
                    let dwb = tracked(wb).then(|| {
                        let weights =
                            sums.iter().zip(&self.inv_std).map(|((_, gx), inv)| (gx * f64::from(*inv)) as f32);
                        weights.chain(sums.iter().map(|(g, _)| *g as f32)).collect::<Vec<f32>>()
                    });
                    let dadd = add.filter(|a| tracked(a) && clip).map(|_| {
                        build_elements(y.len(), y.len(), |at, out| {
                            let end = at + out.len();
                            super::relu::relu_grad_into(&y[at..end], &g[at..end], out);
                        })
                    });
                    Ok((dx, dwb, dadd))
                })
            })
        })?;
        let to_tensor = |v: Option<Vec<f32>>, like: &Tensor| {
            v.map(|v| Tensor::from_vec(v, like.shape(), like.device())).transpose()
        };
        let dadd = match add {
            Some(a) if tracked(a) && !clip => Some(grad.clone()),
            _ => to_tensor(dadd, x)?,
        };
        Ok((to_tensor(dx, x)?, to_tensor(dwb, wb)?, dadd))
    }
}

fn dims_of(l: &Layout) -> Result<(usize, usize, usize)> {
    match l.dims() {
        [n, c, rest @ ..] => Ok((*n, *c, rest.iter().product())),
        dims => bail!("batch_norm: the input is {dims:?}, expected [N, C, ...]"),
    }
}

impl CustomOp2 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, wb) = (values("batch_norm", s1, l1)?, values("batch_norm", s2, l2)?);
        Ok((CpuStorage::F32(self.forward(x, wb, None, dims_of(l1)?)), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, wb: &Tensor, res: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dwb, _) = self.backward((x, wb, res, grad), None)?;
        Ok((dx, dwb))
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm_add"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = values("batch_norm_add", s1, l1)?;
        let (wb, add) = (values("batch_norm_add", s2, l2)?, values("batch_norm_add", s3, l3)?);
        Ok((CpuStorage::F32(self.forward(x, wb, Some(add), dims_of(l1)?)), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        wb: &Tensor,
        add: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.backward((x, wb, res, grad), Some(add))
    }
}

fn apply(op: BatchNorm, x: &Tensor, weight: &Tensor, bias: &Tensor, add: Option<&Tensor>) -> Result<Tensor> {
    let wb = join(weight, bias)?;
    match add {
        Some(a) if a.dims() != x.dims() => {
            bail!("batch_norm: the input is {:?} and what is added {:?}, expected one shape", x.dims(), a.dims())
        }
        Some(a) => apply3(x, &wb, a, op),
        None => apply2(x, &wb, op),
    }
}

fn check(x: &Tensor, tensors: &[(&str, &Tensor)]) -> Result<(usize, usize, usize)> {
    let dims = planes("batch_norm", x)?;
    for (name, t) in tensors {
        if t.dims() != [dims.1] {
            bail!("batch_norm: the input is {:?} and {name} {:?}, expected [{}]", x.dims(), t.dims(), dims.1);
        }
    }
    Ok(dims)
}

/// Batch normalization with running statistics: `(x - mean) / sqrt(var + eps) * weight + bias`.
///
/// # Shapes
/// - `x` and the output: `[N, C, ...]`
/// - `weight`, `bias`, `running_mean`, `running_var`: `[C]`; the last two are constants
pub fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    running_mean: &Tensor,
    running_var: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    batch_norm_act(x, weight, bias, (running_mean, running_var), eps, None, false)
}

/// [`batch_norm`], plus `add`, then ReLU when `relu`, in one pass.
///
/// `running` is the mean and the variance, `[C]` each.
pub fn batch_norm_act(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    running: (&Tensor, &Tensor),
    eps: f64,
    add: Option<&Tensor>,
    relu: bool,
) -> Result<Tensor> {
    let named = [("weight", weight), ("bias", bias), ("running_mean", running.0), ("running_var", running.1)];
    check(x, &named)?;
    let inv_std = to_vec(running.1)?.iter().map(|v| 1.0 / (v + eps as f32).sqrt()).collect();
    let op = BatchNorm { mean: to_vec(running.0)?, inv_std, train: false, relu };
    apply(op, x, weight, bias, add)
}

/// Batch normalization with the batch's statistics. Returns the output, and the batch's mean and unbiased variance,
/// `[C]` each, for the running ones (constants: no gradient flows into them).
///
/// An empty batch gives an empty output, mean 0 and variance 0; of a single element the unbiased variance is NaN.
///
/// # Shapes
/// - `x` and the output: `[N, C, ...]`
/// - `weight`, `bias`: `[C]`
pub fn batch_norm_train(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<(Tensor, Tensor, Tensor)> {
    batch_norm_train_act(x, weight, bias, eps, None, false)
}

/// [`batch_norm_train`], plus `add`, then ReLU when `relu`, in one pass forward and two backward.
pub fn batch_norm_train_act(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    add: Option<&Tensor>,
    relu: bool,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (n, channels, size) = check(x, &[("weight", weight), ("bias", bias)])?;
    let x = contiguous(x)?;
    let stats: Vec<(f64, f64)> = with_values("batch_norm", &x, |x| {
        Ok((0..channels).into_par_iter().map(|c| moments(x, (n, channels, size), c)).collect())
    })?;
    let count = (n * size) as f64;
    let variance = |m2: f64, count: f64| if m2 == 0.0 && n * size == 0 { 0.0 } else { m2 / count };
    let mean: Vec<f32> = stats.iter().map(|(m, _)| *m as f32).collect();
    let inv_std = stats.iter().map(|(_, m2)| (1.0 / (variance(*m2, count) + eps).sqrt()) as f32).collect();
    let unbiased: Vec<f32> = stats.iter().map(|(_, m2)| variance(*m2, count - 1.0) as f32).collect();
    let out_mean = Tensor::from_slice(&mean, channels, x.device())?;
    let out_var = Tensor::from_vec(unbiased, channels, x.device())?;
    let y = apply(BatchNorm { mean, inv_std, train: true, relu }, &x, weight, bias, add)?;
    Ok((y, out_mean, out_var))
}

#[cfg(test)]
#[allow(clippy::approx_constant)] // printed numbers
mod tests {
    use super::super::testing::{check_gradient, close, grad, tensor, var, wave, weighted_grad};
    use super::*;

    // x = wave(2, 3, 3, 5) * 3 + 10; y = F.batch_norm(x, rm, rv, w, b, train, 1.0, 1e-5); (y * weights(2, 3, 3, 5)).sum().backward()
    // with w = [1.5, -.5, 2], b = [.1, .2, .3], rm = [9, 10, 11], rv = [4, 1, .25]; `wave` and `weights` as in testing.rs.
    #[rustfmt::skip]
    mod expected {
        pub const TRAIN_Y: &[f32] = &[-0.10210195, 1.2951516, 1.8132697, 1.4676301, 0.22306201, -0.92343765, -2.4011784, -2.5600471, -1.7185103, -0.114988826, 1.4001837, 1.9609168, 1.8637844, 0.59611386, -1.1116141, 0.7533111, 0.84970975, 0.52997977, 0.21345557, -0.22070518, -0.4713585, -0.4342521, -0.10221308, 0.41227743, 0.8158707, 0.91221935, 0.6479155, 0.07102167, -0.3070622, -0.54913735, 2.966134, 1.6781471, -0.2210604, -2.0037045, -1.8216077, -0.76515865, 0.77447003, 2.757137, 3.5069427, 3.1705284, 1.2018595, -0.8100248, -1.9070606, -2.1356158, -0.80075526, -0.19585012, 1.3456306, 1.7818971, 1.4924105, 0.41795918, -1.1582502, -2.2333214, -2.7286773, -1.4390908, 0.092069834, 1.1221273, 2.1742632, 1.74508, 0.034578204, -1.139054, 0.7375325, 0.8181029, 0.5340571, 0.11985349, -0.38327378, -0.45081836, -0.36257493, 0.08592884, 0.42616662, 0.814172, 0.78592074, 0.56339335, 0.017404543, -0.380748, -0.4461489, 2.8170843, 1.1361078, -0.8991752, -2.0649495, -2.0968482, -1.0766953, 1.0934248, 2.8645656, 3.1597695, 3.0608501, 1.3605185, -0.5337858, -2.170621, -2.2980044, -0.94246495];
        pub const TRAIN_DX: &[f32] = &[0.7306539, 0.3358048, -0.46416974, -0.78233945, -0.28003082, 0.48589367, 0.6416569, 0.017809693, -0.7146586, -0.74041116, -0.011590073, 0.69260424, 0.6224987, -0.15882066, -0.81183505, 0.15865108, -0.07622042, -0.22549225, -0.12713355, 0.118674, 0.24602263, 0.118400335, -0.1254732, -0.22300991, -0.071829624, 0.15902661, 0.21646523, 0.041485425, -0.17283042, -0.18482633, 0.13936722, -0.7136329, -0.6692578, 0.19176339, 0.92611045, 0.70996195, -0.20221545, -0.774303, -0.36938015, 0.593157, 1.0395862, 0.46859556, -0.5255045, -0.88613814, -0.20855412, 0.5114337, 0.7191429, 0.09907605, -0.65243834, -0.72234845, -0.05372995, 0.60701704, 0.51386166, -0.21688417, -0.7895868, -0.55805206, 0.26073617, 0.7642708, 0.39640522, -0.44197017, 0.22702925, 0.09515039, -0.13866979, -0.21772201, -0.049178027, 0.18317226, 0.2309493, 0.037232194, -0.18662159, -0.20424478, 0.0042475844, 0.20802224, 0.1902209, -0.027740806, -0.20375669, 0.7837219, -0.20909573, -0.8639236, -0.48908845, 0.48163834, 0.984648, 0.49925542, -0.42442322, -0.7564489, -0.10038895, 0.79534626, 0.9411101, 0.1388937, -0.74747366, -0.7533269];
        pub const TRAIN_DW: &[f32] = &[-1.2633897, 1.0243232, -1.5428115];
        pub const TRAIN_DB: &[f32] = &[1.6744796, 0.8270484, -2.8363125];
        pub const TRAIN_MEAN: &[f32] = &[10.559596, 9.885156, 9.663691];
        pub const TRAIN_VAR: &[f32] = &[3.840245, 4.9228344, 4.7820735];
        pub const EVAL_Y: &[f32] = &[1.074999, 2.421055, 2.9201884, 2.5872138, 1.3882484, 0.28375825, -1.1398357, -1.2928835, -0.48218176, 1.0625843, 2.5222385, 3.0624254, 2.9688523, 1.7476311, 0.102476895, 1.4644395, 1.6747279, 0.97725457, 0.28677443, -0.6603234, -1.2071098, -1.1261642, -0.40183935, 0.7204933, 1.6009098, 1.811089, 1.2345248, -0.023937296, -0.8487065, -1.37678, 6.4192386, 0.88089734, -7.285691, -14.951057, -14.168041, -9.625313, -3.004912, 5.520552, 8.744716, 7.298135, -1.1671383, -9.818237, -14.535488, -15.518276, -9.778378, 0.98468584, 2.4696844, 2.8899653, 2.6110861, 1.5760043, 0.05754959, -0.97812945, -1.4553347, -0.21300058, 1.262056, 2.2543705, 3.2679546, 2.8544972, 1.2066709, 0.0760425, 1.4300194, 1.6057793, 0.98614895, 0.08258664, -1.0149578, -1.1623026, -0.9698044, 0.008581881, 0.7507919, 1.5972043, 1.5355756, 1.0501444, -0.14090009, -1.0094479, -1.1521164, 5.778325, -1.4498703, -10.201583, -15.214411, -15.351575, -10.964919, -1.633407, 5.982495, 7.251871, 6.826518, -0.4849048, -8.630409, -15.6687975, -16.216547, -10.38773];
        pub const EVAL_DX: &[f32] = &[0.74999905, 0.34019667, -0.4413753, -0.7406089, -0.23049936, 0.53150165, 0.71267354, 0.11503026, -0.60831904, -0.6668925, 0.0033192693, 0.66990376, 0.6044122, -0.121585675, -0.7147138, 0.35119677, -0.15787108, -0.4944162, -0.29065946, 0.23073219, 0.49997792, 0.22284389, -0.29781568, -0.49301994, -0.1494482, 0.3574417, 0.47371653, 0.07231027, -0.4081172, -0.44255105, -0.053105924, -3.5885327, -3.2023828, 0.6833555, 3.8223178, 2.7842214, -1.2964936, -3.9603903, -2.296342, 1.877167, 3.999293, 1.7509608, -2.410835, -3.9380517, -1.1617348, 0.54078543, 0.7084257, 0.10189289, -0.61598927, -0.66071355, 0.016595047, 0.6757685, 0.5964569, -0.13466743, -0.71862614, -0.5172646, 0.24936768, 0.743489, 0.42511982, -0.35782364, 0.49982122, 0.21488574, -0.30487856, -0.49146917, -0.1409785, 0.3635746, 0.47081056, 0.06354107, -0.41316658, -0.43836257, 0.015487439, 0.45241266, 0.39493784, -0.09412814, -0.48033014, 2.732948, -1.3632741, -3.9696999, -2.2380068, 1.9393975, 3.997413, 1.6870247, -2.4669573, -3.9250293, -1.0937988, 2.9327435, 3.754361, 0.47318357, -3.3250926, -3.4896817];
        pub const EVAL_DW: &[f32] = &[0.08865697, 2.139523, 0.9461436];
        pub const EVAL_DB: &[f32] = &[1.6744796, 0.8270484, -2.8363125];
        // The same with F.relu(y + a), a = -0.5 wave(2, 3, 3, 5).
        pub const FUSED_DX: &[f32] = &[0.028079437, 0.33675402, -0.49103206, -0.7906486, -0.22153397, 0.05421488, 0.101237565, 0.10629287, 0.07951461, 0.028489504, -0.016278764, 0.6578165, 0.59292483, -0.12034847, 0.060202777, 0.16188142, -0.07346892, -0.22115262, -0.12122168, 0.020972062, 0.026140315, 0.025375215, 0.018528856, -0.21808563, -0.06891004, 0.16146761, 0.22021908, 0.014956908, 0.022752669, 0.027744047, 0.16544282, -0.7171196, 0.028404662, -0.05515043, -0.046615295, 0.0029019953, -0.22644368, -0.75302434, -0.3308917, 0.62392396, 1.0251675, 0.00079905323, -0.050620593, -0.06133331, 0.0012335296, 0.031062566, 0.7173825, 0.07389775, -0.6620776, -0.67431325, 0.06168677, 0.095896244, 0.1116588, 0.07062331, -0.7240585, -0.54781526, 0.21449643, 0.7410687, 0.023730185, 0.061075926, 0.23033793, 0.098058894, -0.1343504, -0.21134521, 0.024324086, 0.025716797, 0.023897292, 0.04377751, -0.18176629, -0.20131677, 0.007315935, 0.21219592, 0.016062446, 0.024272006, 0.025620516, 0.8063765, -0.22502354, -0.0033795538, -0.058021076, -0.059516214, -0.011700178, 0.482348, -0.40067884, -0.7259289, -0.0721394, 0.7845692, 0.013746773, -0.06297404, -0.068944685, -0.005408607];
        pub const FUSED_DW: &[f32] = &[1.8392842, 1.3493918, -3.023267];
        pub const FUSED_DB: &[f32] = &[-0.8342085, 1.6095854, -1.703721];
        pub const FUSED_DA: &[f32] = &[0.0, 0.45359612, -0.5885011, -0.98747975, -0.30733287, 0.0, 0.0, 0.0, 0.0, 0.0, 0.004425698, 0.8932061, 0.80588394, -0.16211444, 0.0, -0.70239705, 0.31574374, 0.98883736, 0.58132184, 0.0, 0.0, 0.0, 0.0, 0.9860448, 0.2988979, -0.71488696, -0.9474378, 0.0, 0.0, 0.0, -0.013276747, -0.8971511, 0.0, 0.0, 0.0, 0.0, -0.3241299, -0.99011743, -0.574097, 0.46930113, 0.9998433, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9445688, 0.13585734, -0.82132006, -0.88095254, 0.0, 0.0, 0.0, 0.0, -0.9581694, -0.689687, 0.33249065, 0.99131995, 0.0, 0.0, -0.99964744, -0.42977363, 0.60976017, 0.9829433, 0.0, 0.0, 0.0, -0.12708278, 0.8263373, 0.87672955, -0.030975033, -0.90482986, 0.0, 0.0, 0.0, 0.6832507, -0.34082535, 0.0, 0.0, 0.0, 0.0, 0.4217646, -0.6167517, -0.981277, -0.27345517, 0.73320055, 0.0, 0.0, 0.0, 0.0];
    }
    use expected::*;

    fn input() -> Tensor {
        ((wave(&[2, 3, 3, 5]) * 3.0).unwrap() + 10.0).unwrap()
    }

    fn near(ours: &Tensor, theirs: &[f32]) {
        // Gradients are differences of sums of numbers about 10.
        let ours = ours.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
            assert!((a - b).abs() < 2e-5 + 1e-5 * b.abs(), "element {i}: {a}, expected {b}");
        }
    }

    #[test]
    fn training_is_torchs() {
        let x = var(&input().flatten_all().unwrap().to_vec1::<f32>().unwrap(), &[2, 3, 3, 5]);
        let (w, b) = (var(&[1.5, -0.5, 2.0], &[3]), var(&[0.1, 0.2, 0.3], &[3]));
        let (y, mean, variance) = batch_norm_train(&x, &w, &b, 1e-5).unwrap();
        near(&y, TRAIN_Y);
        near(&weighted_grad(&y, &x), TRAIN_DX);
        near(&weighted_grad(&y, &w), TRAIN_DW);
        near(&weighted_grad(&y, &b), TRAIN_DB);
        near(&mean, TRAIN_MEAN);
        near(&variance, TRAIN_VAR);
        assert!(!mean.track_op() && !variance.track_op());
    }

    #[test]
    fn evaluation_is_torchs_and_has_gradients() {
        let x = var(&input().flatten_all().unwrap().to_vec1::<f32>().unwrap(), &[2, 3, 3, 5]);
        let (w, b) = (var(&[1.5, -0.5, 2.0], &[3]), var(&[0.1, 0.2, 0.3], &[3]));
        let (m, v) = (tensor(&[9.0, 10.0, 11.0], &[3]), tensor(&[4.0, 1.0, 0.25], &[3]));
        let y = batch_norm(&x, &w, &b, &m, &v, 1e-5).unwrap();
        near(&y, EVAL_Y);
        near(&weighted_grad(&y, &x), EVAL_DX);
        near(&weighted_grad(&y, &w), EVAL_DW);
        near(&weighted_grad(&y, &b), EVAL_DB);
        // With constant weights only the input has a gradient.
        let y = batch_norm(&x, w.as_detached_tensor().as_ref(), b.as_detached_tensor().as_ref(), &m, &v, 1e-5).unwrap();
        near(&weighted_grad(&y, &x), EVAL_DX);
    }

    #[test]
    fn the_fused_sum_and_relu_are_torchs() {
        let values = input().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let x = var(&values, &[2, 3, 3, 5]);
        let a = Tensor::flatten_all(&(wave(&[2, 3, 3, 5]) * -0.5).unwrap()).unwrap().to_vec1::<f32>().unwrap();
        let a = var(&a, &[2, 3, 3, 5]);
        let (w, b) = (var(&[1.5, -0.5, 2.0], &[3]), var(&[0.1, 0.2, 0.3], &[3]));
        let (y, _, _) = batch_norm_train_act(&x, &w, &b, 1e-5, Some(&a), true).unwrap();
        near(&weighted_grad(&y, &x), FUSED_DX);
        near(&weighted_grad(&y, &w), FUSED_DW);
        near(&weighted_grad(&y, &b), FUSED_DB);
        near(&weighted_grad(&y, &a), FUSED_DA);
    }

    #[test]
    fn a_strided_input_and_big_and_small_planes_agree_with_f64() {
        for (n, c, h, w) in [(3, 2, 1, 1), (5, 4, 3, 2), (2, 3, 70, 131), (300, 2, 5, 5)] {
            let x = ((wave(&[n, h, w, c]) + 100.0).unwrap()).permute((0, 3, 1, 2)).unwrap();
            let (one, zero) = (tensor(&vec![1.0; c], &[c]), tensor(&vec![0.0; c], &[c]));
            let (y, mean, variance) = batch_norm_train(&x, &one, &zero, 1e-5).unwrap();
            for ch in 0..c {
                let v = x.narrow(1, ch, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let count = v.len() as f64;
                let m = v.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
                let s = v.iter().map(|v| (f64::from(*v) - m).powi(2)).sum::<f64>();
                let (ours_m, ours_v) = (mean.to_vec1::<f32>().unwrap()[ch], variance.to_vec1::<f32>().unwrap()[ch]);
                assert!((f64::from(ours_m) - m).abs() < 1e-5, "{ours_m} {m}");
                assert!((f64::from(ours_v) / (s / (count - 1.0)) - 1.0).abs() < 2e-6, "{ours_v} {s}");
                let ours = y.narrow(1, ch, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                for (a, b) in ours.iter().zip(&v) {
                    let wanted = (f64::from(*b) - m) / (s / count + 1e-5).sqrt();
                    assert!((f64::from(*a) - wanted).abs() < 1e-4, "{a} {wanted}");
                }
            }
        }
    }

    #[test]
    fn two_uses_of_one_input_add_up_and_differences_agree() {
        let (w, b) = (tensor(&[1.5, -0.5], &[2]), tensor(&[0.1, 0.2], &[2]));
        check_gradient(&wave(&[3, 2, 2, 2]), 2e-2, |x| {
            let (y, _, _) = batch_norm_train_act(x, &w, &b, 1e-5, Some(x), false)?;
            y + batch_norm_train(&x.transpose(2, 3)?, &w, &b, 1e-5)?.0
        });
    }

    #[test]
    fn an_empty_batch_passes_and_shapes_are_checked() {
        let x = var(&[], &[0, 3, 4, 4]);
        let (w, b) = (var(&[1.5, -0.5, 2.0], &[3]), var(&[0.1, 0.2, 0.3], &[3]));
        let (y, mean, variance) = batch_norm_train(&x, &w, &b, 1e-5).unwrap();
        assert_eq!(y.dims(), &[0, 3, 4, 4]);
        close(&mean, &[0.0; 3]);
        close(&variance, &[0.0; 3]);
        close(&grad(&y, &w), &[0.0; 3]);
        let y = batch_norm(&x, &w, &b, &mean, &variance, 1e-5).unwrap();
        assert_eq!(grad(&y, &x).dims(), &[0, 3, 4, 4]);
        assert!(batch_norm_train(&wave(&[2, 4, 1, 1]), &w, &b, 1e-5).is_err());
    }
}
