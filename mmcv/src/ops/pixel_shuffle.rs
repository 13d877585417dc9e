//! Channels to pixels and back (Shi et al., CVPR 2016, <https://arxiv.org/abs/1609.05158>).

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::kernel::{build, values, with_values};
use crate::nn::apply1;

/// From `[N, C r r, H, W]` to `[N, C, H r, W r]`, or with `back` the other way.
#[derive(Clone, Copy)]
struct Shuffle {
    factor: usize,
    back: bool,
}

impl Shuffle {
    /// `dims` are those of the input.
    fn run(self, x: &[f32], dims: [usize; 4]) -> (Vec<f32>, [usize; 4]) {
        let r = self.factor;
        let [n, c, h, w] = dims;
        if self.back {
            let (oh, ow) = (h / r, w / r);
            let out = build(x.len(), oh * ow, |at, out: &mut [f32]| {
                let plane = at / (oh * ow);
                let (source, dy, dx) = (plane / (r * r), plane / r % r, plane % r);
                for (y, row) in out.chunks_exact_mut(ow).enumerate() {
                    let x = &x[(source * h + y * r + dy) * w + dx..];
                    for (o, x) in row.iter_mut().zip(x.iter().step_by(r)) {
                        *o = *x;
                    }
                }
            });
            return (out, [n, c * r * r, oh, ow]);
        }
        let (oh, ow) = (h * r, w * r);
        let out = build(x.len(), oh * ow, |at, out: &mut [f32]| {
            let plane = at / (oh * ow);
            for (y, row) in out.chunks_exact_mut(ow).enumerate() {
                for dx in 0..r {
                    let source = (plane * r + y % r) * r + dx;
                    let x = &x[(source * h + y / r) * w..][..w];
                    for (o, x) in row[dx..].iter_mut().step_by(r).zip(x) {
                        *o = *x;
                    }
                }
            }
        });
        (out, [n, c / (r * r), oh, ow])
    }
}

impl CustomOp1 for Shuffle {
    fn name(&self) -> &'static str {
        "pixel_shuffle"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("pixel_shuffle", s, l)?;
        let (n, c, h, w) = l.shape().dims4()?;
        let (out, dims) = self.run(x, [n, c, h, w]);
        Ok((CpuStorage::F32(out), Shape::from(dims.to_vec())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (n, c, h, w) = grad.dims4()?;
        let back = Self { back: !self.back, ..*self };
        let (out, _) = with_values("pixel_shuffle_backward", grad, |g| Ok(back.run(g, [n, c, h, w])))?;
        Tensor::from_vec(out, x.shape(), x.device()).map(Some)
    }
}

/// `[N, C r r, H, W]` to `[N, C, H r, W r]`: channel `(c r + i) r + j` becomes the pixels at row `i` and column `j` of each
/// `r` by `r` block.
pub fn pixel_shuffle(x: &Tensor, factor: usize) -> Result<Tensor> {
    let (_, c, _, _) = x.dims4()?;
    if factor == 0 || c % (factor * factor) != 0 {
        bail!("pixel_shuffle: {c} channels can not be shuffled by {factor}");
    }
    apply1(x, Shuffle { factor, back: false })
}

/// The inverse of [`pixel_shuffle`]: `[N, C, H r, W r]` to `[N, C r r, H, W]`.
pub fn pixel_unshuffle(x: &Tensor, factor: usize) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    if factor == 0 || h % factor != 0 || w % factor != 0 {
        bail!("pixel_unshuffle: {h}x{w} can not be unshuffled by {factor}");
    }
    apply1(x, Shuffle { factor, back: true })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradient, close, grad, var, wave, weighted_grad};
    use super::*;

    // F.pixel_shuffle(wave(1, 8, 2, 3), 2) and F.pixel_unshuffle(wave(1, 2, 4, 6), 2), and their gradients
    #[test]
    #[rustfmt::skip]
    fn both_ways_are_torchs() {
        let x = var(&wave(&[1, 8, 2, 3]).flatten_all().unwrap().to_vec1::<f32>().unwrap(), &[1, 8, 2, 3]);
        let y = pixel_shuffle(&x, 2).unwrap();
        close(&y, &[0.1, -0.8843721, 0.6982479, -0.95239335, 0.9200854, -0.5920809, 0.94171363, -0.05784997, 0.39894798, 0.5735519, -0.33223248, 0.93807775, 0.77209634, 0.0944825, 0.2392222, 0.7432185, -0.25166294, 0.9833019, -0.8429638, 0.8841139, -0.9831568, 0.40122834, -0.51817226, -0.34699732, -0.9339446, 0.8432803, -1.0740647, 0.38174236, -0.68968666, -0.29882032, 0.057918448, -0.9029821, 0.76838815, -0.9848827, 1.0370736, -0.50654817, 0.14929225, -0.9376135, 0.69914126, -0.87236077, 1.0511922, -0.49379262, 0.9165229, 0.059860997, 0.21106943, 0.7198611, -0.5098698, 0.90665287]);
        close(&weighted_grad(&y, &x), &[1.0, -0.5885011, -0.30733287, 0.80588394, -0.9529529, 0.31574374, 0.45359612, -0.98747975, 0.7086698, -0.16211444, -0.70239705, 0.98883736, 0.95023257, -0.81109303, 0.004425698, 0.58132184, -0.99996084, 0.59563434, 0.15337387, -0.88919115, 0.8932061, -0.4614667, -0.44569, 0.9860448, 0.2988979, -0.9474378, 0.8162385, -0.3241299, -0.574097, 0.9998433, -0.71488696, -0.14462127, 0.8851065, -0.99011743, 0.46930113, 0.43774897, -0.013276747, -0.80061173, 0.9555986, -0.60272086, -0.29043952, 0.9445688, -0.8971511, 0.1708423, 0.6960693, -0.98453265, 0.7210482, 0.13585734]);
        let x = var(&wave(&[1, 2, 4, 6]).flatten_all().unwrap().to_vec1::<f32>().unwrap(), &[1, 2, 4, 6]);
        let y = pixel_unshuffle(&x, 2).unwrap();
        close(&y, &[0.1, 0.9200854, 0.2392222, 0.94171363, -0.33223248, -0.9831568, 0.6982479, 0.77209634, -0.25166294, 0.39894798, -0.8429638, -0.51817226, -0.8843721, -0.5920809, 0.7432185, -0.05784997, 0.93807775, 0.40122834, -0.95239335, 0.0944825, 0.9833019, 0.5735519, 0.8841139, -0.34699732, -0.9339446, -0.68968666, 0.69914126, 0.057918448, 1.0370736, 0.21106943, -1.0740647, 0.14929225, 1.0511922, 0.76838815, 0.9165229, -0.5098698, 0.8432803, -0.29882032, -0.87236077, -0.9029821, -0.50654817, 0.7198611, 0.38174236, -0.9376135, -0.49379262, -0.9848827, 0.059860997, 0.90665287]);
        close(&weighted_grad(&y, &x), &[1.0, 0.95023257, 0.45359612, 0.15337387, -0.5885011, -0.81109303, 0.80588394, 0.58132184, -0.16211444, -0.4614667, -0.9529529, -0.99996084, -0.98747975, -0.88919115, -0.30733287, 0.004425698, 0.7086698, 0.8932061, -0.70239705, -0.44569, 0.31574374, 0.59563434, 0.98883736, 0.9860448, 0.2988979, -0.013276747, -0.71488696, -0.8971511, -0.9474378, -0.80061173, -0.3241299, -0.60272086, -0.99011743, -0.98453265, -0.574097, -0.29043952, -0.14462127, 0.1708423, 0.8162385, 0.9555986, 0.8851065, 0.6960693, 0.46930113, 0.7210482, 0.9998433, 0.9445688, 0.43774897, 0.13585734]);
    }

    #[test]
    fn two_uses_add_up_and_bad_factors_are_refused() {
        check_gradient(&wave(&[1, 9, 2, 1]), 1e-2, |x| pixel_shuffle(x, 3)? + pixel_shuffle(&x.affine(2.0, 0.0)?, 3));
        let x = var(&[], &[0, 4, 2, 2]);
        assert_eq!(grad(&pixel_shuffle(&x, 2).unwrap(), &x).dims(), &[0, 4, 2, 2]);
        assert!(pixel_shuffle(&x, 3).is_err() && pixel_shuffle(&x, 0).is_err() && pixel_unshuffle(&x, 3).is_err());
    }
}
