//! Corner pooling of CornerNet, Law and Deng, ECCV 2018 (<https://arxiv.org/abs/1808.01244>): the largest value so far along
//! an axis, as mmcv's `CornerPool`. There is no CUDA kernel yet.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;

use super::check;
use super::kernel::{build, values, with_values};
use crate::nn::apply1;

/// Which way maxima are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CornerPoolMode {
    /// Downwards.
    Bottom,
    /// To the left.
    Left,
    /// To the right.
    Right,
    /// Upwards.
    Top,
}

struct Op {
    mode: CornerPoolMode,
    size: [usize; 2],
}

impl Op {
    /// Calls `f(places)` with the places of each line of a plane in the order in which maxima are carried.
    fn lines(&self, mut f: impl FnMut(&mut dyn Iterator<Item = usize>)) {
        let [h, w] = self.size;
        match self.mode {
            CornerPoolMode::Bottom => (0..w).for_each(|x| f(&mut (0..h).map(|y| y * w + x))),
            CornerPoolMode::Top => (0..w).for_each(|x| f(&mut (0..h).rev().map(|y| y * w + x))),
            CornerPoolMode::Right => (0..h).for_each(|y| f(&mut (0..w).map(|x| y * w + x))),
            CornerPoolMode::Left => (0..h).for_each(|y| f(&mut (0..w).rev().map(|x| y * w + x))),
        }
    }

    /// Calls `f(place, where its maximum is)`: of equals the last, NaN stays.
    fn each(&self, x: &[f32], mut f: impl FnMut(usize, usize)) {
        self.lines(|places| {
            let mut best = None::<usize>;
            for place in places {
                let take = best.is_none_or(|b| x[place] >= x[b] || x[place].is_nan());
                let from = if take { place } else { best.unwrap_or(place) };
                best = Some(from);
                f(place, from);
            }
        });
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "corner_pool"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("corner_pool", s, l)?;
        let area = self.size[0] * self.size[1];
        let out = build(x.len(), area, |at, out: &mut [f32]| {
            let x = &x[at..at + area];
            self.each(x, |place, from| out[place] = x[from]);
        });
        Ok((CpuStorage::F32(out), l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        const OP: &str = "corner_pool_backward";
        let area = self.size[0] * self.size[1];
        let dx = with_values(OP, x, |x| {
            with_values(OP, grad, |g| {
                Ok(build(x.len(), area, |at, out: &mut [f32]| {
                    let g = &g[at..at + area];
                    self.each(&x[at..at + area], |place, from| out[from] += g[place]);
                }))
            })
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// The largest of all pixels on the way to each, itself included.
///
/// # Shapes
/// - `x` and output: `[N, C, H, W]`
pub fn corner_pool(x: &Tensor, mode: CornerPoolMode) -> Result<Tensor> {
    check::f32s("corner_pool", "x", x)?;
    let [_, _, h, w] = check::dims("corner_pool", "x", x, "[N, C, H, W]")?;
    apply1(x, Op { mode, size: [h, w] })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, grad, tensor, var};
    use super::*;

    // tests/golden/ops/make.py corner_pool
    #[test]
    fn values_and_gradients_are_mmcvs() {
        for case in golden("corner_pool") {
            case.check("y", &["x"], |t| {
                corner_pool(&t["x"].transpose(0, 1)?.contiguous()?.transpose(0, 1)?, case.named("mode"))
            });
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let x = var(&[], &[0, 2, 3, 3]);
        let y = corner_pool(&x, CornerPoolMode::Top).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 2, 3, 3][..], &[0, 2, 3, 3][..]));
        let e = corner_pool(&tensor(&[1.0], &[1]), CornerPoolMode::Top).unwrap_err().to_string();
        assert!(e.contains("corner_pool: x has shape [1], expected [N, C, H, W]"), "{e}");
    }
}
