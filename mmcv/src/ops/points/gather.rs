//! Features of chosen points: mmcv's `gather_points`, `group_points` and `three_interpolate`.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};

use crate::nn::apply2;
use crate::ops::check;
use crate::ops::kernel::{build, values, with_values};

/// `out[b, c, i] = sum over t of weight[b, i, t] · x[b, c, places[b, i, t]]`.
struct Op {
    places: Vec<usize>,
    /// Points that make one value.
    taps: usize,
    /// Axes of the output after batch and channels.
    outer: Vec<usize>,
    name: &'static str,
}

impl Op {
    /// Values of one channel.
    fn count(&self) -> usize {
        self.outer.iter().product()
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (values(self.name, s1, l1)?, values(self.name, s2, l2)?);
        let (b, c, n) = l1.shape().dims3()?;
        let (count, taps) = (self.count(), self.taps);
        let out = build(b * c * count, count, |at, out: &mut [f32]| {
            let row = at / count;
            let (x, first) = (&x[row * n..][..n], row / c * count * taps);
            let places = self.places[first..].chunks_exact(taps);
            if w.is_empty() {
                out.iter_mut().zip(places).for_each(|(o, p)| *o = x[p[0]]);
                return;
            }
            for ((o, p), w) in out.iter_mut().zip(places).zip(w[first..].chunks_exact(taps)) {
                *o = p.iter().zip(w).map(|(p, w)| x[*p] * w).sum();
            }
        });
        let dims: Vec<usize> = [b, c].into_iter().chain(self.outer.iter().copied()).collect();
        Ok((CpuStorage::F32(out), Shape::from(dims)))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, c, n) = x.dims3()?;
        let (count, taps) = (self.count(), self.taps);
        let dx = with_values(self.name, w, |w| {
            with_values(self.name, grad, |g| {
                Ok(build(x.elem_count(), n, |at, out: &mut [f32]| {
                    let row = at / n;
                    let first = row / c * count * taps;
                    for (i, g) in g[row * count..][..count].iter().enumerate() {
                        for t in first + i * taps..first + (i + 1) * taps {
                            out[self.places[t]] += g * w.get(t).copied().unwrap_or(1.0);
                        }
                    }
                }))
            })
        })?;
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), None))
    }
}

fn run(name: &'static str, x: &Tensor, places: &Tensor, outer: Vec<usize>, w: Option<&Tensor>) -> Result<Tensor> {
    check::f32s(name, "features", x)?;
    let [b, _, n] = check::dims(name, "features", x, "[B, C, N]")?;
    if places.dtype().is_float() {
        bail!("{name}: places is {:?}, expected integers", places.dtype());
    }
    if places.dims()[0] != b {
        bail!("{name}: places has shape {:?}, expected a batch of {b}", places.dims());
    }
    let places = places.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
    let places = places.into_iter().map(|p| match usize::try_from(p) {
        Ok(p) if p < n => Ok(p),
        _ => bail!("{name}: places has {p}, expected one of 0..{n}"),
    });
    let places = places.collect::<Result<Vec<_>>>()?;
    let none = Tensor::zeros(0, DType::F32, x.device())?;
    let w = w.unwrap_or(&none).detach().contiguous()?;
    let taps = if w.elem_count() > 0 { 3 } else { 1 };
    apply2(x, &w, Op { places, taps, outer, name })
}

/// The features of chosen points; gradients flow into them.
///
/// # Shapes
/// - `features`: `[B, C, N]`
/// - `places`: `[B, M]` integers
/// - output: `[B, C, M]`
pub fn gather_points(features: &Tensor, places: &Tensor) -> Result<Tensor> {
    let [_, m] = check::dims("gather_points", "places", places, "[B, M]")?;
    run("gather_points", features, places, vec![m], None)
}

/// The features of groups of points; gradients flow into them.
///
/// # Shapes
/// - `features`: `[B, C, N]`
/// - `places`: `[B, M, samples]` integers
/// - output: `[B, C, M, samples]`
pub fn group_points(features: &Tensor, places: &Tensor) -> Result<Tensor> {
    let [_, m, samples] = check::dims("group_points", "places", places, "[B, M, samples]")?;
    run("group_points", features, places, vec![m, samples], None)
}

/// Weighted sums of three points' features each; gradients flow into the features, as in mmcv.
///
/// # Shapes
/// - `features`: `[B, C, M]`
/// - `places`: `[B, N, 3]` integers
/// - `weights`: `[B, N, 3]`
/// - output: `[B, C, N]`
pub fn three_interpolate(features: &Tensor, places: &Tensor, weights: &Tensor) -> Result<Tensor> {
    const OP: &str = "three_interpolate";
    check::f32s(OP, "weights", weights)?;
    let [b, n, _] = check::dims(OP, "places", places, "[B, N, 3]")?;
    check::shape(OP, "places", places, &[b, n, 3], "[B, N, 3]")?;
    check::shape(OP, "weights", weights, &[b, n, 3], "[B, N, 3]")?;
    run(OP, features, places, vec![n], Some(weights))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{golden, grad, var, wave};

    // tests/golden/ops/make.py points
    #[test]
    fn values_and_gradients_are_torchs() {
        for case in golden("points") {
            match case.text("op") {
                "gather" => case.check("y", &["x"], |t| gather_points(&t["x"], &t["places"])),
                "group" => case.check("y", &["x"], |t| group_points(&t["x"], &t["places"])),
                "three" => case.check("y", &["x"], |t| three_interpolate(&t["x"], &t["places"], &t["weights"])),
                _ => {}
            }
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let x = var(&wave(&[6]).to_vec1::<f32>().unwrap(), &[1, 2, 3]);
        let none = Tensor::zeros((1, 0), DType::U32, x.device()).unwrap();
        let y = gather_points(&x, &none).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[1, 2, 0][..], &[1, 2, 3][..]));
        let none = Tensor::zeros((1, 0, 3), DType::U32, x.device()).unwrap();
        let y = three_interpolate(&x, &none, &none.to_dtype(DType::F32).unwrap()).unwrap();
        assert_eq!(y.dims(), &[1, 2, 0]);
        let e = gather_points(&x, &Tensor::new(&[[3u32]], x.device()).unwrap()).unwrap_err().to_string();
        assert!(e.contains("gather_points: places has 3, expected one of 0..3"), "{e}");
    }
}
