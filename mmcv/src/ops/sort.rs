//! Sorting, the largest few, and cumulative sums along an axis.

use std::cmp::Ordering;

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail, shape::Dim};
use rayon::prelude::*;

use super::kernel::{build, values, with_values};
use crate::nn::apply1;

/// Descending, NaN first, as torch sorts.
pub(super) fn descending(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// Places of `values`, largest first; equals keep their order.
pub(super) fn order_of(values: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| descending(values[*a], values[*b]));
    order
}

/// Places of the `k` largest of one row.
fn largest(row: &[f32], k: usize) -> Vec<u32> {
    let mut places: Vec<u32> = (0..row.len() as u32).collect();
    // The place decides among equals, so that the unstable selection gives the stable order.
    let by = |a: &u32, b: &u32| descending(row[*a as usize], row[*b as usize]).then(a.cmp(b));
    if k < places.len() {
        if k > 0 {
            places.select_nth_unstable_by(k - 1, by);
        }
        places.truncate(k);
    }
    places.sort_unstable_by(by);
    places
}

/// The `k` largest along `axis` and their places (u32), largest first; NaN counts as largest, equals keep their order.
/// Gradients flow into the values.
///
/// # Shapes
/// - `x`: any, with at least `k` elements along `axis`
/// - outputs: `x`'s shape with `k` along `axis`
pub fn topk(x: &Tensor, k: usize, axis: impl Dim) -> Result<(Tensor, Tensor)> {
    let axis = axis.to_index(x.shape(), "topk")?;
    let len = x.dims()[axis];
    if k > len || len > u32::MAX as usize {
        bail!("topk: {k} of {len} elements along axis {axis} of {:?}", x.dims());
    }
    let last = x.rank() - 1;
    // Rows are sorted, so the axis becomes the last.
    let rows = if axis == last { x.contiguous()? } else { x.transpose(axis, last)?.contiguous()? };
    let places: Vec<u32> = with_values("topk", &rows.detach(), |v| {
        Ok(if len == 0 { Vec::new() } else { v.par_chunks_exact(len).flat_map_iter(|row| largest(row, k)).collect() })
    })?;
    let mut dims = rows.dims().to_vec();
    dims[last] = k;
    let places = Tensor::from_vec(places, dims, x.device())?;
    let picked = if places.elem_count() == 0 { places.to_dtype(x.dtype())? } else { rows.gather(&places, D::Minus1)? };
    if axis == last {
        return Ok((picked, places));
    }
    Ok((picked.transpose(axis, last)?.contiguous()?, places.transpose(axis, last)?.contiguous()?))
}

/// All of `x` along `axis`, largest first, and their places: [`topk`] of all.
pub fn sort_desc(x: &Tensor, axis: impl Dim) -> Result<(Tensor, Tensor)> {
    let axis = axis.to_index(x.shape(), "sort_desc")?;
    topk(x, x.dims()[axis], axis)
}

/// Sums of all elements up to each, from the front or from the back.
struct Cumsum {
    len: usize,
    inner: usize,
    back: bool,
}

impl Cumsum {
    fn run(&self, x: &[f32], back: bool) -> Vec<f32> {
        let (len, inner) = (self.len, self.inner);
        build(x.len(), len * inner, |at, out: &mut [f32]| {
            // torch adds up in f64.
            let mut total = vec![0.0f64; inner];
            for i in 0..len {
                let row = if back { len - 1 - i } else { i } * inner;
                for ((o, t), x) in out[row..row + inner].iter_mut().zip(&mut total).zip(&x[at + row..]) {
                    *t += f64::from(*x);
                    *o = *t as f32;
                }
            }
        })
    }
}

impl CustomOp1 for Cumsum {
    fn name(&self) -> &'static str {
        "cumsum"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.run(values("cumsum", s, l)?, self.back)), l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let out = with_values("cumsum_backward", grad, |g| Ok(self.run(g, !self.back)))?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

/// The sum of all elements along `axis` up to and with each.
pub fn cumsum(x: &Tensor, axis: impl Dim) -> Result<Tensor> {
    let axis = axis.to_index(x.shape(), "cumsum")?;
    let inner = x.dims()[axis + 1..].iter().product();
    apply1(x, Cumsum { len: x.dims()[axis], inner, back: false })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradient, close, grad, tensor, var, wave};
    use super::*;

    fn places(t: &Tensor) -> Vec<u32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    // torch.tensor([[3., nan, 1, 3], [-1, 2, inf, -inf]]).sort(1, descending=True, stable=True), and dim 0
    #[test]
    fn sorting_is_torchs_stable_sort() {
        let x = tensor(&[3.0, f32::NAN, 1.0, 3.0, -1.0, 2.0, f32::INFINITY, f32::NEG_INFINITY], &[2, 4]);
        let (v, i) = sort_desc(&x, 1).unwrap();
        close(&v, &[f32::NAN, 3.0, 3.0, 1.0, f32::INFINITY, 2.0, -1.0, f32::NEG_INFINITY]);
        assert_eq!(places(&i), [1, 0, 3, 2, 2, 1, 0, 3]);
        let (v, i) = sort_desc(&x, 0).unwrap();
        close(&v, &[3.0, f32::NAN, f32::INFINITY, 3.0, -1.0, 2.0, 1.0, f32::NEG_INFINITY]);
        assert_eq!(places(&i), [0, 0, 1, 0, 1, 1, 0, 1]);
        assert_eq!(places(&topk(&tensor(&[1.0; 9], &[9]), 3, 0).unwrap().1), [0, 1, 2]);
    }

    #[test]
    fn topk_is_the_head_of_the_sort_and_has_gradients() {
        let x = wave(&[3, 101]);
        let (all, all_at) = sort_desc(&x, 1).unwrap();
        let (some, some_at) = topk(&x, 7, 1).unwrap();
        let head = |t: Tensor| t.narrow(1, 0, 7).unwrap().contiguous().unwrap();
        assert_eq!(places(&some_at), places(&head(all_at)));
        close(&some, &head(all).flatten_all().unwrap().to_vec1::<f32>().unwrap());
        check_gradient(&wave(&[2, 5]), 1e-2, |x| topk(x, 2, 1)?.0 + (topk(&x.t()?, 2, 0)?.0.t()? * 2.0)?);
        assert!(topk(&x, 102, 1).is_err());
        let (v, i) = topk(&x, 0, 1).unwrap();
        assert_eq!((v.dims(), i.dims()), (&[3, 0][..], &[3, 0][..]));
        assert_eq!(sort_desc(&tensor(&[], &[0, 4]), 1).unwrap().0.dims(), &[0, 4]);
        assert_eq!(sort_desc(&tensor(&[], &[4, 0]), 1).unwrap().0.dims(), &[4, 0]);
    }

    #[test]
    fn cumulative_sums_and_their_gradients() {
        close(&cumsum(&tensor(&[1.0, 2.0, 3.0, 4.0], &[2, 2]), 0).unwrap(), &[1.0, 2.0, 4.0, 6.0]);
        close(&cumsum(&tensor(&[1.0, 2.0, 3.0, 4.0], &[2, 2]).t().unwrap(), 1).unwrap(), &[1.0, 4.0, 2.0, 6.0]);
        check_gradient(&wave(&[3, 2, 2]), 1e-2, |x| cumsum(x, 0)? + cumsum(&x.transpose(0, 1)?, 1)?.transpose(0, 1));
        let x = var(&[], &[0, 3]);
        assert_eq!(grad(&cumsum(&x, 1).unwrap(), &x).dims(), &[0, 3]);
    }
}
