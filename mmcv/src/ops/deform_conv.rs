//! Deformable convolution: v1 of Dai et al., ICCV 2017 (<https://arxiv.org/abs/1703.06211>) and the modulated v2 of Zhu et
//! al., CVPR 2019 (<https://arxiv.org/abs/1811.11168>), as mmcv's `deform_conv2d` and `modulated_deform_conv2d`.
//!
//! A chunk of output positions at a time, all channels of each tap's sample are read side by side from a copy of the image
//! with channels last, and the samples are multiplied by the weights. There is no CUDA kernel yet.
#![allow(unsafe_code)] // tasks add to channels of their own in one gradient

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::check;
use super::gemm::{Shared, View, matmul, transpose_panel};
use super::kernel::{build, values, with_values};
use super::reduce::{Reduction, reduce};
use crate::nn::{apply2, apply3, tracked};

/// mmcv's arguments and defaults; pairs are `[vertical, horizontal]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeformConvConfig {
    /// Steps between neighbouring outputs.
    pub stride: [usize; 2],
    /// Rows and columns of zeros on each side.
    pub padding: [usize; 2],
    /// Steps between neighbouring taps of the kernel.
    pub dilation: [usize; 2],
    /// Groups of channels that don't see each other.
    pub groups: usize,
    /// Groups of input channels with offsets of their own.
    pub deform_groups: usize,
}

impl Default for DeformConvConfig {
    fn default() -> Self {
        Self { stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1, deform_groups: 1 }
    }
}

/// Output positions worked on at once: their samples of 256 channels and 9 taps stay in the last-level cache.
const CHUNK: usize = 1024;

/// Channels that share group and deformable group.
#[derive(Debug, Clone, Copy)]
struct Segment {
    /// First channel of the input, and how many.
    first: usize,
    len: usize,
    group: usize,
    deform_group: usize,
}

/// Where one tap of one output position reads: pixels (the one past the last is zero) and weights.
#[derive(Debug, Clone, Copy, Default)]
struct Tap {
    at: [u32; 4],
    weights: [f32; 4],
    /// Fractions of a pixel, vertical and horizontal; the mask; whether it reads anything.
    fraction: [f32; 2],
    mask: f32,
    inside: bool,
}

#[derive(Debug, Clone)]
struct Op {
    cfg: DeformConvConfig,
    images: usize,
    channels: usize,
    out_channels: usize,
    input: [usize; 2],
    output: [usize; 2],
    kernel: [usize; 2],
    modulated: bool,
}

simd! {
    /// `out = sum of weights · pixels`, times the mask.
    fn sample(x: &[f32], channels: usize, first: usize, tap: &Tap, out: &mut [f32]) {
        let row = |i: usize| &x[tap.at[i] as usize * channels + first..][..out.len()];
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        let [w0, w1, w2, w3] = tap.weights;
        for i in 0..a.len() {
            out[i] = (w0 * a[i] + w1 * b[i] + w2 * c[i] + w3 * d[i]) * tap.mask;
        }
    }
}

simd! {
    /// The products of `g` with each of the four pixels.
    fn dots(x: &[f32], channels: usize, first: usize, tap: &Tap, g: &[f32]) -> [f32; 4] {
        const L: usize = 16;
        let mut out = [0.0f32; 4];
        for (i, o) in out.iter_mut().enumerate() {
            let row = &x[tap.at[i] as usize * channels + first..][..g.len()];
            let mut acc = [0.0f32; L];
            let (r, g) = (row.chunks_exact(L), g.chunks_exact(L));
            let tail: f32 = r.remainder().iter().zip(g.remainder()).map(|(a, b)| a * b).sum();
            for (r, g) in r.zip(g) {
                for l in 0..L {
                    acc[l] += r[l] * g[l];
                }
            }
            *o = acc.iter().sum::<f32>() + tail;
        }
        out
    }
}

simd! {
    fn axpy(w: f32, g: &[f32], out: &mut [f32]) {
        for (o, g) in out.iter_mut().zip(g) {
            *o += w * g;
        }
    }
}

impl Op {
    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn area(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn output_area(&self) -> usize {
        self.output[0] * self.output[1]
    }

    fn group_in(&self) -> usize {
        self.channels / self.cfg.groups
    }

    fn group_out(&self) -> usize {
        self.out_channels / self.cfg.groups
    }

    /// Channels of the offsets and, behind them, the masks.
    fn offset_channels(&self) -> usize {
        self.cfg.deform_groups * self.taps() * if self.modulated { 3 } else { 2 }
    }

    /// Runs of channels of at most `longest`.
    fn segments(&self, longest: usize) -> Vec<Segment> {
        let (by_group, by_deform) = (self.group_in(), self.channels / self.cfg.deform_groups);
        let (mut all, mut first) = (Vec::new(), 0);
        while first < self.channels {
            let to_end = |size: usize| size - first % size;
            let len = to_end(by_group).min(to_end(by_deform)).min(longest);
            all.push(Segment { first, len, group: first / by_group, deform_group: first / by_deform });
            first += len;
        }
        all
    }

    /// An image with channels last and a pixel of zeros behind the last.
    fn channels_last(&self, x: &[f32]) -> Vec<f32> {
        const PIXELS: usize = 64;
        let (c, area) = (self.channels, self.area());
        build((area + 1) * c, PIXELS * c, |at, out: &mut [f32]| {
            let from = at / c;
            let pixels = (out.len() / c).min(area - from.min(area));
            if pixels > 0 {
                // SAFETY: each of the c planes has `pixels` values at `from`, and `out` has room for as many pixels.
                unsafe { transpose_panel(x.as_ptr().add(from), area, c, pixels, out.as_mut_ptr(), c) };
            }
        })
    }

    /// The taps of `count` positions from `start` on, `[position][tap][deformable group]`; `offset` is one image's.
    fn place(&self, offset: &[f32], start: usize, count: usize) -> Vec<Tap> {
        let (taps, groups, area) = (self.taps(), self.cfg.deform_groups, self.output_area());
        let [h, w] = self.input;
        let zero = (h * w) as u32;
        let DeformConvConfig { stride, padding, dilation, .. } = self.cfg;
        (0..count * taps * groups)
            .into_par_iter()
            .with_min_len(256)
            .map(|i| {
                let (position, tap, group) = (start + i / (taps * groups), i / groups % taps, i % groups);
                let plane = |channel: usize| offset[channel * area + position];
                let at = |axis: usize, out: usize, k: usize, plus: f32| {
                    (out * stride[axis] + k * dilation[axis]) as f32 - padding[axis] as f32 + plus
                };
                let first = (group * taps + tap) * 2;
                let y = at(0, position / self.output[1], tap / self.kernel[1], plane(first));
                let x = at(1, position % self.output[1], tap % self.kernel[1], plane(first + 1));
                let mask = if self.modulated { plane((2 * groups + group) * taps + tap) } else { 1.0 };
                // Also of NaN.
                if !(y > -1.0 && x > -1.0 && y < h as f32 && x < w as f32) {
                    return Tap { at: [zero; 4], mask, ..Tap::default() };
                }
                let (top, left) = (y.floor(), x.floor());
                let (fy, fx) = (y - top, x - left);
                let (top, left) = (top as isize, left as isize);
                let pixel = |y: isize, x: isize| {
                    let inside = y >= 0 && x >= 0 && y < h as isize && x < w as isize;
                    if inside { (y as usize * w + x as usize) as u32 } else { zero }
                };
                Tap {
                    at: [pixel(top, left), pixel(top, left + 1), pixel(top + 1, left), pixel(top + 1, left + 1)],
                    weights: [(1.0 - fy) * (1.0 - fx), (1.0 - fy) * fx, fy * (1.0 - fx), fy * fx],
                    fraction: [fy, fx],
                    mask,
                    inside: true,
                }
            })
            .collect()
    }

    /// The samples `[position][tap][channel]` of one group at the placed positions.
    fn columns(&self, x: &[f32], taps: &[Tap], segments: &[Segment], group: usize) -> Vec<f32> {
        let (k, deform, c) = (self.taps(), self.cfg.deform_groups, self.group_in());
        let n = taps.len() / (k * deform);
        build(n * k * c, k * c, |at, out: &mut [f32]| {
            let position = at / (k * c);
            for (tap, out) in out.chunks_exact_mut(c).enumerate() {
                for s in segments.iter().filter(|s| s.group == group) {
                    let t = &taps[(position * k + tap) * deform + s.deform_group];
                    let out = &mut out[s.first - group * c..][..s.len];
                    if t.inside {
                        sample(x, self.channels, s.first, t, out);
                    } else {
                        // A sample of nothing is 0, but what the mask makes of it may be NaN.
                        out.fill(0.0 * t.mask);
                    }
                }
            }
        })
    }

    /// Weights `[O][C/groups][tap]` as `[O][tap][C/groups]`, or back.
    fn reorder(&self, w: &[f32], back: bool) -> Vec<f32> {
        let (k, c) = (self.taps(), self.group_in());
        let (rows, cols) = if back { (k, c) } else { (c, k) };
        let mut out = vec![0.0; w.len()];
        for (o, w) in out.chunks_exact_mut(k * c).zip(w.chunks_exact(k * c)) {
            for i in 0..rows {
                for j in 0..cols {
                    o[j * rows + i] = w[i * cols + j];
                }
            }
        }
        out
    }

    fn forward(&self, x: &[f32], offset: &[f32], w: &[f32]) -> Vec<f32> {
        let (area, out_area, k) = (self.area(), self.output_area(), self.taps() * self.group_in());
        let (m, segments, w) = (self.group_out(), self.segments(usize::MAX), self.reorder(w, false));
        let mut y = vec![0.0f32; self.images * self.out_channels * out_area];
        for image in 0..self.images {
            let x = self.channels_last(&x[image * self.channels * area..][..self.channels * area]);
            let offset = &offset[image * self.offset_channels() * out_area..][..self.offset_channels() * out_area];
            for start in (0..out_area).step_by(CHUNK) {
                let n = CHUNK.min(out_area - start);
                let taps = self.place(offset, start, n);
                for group in 0..self.cfg.groups {
                    let columns = self.columns(&x, &taps, &segments, group);
                    let w = &w[group * m * k..][..m * k];
                    let part = matmul(m, n, k, View::rows(w, k), View::rows(&columns, k).t(), None);
                    let first = (image * self.out_channels + group * m) * out_area + start;
                    for (row, part) in part.chunks_exact(n).enumerate() {
                        y[first + row * out_area..][..n].copy_from_slice(part);
                    }
                }
            }
        }
        y
    }

    /// Gradients of input, offsets (and masks) and weights.
    fn backward(&self, x: &[f32], offset: &[f32], w: &[f32], dy: &[f32], wanted: [bool; 3]) -> [Vec<f32>; 3] {
        let (area, out_area, taps_n) = (self.area(), self.output_area(), self.taps());
        let (c, m, deform) = (self.group_in(), self.group_out(), self.cfg.deform_groups);
        let (k, offsets) = (taps_n * c, self.offset_channels());
        let segments = self.segments(usize::MAX);
        // Tasks have channels of their own, so that none meet in the input's gradient.
        let pieces = self.segments(self.channels.div_ceil(2 * rayon::current_num_threads()).next_multiple_of(16));
        let w = self.reorder(w, false);
        let mut dx = vec![0.0f32; x.len()];
        let mut doffset = vec![0.0f32; offset.len()];
        let mut dw = vec![0.0f32; w.len()];
        for image in 0..self.images {
            let planes = image * self.channels * area;
            let x = self.channels_last(&x[planes..][..self.channels * area]);
            let offset_at = image * offsets * out_area;
            let mut dx_last = vec![0.0f32; if wanted[0] { x.len() } else { 0 }];
            for start in (0..out_area).step_by(CHUNK) {
                let n = CHUNK.min(out_area - start);
                let taps = self.place(&offset[offset_at..][..offsets * out_area], start, n);
                let mut dcolumns = Vec::new();
                for group in 0..self.cfg.groups {
                    let dy = &dy[(image * self.out_channels + group * m) * out_area + start..];
                    let dy = View { data: dy, row: out_area, col: 1 };
                    if wanted[2] {
                        let columns = self.columns(&x, &taps, &segments, group);
                        let part = matmul(m, k, n, dy, View::rows(&columns, k), None);
                        dw[group * m * k..][..m * k].iter_mut().zip(part).for_each(|(d, p)| *d += p);
                    }
                    if wanted[0] || wanted[1] {
                        let w = View::rows(&w[group * m * k..][..m * k], k);
                        dcolumns.push(matmul(n, k, m, dy.t(), w, None));
                    }
                }
                if dcolumns.is_empty() {
                    continue;
                }
                let target = Shared::new(&mut dx_last);
                let products: Vec<Vec<[f32; 4]>> = pieces
                    .par_iter()
                    .map(|s| {
                        let mut products = vec![[0.0; 4]; if wanted[1] { n * taps_n } else { 0 }];
                        for at in 0..n * taps_n {
                            let t = &taps[at * deform + s.deform_group];
                            if !t.inside {
                                continue;
                            }
                            let g = &dcolumns[s.group][at * c + s.first - s.group * c..][..s.len];
                            if wanted[1] {
                                products[at] = dots(&x, self.channels, s.first, t, g);
                            }
                            if wanted[0] {
                                for (pixel, w) in t.at.iter().zip(t.weights) {
                                    let to = *pixel as usize * self.channels + s.first;
                                    // SAFETY: inside the gradient; these channels are this task's alone.
                                    let to = unsafe { std::slice::from_raw_parts_mut(target.ptr().add(to), s.len) };
                                    axpy(w * t.mask, g, to);
                                }
                            }
                        }
                        products
                    })
                    .collect();
                if !wanted[1] {
                    continue;
                }
                for (s, products) in pieces.iter().zip(&products) {
                    for (at, d) in products.iter().enumerate() {
                        let t = &taps[at * deform + s.deform_group];
                        let (position, tap) = (start + at / taps_n, at % taps_n);
                        let ([fy, fx], [a, b, c, d]) = (t.fraction, *d);
                        let mut add = |channel: usize, v: f32| doffset[offset_at + channel * out_area + position] += v;
                        let first = (s.deform_group * taps_n + tap) * 2;
                        add(first, t.mask * ((1.0 - fx) * (c - a) + fx * (d - b)));
                        add(first + 1, t.mask * ((1.0 - fy) * (b - a) + fy * (d - c)));
                        if self.modulated {
                            let value = t.weights[0] * a + t.weights[1] * b + t.weights[2] * c + t.weights[3] * d;
                            add((2 * deform + s.deform_group) * taps_n + tap, value);
                        }
                    }
                }
            }
            if wanted[0] {
                // Back to planes: pixels are the rows of the transposed panel.
                dx[planes..][..self.channels * area].par_chunks_mut(area).enumerate().for_each(|(channel, plane)| {
                    for (p, d) in plane.iter_mut().zip(dx_last[channel..].iter().step_by(self.channels)) {
                        *p = *d;
                    }
                });
            }
        }
        [dx, doffset, self.reorder(&dw, true)]
    }
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        "deform_conv2d"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        const OP: &str = "deform_conv2d";
        let y = self.forward(values(OP, s1, l1)?, values(OP, s2, l2)?, values(OP, s3, l3)?);
        Ok((CpuStorage::F32(y), Shape::from((self.images, self.out_channels, self.output[0], self.output[1]))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        offset: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        const OP: &str = "deform_conv2d_backward";
        let wanted = [tracked(x), tracked(offset), tracked(w)];
        let [dx, doffset, dw] = with_values(OP, x, |xs| {
            with_values(OP, offset, |o| {
                with_values(OP, w, |w| with_values(OP, grad, |g| Ok(self.backward(xs, o, w, g, wanted))))
            })
        })?;
        let give = |wanted: bool, d: Vec<f32>, t: &Tensor| {
            wanted.then(|| Tensor::from_vec(d, t.shape(), t.device())).transpose()
        };
        Ok((give(wanted[0], dx, x)?, give(wanted[1], doffset, offset)?, give(wanted[2], dw, w)?))
    }
}

/// One value a channel added to planes.
struct AddBias;

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add_bias"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, b) = (values("add_bias", s1, l1)?, values("add_bias", s2, l2)?);
        let area: usize = l1.dims()[2..].iter().product();
        let out = build(x.len(), area, |at, out: &mut [f32]| {
            let b = b[at / area % b.len()];
            out.iter_mut().zip(&x[at..]).for_each(|(o, x)| *o = x + b);
        });
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(g.clone()), Some(reduce(g, &[0, 2, 3], false, Reduction::Sum)?)))
    }
}

fn run(
    op: &str,
    x: &Tensor,
    offset: &Tensor,
    mask: Option<&Tensor>,
    weight: &Tensor,
    bias: Option<&Tensor>,
    cfg: &DeformConvConfig,
) -> Result<Tensor> {
    if matches!(x.dtype(), DType::F16 | DType::BF16) {
        let to = |t: &Tensor| t.to_dtype(DType::F32);
        let (mask, bias) = (mask.map(to).transpose()?, bias.map(to).transpose()?);
        let y = run(op, &to(x)?, &to(offset)?, mask.as_ref(), &to(weight)?, bias.as_ref(), cfg)?;
        return y.to_dtype(x.dtype());
    }
    let all = [("x", Some(x)), ("offset", Some(offset)), ("mask", mask), ("weight", Some(weight)), ("bias", bias)];
    for (name, t) in all.iter().filter_map(|(name, t)| t.map(|t| (name, t))) {
        check::f32s(op, name, t)?;
    }
    let [images, channels, h, w] = check::dims(op, "x", x, "[N, C, H, W]")?;
    let [out_channels, per_group, kh, kw] = check::dims(op, "weight", weight, "[O, C/groups, kh, kw]")?;
    let DeformConvConfig { stride, padding, dilation, groups, deform_groups } = *cfg;
    if [groups, deform_groups, kh, kw, channels, out_channels].contains(&0)
        || stride.contains(&0)
        || dilation.contains(&0)
    {
        bail!("{op}: weight has shape {:?} and the config is {cfg:?}, expected positive sizes", weight.dims());
    }
    if channels != per_group * groups || out_channels % groups != 0 {
        bail!("{op}: weight has shape {:?}, expected [{groups}·n, {channels}/{groups}, kh, kw]", weight.dims());
    }
    if channels % deform_groups != 0 {
        bail!("{op}: x has {channels} channels, expected a multiple of deform_groups {deform_groups}");
    }
    let mut output = [0; 2];
    for axis in 0..2 {
        let (size, extent) = ([h, w][axis] + 2 * padding[axis], dilation[axis] * ([kh, kw][axis] - 1) + 1);
        if size < extent {
            bail!("{op}: x has {size} rows or columns with padding, expected {extent} for the dilated kernel");
        }
        output[axis] = (size - extent) / stride[axis] + 1;
    }
    let wanted = |per_tap: usize| [images, per_tap * deform_groups * kh * kw, output[0], output[1]];
    check::shape(op, "offset", offset, &wanted(2), "[N, 2·deform_groups·kh·kw, OH, OW]")?;
    if let Some(mask) = mask {
        check::shape(op, "mask", mask, &wanted(1), "[N, deform_groups·kh·kw, OH, OW]")?;
    }
    if let Some(bias) = bias {
        check::shape(op, "bias", bias, &[out_channels], "[O]")?;
    }
    let offset = match mask {
        Some(mask) => Tensor::cat(&[offset, mask], 1)?,
        None => offset.contiguous()?,
    };
    let op = Op {
        cfg: *cfg,
        images,
        channels,
        out_channels,
        input: [h, w],
        output,
        kernel: [kh, kw],
        modulated: mask.is_some(),
    };
    let y = apply3(x, &offset, weight, op)?;
    match bias {
        Some(bias) => apply2(&y, bias, AddBias),
        None => Ok(y),
    }
}

/// Convolution whose taps are moved by `offset`; what they read between pixels is interpolated, off the image it is 0.
/// Gradients flow into all three.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`; f16 and bf16 are computed in f32
/// - `offset`: `[N, 2·deform_groups·kh·kw, OH, OW]` in pixels, `(y, x)` of each tap in turn
/// - `weight`: `[O, C/groups, kh, kw]`
/// - output: `[N, O, OH, OW]`
pub fn deform_conv2d(x: &Tensor, offset: &Tensor, weight: &Tensor, cfg: &DeformConvConfig) -> Result<Tensor> {
    run("deform_conv2d", x, offset, None, weight, None, cfg)
}

/// [`deform_conv2d`] whose samples are multiplied by `mask`.
///
/// # Shapes
/// - `mask`: `[N, deform_groups·kh·kw, OH, OW]`
/// - `bias`: `[O]`
/// - the others and the output as there
pub fn modulated_deform_conv2d(
    x: &Tensor,
    offset: &Tensor,
    mask: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    cfg: &DeformConvConfig,
) -> Result<Tensor> {
    run("modulated_deform_conv2d", x, offset, Some(mask), weight, bias, cfg)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, grad, tensor, var, wave};
    use super::*;

    // tests/golden/ops/make.py deform_conv
    #[test]
    fn values_and_gradients_are_mmcvs() {
        for case in golden("deform_conv") {
            let two = |name: &str| <[usize; 2]>::try_from(case.list(name)).unwrap();
            let cfg = DeformConvConfig {
                stride: two("stride"),
                padding: two("padding"),
                dilation: two("dilation"),
                groups: case.size("groups"),
                deform_groups: case.size("deform"),
            };
            if case.size("v") == 1 {
                case.check("y", &["x", "offset", "w"], |t| deform_conv2d(&t["x"], &t["offset"], &t["w"], &cfg));
            } else {
                case.check("y", &["x", "offset", "mask", "w", "b"], |t| {
                    modulated_deform_conv2d(&t["x"], &t["offset"], &t["mask"], &t["w"], Some(&t["b"]), &cfg)
                });
            }
        }
    }

    #[test]
    fn without_offsets_it_is_a_convolution_over_many_chunks() {
        let (x, w) = (wave(&[1, 3, 40, 41]), wave(&[4, 3, 3, 3]));
        let cfg = DeformConvConfig { padding: [1, 1], ..Default::default() };
        let offset = Tensor::zeros((1, 18, 40, 41), DType::F32, x.device()).unwrap();
        let ours = deform_conv2d(
            &x.transpose(2, 3).unwrap().contiguous().unwrap().transpose(2, 3).unwrap(),
            &offset,
            &w,
            &cfg,
        );
        let plain = super::super::conv::Conv2dConfig { padding: [1, 1], ..Default::default() };
        let theirs = super::super::conv::conv2d(&x, &w, None, &plain).unwrap();
        super::super::testing::close(&ours.unwrap(), &theirs.flatten_all().unwrap().to_vec1().unwrap());
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let (x, w) = (var(&[], &[0, 2, 4, 4]), wave(&[3, 2, 3, 3]));
        let cfg = DeformConvConfig::default();
        let y = deform_conv2d(&x, &tensor(&[], &[0, 18, 2, 2]), &w, &cfg).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 3, 2, 2][..], &[0, 2, 4, 4][..]));
        let e = deform_conv2d(&wave(&[1, 2, 4, 4]), &wave(&[1, 9, 2, 2]), &w, &cfg).unwrap_err().to_string();
        assert!(e.contains("deform_conv2d: offset has shape [1, 9, 2, 2], expected"), "{e}");
        let e = deform_conv2d(&wave(&[1, 3, 4, 4]), &wave(&[1, 18, 2, 2]), &w, &cfg).unwrap_err().to_string();
        assert!(e.contains("weight has shape [3, 2, 3, 3], expected"), "{e}");
    }
}
