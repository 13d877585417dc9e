//! Convolution at chosen pixels only, mmcv's `masked_conv2d`, which is for inference. There is no CUDA kernel yet.

use candle_core::{Result, Tensor, bail};

use super::check;
use super::gemm::{View, matmul};
use super::kernel::{build, to_vec, with_values};

/// A convolution of stride 1 where `mask` is above 0, 0 elsewhere. No gradient flows, as in mmcv.
///
/// # Shapes
/// - `x`: `[1, C, H, W]`
/// - `mask`: `[1, H, W]`
/// - `weight`: `[O, C, kh, kw]`, `bias`: `[O]`
/// - output: `[1, O, H + 2·padding - kh + 1, ...]`, whose pixels are the mask's
pub fn masked_conv2d(x: &Tensor, mask: &Tensor, weight: &Tensor, bias: &Tensor, padding: [usize; 2]) -> Result<Tensor> {
    const OP: &str = "masked_conv2d";
    for (name, t) in [("x", x), ("mask", mask), ("weight", weight), ("bias", bias)] {
        check::f32s(OP, name, t)?;
    }
    let [_, c, h, w] = check::dims(OP, "x", x, "[1, C, H, W]")?;
    check::shape(OP, "x", x, &[1, c, h, w], "[1, C, H, W]")?;
    check::shape(OP, "mask", mask, &[1, h, w], "[1, H, W]")?;
    let [o, _, kh, kw] = check::dims(OP, "weight", weight, "[O, C, kh, kw]")?;
    check::shape(OP, "weight", weight, &[o, c, kh, kw], "[O, C, kh, kw]")?;
    check::shape(OP, "bias", bias, &[o], "[O]")?;
    let [ph, pw] = padding;
    if kh == 0 || kw == 0 || h + 2 * ph < kh || w + 2 * pw < kw {
        bail!(
            "{OP}: weight has shape {:?}, expected a kernel within x {:?} padded by {padding:?}",
            weight.dims(),
            x.dims()
        );
    }
    let (oh, ow) = (h + 2 * ph - kh + 1, w + 2 * pw - kw + 1);
    let chosen: Vec<(usize, usize)> =
        to_vec(mask)?.iter().enumerate().filter(|(_, m)| **m > 0.0).map(|(i, _)| (i / w, i % w)).collect();
    if let Some((y, x)) = chosen.iter().find(|(y, x)| *y >= oh || *x >= ow) {
        bail!("{OP}: mask has ({y}, {x}), expected places in the {oh}x{ow} output");
    }
    let (k, area) = (c * kh * kw, h * w);
    let columns = with_values(OP, &x.detach(), |v| {
        Ok(build(chosen.len() * k, k, |at, out: &mut [f32]| {
            let (oy, ox) = chosen[at / k];
            for (i, o) in out.iter_mut().enumerate() {
                let (channel, ky, kx) = (i / (kh * kw), i / kw % kh, i % kw);
                if let (Some(y), Some(x)) = ((oy + ky).checked_sub(ph), (ox + kx).checked_sub(pw))
                    && y < h
                    && x < w
                {
                    *o = v[channel * area + y * w + x];
                }
            }
        }))
    })?;
    let (weight, bias) = (to_vec(weight)?, to_vec(bias)?);
    let part = matmul(chosen.len(), o, k, View::rows(&columns, k), View::rows(&weight, k).t(), Some(&bias));
    let mut out = vec![0.0f32; o * oh * ow];
    for ((y, x), values) in chosen.iter().zip(part.chunks_exact(o.max(1))) {
        values.iter().enumerate().for_each(|(channel, v)| out[(channel * oh + y) * ow + x] = *v);
    }
    Tensor::from_vec(out, (1, o, oh, ow), x.device())
}

#[cfg(test)]
mod tests {
    use super::super::conv::{Conv2dConfig, conv2d};
    use super::super::testing::{close, tensor, wave};
    use super::*;

    #[test]
    fn chosen_pixels_are_the_convolution_s_and_others_0() {
        let (x, w, b) = (wave(&[1, 3, 4, 5]), wave(&[2, 3, 3, 3]), tensor(&[0.5, -0.25], &[2]));
        let mask: Vec<f32> = (0..20).map(|i| if i % 3 == 0 { 1.0 } else { -1.0 }).collect();
        let mask = tensor(&mask, &[1, 4, 5]);
        let whole = conv2d(&x, &w, Some(&b), &Conv2dConfig { padding: [1, 1], ..Default::default() }).unwrap();
        let wanted = whole.broadcast_mul(&mask.relu().unwrap()).unwrap();
        let ours = masked_conv2d(&x, &mask, &w, &b, [1, 1]).unwrap();
        close(&ours, &wanted.flatten_all().unwrap().to_vec1().unwrap());
        let none = masked_conv2d(&x, &mask.zeros_like().unwrap(), &w, &b, [1, 1]).unwrap();
        assert_eq!(none.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
        let e = masked_conv2d(&x, &wave(&[1, 4, 4]), &w, &b, [1, 1]).unwrap_err().to_string();
        assert!(e.contains("masked_conv2d: mask has shape [1, 4, 4], expected [1, H, W] = [1, 4, 5]"), "{e}");
        assert!(masked_conv2d(&x, &mask, &w, &b, [0, 0]).is_err());
    }
}
