//! A factor for each channel of each image, as squeeze-and-excitation applies it.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::kernel::{build_elements, planes, sum, values, with_values};
use crate::nn::apply2;

struct ScaleChannels;

simd! {
    fn scale(x: &[f32], by: f32, out: &mut [f32]) {
        for (o, x) in out.iter_mut().zip(x) {
            *o = x * by;
        }
    }
}

simd! {
    fn multiply(x: &[f32], y: &[f32], out: &mut [f32]) {
        for ((o, x), y) in out.iter_mut().zip(x).zip(y) {
            *o = x * y;
        }
    }
}

/// `x` with each plane of `size` by its factor.
fn scaled(x: &[f32], factors: &[f32], size: usize) -> Vec<f32> {
    build_elements(x.len(), size, |at, out| scale(&x[at..at + out.len()], factors[at / size.max(1)], out))
}

impl CustomOp2 for ScaleChannels {
    fn name(&self) -> &'static str {
        "scale_channels"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, factors) = (values("scale_channels", s1, l1)?, values("scale_channels", s2, l2)?);
        let size: usize = l1.dims()[2..].iter().product();
        Ok((CpuStorage::F32(scaled(x, factors, size)), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        const OP: &str = "scale_channels_backward";
        let (n, channels, size) = planes(OP, x)?;
        let (dx, dw) = with_values(OP, x, |x| {
            with_values(OP, w, |factors| {
                with_values(OP, grad, |g| {
                    let dw: Vec<f32> = (0..n * channels)
                        .into_par_iter()
                        .map_init(
                            || vec![0.0f32; size],
                            |products, plane| {
                                let range = plane * size..(plane + 1) * size;
                                multiply(&x[range.clone()], &g[range], products);
                                sum(products) as f32
                            },
                        )
                        .collect();
                    Ok((scaled(g, factors, size), dw))
                })
            })
        })?;
        let dw = Tensor::from_vec(dw, w.shape(), w.device())?;
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), Some(dw)))
    }
}

/// `x` with each channel of each image multiplied by its factor.
///
/// # Shapes
/// - `x`: `[N, C, ...]`
/// - `factors`: `[N, C]`, or with more axes of length 1
pub fn scale_channels(x: &Tensor, factors: &Tensor) -> Result<Tensor> {
    let (n, channels, _) = planes("scale_channels", x)?;
    if factors.elem_count() != n * channels || factors.dims().get(..2) != Some(&[n, channels]) {
        bail!(
            "scale_channels: the input is {:?} and the factors {:?}, expected [{n}, {channels}]",
            x.dims(),
            factors.dims()
        );
    }
    apply2(x, factors, ScaleChannels)
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::testing::{close, wave, weighted_grad};
    use super::*;

    #[test]
    fn it_is_the_broadcast_product_with_its_gradients() -> Result<()> {
        for shape in [[2, 3, 4, 5], [1, 1, 1, 1], [2, 3, 0, 5], [0, 3, 2, 2]] {
            let (x, w) = (Var::from_tensor(&wave(&shape))?, Var::from_tensor(&wave(&[shape[0], shape[1], 1, 1]))?);
            let (ours, theirs) = (scale_channels(&x, &w)?, x.broadcast_mul(&w)?);
            close(&ours, &theirs.flatten_all()?.to_vec1::<f32>()?);
            if ours.elem_count() > 0 {
                for of in [&x, &w] {
                    close(&weighted_grad(&ours, of), &weighted_grad(&theirs, of).flatten_all()?.to_vec1::<f32>()?);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn factors_of_other_channels_are_refused() {
        let e = scale_channels(&wave(&[2, 3, 4, 4]), &wave(&[2, 4])).unwrap_err().to_string();
        assert!(e.contains("scale_channels") && e.contains("[2, 3]") && e.contains("[2, 4]"), "{e}");
    }
}
