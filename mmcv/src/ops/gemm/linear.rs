//! The linear layer as a differentiable operation.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;

use super::matmul::{View, matmul};
use crate::nn::{apply2, apply3, contiguous, tracked};

/// `x wᵀ + b` of `x` `[.., in]`, `w` `[out, in]`, `b` `[out]`, as PyTorch's `F.linear`; f32 (f16 and bf16 are converted
/// there and back), any strides.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (out, inner) = w.dims2()?;
    if x.dims().last() != Some(&inner) {
        bail!("linear: input {:?} for weight {:?}", x.dims(), w.dims())
    }
    if let Some(b) = b
        && b.dims() != [out]
    {
        bail!("linear: bias {:?} for {out} outputs", b.dims())
    }
    match x.dtype() {
        DType::F32 => {}
        DType::F16 | DType::BF16 => {
            let to = |t: &Tensor| t.to_dtype(DType::F32);
            return linear(&to(x)?, &to(w)?, b.map(to).transpose()?.as_ref())?.to_dtype(x.dtype());
        }
        other => bail!("linear: {other:?} is not supported, f32, f16 and bf16 are"),
    }
    let (x, w) = (contiguous(x)?, contiguous(w)?);
    match b {
        Some(b) => apply3(&x, &w, b, Linear),
        None => apply2(&x, &w, Linear),
    }
}

struct Linear;

fn values<'a>(s: &'a CpuStorage, l: &Layout) -> Result<&'a [f32]> {
    match (s, l.contiguous_offsets()) {
        (CpuStorage::F32(v), Some((start, end))) => Ok(&v[start..end]),
        _ => bail!("linear: a contiguous f32 tensor is expected"),
    }
}

fn with_values<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let t = t.contiguous()?;
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        Storage::Cpu(s) => Ok(f(values(s, layout)?)),
        _ => bail!("linear: runs on the CPU only"),
    }
}

fn forward(
    (x, lx): (&CpuStorage, &Layout),
    (w, lw): (&CpuStorage, &Layout),
    b: Option<&[f32]>,
) -> Result<(CpuStorage, Shape)> {
    let (out, k) = lw.shape().dims2()?;
    let mut dims = lx.dims().to_vec();
    dims.pop();
    let m = dims.iter().product();
    dims.push(out);
    let y = matmul(m, out, k, View::rows(values(x, lx)?, k), View::rows(values(w, lw)?, k).t(), b);
    Ok((CpuStorage::F32(y), dims.into()))
}

fn grads(x: &Tensor, w: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (out, k) = w.dims2()?;
    let m = dy.elem_count().checked_div(out).unwrap_or(0);
    with_values(dy, |dy| {
        let dy = View::rows(dy, out);
        let dx = match tracked(x) {
            true => {
                let dx = with_values(w, |w| matmul(m, k, out, dy, View::rows(w, k), None))?;
                Some(Tensor::from_vec(dx, x.shape(), x.device())?)
            }
            false => None,
        };
        let dw = match tracked(w) {
            true => {
                let dw = with_values(x, |x| matmul(out, k, m, dy.t(), View::rows(x, k), None))?;
                Some(Tensor::from_vec(dw, w.shape(), w.device())?)
            }
            false => None,
        };
        Ok((dx, dw))
    })?
}

/// Sums over rows, in blocks of columns.
fn column_sums(dy: &[f32], out: usize) -> Vec<f32> {
    const BLOCK: usize = 64;
    let mut sums = vec![0f32; out];
    sums.par_chunks_mut(BLOCK).enumerate().for_each(|(i, sums)| {
        for row in dy.chunks_exact(out) {
            sums.iter_mut().zip(&row[i * BLOCK..]).for_each(|(s, v)| *s += v);
        }
    });
    sums
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        forward((x, lx), (w, lw), None)
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _res: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        grads(x, w, dy)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        forward((x, lx), (w, lw), Some(values(b, lb)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _res: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = grads(x, w, dy)?;
        let db = match tracked(b) {
            true => Some(Tensor::from_vec(
                with_values(dy, |dy| column_sums(dy, b.elem_count().max(1)))?,
                b.shape(),
                b.device(),
            )?),
            false => None,
        };
        Ok((dx, dw, db))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn pattern(shape: &[usize], s: usize) -> Tensor {
        let n = shape.iter().product();
        let v: Vec<f32> = (0..n).map(|i| ((i * 37 + s * 11) % 23) as f32 / 8.0 - 1.375).collect();
        Tensor::from_vec(v, shape, &Device::Cpu).unwrap()
    }

    fn distance(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        if d.elem_count() == 0 { 0.0 } else { d.max(0).unwrap().to_scalar().unwrap() }
    }

    #[test]
    fn agrees_with_plain_matrix_products() -> Result<()> {
        for (shape, out, bias) in
            [(vec![5, 7], 3, true), (vec![2, 3, 40], 50, false), (vec![300, 33], 81, true), (vec![0, 4], 6, true)]
        {
            let k = *shape.last().unwrap();
            let x = Var::from_tensor(&pattern(&shape, 1))?;
            let (w, b) = (Var::from_tensor(&pattern(&[out, k], 2))?, Var::from_tensor(&pattern(&[out], 3))?);
            let y = linear(&x, &w, bias.then_some(b.as_tensor()))?;
            let dy = pattern(y.dims(), 4);
            let g = (&y * &dy)?.sum_all()?.backward()?;
            let (x2, dy2) = (x.flatten_to(shape.len() - 2)?, dy.flatten_to(shape.len() - 2)?);
            if x2.dim(0)? == 0 {
                assert_eq!(y.dims(), [0, out]);
                assert_eq!(distance(g.get(&w).unwrap(), &w.zeros_like()?), 0.0);
                continue;
            }
            let plain = x2.matmul(&w.t()?)?;
            let plain = if bias { plain.broadcast_add(&b)? } else { plain };
            assert!(distance(&y, &plain.reshape(y.dims())?) < 1e-3);
            assert!(distance(g.get(&x).unwrap(), &dy2.matmul(&w)?.reshape(x.dims())?) < 1e-3);
            assert!(distance(g.get(&w).unwrap(), &dy2.t()?.matmul(&x2)?) < 1e-3);
            if bias {
                assert!(distance(g.get(&b).unwrap(), &dy2.sum(0)?) < 1e-3);
            }
        }
        let refused = linear(&pattern(&[2, 3], 0), &pattern(&[4, 5], 0), None);
        assert!(refused.unwrap_err().to_string().contains("input [2, 3] for weight [4, 5]"));
        Ok(())
    }
}
