//! One pass over a parameter, its gradient and the optimizer's own tensors: in place, in parallel, fused.

#![allow(unsafe_code)] // calls functions compiled for AVX2 and FMA, after asking the processor

use std::cell::RefCell;

use candle_core::{CpuStorage, DType, Error, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use rayon::prelude::*;

/// Elements that one task works on: 128 KiB of each operand.
const CHUNK: usize = 32 * 1024;

/// An element-wise update of a few slices of one length.
pub(super) trait Kernel: Sync {
    /// Updates `out` from `grad`. `FMA` says that [`fma`] is one instruction here.
    fn run<const FMA: bool>(&self, out: &mut [&mut [f32]], grad: &[f32]);
}

/// `a * b + c`, rounded once where the processor can, as PyTorch's vectorised kernels do.
#[inline(always)]
pub(super) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: &K, out: &mut [&mut [f32]], grad: &[f32]) {
    kernel.run::<true>(out, grad);
}

fn run<K: Kernel>(kernel: &K, out: &mut [&mut [f32]], grad: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the two features that the function is compiled for were just found on this processor.
        return unsafe { run_avx2(kernel, out, grad) };
    }
    kernel.run::<{ cfg!(target_arch = "aarch64") }>(out, grad);
}

/// Applies `kernel` to one f32 tensor, in place; there is no gradient to read.
pub(super) fn apply_alone<K: Kernel>(kernel: &K, tensor: &Tensor) -> Result<()> {
    with_slices(&[tensor], Vec::new(), &mut |mut slices| {
        let parts = slices.iter_mut().flat_map(|s| s.chunks_mut(CHUNK)).collect::<Vec<_>>();
        parts.into_par_iter().for_each(|part| run(kernel, &mut [part], &[]));
    })
}

/// Applies `kernel` to `tensors` (changed in place) and `grad`, all f32 and of one shape.
pub(super) fn apply<K: Kernel>(kernel: &K, tensors: &[&Tensor], grad: &Tensor) -> Result<()> {
    let n = grad.elem_count();
    if let Some(t) = tensors.iter().find(|t| t.elem_count() != n) {
        bail!("optimizer: a gradient of shape {:?} for a tensor of shape {:?}", grad.dims(), t.dims());
    }
    let grad = grad.to_dtype(DType::F32)?.contiguous()?;
    let (storage, layout) = grad.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(all)) = &*storage else {
        bail!("optimizer: gradients must be on the CPU, found {:?}", grad.device().location());
    };
    let grad = &all[layout.start_offset()..layout.start_offset() + n];
    with_slices(tensors, Vec::new(), &mut |slices| chunked(kernel, slices, grad))
}

/// The parts of a parameter in parallel; which thread takes which part changes nothing.
fn chunked<K: Kernel>(kernel: &K, mut slices: Vec<&mut [f32]>, grad: &[f32]) {
    if grad.len() <= CHUNK {
        return run(kernel, &mut slices, grad);
    }
    let mut parts: Vec<_> = slices.into_iter().map(|s| s.chunks_mut(CHUNK)).collect();
    let mut jobs: Vec<(Vec<&mut [f32]>, &[f32])> =
        grad.chunks(CHUNK).map(|g| (parts.iter_mut().filter_map(Iterator::next).collect(), g)).collect();
    jobs.par_iter_mut().for_each(|(out, g)| run(kernel, out, g));
}

/// Hands the elements of all `tensors` to `f`, to be changed in place.
fn with_slices<'a>(tensors: &[&Tensor], held: Vec<&'a mut [f32]>, f: &mut dyn FnMut(Vec<&mut [f32]>)) -> Result<()> {
    let Some((first, rest)) = tensors.split_first() else {
        f(held);
        return Ok(());
    };
    first.inplace_op1(&Open(RefCell::new(Some((rest, held, f)))))
}

/// Opens one tensor and goes on with the rest. An in-place op is candle's way to a tensor's memory.
struct Open<'t, 'a, 'f>(RefCell<Option<(&'t [&'t Tensor], Vec<&'a mut [f32]>, &'f mut dyn FnMut(Vec<&mut [f32]>))>>);

impl InplaceOp1 for Open<'_, '_, '_> {
    fn name(&self) -> &'static str {
        "optimizer"
    }
    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(all) = storage else { bail!("optimizer: parameters must be f32") };
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("optimizer: a strided parameter") };
        let (rest, held, f) = self.0.take().ok_or_else(|| Error::Msg("optimizer: run twice".into()))?;
        let mut held: Vec<&mut [f32]> = held;
        held.push(&mut all[start..end]);
        with_slices(rest, held, f)
    }
}
