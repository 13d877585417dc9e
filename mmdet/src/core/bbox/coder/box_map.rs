//! One box's code to its corners, with the derivative: what the coders' decoding is made of.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::core::BBox;

/// A box's decoding. `index` is the prior's.
pub(super) trait BoxMap: Clone + Send + Sync + 'static {
    const NAME: &'static str;

    /// The corners.
    fn decode(&self, index: usize, prior: &BBox, code: &[f32; 4]) -> BBox;

    /// The gradient of the code from that of the corners.
    fn backward(&self, index: usize, prior: &BBox, code: &[f32; 4], grad: &BBox) -> [f32; 4];
}

/// Boxes of one piece of work.
const GRAIN: usize = 2048;

/// Rows of four.
fn fours(v: &[f32]) -> &[[f32; 4]] {
    v.as_chunks().0
}

/// How many boxes each prior has among `n` numbers.
fn per_prior(name: &str, priors: usize, n: usize) -> Result<usize> {
    match n.checked_div(4 * priors) {
        _ if n == 0 => Ok(1),
        Some(c) if c > 0 && c * 4 * priors == n => Ok(c),
        _ => bail!("{name}: {n} numbers to decode for {priors} priors, expected a multiple of four for each"),
    }
}

/// Decodes `codes`, `[priors, 4 c]`.
pub(super) fn decode<M: BoxMap>(map: &M, priors: &[BBox], codes: &[f32]) -> Result<Vec<BBox>> {
    let c = per_prior(M::NAME, priors.len(), codes.len())?;
    let one = |(i, code): (usize, &[f32; 4])| map.decode(i / c, &priors[i / c], code);
    Ok(fours(codes).par_iter().with_min_len(GRAIN).enumerate().map(one).collect())
}

/// Decodes a tensor `[priors, 4 c]`, with a gradient.
pub(super) fn decode_tensor<M: BoxMap>(map: M, priors: &[BBox], codes: &Tensor) -> Result<Tensor> {
    let (n, width) = codes.dims2()?;
    if n != priors.len() || width % 4 != 0 {
        bail!("{}: codes are {:?} for {} priors, expected [priors, 4 c]", M::NAME, codes.dims(), priors.len());
    }
    if codes.dtype() != DType::F32 {
        bail!("{}: codes are {:?}, expected f32", M::NAME, codes.dtype());
    }
    codes.contiguous()?.apply_op1(Op { map, priors: priors.to_vec() })
}

#[derive(Clone)]
struct Op<M> {
    map: M,
    priors: Vec<BBox>,
}

fn values<'s>(storage: &'s CpuStorage, layout: &Layout) -> Result<&'s [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("the input of a box coder is not contiguous") };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

impl<M: BoxMap> CustomOp1 for Op<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let boxes = decode(&self.map, &self.priors, values(storage, layout)?)?;
        Ok((CpuStorage::F32(boxes.into_flattened()), layout.shape().clone()))
    }

    fn bwd(&self, codes: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(codes.contiguous()?.apply_op2_no_bwd(&grad.contiguous()?, &Backward(self.clone()))?))
    }
}

struct Backward<M>(Op<M>);

impl<M: BoxMap> CustomOp2 for Backward<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let Op { map, priors } = &self.0;
        let (codes, grads) = (values(s1, l1)?, values(s2, l2)?);
        let c = per_prior(M::NAME, priors.len(), codes.len())?;
        let one = |(i, (code, grad)): (usize, (&[f32; 4], &[f32; 4]))| map.backward(i / c, &priors[i / c], code, grad);
        let pairs = fours(codes).par_iter().zip(fours(grads));
        let out: Vec<[f32; 4]> = pairs.with_min_len(GRAIN).enumerate().map(one).collect();
        Ok((CpuStorage::F32(out.into_flattened()), l1.shape().clone()))
    }
}

/// The gradient through a clip of `b` to `(h, w)`: torch's clamp passes it on from bound to bound.
pub(super) fn through_clip(b: &BBox, grad: &BBox, (w, h): (f32, f32)) -> BBox {
    let bound = [w, h, w, h];
    std::array::from_fn(|i| if b[i] >= 0.0 && b[i] <= bound[i] { grad[i] } else { 0.0 })
}
