//! Values that are combined at the places an index names: torch's `scatter_reduce`.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail, shape::Dim};

use super::check;
use super::kernel::{values, with_values};
use crate::nn::apply2;

/// How values that meet at one place are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScatterReduce {
    /// Added.
    Sum,
    /// Multiplied.
    Prod,
    /// Averaged.
    Mean,
    /// The largest, NaN if there is one.
    Amax,
    /// The smallest, NaN if there is one.
    Amin,
}

struct Scatter {
    how: ScatterReduce,
    include_self: bool,
    /// For each element of the index: its places in `src` and in the result.
    pairs: Vec<(usize, usize)>,
}

impl Scatter {
    /// How many values meet at each of `n` places.
    fn counts(&self, n: usize) -> Vec<f32> {
        let mut counts = vec![f32::from(u8::from(self.include_self)); n];
        self.pairs.iter().for_each(|(_, to)| counts[*to] += 1.0);
        counts
    }

    /// `base` without what the index overwrites.
    fn start(&self, base: &[f32], neutral: f32) -> Vec<f32> {
        let mut out = base.to_vec();
        if !self.include_self {
            self.pairs.iter().for_each(|(_, to)| out[*to] = neutral);
        }
        out
    }

    fn forward(&self, base: &[f32], src: &[f32]) -> Vec<f32> {
        let neutral = match self.how {
            ScatterReduce::Sum | ScatterReduce::Mean => 0.0,
            ScatterReduce::Prod => 1.0,
            ScatterReduce::Amax => f32::NEG_INFINITY,
            ScatterReduce::Amin => f32::INFINITY,
        };
        let mut out = self.start(base, neutral);
        for &(from, to) in &self.pairs {
            let (v, o) = (src[from], &mut out[to]);
            match self.how {
                ScatterReduce::Sum | ScatterReduce::Mean => *o += v,
                ScatterReduce::Prod => *o *= v,
                ScatterReduce::Amax => *o = if v > *o || v.is_nan() { v } else { *o },
                ScatterReduce::Amin => *o = if v < *o || v.is_nan() { v } else { *o },
            }
        }
        if self.how == ScatterReduce::Mean {
            for (o, n) in out.iter_mut().zip(self.counts(base.len())) {
                *o /= n.max(1.0);
            }
        }
        out
    }

    fn backward(&self, base: &[f32], src: &[f32], y: &[f32], g: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (n, mut dsrc) = (base.len(), vec![0.0; src.len()]);
        let mut dbase: Vec<f32> = match self.how {
            ScatterReduce::Sum => g.to_vec(),
            ScatterReduce::Mean => g.iter().zip(self.counts(n)).map(|(g, n)| g / n.max(1.0)).collect(),
            ScatterReduce::Prod => {
                let mut d = g.to_vec();
                self.pairs.iter().for_each(|(from, to)| d[*to] *= src[*from]);
                d
            }
            ScatterReduce::Amax | ScatterReduce::Amin => {
                // The values that are the result share it evenly.
                let mut winners: Vec<f32> = (0..n).map(|i| f32::from(u8::from(base[i] == y[i]))).collect();
                self.pairs.iter().filter(|(from, to)| src[*from] == y[*to]).for_each(|(_, to)| winners[*to] += 1.0);
                let share: Vec<f32> = g.iter().zip(winners).map(|(g, n)| g / n).collect();
                for &(from, to) in self.pairs.iter().filter(|(from, to)| src[*from] == y[*to]) {
                    dsrc[from] += share[to];
                }
                (0..n).map(|i| if base[i] == y[i] { share[i] } else { 0.0 }).collect()
            }
        };
        match self.how {
            ScatterReduce::Sum | ScatterReduce::Mean => {
                self.pairs.iter().for_each(|(from, to)| dsrc[*from] += dbase[*to]);
            }
            ScatterReduce::Prod => {
                let mut zeros = vec![0u32; n];
                let mut without_zeros = self.start(base, 1.0);
                for &(from, to) in &self.pairs {
                    if src[from] == 0.0 {
                        zeros[to] += 1;
                    } else {
                        without_zeros[to] *= src[from];
                    }
                }
                for &(from, to) in &self.pairs {
                    dsrc[from] += match (src[from] == 0.0, zeros[to]) {
                        (true, 1) => g[to] * without_zeros[to],
                        (true, _) => 0.0,
                        (false, 0) => g[to] * y[to] / src[from],
                        (false, _) => 0.0,
                    };
                }
            }
            ScatterReduce::Amax | ScatterReduce::Amin => {}
        }
        if !self.include_self {
            self.pairs.iter().for_each(|(_, to)| dbase[*to] = 0.0);
        }
        (dbase, dsrc)
    }
}

impl CustomOp2 for Scatter {
    fn name(&self) -> &'static str {
        "scatter_reduce"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (base, src) = (values("scatter_reduce", s1, l1)?, values("scatter_reduce", s2, l2)?);
        Ok((CpuStorage::F32(self.forward(base, src)), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, src: &Tensor, y: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        const OP: &str = "scatter_reduce_backward";
        let (dx, dsrc) = with_values(OP, x, |x| {
            with_values(OP, src, |s| with_values(OP, y, |y| with_values(OP, grad, |g| Ok(self.backward(x, s, y, g)))))
        })?;
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), x.device())?),
            Some(Tensor::from_vec(dsrc, src.shape(), src.device())?),
        ))
    }
}

/// `x` with the values of `src` combined into it: `src[i]` goes to `x`'s place `i` with `index[i]` along `axis`, as PyTorch's
/// `Tensor.scatter_reduce`. Without `include_self` the places that get values forget theirs. Gradients flow into both.
///
/// # Shapes
/// - `x`: any, f32
/// - `index`: integers of `x`'s rank, along each axis no longer than `src` and, but for `axis`, than `x`
/// - `src`: f32 of `x`'s rank
/// - output: `x`'s shape
pub fn scatter_reduce(
    x: &Tensor,
    axis: impl Dim,
    index: &Tensor,
    src: &Tensor,
    how: ScatterReduce,
    include_self: bool,
) -> Result<Tensor> {
    const OP: &str = "scatter_reduce";
    check::f32s(OP, "x", x)?;
    check::f32s(OP, "src", src)?;
    let axis = axis.to_index(x.shape(), OP)?;
    let (dims, sizes, rank) = (index.dims(), x.dims(), x.rank());
    let fits = |i: usize| dims[i] <= src.dims()[i] && (i == axis || dims[i] <= sizes[i]);
    if dims.len() != rank || src.rank() != rank || !(0..rank).all(fits) {
        bail!(
            "{OP}: index has shape {dims:?}, expected one inside src's {:?} and x's {sizes:?} but for axis {axis}",
            src.dims()
        );
    }
    if index.dtype().is_float() {
        bail!("{OP}: index is {:?}, expected integers", index.dtype());
    }
    let places = index.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
    let (x, src) = (x.contiguous()?, src.contiguous()?);
    let (from, to) = (src.stride(), x.stride());
    let mut pairs = Vec::with_capacity(places.len());
    let mut at = vec![0usize; rank];
    for place in places {
        let Some(place) = usize::try_from(place).ok().filter(|p| *p < sizes[axis]) else {
            bail!("{OP}: index has {place}, expected one of 0..{}", sizes[axis]);
        };
        let source = (0..rank).map(|i| at[i] * from[i]).sum();
        let target = (0..rank).map(|i| if i == axis { place } else { at[i] } * to[i]).sum();
        pairs.push((source, target));
        for i in (0..rank).rev() {
            at[i] += 1;
            if at[i] < dims[i] {
                break;
            }
            at[i] = 0;
        }
    }
    apply2(&x, &src, Scatter { how, include_self, pairs })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, tensor};
    use super::*;

    // tests/golden/ops/make.py scatter
    #[test]
    fn values_and_gradients_are_torchs() {
        for case in golden("scatter") {
            let how = match case.text("how") {
                "sum" => ScatterReduce::Sum,
                "prod" => ScatterReduce::Prod,
                "mean" => ScatterReduce::Mean,
                "amax" => ScatterReduce::Amax,
                _ => ScatterReduce::Amin,
            };
            case.check("y", &["x", "src"], |t| {
                let (axis, own) = (case.size("axis"), case.size("own") == 1);
                scatter_reduce(&t["x"], axis, &t["index"], &t["src"], how, own)
            });
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let x = tensor(&[1.0, 2.0], &[2]);
        let index = Tensor::zeros(0, DType::U32, x.device()).unwrap();
        let y = scatter_reduce(&x, 0, &index, &tensor(&[], &[0]), ScatterReduce::Sum, true).unwrap();
        assert_eq!(y.to_vec1::<f32>().unwrap(), [1.0, 2.0]);
        let index = Tensor::new(&[2u32], x.device()).unwrap();
        let e = scatter_reduce(&x, 0, &index, &tensor(&[1.0], &[1]), ScatterReduce::Sum, true).unwrap_err();
        assert!(e.to_string().contains("index has 2, expected one of 0..2"), "{e}");
        assert!(scatter_reduce(&x, 0, &x, &x, ScatterReduce::Sum, true).is_err());
    }
}
