//! Dropout of elements, channels and samples. What is dropped follows from one number drawn from the [`Rng`], whatever the
//! number of threads; the mask is worked out again for the backward pass rather than kept.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::kernel::{build, build_elements, values, with_values};
use crate::Rng;
use crate::nn::apply1;
use crate::rng::splitmix64;

/// Drops units of `unit` elements with a probability of `limit / 2^32`.
#[derive(Clone, Copy)]
struct Dropout {
    seed: u64,
    limit: u64,
    unit: usize,
    scale: f32,
}

simd! {
    fn drop_elements(x: &[f32], seed: u64, limit: u64, first: u64, scale: f32, out: &mut [f32]) {
        for (i, (o, x)) in out.iter_mut().zip(x).enumerate() {
            let keep = splitmix64(seed ^ (first + i as u64)) >> 32 >= limit;
            *o = if keep { x * scale } else { 0.0 };
        }
    }
}

impl Dropout {
    fn apply(self, x: &[f32]) -> Vec<f32> {
        let Self { seed, limit, unit, scale } = self;
        if unit == 1 {
            return build_elements(x.len(), x.len(), |at, out| {
                drop_elements(&x[at..at + out.len()], seed, limit, at as u64, scale, out);
            });
        }
        build(x.len(), unit, |at, out| {
            if splitmix64(seed ^ (at / unit) as u64) >> 32 >= limit {
                for (o, x) in out.iter_mut().zip(&x[at..]) {
                    *o = x * scale;
                }
            }
        })
    }
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.apply(values("dropout", s, l)?)), l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let out = with_values("dropout_backward", grad, |g| Ok(self.apply(g)))?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

fn apply(x: &Tensor, p: f64, unit: usize, rng: &mut Rng) -> Result<Tensor> {
    if !(0.0..=1.0).contains(&p) {
        bail!("dropout: the probability is {p}, expected 0 to 1");
    }
    if p == 0.0 || x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let scale = if p == 1.0 { 0.0 } else { (1.0 / (1.0 - p)) as f32 };
    let limit = (p * 2f64.powi(32)) as u64;
    apply1(x, Dropout { seed: rng.bits(), limit, unit, scale })
}

/// Sets each element to 0 with probability `p` and scales the rest by `1 / (1 - p)`. Draws one number, none when `p` is 0.
pub fn dropout(x: &Tensor, p: f64, rng: &mut Rng) -> Result<Tensor> {
    apply(x, p, 1, rng)
}

/// [`dropout`] of whole channels of `[N, C, ...]`.
pub fn dropout_channels(x: &Tensor, p: f64, rng: &mut Rng) -> Result<Tensor> {
    let (_, _, size) = super::kernel::planes("dropout_channels", x)?;
    apply(x, p, size, rng)
}

/// [`dropout`] of whole samples of `[N, ...]`: stochastic depth (Huang et al., ECCV 2016, <https://arxiv.org/abs/1603.09382>).
pub fn drop_path(x: &Tensor, p: f64, rng: &mut Rng) -> Result<Tensor> {
    if x.dims().is_empty() {
        bail!("drop_path: the input is a scalar, expected [N, ...]");
    }
    apply(x, p, x.dims()[1..].iter().product(), rng)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{grad, var, wave};
    use super::*;

    #[test]
    fn a_share_of_p_is_dropped_the_rest_scaled_and_the_gradient_takes_the_same_mask() {
        let ones = var(&vec![1.0; 60_000], &[10, 20, 300]);
        type Drop = fn(&Tensor, f64, &mut Rng) -> Result<Tensor>;
        let cases: [(Drop, usize, f64); 3] = [(dropout, 1, 0.01), (dropout_channels, 300, 0.1), (drop_path, 6000, 0.5)];
        for (f, unit, tolerance) in cases {
            let y = f(&ones, 0.25, &mut Rng::new(1)).unwrap();
            let v = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(v.iter().all(|v| *v == 0.0 || *v == 1.0 / 0.75));
            assert!(v.chunks(unit).all(|c| c.iter().all(|v| *v == c[0])));
            let dropped = v.iter().filter(|v| **v == 0.0).count() as f64 / 60_000.0;
            assert!((dropped - 0.25).abs() < tolerance, "{dropped}");
            assert_eq!(grad(&y, &ones).flatten_all().unwrap().to_vec1::<f32>().unwrap(), v);
            let again = f(&ones, 0.25, &mut Rng::new(1)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(again, v);
        }
    }

    #[test]
    fn bounds_and_two_draws() {
        let x = wave(&[4, 8]);
        let mut rng = Rng::new(0);
        let values = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(dropout(&x, 0.0, &mut rng).unwrap()), values(x.clone()));
        assert!(values(dropout(&x, 1.0, &mut rng).unwrap()).iter().all(|v| *v == 0.0));
        assert_ne!(values(dropout(&x, 0.5, &mut rng).unwrap()), values(dropout(&x, 0.5, &mut rng).unwrap()));
        assert!(dropout(&x, 1.5, &mut rng).is_err());
    }
}
