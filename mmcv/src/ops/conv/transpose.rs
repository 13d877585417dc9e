//! The transposed convolution ("deconvolution"): forward it is a convolution's data gradient, and the other way round.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use super::bias::channel_sums;
use super::gather::Finish;
use super::geometry::{Conv2dConfig, Geometry};
use super::op::{dgrad, forward, values, weight_grad, with_values};
use crate::nn::{apply2, apply3, contiguous, tracked};

/// `x` `[N, C, H, W]` with `w` `[C, O/groups, kh, kw]` and `b` `[O]`, as PyTorch's `F.conv_transpose2d`: the result has
/// `(H - 1) · stride - 2 · padding + dilation · (kh - 1) + output_padding + 1` rows.
///
/// Runs on the CPU in f32 (f16 and bf16 are converted there and back); any strides; gradients for each input that takes
/// part in a graph.
pub fn conv_transpose2d(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    cfg: &Conv2dConfig,
    output_padding: [usize; 2],
) -> Result<Tensor> {
    let geometry = Geometry::transposed(x.dims(), w.dims(), cfg, output_padding)?;
    if let Some(b) = b
        && b.dims() != [geometry.channels_in]
    {
        bail!("conv_transpose2d: bias {:?} for {} output channels", b.dims(), geometry.channels_in)
    }
    match x.dtype() {
        DType::F32 => {}
        DType::F16 | DType::BF16 => {
            let to = |t: &Tensor| t.to_dtype(DType::F32);
            let b = b.map(to).transpose()?;
            return conv_transpose2d(&to(x)?, &to(w)?, b.as_ref(), cfg, output_padding)?.to_dtype(x.dtype());
        }
        other => bail!("conv_transpose2d: {other:?} is not supported, f32, f16 and bf16 are"),
    }
    let (x, w) = (contiguous(x)?, contiguous(w)?);
    let op = Transposed { geometry };
    match b {
        Some(b) => apply3(&x, &w, b, op),
        None => apply2(&x, &w, op),
    }
}

struct Transposed {
    /// Of the convolution that goes the other way.
    geometry: Geometry,
}

impl Transposed {
    fn fwd(&self, x: &[f32], w: &[f32], b: Option<&[f32]>) -> (CpuStorage, Shape) {
        let g = &self.geometry;
        let y = dgrad(g, x, w, &Finish { bias: b, ..Finish::default() });
        (CpuStorage::F32(y), (g.images, g.channels_in, g.input[0], g.input[1]).into())
    }

    fn grads(&self, x: &Tensor, w: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (g, device) = (&self.geometry, x.device());
        with_values(dy, |dy| {
            let dx = match tracked(x) {
                true => {
                    let dx = with_values(w, |w| forward(g, dy, w, &Finish::default()))?;
                    Some(Tensor::from_vec(dx, x.shape(), device)?)
                }
                false => None,
            };
            let dw = match tracked(w) {
                true => Some(Tensor::from_vec(with_values(x, |x| weight_grad(g, dy, x))?, w.shape(), device)?),
                false => None,
            };
            Ok((dx, dw))
        })?
    }
}

impl CustomOp2 for Transposed {
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(self.fwd(values(x, lx)?, values(w, lw)?, None))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _res: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.grads(x, w, dy)
    }
}

impl CustomOp3 for Transposed {
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(self.fwd(values(x, lx)?, values(w, lw)?, Some(values(b, lb)?)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _res: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = self.grads(x, w, dy)?;
        let g = &self.geometry;
        let db = match tracked(b) {
            true => {
                let db = with_values(dy, |dy| channel_sums(dy, g.images, g.channels_in, g.input_area()))?;
                Some(Tensor::from_vec(db, b.shape(), b.device())?)
            }
            false => None,
        };
        Ok((dx, dw, db))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::tests::{close, pattern};
    use super::*;

    fn case(
        x: [usize; 4],
        w: [usize; 4],
        stride: [usize; 2],
        padding: [usize; 2],
        output_padding: [usize; 2],
        dilation: [usize; 2],
        groups: usize,
        bias: bool,
        shape: [usize; 4],
        sums: [[f64; 3]; 4],
    ) {
        let run = || -> Result<()> {
            let (x, wv) = (Var::from_tensor(&pattern(&x, 1))?, Var::from_tensor(&pattern(&w, 2))?);
            let b = Var::from_tensor(&pattern(&[shape[1]], 3))?;
            let cfg = Conv2dConfig { stride, padding, dilation, groups };
            let y = conv_transpose2d(&x, &wv, bias.then_some(b.as_tensor()), &cfg, output_padding)?;
            assert_eq!(y.dims(), shape);
            close(&y, sums[0], "y");
            let grads = (&y * pattern(&shape, 4))?.sum_all()?.backward()?;
            close(grads.get(&x).unwrap(), sums[1], "dx");
            close(grads.get(&wv).unwrap(), sums[2], "dw");
            if bias {
                close(grads.get(&b).unwrap(), sums[3], "db");
            }
            Ok(())
        };
        run().unwrap();
    }

    // python: with t and the sums of the convolution's tests,
    //   x = t((n, c, h, w), 1); wt = t((c, o // g, kh, kw), 2); bb = t((o,), 3) if bias else None
    //   y = F.conv_transpose2d(x, wt, bb, stride, padding, output_padding, g, dilation); y.backward(t(y.shape, 4))
    //   sums of y, x.grad, wt.grad, bb.grad
    #[test]
    fn matches_pytorch() {
        case(
            [2, 6, 7, 9],
            [6, 5, 4, 4],
            [2, 2],
            [1, 1],
            [0, 0],
            [1, 1],
            1,
            true,
            [2, 5, 14, 18],
            [
                [-184.375, -416.15625, -736.953125],
                [6.203125, 309.53125, 172.671875],
                [-6.03125, 319.78125, 388.78125],
                [0.375, -11.0, 10.625],
            ],
        );
        case(
            [1, 4, 5, 6],
            [4, 8, 2, 2],
            [2, 2],
            [0, 0],
            [0, 0],
            [1, 1],
            1,
            false,
            [1, 8, 10, 12],
            [
                [-8.53125, 48.046875, -120.671875],
                [-1.78125, -80.5, -133.71875],
                [18.03125, 38.734375, 182.3125],
                [0.0; 3],
            ],
        );
        case(
            [2, 6, 5, 4],
            [6, 3, 3, 2],
            [3, 2],
            [1, 0],
            [2, 1],
            [1, 2],
            3,
            true,
            [2, 9, 15, 10],
            [
                [-416.25, -139.65625, 401.484375],
                [-13.078125, -2.921875, -139.109375],
                [-1.375, 139.46875, -105.625],
                [2.375, -41.875, -23.625],
            ],
        );
        case(
            [1, 4, 6, 5],
            [4, 1, 4, 4],
            [2, 2],
            [1, 1],
            [1, 0],
            [1, 1],
            4,
            true,
            [1, 4, 13, 10],
            [
                [-173.515625, -71.078125, -98.828125],
                [33.390625, 101.9375, 46.96875],
                [-4.71875, 185.140625, 147.359375],
                [1.375, 4.75, -11.0],
            ],
        );
        case(
            [1, 20, 8, 9],
            [20, 18, 3, 3],
            [1, 1],
            [1, 1],
            [0, 0],
            [1, 1],
            1,
            true,
            [1, 18, 8, 9],
            [
                [82.375, -201.234375, -102.28125],
                [-26.703125, 199.546875, -346.125],
                [-9.75, 3063.328125, 16.53125],
                [1.5, -22.25, -18.5],
            ],
        );
        case(
            [2, 3, 4, 5],
            [3, 2, 1, 1],
            [2, 3],
            [0, 0],
            [1, 2],
            [1, 1],
            1,
            true,
            [2, 2, 8, 15],
            [
                [-334.265625, -30.875, -9.125],
                [-1.25, 2.8125, -74.5625],
                [18.09375, -13.796875, 20.203125],
                [1.0, 1.875, -2.375],
            ],
        );
        case(
            [1, 3, 4, 5],
            [3, 2, 2, 2],
            [1, 1],
            [0, 0],
            [1, 1],
            [2, 3],
            1,
            true,
            [1, 2, 7, 9],
            [
                [-82.5, 15.625, -53.90625],
                [0.28125, 10.1875, 100.34375],
                [-19.0, 99.53125, -41.453125],
                [0.75, -2.75, -4.75],
            ],
        );
    }

    #[test]
    fn wrong_sizes_are_named() {
        let err = |x: &[usize], w: &[usize], padding: usize, output_padding: usize| {
            let cfg = Conv2dConfig { padding: [padding; 2], ..Default::default() };
            let y = conv_transpose2d(&pattern(x, 0), &pattern(w, 0), None, &cfg, [output_padding; 2]);
            y.unwrap_err().to_string()
        };
        assert!(err(&[1, 3, 4, 4], &[2, 3, 3, 3], 0, 0).contains("don't fit"));
        assert!(err(&[1, 3, 4, 4], &[3, 3, 3, 3], 0, 1).contains("must be smaller"));
        assert!(err(&[1, 3, 1, 1], &[3, 3, 3, 3], 2, 0).contains("leaves no output"));
    }
}
