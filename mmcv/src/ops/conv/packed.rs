//! Convolution for inference: weights packed once, batch norm folded in, the epilogue fused.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use candle_core::{DType, Result, Tensor, bail};

use super::depthwise;
use super::gather::{Finish, Gather, PackedA};
use super::geometry::{Conv2dConfig, Geometry};
use super::op::with_values;
#[cfg(target_arch = "x86_64")]
use super::winograd;
use crate::nn::tracked;
use crate::ops::gemm::{Act, Out};

/// A convolution with its weights laid out for the kernels. It records no graph.
pub struct PackedConv2d {
    cfg: Conv2dConfig,
    shape: [usize; 4],
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    gemm: OnceLock<PackedA<Vec<f32>>>,
    #[cfg(target_arch = "x86_64")]
    winograd: OnceLock<winograd::PackedU<Vec<f32>>>,
}

impl fmt::Debug for PackedConv2d {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedConv2d").field("cfg", &self.cfg).field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl PackedConv2d {
    /// Takes the values of `w` `[O, C/groups, kh, kw]` and `b` `[O]` as they are now. Each layout that the kernels use is
    /// made at its first use and kept.
    pub fn new(w: &Tensor, b: Option<&Tensor>, cfg: &Conv2dConfig) -> Result<Self> {
        let (o, c, kh, kw) = w.dims4()?;
        let read = |t: &Tensor| with_values(&t.to_dtype(DType::F32)?, <[f32]>::to_vec);
        if let Some(b) = b
            && b.dims() != [o]
        {
            bail!("conv2d: bias {:?} for {o} output channels", b.dims())
        }
        Ok(Self {
            cfg: *cfg,
            shape: [o, c, kh, kw],
            weight: read(w)?,
            bias: b.map(read).transpose()?,
            gemm: OnceLock::new(),
            #[cfg(target_arch = "x86_64")]
            winograd: OnceLock::new(),
        })
    }

    /// `act(conv(x) + bias + residual)` of `x` `[N, C, H, W]` f32; `residual` has the output's shape. The result is a
    /// constant, so an `x` that takes part in a graph is refused.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>, act: Act) -> Result<Tensor> {
        let g = Geometry::new(x.dims(), &self.shape, &self.cfg)?;
        if x.dtype() != DType::F32 {
            bail!("packed conv2d: {:?} input, f32 expected", x.dtype())
        }
        if tracked(x) || residual.is_some_and(|r| r.track_op()) {
            bail!("packed conv2d: its input takes part in a graph, and it has no backward pass")
        }
        let dims = [g.images, g.channels_out, g.output[0], g.output[1]];
        if let Some(r) = residual
            && r.dims() != dims
        {
            bail!("packed conv2d: residual {:?} for output {dims:?}", r.dims())
        }
        let y = with_values(x, |x| match residual {
            Some(r) => with_values(r, |r| self.run(&g, x, Some(r), act)),
            None => Ok(self.run(&g, x, None, act)),
        })??;
        Tensor::from_vec(y, &dims, x.device())
    }

    fn run(&self, g: &Geometry, x: &[f32], residual: Option<&[f32]>, act: Act) -> Vec<f32> {
        let finish = Finish { bias: self.bias.as_deref(), residual, act };
        if g.is_depthwise() {
            return depthwise::forward(g, x, &self.weight, &finish);
        }
        let out = Out::new(g.images * g.channels_out * g.output_area());
        #[cfg(target_arch = "x86_64")]
        if winograd::allowed()
            && let Some(plan) = winograd::Plan::forward(g)
            && plan.pays()
        {
            let pack = || winograd::PackedU::new(g.channels_out, g.channels_in, &self.weight, false);
            winograd::run(&plan, x, self.winograd.get_or_init(pack), &out, &finish);
            // SAFETY: the tiles cover the output.
            return unsafe { out.into_vec() };
        }
        Gather::forward(g).run(x, self.gemm.get_or_init(|| PackedA::forward(g, &self.weight)), &out, &finish);
        // SAFETY: the gather's grid is the whole output.
        unsafe { out.into_vec() }
    }
}

/// Keeps one packed convolution for as long as its key (the [`version`](crate::nn::Param::version)s of all that went into
/// it) stays the same.
#[derive(Debug, Default)]
pub struct PackedCache(Mutex<Option<(Vec<u64>, Arc<PackedConv2d>)>>);

impl PackedCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// The convolution kept for `key`, else that of `build`.
    pub fn get(&self, key: &[u64], build: impl FnOnce() -> Result<PackedConv2d>) -> Result<Arc<PackedConv2d>> {
        let mut kept = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((k, packed)) = &*kept
            && k == key
        {
            return Ok(packed.clone());
        }
        let packed = Arc::new(build()?);
        *kept = Some((key.to_vec(), packed.clone()));
        Ok(packed)
    }
}

/// The weight and bias of the one convolution that does what `(w, b)` followed by batch norm in eval mode does: `gamma` and
/// `beta` `[O]` or none, `mean` and `var` `[O]`.
pub fn fold_batch_norm(
    w: &Tensor,
    b: Option<&Tensor>,
    gamma: Option<&Tensor>,
    beta: Option<&Tensor>,
    mean: &Tensor,
    var: &Tensor,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let f64s = |t: &Tensor| t.detach().to_dtype(DType::F64)?.to_vec1::<f64>();
    let (mean, var) = (f64s(mean)?, f64s(var)?);
    let o = w.dim(0)?;
    let or = |t: Option<&Tensor>, default: f64| t.map_or(Ok(vec![default; o]), f64s);
    let (gamma, beta, b) = (or(gamma, 1.0)?, or(beta, 0.0)?, or(b, 0.0)?);
    if [&mean, &var, &gamma, &beta, &b].iter().any(|v| v.len() != o) {
        bail!("fold_batch_norm: {o} output channels, statistics and parameters of another length")
    }
    let scale: Vec<f64> = (0..o).map(|i| gamma[i] / (var[i] + eps).sqrt()).collect();
    let bias: Vec<f32> = (0..o).map(|i| ((b[i] - mean[i]) * scale[i] + beta[i]) as f32).collect();
    let mut weight = with_values(&w.detach().to_dtype(DType::F32)?, <[f32]>::to_vec)?;
    let row = weight.len() / o.max(1);
    for (row, s) in weight.chunks_mut(row.max(1)).zip(scale) {
        row.iter_mut().for_each(|v| *v = (*v as f64 * s) as f32);
    }
    Ok((Tensor::from_vec(weight, w.shape(), w.device())?, Tensor::from_vec(bias, o, w.device())?))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::super::conv2d;
    use super::*;

    fn pattern(shape: &[usize], s: usize) -> Tensor {
        let n = shape.iter().product();
        let v: Vec<f32> = (0..n).map(|i| ((i * 37 + s * 11) % 23) as f32 / 8.0 - 1.375).collect();
        Tensor::from_vec(v, shape, &Device::Cpu).unwrap()
    }

    fn distance(a: &Tensor, b: &Tensor) -> Result<f32> {
        (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar()
    }

    #[test]
    fn bias_residual_and_activation_are_fused() -> Result<()> {
        for (x, w, stride, groups) in [
            ([2, 20, 14, 18], [18, 20, 3, 3], 1, 1), // Winograd
            ([2, 20, 13, 18], [18, 20, 3, 3], 2, 1),
            ([2, 8, 13, 18], [30, 8, 1, 1], 1, 1),
            ([2, 8, 13, 18], [12, 4, 3, 3], 1, 2),
            ([2, 8, 13, 18], [8, 1, 3, 3], 1, 8),
        ] {
            let cfg = Conv2dConfig { stride: [stride; 2], padding: [w[2] / 2; 2], groups, ..Default::default() };
            let (x, b, w) = (pattern(&x, 1), pattern(&w[..1], 3), pattern(&w, 2));
            let packed = PackedConv2d::new(&w, Some(&b), &cfg)?;
            let plain = conv2d(&x, &w, Some(&b), &cfg)?;
            let r = pattern(plain.dims(), 4);
            for residual in [None, Some(&r)] {
                let sum = residual.map_or(Ok(plain.clone()), |r| &plain + r)?;
                let silu = (&sum / (sum.neg()?.exp()? + 1.0)?)?;
                let leaky = (sum.relu()? - (sum.neg()?.relu()? * 0.125)?)?;
                for (act, want) in [
                    (Act::None, sum.clone()),
                    (Act::Relu, sum.relu()?),
                    (Act::Relu6, sum.clamp(0f32, 6f32)?),
                    (Act::LeakyRelu(0.125), leaky),
                    (Act::Silu, silu),
                ] {
                    let got = packed.forward(&x, residual, act)?;
                    let d = distance(&got, &want)?;
                    assert!(d < 2e-3, "{:?} {act:?} {}: {d}", w.dims(), residual.is_some());
                }
            }
        }
        Ok(())
    }

    // python: bn = torch.nn.BatchNorm2d(2, eps=1e-3).eval() with the values below, then bn(F.conv2d(x, w, b)) at x = 1
    // for w [[2], [-3]], b [0.5, 1]: (2.5 - 1) / sqrt(4 + 1e-3) * 2 - 1 = 0.49981257, (-2 + 2) / ... * 3 + 0.25 = 0.25
    #[test]
    fn batch_norm_folds_into_weight_and_bias() -> Result<()> {
        let t = |v: [f32; 2]| Tensor::new(&v, &Device::Cpu).unwrap();
        let w = t([2.0, -3.0]).reshape((2, 1, 1, 1))?;
        let (gamma, beta) = (t([2.0, 3.0]), t([-1.0, 0.25]));
        let (w, b) = fold_batch_norm(
            &w,
            Some(&t([0.5, 1.0])),
            Some(&gamma),
            Some(&beta),
            &t([1.0, -2.0]),
            &t([4.0, 9.0]),
            1e-3,
        )?;
        let x = Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
        let y = conv2d(&x, &w, Some(&b), &Conv2dConfig::default())?.flatten_all()?.to_vec1::<f32>()?;
        assert!((y[0] - 0.499_812_57).abs() < 1e-6 && (y[1] - 0.25).abs() < 1e-6, "{y:?}");
        Ok(())
    }

    #[test]
    fn the_cache_packs_again_when_a_version_changes() -> Result<()> {
        let (cache, cfg) = (PackedCache::new(), Conv2dConfig::default());
        let x = Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
        let run = |key: &[u64], w: f32| -> Result<f32> {
            let w = Tensor::new(&[w], &Device::Cpu)?.reshape((1, 1, 1, 1))?;
            let packed = cache.get(key, || PackedConv2d::new(&w, None, &cfg))?;
            packed.forward(&x, None, Act::None)?.flatten_all()?.get(0)?.to_scalar()
        };
        assert_eq!((run(&[1, 1], 2.0)?, run(&[1, 1], 3.0)?, run(&[1, 2], 3.0)?), (2.0, 2.0, 3.0));
        let w = Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
        let x = Var::from_tensor(&x)?;
        let refused = PackedConv2d::new(&w, None, &cfg)?.forward(&x, None, Act::None);
        assert!(refused.unwrap_err().to_string().contains("no backward pass"));
        Ok(())
    }
}
