//! What the kernels share: access to a tensor's values, building an output in parallel, run-time choice of vector width.
#![allow(unsafe_code)] // one buffer is filled before it is read; functions compiled for wider vectors are called

use std::mem::MaybeUninit;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};
use rayon::prelude::*;

/// Elements of one piece of parallel work: two of them (source and target) stay in the second-level cache.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Compiles a function's body twice, once for AVX2 where the target has it, and picks at run time.
///
/// Arguments are plain names; the body must not use `return` of an outer function or capture anything.
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($g:ident: $bound:path),*>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code)] // calls its own copy for wider vectors
        $vis fn $name $(<$($g: $bound),*>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body $(<$($g: $bound),*>)? ($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn wide $(<$($g: $bound),*>)? ($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: the CPU was just asked for both features.
                    return unsafe { wide($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}

/// The f32 values of a contiguous tensor's storage.
pub(crate) fn values<'s>(op: &str, storage: &'s CpuStorage, layout: &Layout) -> Result<&'s [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("{op}: the input is not contiguous") };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Runs `f` on a CPU tensor's values, after making it contiguous where it is not.
pub(crate) fn with_values<R>(op: &str, t: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let t = t.contiguous()?;
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cpu(s) => f(values(op, s, layout)?),
        _ => bail!("{op}: there is a CPU kernel only"),
    }
}

/// The values of a small tensor, whatever its layout.
pub(crate) fn to_vec(t: &Tensor) -> Result<Vec<f32>> {
    t.detach().flatten_all()?.to_vec1()
}

/// Batch, channels and the number of elements of each channel of `[N, C, ...]`.
pub(crate) fn planes(op: &str, t: &Tensor) -> Result<(usize, usize, usize)> {
    match t.dims() {
        [n, c, rest @ ..] => Ok((*n, *c, rest.iter().product())),
        dims => bail!("{op}: the input is {dims:?}, expected [N, C, ...]"),
    }
}

/// A vector of `n`, filled in parallel by `f(offset, piece)` over pieces of `chunk` elements (the last may be shorter).
/// A piece is all zeros when `f` gets it, and never empty.
pub(crate) fn build<T: Copy + Default + Send>(n: usize, chunk: usize, f: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
    if n == 0 {
        return Vec::new();
    }
    let chunk = chunk.max(1);
    let mut out: Vec<T> = Vec::with_capacity(n);
    let room = &mut out.spare_capacity_mut()[..n];
    if n <= chunk {
        f(0, zeroed(room));
    } else {
        let group = (CHUNK / chunk).max(1);
        room.par_chunks_mut(chunk).with_min_len(group).enumerate().for_each(|(i, piece)| f(i * chunk, zeroed(piece)));
    }
    // SAFETY: the pieces cover the first n elements and each was written in full.
    unsafe { out.set_len(n) };
    out
}

/// A vector of `n`, filled by an element-wise `f(offset, piece)` in parallel. Pieces are small enough for the first-level
/// cache, start at zero and lie between multiples of `unit` (the size of a plane; `n` where that doesn't matter).
pub(crate) fn build_elements(n: usize, unit: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    const PIECE: usize = 4096;
    let unit = unit.max(1);
    let mut out: Vec<f32> = Vec::with_capacity(n);
    let fill = |start: usize, group: &mut [MaybeUninit<f32>]| {
        let (mut at, end) = (start, start + group.len());
        while at < end {
            let len = PIECE.min(unit - at % unit).min(end - at);
            f(at, zeroed(&mut group[at - start..at - start + len]));
            at += len;
        }
    };
    let room = &mut out.spare_capacity_mut()[..n];
    if n <= 2 * CHUNK {
        fill(0, room);
    } else {
        room.par_chunks_mut(2 * CHUNK).enumerate().for_each(|(i, group)| fill(i * 2 * CHUNK, group));
    }
    // SAFETY: the groups cover the first n elements and each was written in full.
    unsafe { out.set_len(n) };
    out
}

simd! {
    fn add_pieces(x: &[f32], y: &[f32], out: &mut [f32]) {
        for ((o, x), y) in out.iter_mut().zip(x).zip(y) {
            *o = x + y;
        }
    }
}

/// `x + y` of one shape, without a graph.
pub(crate) fn sum_of_two(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if x.dims() != y.dims() {
        bail!("sum: {:?} and {:?}, expected one shape", x.dims(), y.dims());
    }
    let sum = with_values("sum", x, |a| {
        with_values("sum", y, |b| {
            Ok(build_elements(a.len(), a.len(), |at, out| {
                let range = at..at + out.len();
                add_pieces(&a[range.clone()], &b[range], out);
            }))
        })
    })?;
    Tensor::from_vec(sum, x.shape(), x.device())
}

/// The piece with zeros in it.
fn zeroed<T: Copy + Default>(piece: &mut [MaybeUninit<T>]) -> &mut [T] {
    for v in piece.iter_mut() {
        v.write(T::default());
    }
    // SAFETY: each element was just written; MaybeUninit<T> has T's layout.
    unsafe { &mut *(std::ptr::from_mut(piece) as *mut [T]) }
}

/// Lanes of the partial sums: enough to fill the pipelines of 8-wide vectors.
pub(crate) const LANES: usize = 32;

simd! {
    /// Sum of one block; f32 lanes, added up in f64.
    pub(crate) fn sum(x: &[f32]) -> f64 {
        let mut acc = [0.0f32; LANES];
        let chunks = x.chunks_exact(LANES);
        let rest = chunks.remainder();
        for c in chunks {
            for l in 0..LANES {
                acc[l] += c[l];
            }
        }
        acc.iter().chain(rest).map(|v| f64::from(*v)).sum()
    }
}
