//! The point-wise spatial attention of PSANet, Zhao et al., ECCV 2018: mmcv's `PSAMask`. There is no CUDA kernel yet.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use super::check;
use super::kernel::{build, values, with_values};
use crate::nn::apply1;

/// Which way attention flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PsaMode {
    /// Each pixel gathers from all: the output's channels are where it gathers from.
    Collect,
    /// Each pixel gives to all: the output's pixels are where it gives to.
    Distribute,
}

struct Op {
    mode: PsaMode,
    size: [usize; 2],
    mask: [usize; 2],
}

impl Op {
    /// Calls `f(place in the mask, place in the output)` of one image's.
    fn pairs(&self, mut f: impl FnMut(usize, usize)) {
        let ([h, w], [mh, mw]) = (self.size, self.mask);
        let (half_h, half_w, area) = ((mh - 1) / 2, (mw - 1) / 2, h * w);
        for y in 0..h {
            for x in 0..w {
                for my in half_h.saturating_sub(y)..mh.min(h + half_h - y) {
                    for mx in half_w.saturating_sub(x)..mw.min(w + half_w - x) {
                        let (pixel, other) = (y * w + x, (my + y - half_h) * w + mx + x - half_w);
                        let out = match self.mode {
                            PsaMode::Collect => other * area + pixel,
                            PsaMode::Distribute => pixel * area + other,
                        };
                        f((my * mw + mx) * area + pixel, out);
                    }
                }
            }
        }
    }

    fn sizes(&self) -> (usize, usize) {
        let area = self.size[0] * self.size[1];
        (self.mask[0] * self.mask[1] * area, area * area)
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "psa_mask"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("psa_mask", s, l)?;
        let (input, output) = self.sizes();
        let n = l.dims()[0];
        let out = build(n * output, output, |at, out: &mut [f32]| {
            let x = &x[at / output * input..][..input];
            self.pairs(|from, to| out[to] = x[from]);
        });
        Ok((CpuStorage::F32(out), Shape::from((n, self.size[0] * self.size[1], self.size[0], self.size[1]))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (input, output) = self.sizes();
        let dx = with_values("psa_mask_backward", grad, |g| {
            Ok(build(x.elem_count(), input, |at, out: &mut [f32]| {
                let g = &g[at / input * output..][..output];
                self.pairs(|from, to| out[from] = g[to]);
            }))
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// Attention given relative to each pixel as attention among all pixels.
///
/// # Shapes
/// - `x`: `[N, mask[0]·mask[1], H, W]`
/// - output: `[N, H·W, H, W]`
pub fn psa_mask(x: &Tensor, mode: PsaMode, mask: [usize; 2]) -> Result<Tensor> {
    check::f32s("psa_mask", "x", x)?;
    let [n, channels, h, w] = check::dims("psa_mask", "x", x, "[N, mask h·w, H, W]")?;
    if mask.contains(&0) || channels != mask[0] * mask[1] {
        bail!("psa_mask: x has shape {:?}, expected [{n}, {}·{}, {h}, {w}]", x.dims(), mask[0], mask[1]);
    }
    apply1(x, Op { mode, size: [h, w], mask })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, grad, var, wave};
    use super::*;

    // tests/golden/ops/make.py psa_mask
    #[test]
    fn values_and_gradients_are_mmcvs() {
        for case in golden("psa_mask") {
            let mask = [case.size("h"), case.size("w")];
            case.check("y", &["x"], |t| psa_mask(&t["x"], case.named("mode"), mask));
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let x = var(&[], &[0, 9, 2, 2]);
        let y = psa_mask(&x, PsaMode::Collect, [3, 3]).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 4, 2, 2][..], &[0, 9, 2, 2][..]));
        let e = psa_mask(&wave(&[1, 8, 2, 2]), PsaMode::Collect, [3, 3]).unwrap_err().to_string();
        assert!(e.contains("x has shape [1, 8, 2, 2], expected [1, 3·3, 2, 2]"), "{e}");
    }
}
