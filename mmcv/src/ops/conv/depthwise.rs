//! Depthwise convolution: each output channel reads one input channel, map by map.

use rayon::prelude::*;

use super::gather::Finish;
use super::geometry::Geometry;
use crate::ops::gemm::has_avx2;

/// Defines `$name` as `$body`, compiled a second time for AVX2 with FMA and chosen at run time.
macro_rules! with_avx2 {
    ($(#[$doc:meta])* fn $name:ident / $fast:ident ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident;) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn $fast($($arg: $ty),*) $(-> $ret)? {
            $body($($arg),*)
        }
        $(#[$doc])*
        fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            if has_avx2() {
                // SAFETY: the features were asked for.
                return unsafe { $fast($($arg),*) };
            }
            $body($($arg),*)
        }
    };
}

with_avx2! {
    /// One output map: `y = bias + Σ taps w · x`.
    fn map_forward / map_forward_avx2(g: &Geometry, x: &[f32], w: &[f32], bias: f32, y: &mut [f32]) = forward_body;
}
with_avx2! {
    /// Adds one output map's share to the gradient of its input map.
    fn map_dgrad / map_dgrad_avx2(g: &Geometry, dy: &[f32], w: &[f32], dx: &mut [f32]) = dgrad_body;
}
with_avx2! {
    /// Adds one map's share to the gradient of its kernel.
    fn map_wgrad / map_wgrad_avx2(g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f64]) = wgrad_body;
}

#[inline(always)]
fn forward_body(g: &Geometry, x: &[f32], w: &[f32], bias: f32, y: &mut [f32]) {
    let [_, iw] = g.input;
    let [_, ow] = g.output;
    y.fill(bias);
    for i in 0..g.kernel[0] {
        let (ylo, yhi) = g.range(0, i);
        for oy in ylo..yhi {
            let iy = oy * g.stride[0] + i * g.dilation[0] - g.padding[0];
            let (src, dst) = (&x[iy * iw..][..iw], &mut y[oy * ow..][..ow]);
            for j in 0..g.kernel[1] {
                let (lo, hi) = g.range(1, j);
                if lo >= hi {
                    continue;
                }
                let wv = w[i * g.kernel[1] + j];
                let first = lo * g.stride[1] + j * g.dilation[1] - g.padding[1];
                let (src, dst) = (&src[first..], &mut dst[lo..hi]);
                match g.stride[1] {
                    1 => dst.iter_mut().zip(src).for_each(|(d, s)| *d += wv * s),
                    s => dst.iter_mut().zip(src.iter().step_by(s)).for_each(|(d, s)| *d += wv * s),
                }
            }
        }
    }
}

#[inline(always)]
fn dgrad_body(g: &Geometry, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    let [_, iw] = g.input;
    let [_, ow] = g.output;
    for i in 0..g.kernel[0] {
        let (ylo, yhi) = g.range(0, i);
        for oy in ylo..yhi {
            let iy = oy * g.stride[0] + i * g.dilation[0] - g.padding[0];
            let (src, dst) = (&dy[oy * ow..][..ow], &mut dx[iy * iw..][..iw]);
            for j in 0..g.kernel[1] {
                let (lo, hi) = g.range(1, j);
                if lo >= hi {
                    continue;
                }
                let wv = w[i * g.kernel[1] + j];
                let first = lo * g.stride[1] + j * g.dilation[1] - g.padding[1];
                let (src, dst) = (&src[lo..hi], &mut dst[first..]);
                match g.stride[1] {
                    1 => dst.iter_mut().zip(src).for_each(|(d, s)| *d += wv * s),
                    s => dst.iter_mut().step_by(s).zip(src).for_each(|(d, s)| *d += wv * s),
                }
            }
        }
    }
}

#[inline(always)]
fn wgrad_body(g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f64]) {
    let [_, iw] = g.input;
    let [_, ow] = g.output;
    for i in 0..g.kernel[0] {
        let (ylo, yhi) = g.range(0, i);
        for j in 0..g.kernel[1] {
            let (lo, hi) = g.range(1, j);
            if lo >= hi {
                continue;
            }
            let first = lo * g.stride[1] + j * g.dilation[1] - g.padding[1];
            let mut lanes = [0f32; 8];
            for oy in ylo..yhi {
                let iy = oy * g.stride[0] + i * g.dilation[0] - g.padding[0];
                let (a, b) = (&dy[oy * ow + lo..oy * ow + hi], &x[iy * iw + first..(iy + 1) * iw]);
                if g.stride[1] == 1 {
                    let b = &b[..a.len()];
                    let (ca, cb) = (a.chunks_exact(8), b.chunks_exact(8));
                    for (p, q) in ca.remainder().iter().zip(cb.remainder()) {
                        lanes[0] += p * q;
                    }
                    for (p, q) in ca.zip(cb) {
                        for l in 0..8 {
                            lanes[l] += p[l] * q[l];
                        }
                    }
                } else {
                    for (l, (p, q)) in a.iter().zip(b.iter().step_by(g.stride[1])).enumerate() {
                        lanes[l % 8] += p * q;
                    }
                }
            }
            dw[i * g.kernel[1] + j] += lanes.iter().sum::<f32>() as f64;
        }
    }
}

/// `y`, every value written.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32], finish: &Finish) -> Vec<f32> {
    let (px, area, kk, m) = (g.output_area(), g.input_area(), g.taps(), g.group_out());
    let mut y = vec![0f32; g.images * g.channels_out * px];
    y.par_chunks_mut(px).enumerate().for_each(|(i, y)| {
        let (n, o) = (i / g.channels_out, i % g.channels_out);
        let x = &x[(n * g.channels_in + o / m) * area..][..area];
        map_forward(g, x, &w[o * kk..][..kk], finish.bias.map_or(0.0, |b| b[o]), y);
        if let Some(res) = finish.residual {
            y.iter_mut().zip(&res[i * px..]).for_each(|(y, r)| *y += r);
        }
        if finish.act != Default::default() {
            y.iter_mut().for_each(|y| *y = finish.act.apply(*y));
        }
    });
    y
}

/// `dx`.
pub(super) fn dgrad(g: &Geometry, dy: &[f32], w: &[f32]) -> Vec<f32> {
    let (px, area, kk, m) = (g.output_area(), g.input_area(), g.taps(), g.group_out());
    let mut dx = vec![0f32; g.images * g.channels_in * area];
    dx.par_chunks_mut(area).enumerate().for_each(|(i, dx)| {
        let (n, c) = (i / g.channels_in, i % g.channels_in);
        for o in c * m..(c + 1) * m {
            map_dgrad(g, &dy[(n * g.channels_out + o) * px..][..px], &w[o * kk..][..kk], dx);
        }
    });
    dx
}

/// `dw`; the maps' sums are added in f64.
pub(super) fn wgrad(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (px, area, kk, m) = (g.output_area(), g.input_area(), g.taps(), g.group_out());
    let mut dw = vec![0f32; g.channels_out * kk];
    dw.par_chunks_mut(kk).enumerate().for_each(|(o, dw)| {
        let mut sum = vec![0f64; kk];
        for n in 0..g.images {
            let x = &x[(n * g.channels_in + o / m) * area..][..area];
            map_wgrad(g, x, &dy[(n * g.channels_out + o) * px..][..px], &mut sum);
        }
        dw.iter_mut().zip(sum).for_each(|(d, s)| *d = s as f32);
    });
    dw
}
