//! Reductions over any axes.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::check;
use super::kernel::{CHUNK, sum, values, with_values};
use crate::nn::apply1;

/// What is made of the elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// Their mean; NaN of none.
    Mean,
    /// Their variance with `correction` taken off the count (1 is PyTorch's default).
    Var {
        /// Taken off the count.
        correction: usize,
    },
    /// The largest, NaN if there is one; equals share the gradient evenly.
    Amax,
    /// The smallest, NaN if there is one; equals share the gradient evenly.
    Amin,
    /// `ln(sum(exp(x)))`.
    LogSumExp,
}

/// A shape's axes, neighbours of a kind merged: `(size, step)` of those kept and those reduced.
struct Axes {
    kept: Vec<(usize, usize)>,
    reduced: Vec<(usize, usize)>,
}

impl Axes {
    fn new(dims: &[usize], reduce: &[bool]) -> Self {
        let (mut axes, mut step) = (Self { kept: Vec::new(), reduced: Vec::new() }, 1);
        let mut last = None;
        for (&size, &r) in dims.iter().zip(reduce).rev() {
            let list = if r { &mut axes.reduced } else { &mut axes.kept };
            match list.last_mut() {
                Some(inner) if last == Some(r) => inner.0 *= size,
                _ => list.push((size, step)),
            }
            (last, step) = (Some(r), step * size);
        }
        axes.kept.reverse();
        axes.reduced.reverse();
        axes
    }

    fn count(axes: &[(usize, usize)]) -> usize {
        axes.iter().map(|a| a.0).product()
    }

    /// The offset of place `at` among `axes`.
    fn offset(axes: &[(usize, usize)], mut at: usize) -> usize {
        let mut offset = 0;
        for (size, step) in axes.iter().rev() {
            offset += at % size * step;
            at /= size;
        }
        offset
    }
}

simd! {
    fn add_f64(acc: &mut [f64], x: &[f32]) {
        for (a, x) in acc.iter_mut().zip(x) {
            *a += f64::from(*x);
        }
    }
}
simd! {
    fn add_square(acc: &mut [f64], x: &[f32], mean: &[f64]) {
        for ((a, x), m) in acc.iter_mut().zip(x).zip(mean) {
            let d = f64::from(*x) - m;
            *a += d * d;
        }
    }
}
simd! {
    /// The larger of each, of `sign * x`; NaN wins.
    fn extreme(acc: &mut [f64], x: &[f32], sign: f64) {
        for (a, x) in acc.iter_mut().zip(x) {
            let v = sign * f64::from(*x);
            *a = if v > *a || v.is_nan() { v } else { *a };
        }
    }
}

struct Op {
    how: Reduction,
    reduce: Vec<bool>,
    keep: bool,
}

impl Op {
    /// Sums over the reduced axes; `f(accumulator, values, first kept place)` adds runs of neighbouring kept elements, and
    /// `row` a run of neighbouring reduced ones to one place.
    fn accumulate(
        &self,
        axes: &Axes,
        x: &[f32],
        start: f64,
        f: impl Fn(&mut [f64], &[f32], usize) + Sync,
        row: impl Fn(f64, &[f32], usize) -> f64 + Sync,
        join: impl Fn(f64, f64) -> f64 + Sync,
    ) -> Vec<f64> {
        let (kept, reduced) = (Axes::count(&axes.kept), Axes::count(&axes.reduced));
        if kept == 0 || reduced == 0 {
            return vec![start; kept];
        }
        let inner_kept = axes.kept.last().filter(|a| a.1 == 1).map(|a| a.0);
        if let Some(inner) = inner_kept.filter(|n| *n > 1 || axes.reduced.last().is_none_or(|a| a.1 != 1)) {
            // Neighbours are kept: whole runs are added to a run of accumulators.
            let outer = &axes.kept[..axes.kept.len() - 1];
            let piece = inner.clamp(1, 1024);
            let mut out = vec![start; kept];
            out.par_chunks_mut(inner).enumerate().for_each(|(i, line)| {
                let base = Axes::offset(outer, i);
                line.par_chunks_mut(piece).enumerate().for_each(|(p, acc)| {
                    for r in 0..reduced {
                        let at = base + Axes::offset(&axes.reduced, r) + p * piece;
                        f(acc, &x[at..at + acc.len()], i * inner + p * piece);
                    }
                });
            });
            return out;
        }
        let (inner, outer) = match axes.reduced.last() {
            Some((n, 1)) => (*n, &axes.reduced[..axes.reduced.len() - 1]),
            _ => (1, &axes.reduced[..]),
        };
        let one = |k: usize| {
            let base = Axes::offset(&axes.kept, k);
            let lines = Axes::count(outer);
            let line = |r: usize| {
                let at = base + Axes::offset(outer, r);
                x[at..at + inner]
                    .par_chunks(CHUNK)
                    .map(|c| row(start, c, k))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .fold(start, &join)
            };
            (0..lines).map(line).fold(start, &join)
        };
        (0..kept).into_par_iter().with_min_len((CHUNK / reduced).max(1)).map(one).collect()
    }

    fn sums(&self, axes: &Axes, x: &[f32]) -> Vec<f64> {
        self.accumulate(axes, x, 0.0, |a, x, _| add_f64(a, x), |_, x, _| sum(x), |a, b| a + b)
    }

    /// The values in f64, and means for variances.
    fn run(&self, axes: &Axes, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let n = Axes::count(&axes.reduced) as f64;
        let best = |sign: f64| {
            let row = |start: f64, x: &[f32], _: usize| {
                let mut lanes = [start; 16];
                let chunks = x.chunks_exact(16);
                let rest = chunks.remainder();
                chunks.for_each(|c| extreme(&mut lanes, c, sign));
                extreme(&mut lanes[..rest.len()], rest, sign);
                lanes.into_iter().fold(start, larger)
            };
            self.accumulate(axes, x, f64::NEG_INFINITY, |a, x, _| extreme(a, x, sign), row, larger)
        };
        match self.how {
            Reduction::Sum => (self.sums(axes, x), Vec::new()),
            Reduction::Mean => (self.sums(axes, x).into_iter().map(|s| s / n).collect(), Vec::new()),
            Reduction::Amax => (best(1.0), Vec::new()),
            Reduction::Amin => (best(-1.0).into_iter().map(|v| -v).collect(), Vec::new()),
            Reduction::Var { correction } => {
                let means: Vec<f64> = self.sums(axes, x).into_iter().map(|s| s / n).collect();
                let row =
                    |_: f64, x: &[f32], k: usize| x.iter().map(|v| (f64::from(*v) - means[k]).powi(2)).sum::<f64>();
                let squares = self.accumulate(
                    axes,
                    x,
                    0.0,
                    |a, x, at| add_square(a, x, &means[at..at + a.len()]),
                    row,
                    |a, b| a + b,
                );
                // Negative counts are none, as in PyTorch.
                let by = (n - correction as f64).max(0.0);
                (squares.into_iter().map(|s| s / by).collect(), means)
            }
            Reduction::LogSumExp => {
                let top: Vec<f64> = best(1.0).into_iter().map(|v| if v.is_infinite() { 0.0 } else { v }).collect();
                let many = |a: &mut [f64], x: &[f32], at: usize| {
                    a.iter_mut().zip(x).zip(&top[at..]).for_each(|((a, x), t)| *a += (f64::from(*x) - t).exp());
                };
                let row = |_: f64, x: &[f32], k: usize| x.iter().map(|v| (f64::from(*v) - top[k]).exp()).sum::<f64>();
                let sums = self.accumulate(axes, x, 0.0, many, row, |a, b| a + b);
                (sums.into_iter().zip(&top).map(|(s, t)| s.ln() + t).collect(), Vec::new())
            }
        }
    }
}

/// The larger; NaN wins.
fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let out = self.run(&Axes::new(l.dims(), &self.reduce), values("reduce", s, l)?).0;
        let dims = l.dims().iter().zip(&self.reduce);
        let dims: Vec<usize> = if self.keep {
            dims.map(|(d, r)| if *r { 1 } else { *d }).collect()
        } else {
            dims.filter_map(|(d, r)| (!r).then_some(*d)).collect()
        };
        Ok((CpuStorage::F32(out.into_iter().map(|v| v as f32).collect()), Shape::from(dims)))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        const OP: &str = "reduce_backward";
        let axes = Axes::new(x.dims(), &self.reduce);
        let reduced = Axes::count(&axes.reduced);
        let (shape, dims) = (x.shape(), x.dims());
        // The place in the output that an element adds to: steps along x's axes.
        let (mut steps, mut step) = (vec![0usize; dims.len()], 1);
        for i in (0..dims.len()).rev().filter(|i| !self.reduce[*i]) {
            steps[i] = step;
            step *= dims[i];
        }
        let dx = with_values(OP, x, |x| {
            with_values(OP, y, |y| {
                with_values(OP, grad, |g| {
                    let n = reduced as f64;
                    let means = match self.how {
                        Reduction::Var { .. } => self.sums(&axes, x).into_iter().map(|s| s / n).collect(),
                        _ => Vec::new(),
                    };
                    let ties: Vec<f64> = match self.how {
                        Reduction::Amax | Reduction::Amin => {
                            let many = |a: &mut [f64], x: &[f32], at: usize| {
                                a.iter_mut()
                                    .zip(x)
                                    .zip(&y[at..])
                                    .for_each(|((a, x), y)| *a += f64::from(u8::from(x == y)));
                            };
                            let row = |_: f64, x: &[f32], k: usize| x.iter().filter(|v| **v == y[k]).count() as f64;
                            self.accumulate(&axes, x, 0.0, many, row, |a, b| a + b)
                        }
                        _ => Vec::new(),
                    };
                    let slope = |k: usize, v: f32| match self.how {
                        Reduction::Sum => g[k],
                        Reduction::Mean => (f64::from(g[k]) / n) as f32,
                        Reduction::Var { correction } => {
                            let by = (n - correction as f64).max(0.0);
                            (2.0 * f64::from(g[k]) * (f64::from(v) - means[k]) / by) as f32
                        }
                        Reduction::Amax | Reduction::Amin if v == y[k] => (f64::from(g[k]) / ties[k]) as f32,
                        // NaN is equal to none, and torch divides 0 by 0.
                        Reduction::Amax | Reduction::Amin => 0.0 * (g[k] / ties[k] as f32),
                        Reduction::LogSumExp => g[k] * (v - y[k]).exp(),
                    };
                    let mut dx = vec![0.0f32; x.len()];
                    if dx.is_empty() {
                        return Ok(dx);
                    }
                    let (last, outer) = match dims.split_last() {
                        Some((last, outer)) => (*last, outer),
                        None => (1, dims),
                    };
                    let inner = steps.last().copied().unwrap_or(0);
                    dx.par_chunks_mut(last).enumerate().with_min_len((CHUNK / last).max(1)).for_each(|(row, out)| {
                        let (mut rest, mut base) = (row, 0);
                        for (size, step) in outer.iter().zip(&steps).rev() {
                            base += rest % size * step;
                            rest /= size;
                        }
                        for (j, (o, v)) in out.iter_mut().zip(&x[row * last..]).enumerate() {
                            *o = slope(base + j * inner, *v);
                        }
                    });
                    Ok(dx)
                })
            })
        })?;
        Tensor::from_vec(dx, shape, x.device()).map(Some)
    }
}

/// `x` reduced over `axes` (all of them where none are named), which stay with length 1 with `keep`.
///
/// Sums are added up in f64. Gradients flow through all; those of [`Reduction::Amax`] and [`Reduction::Amin`] are shared
/// evenly among equals.
pub fn reduce(x: &Tensor, axes: &[usize], keep: bool, how: Reduction) -> Result<Tensor> {
    const OP: &str = "reduce";
    check::f32s(OP, "x", x)?;
    let mut reduce = vec![axes.is_empty(); x.rank()];
    for &axis in axes {
        match reduce.get_mut(axis) {
            Some(r) if !*r => *r = true,
            Some(_) => bail!("{OP}: axes is {axes:?}, expected each once"),
            None => bail!("{OP}: axes is {axes:?}, expected ones of x's {}", x.rank()),
        }
    }
    let none = x.dims().iter().zip(&reduce).any(|(d, r)| *r && *d == 0);
    let left = x.dims().iter().zip(&reduce).all(|(d, r)| *r || *d > 0);
    if none && left && matches!(how, Reduction::Amax | Reduction::Amin) {
        bail!("{OP}: x has shape {:?}, expected elements along {axes:?} for an extreme", x.dims());
    }
    apply1(x, Op { how, reduce, keep })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, grad, tensor, var};
    use super::*;

    fn named(case: &str) -> Reduction {
        match case {
            "sum" => Reduction::Sum,
            "mean" => Reduction::Mean,
            "var" => Reduction::Var { correction: 1 },
            "amax" => Reduction::Amax,
            "amin" => Reduction::Amin,
            _ => Reduction::LogSumExp,
        }
    }

    // tests/golden/ops/make.py reduce
    #[test]
    fn values_and_gradients_are_torchs() {
        for case in golden("reduce") {
            let (axes, keep) = (case.list("axes"), case.size("keep") == 1);
            case.check("y", &["x"], |t| reduce(&t["x"], &axes, keep, named(case.text("how"))));
        }
    }

    #[test]
    fn strided_empty_and_long_inputs() {
        let x = var(&[1.0, 5.0, 2.0, 5.0, 0.0, -1.0], &[2, 3]);
        let y = reduce(&x.t().unwrap(), &[0], false, Reduction::Amax).unwrap();
        assert_eq!(y.to_vec1::<f32>().unwrap(), [5.0, 5.0]);
        assert_eq!(grad(&y, &x).to_vec2::<f32>().unwrap(), [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]);
        let none = tensor(&[], &[0, 3]);
        assert_eq!(reduce(&none, &[0], false, Reduction::Sum).unwrap().to_vec1::<f32>().unwrap(), [0.0; 3]);
        assert!(reduce(&none, &[0], false, Reduction::Mean).unwrap().to_vec1::<f32>().unwrap()[0].is_nan());
        assert_eq!(reduce(&none, &[1], true, Reduction::Amax).unwrap().dims(), &[0, 1]);
        assert!(reduce(&none, &[0], false, Reduction::Amax).is_err());
        assert!(reduce(&none, &[2], false, Reduction::Sum).unwrap_err().to_string().contains("expected ones of x's 2"));
        let many = Tensor::ones(100_003, candle_core::DType::F32, none.device()).unwrap();
        assert_eq!(reduce(&many, &[], false, Reduction::Sum).unwrap().to_scalar::<f32>().unwrap(), 100_003.0);
    }
}
