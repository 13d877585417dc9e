//! Results whose size depends on the values: torch's `nonzero`, `unique` and `masked_select`.

use std::cmp::Ordering;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, WithDType, bail};

use super::kernel::{values, with_values};

/// Whether each element, in order, is other than zero (NaN is).
fn truths(t: &Tensor) -> Result<Vec<bool>> {
    let flat = t.detach().flatten_all()?;
    Ok(match t.dtype() {
        DType::U8 => flat.to_vec1::<u8>()?.into_iter().map(|v| v != 0).collect(),
        DType::U32 => flat.to_vec1::<u32>()?.into_iter().map(|v| v != 0).collect(),
        DType::I64 => flat.to_vec1::<i64>()?.into_iter().map(|v| v != 0).collect(),
        DType::F64 => flat.to_vec1::<f64>()?.into_iter().map(|v| v != 0.0).collect(),
        _ => flat.to_dtype(DType::F32)?.to_vec1::<f32>()?.into_iter().map(|v| v != 0.0).collect(),
    })
}

/// The places of all elements other than zero, row by row, as PyTorch's `torch.nonzero`.
///
/// # Shapes
/// - `x`: any, of any type
/// - output: `[count, rank]` i64
pub fn nonzero(x: &Tensor) -> Result<Tensor> {
    let dims = x.dims();
    let mut places = Vec::new();
    let mut count = 0;
    for at in truths(x)?.into_iter().enumerate().filter_map(|(i, v)| v.then_some(i)) {
        let (mut rest, first) = (at, places.len());
        places.resize(first + dims.len(), 0);
        for (p, size) in places[first..].iter_mut().zip(dims).rev() {
            *p = (rest % size) as i64;
            rest /= size;
        }
        count += 1;
    }
    Tensor::from_vec(places, (count, dims.len()), x.device())
}

/// What [`unique`] gives.
#[derive(Debug, Clone)]
pub struct Unique {
    /// The different values in ascending order, `[U]` of the input's type; each NaN is different and comes last.
    pub values: Tensor,
    /// For each element of the input the place of its value, of the input's shape, u32.
    pub inverse: Tensor,
    /// How often each value occurs, `[U]` u32.
    pub counts: Tensor,
}

fn distinct<T: WithDType>(x: &Tensor, by: impl Fn(&T, &T) -> Ordering) -> Result<Unique> {
    let flat: Vec<T> = x.detach().flatten_all()?.to_vec1()?;
    let mut order: Vec<u32> = (0..flat.len() as u32).collect();
    order.sort_by(|a, b| by(&flat[*a as usize], &flat[*b as usize]));
    let (mut values, mut counts, mut inverse) = (Vec::<T>::new(), Vec::<u32>::new(), vec![0u32; flat.len()]);
    for at in order {
        let v = flat[at as usize];
        // NaN is equal to none.
        match (values.last(), counts.last_mut()) {
            (Some(last), Some(count)) if *last == v => *count += 1,
            _ => {
                values.push(v);
                counts.push(1);
            }
        }
        inverse[at as usize] = values.len() as u32 - 1;
    }
    let n = values.len();
    Ok(Unique {
        values: Tensor::from_vec(values, n, x.device())?,
        inverse: Tensor::from_vec(inverse, x.shape(), x.device())?,
        counts: Tensor::from_vec(counts, n, x.device())?,
    })
}

/// The different values of `x`, as PyTorch's `torch.unique` of f32, f64, u8, u32 or i64.
pub fn unique(x: &Tensor) -> Result<Unique> {
    match x.dtype() {
        DType::F32 => distinct::<f32>(x, |a, b| a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))),
        DType::F64 => distinct::<f64>(x, |a, b| a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))),
        DType::U8 => distinct::<u8>(x, Ord::cmp),
        DType::U32 => distinct::<u32>(x, Ord::cmp),
        DType::I64 => distinct::<i64>(x, Ord::cmp),
        found => bail!("unique: x is {found:?}, expected f32, f64, u8, u32 or i64"),
    }
}

/// Elements at flat places.
struct Take {
    places: Vec<usize>,
}

impl CustomOp1 for Take {
    fn name(&self) -> &'static str {
        "masked_select"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("masked_select", s, l)?;
        let out: Vec<f32> = self.places.iter().map(|p| x[*p]).collect();
        Ok((CpuStorage::F32(out), Shape::from(self.places.len())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = vec![0.0f32; x.elem_count()];
        with_values("masked_select_backward", grad, |g| {
            self.places.iter().zip(g).for_each(|(p, g)| dx[*p] += g);
            Ok(())
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// The elements of `x` where `mask` is not zero, in order, as PyTorch's `torch.masked_select`; gradients flow into `x`.
///
/// # Shapes
/// - `x`, `mask`: of shapes that broadcast to one; `x` f32, `mask` of any type
/// - output: `[count]`
pub fn masked_select(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    super::check::f32s("masked_select", "x", x)?;
    let Ok(shape) = x.shape().broadcast_shape_binary_op(mask.shape(), "masked_select") else {
        bail!("masked_select: mask has shape {:?}, expected one that broadcasts with x's {:?}", mask.dims(), x.dims());
    };
    let places = truths(&mask.broadcast_as(&shape)?.contiguous()?)?;
    let places = places.into_iter().enumerate().filter_map(|(i, v)| v.then_some(i)).collect();
    x.broadcast_as(&shape)?.contiguous()?.apply_op1(Take { places })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::testing::{close, grad, tensor, var};
    use super::*;

    #[test]
    fn places_of_what_is_not_zero() {
        // torch.nonzero(torch.tensor([[0., 2, nan], [-0., 0, -inf]])) -> [[0, 1], [0, 2], [1, 2]]
        let x = tensor(&[0.0, 2.0, f32::NAN, -0.0, 0.0, f32::NEG_INFINITY], &[2, 3]);
        assert_eq!(nonzero(&x).unwrap().to_vec2::<i64>().unwrap(), [[0, 1], [0, 2], [1, 2]]);
        assert_eq!(nonzero(&x.t().unwrap()).unwrap().to_vec2::<i64>().unwrap(), [[1, 0], [2, 0], [2, 1]]);
        assert_eq!(nonzero(&tensor(&[], &[0, 3])).unwrap().dims(), &[0, 2]);
        let bytes = Tensor::new(&[0u8, 3, 1], &Device::Cpu).unwrap();
        assert_eq!(nonzero(&bytes).unwrap().to_vec2::<i64>().unwrap(), [[1], [2]]);
        // torch.nonzero(torch.tensor(5.)) -> shape (1, 0)
        assert_eq!(nonzero(&tensor(&[5.0], &[])).unwrap().dims(), &[1, 0]);
    }

    #[test]
    fn different_values_are_sorted_and_counted() {
        // torch.unique(torch.tensor([[3., nan, -inf], [3., 0., nan]]), return_inverse=True, return_counts=True)
        let x = tensor(&[3.0, f32::NAN, f32::NEG_INFINITY, 3.0, 0.0, f32::NAN], &[2, 3]);
        let u = unique(&x).unwrap();
        close(&u.values, &[f32::NEG_INFINITY, 0.0, 3.0, f32::NAN, f32::NAN]);
        assert_eq!(u.inverse.to_vec2::<u32>().unwrap(), [[2, 3, 0], [2, 1, 4]]);
        assert_eq!(u.counts.to_vec1::<u32>().unwrap(), [1, 1, 2, 1, 1]);
        let u = unique(&Tensor::new(&[5i64, -1, 5, 7, -1], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(u.values.to_vec1::<i64>().unwrap(), [-1, 5, 7]);
        assert_eq!(u.counts.to_vec1::<u32>().unwrap(), [2, 2, 1]);
        assert_eq!(unique(&tensor(&[], &[0])).unwrap().values.dims(), &[0]);
        let e = unique(&x.to_dtype(DType::F16).unwrap()).unwrap_err().to_string();
        assert!(e.contains("unique: x is F16, expected f32"), "{e}");
    }

    #[test]
    fn masks_broadcast_and_gradients_come_back() {
        let x = var(&[1.0, 2.0, 3.0, 4.0, f32::NAN, 6.0], &[2, 3]);
        let mask = Tensor::new(&[1u8, 0, 1], &Device::Cpu).unwrap();
        let y = masked_select(&x, &mask).unwrap();
        close(&y, &[1.0, 3.0, 4.0, 6.0]);
        close(&grad(&y, &x), &[1.0, 0.0, 1.0, 1.0, 0.0, 1.0]);
        let row = var(&[1.0, 2.0], &[1, 2]);
        let y = masked_select(&row, &Tensor::new(&[[1u8, 1], [0, 1]], &Device::Cpu).unwrap()).unwrap();
        close(&y, &[1.0, 2.0, 2.0]);
        close(&grad(&y, &row), &[1.0, 2.0]);
        let none = masked_select(&x, &Tensor::zeros((2, 3), DType::U8, &Device::Cpu).unwrap()).unwrap();
        assert_eq!(none.dims(), &[0]);
        assert!(masked_select(&x, &Tensor::zeros(4, DType::U8, &Device::Cpu).unwrap()).is_err());
    }
}
