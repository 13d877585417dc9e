//! Convolution as a differentiable operation.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor, bail};

use super::bias::channel_sums;
use super::gather::{Finish, Gather, PackedA};
use super::geometry::{Conv2dConfig, Geometry};
use super::{depthwise, wgrad};
#[cfg(target_arch = "x86_64")]
use super::{winograd, winograd_wgrad};
use crate::nn::{apply2, apply3, contiguous, tracked};
use crate::ops::gemm::Out;

/// `[N, O, OH, OW]` of `x` `[N, C, H, W]`, `w` `[O, C/groups, kh, kw]` and `b` `[O]`, as PyTorch's `F.conv2d`.
///
/// Runs on the CPU in f32 (f16 and bf16 are converted there and back); any strides; gradients for each input that
/// takes part in a graph.
pub fn conv2d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, cfg: &Conv2dConfig) -> Result<Tensor> {
    let geometry = Geometry::new(x.dims(), w.dims(), cfg)?;
    if let Some(b) = b
        && b.dims() != [geometry.channels_out]
    {
        bail!("conv2d: bias {:?} for {} output channels", b.dims(), geometry.channels_out)
    }
    match x.dtype() {
        DType::F32 => {}
        DType::F16 | DType::BF16 => {
            let to = |t: &Tensor| t.to_dtype(DType::F32);
            return conv2d(&to(x)?, &to(w)?, b.map(to).transpose()?.as_ref(), cfg)?.to_dtype(x.dtype());
        }
        other => bail!("conv2d: {other:?} is not supported, f32, f16 and bf16 are"),
    }
    let (x, w) = (contiguous(x)?, contiguous(w)?);
    let op = Conv2d { geometry };
    match b {
        Some(b) => apply3(&x, &w, b, op),
        None => apply2(&x, &w, op),
    }
}

struct Conv2d {
    geometry: Geometry,
}

/// The values of a contiguous f32 tensor in memory.
pub(super) fn values<'a>(s: &'a CpuStorage, l: &Layout) -> Result<&'a [f32]> {
    match (s, l.contiguous_offsets()) {
        (CpuStorage::F32(v), Some((start, end))) => Ok(&v[start..end]),
        _ => bail!("conv2d: a contiguous f32 tensor is expected"),
    }
}

/// Runs `f` on the values of `t`.
pub(super) fn with_values<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let t = t.contiguous()?;
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cpu(s) => Ok(f(values(s, layout)?)),
        _ => bail!("conv2d: runs on the CPU only"),
    }
}

/// The forward pass on slices.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32], finish: &Finish) -> Vec<f32> {
    if g.is_depthwise() {
        return depthwise::forward(g, x, w, finish);
    }
    let out = Out::new(g.images * g.channels_out * g.output_area());
    #[cfg(target_arch = "x86_64")]
    if winograd::allowed()
        && let Some(plan) = winograd::Plan::forward(g)
        && plan.pays()
    {
        winograd::PackedU::with(plan.m, plan.k, w, false, |u| winograd::run(&plan, x, u, &out, finish));
        // SAFETY: the tiles cover the output.
        return unsafe { out.into_vec() };
    }
    PackedA::with_forward(g, w, |a| Gather::forward(g).run(x, a, &out, finish));
    // SAFETY: the gather's grid is the whole output.
    unsafe { out.into_vec() }
}

/// The gradient of the input on slices; `finish` is for the transposed convolution, whose forward pass this is.
pub(super) fn dgrad(g: &Geometry, dy: &[f32], w: &[f32], finish: &Finish) -> Vec<f32> {
    if g.is_depthwise() {
        return depthwise::dgrad(g, dy, w, finish);
    }
    let out = Out::new(g.images * g.channels_in * g.input_area());
    #[cfg(target_arch = "x86_64")]
    if winograd::allowed()
        && let Some(plan) = winograd::Plan::backward(g)
        && plan.pays()
    {
        winograd::PackedU::with(plan.m, plan.k, w, true, |u| winograd::run(&plan, dy, u, &out, finish));
        // SAFETY: the tiles cover the input.
        return unsafe { out.into_vec() };
    }
    let phases = Gather::backward(g);
    if phases.len() < g.stride[0].min(g.input[0]) * g.stride[1].min(g.input[1]) {
        finish.clear(&out, g.channels_in, g.input_area());
    }
    for (gather, taps) in phases {
        PackedA::with_transposed(g, w, &taps, |a| gather.run(dy, a, &out, finish));
    }
    // SAFETY: the phases' grids together are the whole input, or it was cleared.
    unsafe { out.into_vec() }
}

/// The gradient of the weight on slices.
pub(super) fn weight_grad(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    if g.is_depthwise() {
        return depthwise::wgrad(g, x, dy);
    }
    #[cfg(target_arch = "x86_64")]
    if winograd::allowed()
        && let Some(plan) = winograd::Plan::forward(g)
        && winograd_wgrad::pays(&plan)
    {
        return winograd_wgrad::wgrad(&plan, x, dy);
    }
    wgrad::wgrad(g, x, dy)
}

impl Conv2d {
    fn fwd(&self, x: &[f32], w: &[f32], b: Option<&[f32]>) -> (CpuStorage, Shape) {
        let g = &self.geometry;
        let y = forward(g, x, w, &Finish { bias: b, ..Finish::default() });
        (CpuStorage::F32(y), (g.images, g.channels_out, g.output[0], g.output[1]).into())
    }

    fn grads(&self, x: &Tensor, w: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (g, device) = (&self.geometry, x.device());
        with_values(dy, |dy| {
            let dx = match tracked(x) {
                true => {
                    Some(Tensor::from_vec(with_values(w, |w| dgrad(g, dy, w, &Finish::default()))?, x.shape(), device)?)
                }
                false => None,
            };
            let dw = match tracked(w) {
                true => Some(Tensor::from_vec(with_values(x, |x| weight_grad(g, x, dy))?, w.shape(), device)?),
                false => None,
            };
            Ok((dx, dw))
        })?
    }
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(self.fwd(values(x, lx)?, values(w, lw)?, None))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _res: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.grads(x, w, dy)
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(self.fwd(values(x, lx)?, values(w, lw)?, Some(values(b, lb)?)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _res: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = self.grads(x, w, dy)?;
        let db = match tracked(b) {
            true => {
                let g = &self.geometry;
                let db = with_values(dy, |dy| channel_sums(dy, g.images, g.channels_out, g.output_area()))?;
                Some(Tensor::from_vec(db, b.shape(), b.device())?)
            }
            false => None,
        };
        Ok((dx, dw, db))
    }
}
