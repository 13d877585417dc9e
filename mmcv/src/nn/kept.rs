//! How a tape keeps the tensors that the backward pass needs: as they are, or in half precision.

use candle_core::{Result, Shape, Tensor};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use rayon::prelude::*;

use crate::ops::kernel::{CHUNK, build_elements, with_values};

/// Tensors below this many elements are kept as they are.
const SMALL: usize = 4096;

/// A tensor on a tape.
pub(super) enum Kept {
    Whole(Tensor),
    /// f16, with what is too large at its greatest finite value.
    Half(Vec<f16>, Shape),
}

impl Kept {
    /// `t`, in half precision where it is large and an activation.
    pub fn half(t: &Tensor) -> Result<Self> {
        if t.elem_count() < SMALL {
            return Ok(Self::Whole(t.clone()));
        }
        let half = with_values("keep", t, |values| {
            let mut half = vec![f16::ZERO; values.len()];
            half.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(to, from)| {
                to.convert_from_f32_slice(from);
                for (h, v) in to.iter_mut().zip(from) {
                    if h.is_infinite() && v.is_finite() {
                        *h = if *v < 0.0 { f16::MIN } else { f16::MAX };
                    }
                }
            });
            Ok(half)
        })?;
        Ok(Self::Half(half, t.shape().clone()))
    }

    /// The tensor, in f32.
    pub fn get(&self, like: &Tensor) -> Result<Tensor> {
        match self {
            Self::Whole(t) => Ok(t.clone()),
            Self::Half(half, shape) => {
                let values = build_elements(half.len(), half.len(), |at, out| {
                    half[at..at + out.len()].convert_to_f32_slice(out);
                });
                Tensor::from_vec(values, shape, like.device())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn halves_are_within_rounding_and_saturate() -> Result<()> {
        let mut values: Vec<f32> = (0..2 * SMALL).map(|i| (i as f32 - 4000.0) / 37.0).collect();
        values[..5].copy_from_slice(&[1e6, -1e6, f32::INFINITY, f32::NAN, 0.0]);
        let t = Tensor::new(values.as_slice(), &Device::Cpu)?;
        let back: Vec<f32> = Kept::half(&t)?.get(&t)?.to_vec1()?;
        assert_eq!(back[..3], [65504.0, -65504.0, f32::INFINITY]);
        assert!(back[3].is_nan() && back[4] == 0.0);
        assert!(back[5..].iter().zip(&values[5..]).all(|(a, b)| (a - b).abs() <= b.abs() / 2000.0));
        Ok(())
    }
}
