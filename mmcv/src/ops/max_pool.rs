//! Max pooling over the last two axes.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::kernel::{build, values, with_values};

/// Output length of a pooled axis as torch counts it: with `ceil`, a last window that would start in the right padding
/// is left out.
pub(crate) fn pooled(
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    ceil: bool,
) -> Option<usize> {
    let span = (size + 2 * padding).checked_sub(dilation * (kernel - 1) + 1)?;
    let len = if ceil { span.div_ceil(stride) } else { span / stride } + 1;
    Some(if ceil && (len - 1) * stride >= size + padding { len - 1 } else { len })
}

/// The valid kernel positions of the window that starts at `start` (in padded coordinates): `from..to`.
fn window(start: usize, padding: usize, size: usize, kernel: usize) -> (usize, usize) {
    (padding.saturating_sub(start).min(kernel), (size + padding).saturating_sub(start).min(kernel))
}

simd! {
    /// `acc = max(acc, x)`; NaN wins.
    fn max_into(acc: &mut [f32], x: &[f32]) {
        for (a, x) in acc.iter_mut().zip(x) {
            *a = if *x > *a || x.is_nan() { *x } else { *a };
        }
    }
}
simd! {
    /// [`max_into`] that also keeps where the maximum came from: of equals the lowest position, of NaNs the highest.
    fn argmax_into(acc: &mut [f32], at: &mut [i32], x: &[f32], from: &[i32]) {
        for (((a, p), x), q) in acc.iter_mut().zip(at).zip(x).zip(from) {
            let nan = x.is_nan();
            let take = *x > *a || (*x == *a && *q < *p) || (nan && !(a.is_nan() && *p > *q));
            *a = if take { *x } else { *a };
            *p = if take { *q } else { *p };
        }
    }
}
simd! {
    fn strided2(x: &[f32], out: &mut [f32]) {
        for (o, pair) in out.iter_mut().zip(x.chunks_exact(2)) {
            *o = pair[0];
        }
    }
}

/// `out[i] = x[i * stride]`, with `x` long enough.
fn strided<T: Copy>(x: &[T], stride: usize, out: &mut [T]) {
    for (o, x) in out.iter_mut().zip(x.iter().step_by(stride)) {
        *o = *x;
    }
}

/// Geometry of one axis pair.
#[derive(Debug, Clone, Copy)]
struct Pool {
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    input: [usize; 2],
    output: [usize; 2],
}

impl Pool {
    /// Columns of the padded row that the windows reach.
    fn width(&self) -> usize {
        ((self.output[1] - 1) * self.stride[1] + self.kernel[1]).max(self.input[1] + self.padding[1])
    }

    fn forward(&self, x: &[f32], out: &mut [f32], scratch: &mut Vec<f32>) {
        let ([h, w], [_, ow], [ph, pw], [sh, sw]) = (self.input, self.output, self.padding, self.stride);
        let width = self.width() + sw;
        scratch.clear();
        scratch.resize(width + ow, f32::NEG_INFINITY);
        let (row, column) = scratch.split_at_mut(width);
        for (oy, out) in out.chunks_exact_mut(ow).enumerate() {
            let (from, to) = window(oy * sh, ph, h, self.kernel[0]);
            let first = oy * sh + from - ph;
            let inner = &mut row[pw..pw + w];
            inner.copy_from_slice(&x[first * w..(first + 1) * w]);
            for ky in 1..to - from {
                max_into(inner, &x[(first + ky) * w..(first + ky + 1) * w]);
            }
            for kx in 0..self.kernel[1] {
                let target: &mut [f32] = if kx == 0 { &mut *out } else { &mut *column };
                match sw {
                    1 => target.copy_from_slice(&row[kx..kx + ow]),
                    2 => strided2(&row[kx..], target),
                    _ => strided(&row[kx..], sw, target),
                }
                if kx > 0 {
                    max_into(out, column);
                }
            }
        }
    }

    /// Flat input index of each window's maximum, handed to `f(oy, indices)` row by row.
    fn each_argmax(&self, x: &[f32], mut f: impl FnMut(usize, &[i32])) {
        let ([h, w], [oh, ow], [ph, pw], [sh, sw]) = (self.input, self.output, self.padding, self.stride);
        let width = self.width() + sw;
        let (mut row, mut column, mut best) = (vec![f32::NEG_INFINITY; width], vec![0.0f32; ow], vec![0.0f32; ow]);
        // Positions in the padding never win: they are -inf and come after every real one.
        let (mut row_at, mut column_at, mut best_at) = (vec![i32::MAX; width], vec![0i32; ow], vec![0i32; ow]);
        let mut line = vec![0i32; w];
        for oy in 0..oh {
            let (from, to) = window(oy * sh, ph, h, self.kernel[0]);
            let first = oy * sh + from - ph;
            row[pw..pw + w].copy_from_slice(&x[first * w..(first + 1) * w]);
            for (i, p) in row_at[pw..pw + w].iter_mut().enumerate() {
                *p = (first * w + i) as i32;
            }
            for y in first + 1..first + to - from {
                for (i, p) in line.iter_mut().enumerate() {
                    *p = (y * w + i) as i32;
                }
                argmax_into(&mut row[pw..pw + w], &mut row_at[pw..pw + w], &x[y * w..(y + 1) * w], &line);
            }
            strided(&row, sw, &mut best);
            strided(&row_at, sw, &mut best_at);
            for kx in 1..self.kernel[1] {
                strided(&row[kx..], sw, &mut column);
                strided(&row_at[kx..], sw, &mut column_at);
                argmax_into(&mut best, &mut best_at, &column, &column_at);
            }
            f(oy, &best_at);
        }
    }
}

struct MaxPool(Pool);

impl MaxPool {
    fn plane(&self) -> (usize, usize) {
        (self.0.input[0] * self.0.input[1], self.0.output[0] * self.0.output[1])
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("max_pool2d", s, l)?;
        let (n, c) = (l.dims()[0], l.dims()[1]);
        let (input, output) = self.plane();
        let out = build(n * c * output, output, |at, out| {
            let at = at / output * input;
            self.0.forward(&x[at..at + input], out, &mut Vec::new());
        });
        Ok((CpuStorage::F32(out), Shape::from((n, c, self.0.output[0], self.0.output[1]))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        const OP: &str = "max_pool2d_backward";
        let (input, output) = self.plane();
        let ow = self.0.output[1];
        let out = with_values(OP, x, |v| {
            with_values(OP, grad, |g| {
                Ok(build(v.len(), input, |at, out: &mut [f32]| {
                    let g = &g[at / input * output..][..output];
                    self.0.each_argmax(&v[at..at + input], |oy, best| {
                        for (p, g) in best.iter().zip(&g[oy * ow..(oy + 1) * ow]) {
                            out[*p as usize] += g;
                        }
                    });
                }))
            })
        })?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

/// Max pooling; `kernel`, `stride` and `padding` are (vertical, horizontal). The first of equal maxima gets the gradient,
/// as in torch; NaN in a window comes through.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`
/// - output: `[N, C, H', W']`, `H' = (H + 2 padding - kernel) / stride + 1`, rounded up with `ceil_mode` as long as
///   the last window starts inside the image or the left padding
pub fn max_pool2d(
    x: &Tensor,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    ceil_mode: bool,
) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    if kernel.contains(&0) || stride.contains(&0) || padding[0] > kernel[0] / 2 || padding[1] > kernel[1] / 2 {
        bail!(
            "max_pool2d: kernel {kernel:?}, stride {stride:?}, padding {padding:?}: padding is at most half the kernel"
        );
    }
    if h * w > i32::MAX as usize {
        bail!("max_pool2d: {h}x{w} is too big a plane");
    }
    let size = |i: usize, len| pooled(len, kernel[i], stride[i], padding[i], 1, ceil_mode).filter(|_| len > 0);
    let (Some(oh), Some(ow)) = (size(0, h), size(1, w)) else {
        bail!("max_pool2d: {:?} is smaller than the kernel {kernel:?}", x.dims());
    };
    x.contiguous()?.apply_op1(MaxPool(Pool { kernel, stride, padding, input: [h, w], output: [oh, ow] }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradient, close, grad, var, wave, weighted_grad};
    use super::*;

    type Case = ([usize; 2], [usize; 2], [usize; 2], bool, [usize; 4], &'static [f32], &'static [f32]);

    // x = wave(1, 2, 5, 6); y = F.max_pool2d(x, kernel, stride, padding, 1, ceil); (y * weights(*y.shape)).sum().backward()
    #[rustfmt::skip]
    const CASES: &[Case] = &[
        ([3, 3], [2, 2], [1, 1], false, [1, 2, 3, 3], &[0.6982479, 0.9200854, 0.9833019, 0.94171363, 0.93807775, 0.9833019, 0.5735519, 0.93807775, 1.0511922, 0.8432803, 1.0370736, 0.9165229, 0.78270626, 1.0370736, 0.9165229, 0.78270626, 1.0746481, 0.8908892], &[0.0, 1.0, 0.45359612, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.120168686, -0.98747975, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.95023257, -0.153959, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.81109303, -0.88919115, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.15768874, -0.0597468, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.103486896, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.31574374, 0.98883736, 0.0, 0.0]),
        ([3, 3], [2, 2], [1, 1], true, [1, 2, 3, 4], &[0.6982479, 0.9200854, 0.9833019, 0.9833019, 0.94171363, 0.93807775, 0.9833019, 0.9833019, 0.5735519, 0.93807775, 1.0511922, 1.0511922, 0.8432803, 1.0370736, 0.9165229, -0.49379262, 0.78270626, 1.0370736, 0.9165229, 0.90665287, 0.78270626, 1.0746481, 0.8908892, -0.34398115], &[0.0, 1.0, 0.45359612, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.47237447, -0.30733287, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.81109303, -0.18052137, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.8976318, 0.80588394, 0.0, 0.0, 0.0, 0.0, -0.70239705, 0.0, 0.0, 0.8267229, -0.3716311, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.4614667, -0.6842171, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.44569, 0.59563434, 0.0, 0.9860448]),
        ([2, 2], [2, 2], [0, 0], true, [1, 2, 3, 3], &[0.6982479, 0.9200854, 0.9833019, 0.94171363, 0.93807775, 0.40122834, -0.9339446, 0.14929225, 1.0511922, 0.8432803, 1.0370736, 0.21106943, 0.78270626, 0.059860997, 0.90665287, 0.6241657, 1.0746481, 0.15852092], &[0.0, 1.0, 0.45359612, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5885011, -0.98747975, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.30733287, 0.0, 0.7086698, 0.0, 0.95023257, 0.0, 0.0, 0.15337387, 0.0, -0.81109303, -0.88919115, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.004425698, 0.0, 0.8932061, 0.0, 0.0, 0.0, 0.0, -0.16211444, 0.0, -0.9529529, 0.80588394, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.70239705, 0.31574374, 0.0, 0.98883736, 0.0]),
        ([3, 2], [1, 3], [1, 0], true, [1, 2, 5, 2], &[0.6982479, 0.77209634, 0.94171363, 0.77209634, 0.94171363, 0.8841139, 0.94171363, 0.8841139, 0.5735519, 0.8841139, 0.8432803, 0.9165229, 0.8432803, 0.9165229, 0.78270626, 0.9165229, 0.78270626, 0.8908892, 0.78270626, 0.8908892], &[0.0, 1.0, 0.0, -0.53388363, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.054398596, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.81109303, 0.0, -0.027147532, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.81030965, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.02869463, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.05588734, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5273707, 0.0, 0.0]),
        ([5, 5], [1, 1], [2, 2], false, [1, 2, 5, 6], &[0.94171363, 0.94171363, 0.94171363, 0.9833019, 0.9833019, 0.9833019, 0.94171363, 0.94171363, 0.94171363, 0.9833019, 0.9833019, 0.9833019, 0.94171363, 0.94171363, 0.94171363, 1.0511922, 1.0511922, 1.0511922, 0.94171363, 0.94171363, 0.94171363, 1.0511922, 1.0511922, 1.0511922, 0.94171363, 0.94171363, 0.94171363, 1.0511922, 1.0511922, 1.0511922, 1.0370736, 1.0370736, 1.0370736, 1.0370736, 1.0370736, 0.9165229, 1.0370736, 1.0370736, 1.0370736, 1.0370736, 1.0370736, 0.9165229, 1.0746481, 1.0746481, 1.0746481, 1.0746481, 1.0746481, 0.9165229, 1.0746481, 1.0746481, 1.0746481, 1.0746481, 1.0746481, 0.9165229, 1.0746481, 1.0746481, 1.0746481, 1.0746481, 1.0746481, 0.90665287], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5777023, -1.3951075, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.294897, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0037985, 1.0901188, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.4770988, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.046862125, 0.0, 0.0, 0.0]),
    ];
    // F.max_pool2d of a 3x3 plane, kernel 2, stride 1
    #[rustfmt::skip]
    const SPECIAL: &[f32] = &[1.0, 1.0, 0.0, f32::NAN, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY, 3.0, 3.0];
    const SPECIAL_Y: &[f32] = &[f32::NAN, 2.0, f32::NAN, 3.0];
    const SPECIAL_DX: &[f32] = &[0.0, 0.0, 0.0, 0.4114989, 0.45359612, 0.0, 0.0, -0.98747975, 0.0];

    #[test]
    fn values_and_gradients_are_torchs() {
        for (kernel, stride, padding, ceil, shape, y, dx) in CASES {
            let x = var(&wave(&[1, 2, 5, 6]).flatten_all().unwrap().to_vec1::<f32>().unwrap(), &[1, 2, 5, 6]);
            let ours = max_pool2d(&x, *kernel, *stride, *padding, *ceil).unwrap();
            assert_eq!(ours.dims(), shape);
            close(&ours, y);
            close(&weighted_grad(&ours, &x), dx);
        }
    }

    #[test]
    fn ties_nan_and_infinity_are_torchs() {
        let x = var(SPECIAL, &[1, 1, 3, 3]);
        let y = max_pool2d(&x, [2, 2], [1, 1], [0, 0], false).unwrap();
        close(&y, SPECIAL_Y);
        close(&weighted_grad(&y, &x), SPECIAL_DX);
        // All -inf, with padding: the first real one gets the gradient. All equal: the first.
        let x = var(&[f32::NEG_INFINITY; 4], &[1, 1, 2, 2]);
        let y = max_pool2d(&x, [3, 3], [2, 2], [1, 1], false).unwrap();
        close(&grad(&y, &x), &[1.0, 0.0, 0.0, 0.0]);
        let x = var(&[1.0; 9], &[1, 1, 3, 3]);
        let y = max_pool2d(&x, [3, 3], [2, 2], [1, 1], false).unwrap();
        close(&grad(&y, &x), &[1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn two_uses_of_a_strided_input_add_up() {
        check_gradient(&wave(&[2, 3, 5, 4]), 1e-2, |x| {
            let t = x.transpose(2, 3)?;
            max_pool2d(&t, [3, 3], [2, 2], [1, 1], true)?.sum_all()? * 0.5
                + max_pool2d(&t, [2, 2], [3, 3], [0, 0], false)?.sum_all()?
        });
    }

    #[test]
    fn an_empty_batch_passes_and_bad_shapes_are_refused() {
        let x = var(&[], &[0, 3, 4, 4]);
        let y = max_pool2d(&x, [3, 3], [2, 2], [1, 1], false).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 3, 2, 2][..], &[0, 3, 4, 4][..]));
        assert!(max_pool2d(&wave(&[1, 1, 2, 2]), [3, 3], [1, 1], [0, 0], false).is_err());
        assert!(max_pool2d(&wave(&[1, 1, 4, 4]), [3, 3], [1, 1], [2, 2], false).is_err());
        assert!(max_pool2d(&wave(&[1, 1, 4, 4]), [3, 3], [0, 1], [1, 1], false).is_err());
    }
}
