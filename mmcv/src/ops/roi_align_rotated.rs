//! RoIAlign of rotated boxes, mmcv's `roi_align_rotated`. There is no CUDA kernel yet.
#![allow(unsafe_code)] // tasks write parts of one output

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::blocks::{BLOCK, Lanes, gather, scatter};
use super::check;
use super::gemm::{Out, with_scratch};
use super::kernel::{to_vec, values, with_values};
use crate::nn::apply1;

/// `mmcv.ops.RoIAlignRotated`'s arguments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoiAlignRotatedConfig {
    /// Bins, `(vertical, horizontal)`.
    pub output_size: (usize, usize),
    /// Map pixels per RoI unit.
    pub spatial_scale: f64,
    /// Samples of a bin along each axis; 0 takes `ceil(RoI size / output size)`.
    pub sampling_ratio: usize,
    /// Take half a pixel off (pixel centres at .5); without, boxes are at least one pixel large.
    pub aligned: bool,
    /// Angles turn clockwise.
    pub clockwise: bool,
}

/// A box in map pixels.
#[derive(Debug, Clone, Copy)]
struct Roi {
    index: usize,
    /// Vertical and horizontal.
    centre: [f32; 2],
    size: [f32; 2],
    grid: [f32; 2],
    sin: f32,
    cos: f32,
}

struct Op {
    cfg: RoiAlignRotatedConfig,
    rois: Vec<Vec<Roi>>,
    count: usize,
    channels: usize,
    size: [usize; 2],
}

/// Calls `f(bin, pixels, weights)` for each sample on the map.
#[inline(always)]
fn samples(roi: &Roi, bins: (usize, usize), map: [usize; 2], mut f: impl FnMut(usize, [usize; 4], [f32; 4])) {
    let [h, w] = map;
    let (bin_h, bin_w) = (roi.size[0] / bins.0 as f32, roi.size[1] / bins.1 as f32);
    let (start_y, start_x) = (-roi.size[0] / 2.0, -roi.size[1] / 2.0);
    for bin in 0..bins.0 * bins.1 {
        let (ph, pw) = (bin / bins.1, bin % bins.1);
        for iy in 0..roi.grid[0] as usize {
            let yy = start_y + ph as f32 * bin_h + (iy as f32 + 0.5) * bin_h / roi.grid[0];
            for ix in 0..roi.grid[1] as usize {
                let xx = start_x + pw as f32 * bin_w + (ix as f32 + 0.5) * bin_w / roi.grid[1];
                let y = yy * roi.cos - xx * roi.sin + roi.centre[0];
                let x = yy * roi.sin + xx * roi.cos + roi.centre[1];
                // Also of NaN.
                if !(y >= -1.0 && x >= -1.0 && y <= h as f32 && x <= w as f32) {
                    continue;
                }
                let place = |at: f32, size: usize| {
                    let at = at.max(0.0);
                    let low = at as usize;
                    if low >= size - 1 { (size - 1, size - 1, 0.0) } else { (low, low + 1, at - low as f32) }
                };
                let ((y0, y1, fy), (x0, x1, fx)) = (place(y, h), place(x, w));
                let weights = [(1.0 - fy) * (1.0 - fx), (1.0 - fy) * fx, fy * (1.0 - fx), fy * fx];
                f(bin, [y0 * w + x0, y0 * w + x1, y1 * w + x0, y1 * w + x1], weights);
            }
        }
    }
}

simd! {
    fn pool<V: Lanes>(map: &[V], roi: &Roi, bins: (usize, usize), size: [usize; 2], pooled: &mut [V]) {
        samples(roi, bins, size, |bin, pixels, weights| {
            for k in 0..4 {
                pooled[bin].add(weights[k], &map[pixels[k]]);
            }
        });
    }
}
simd! {
    fn spread<V: Lanes>(grads: &[V], roi: &Roi, bins: (usize, usize), size: [usize; 2], map: &mut [V]) {
        samples(roi, bins, size, |bin, pixels, weights| {
            for k in 0..4 {
                map[pixels[k]].add(weights[k], &grads[bin]);
            }
        });
    }
}

impl Op {
    fn bins(&self) -> usize {
        self.cfg.output_size.0 * self.cfg.output_size.1
    }

    /// Calls `f(image, first channel, channels)` for each block of channels in parallel.
    fn each_block(&self, lanes: usize, f: impl Fn(usize, usize, usize) + Sync) {
        let blocks = self.channels.div_ceil(lanes);
        (0..self.rois.len() * blocks).into_par_iter().for_each(|task| {
            let (image, first) = (task / blocks, task % blocks * lanes);
            f(image, first, lanes.min(self.channels - first));
        });
    }

    fn forward<V: Lanes>(&self, x: &[f32]) -> Vec<f32> {
        let (bins, area) = (self.bins(), self.size[0] * self.size[1]);
        let out = Out::new(self.count * self.channels * bins);
        self.each_block(V::COUNT, |image, first, channels| {
            if self.rois[image].is_empty() {
                return;
            }
            with_scratch((area + bins) * V::COUNT, |scratch| {
                let (map, pooled) = V::cast(scratch).split_at_mut(area);
                gather(&x[(image * self.channels + first) * area..][..channels * area], area, 0, area, map);
                for roi in &self.rois[image] {
                    pooled.fill(V::ZERO);
                    pool(map, roi, self.cfg.output_size, self.size, pooled);
                    let count = (roi.grid[0] * roi.grid[1]).max(1.0);
                    pooled.iter_mut().flat_map(V::get_mut).for_each(|v| *v /= count);
                    let at = (roi.index * self.channels + first) * bins;
                    // SAFETY: this box's part of this block's channels is this task's alone and inside the output.
                    let to = unsafe { std::slice::from_raw_parts_mut(out.ptr().add(at), channels * bins) };
                    scatter(pooled, to);
                }
            });
        });
        // SAFETY: each box belongs to one image, and that image's tasks write all its channels.
        unsafe { out.into_vec() }
    }

    fn backward<V: Lanes>(&self, g: &[f32]) -> Vec<f32> {
        let (bins, area) = (self.bins(), self.size[0] * self.size[1]);
        let out = Out::new(self.rois.len() * self.channels * area);
        self.each_block(V::COUNT, |image, first, channels| {
            let at = (image * self.channels + first) * area;
            // SAFETY: these planes are this task's alone and inside the output.
            let planes = unsafe { std::slice::from_raw_parts_mut(out.ptr().add(at), channels * area) };
            with_scratch((area + bins) * V::COUNT, |scratch| {
                let (map, grads) = V::cast(scratch).split_at_mut(area);
                map.fill(V::ZERO);
                for roi in &self.rois[image] {
                    let at = (roi.index * self.channels + first) * bins;
                    gather(&g[at..at + channels * bins], bins, 0, bins, grads);
                    let count = roi.grid[0] * roi.grid[1];
                    grads.iter_mut().flat_map(V::get_mut).for_each(|v| *v /= count);
                    spread(grads, roi, self.cfg.output_size, self.size, map);
                }
                scatter(map, planes);
            });
        });
        // SAFETY: the tasks cover all planes.
        unsafe { out.into_vec() }
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "roi_align_rotated"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("roi_align_rotated", s, l)?;
        let out = if self.channels < BLOCK / 2 { self.forward::<[f32; 1]>(x) } else { self.forward::<[f32; BLOCK]>(x) };
        let (oh, ow) = self.cfg.output_size;
        Ok((CpuStorage::F32(out), Shape::from((self.count, self.channels, oh, ow))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let dx = with_values("roi_align_rotated_backward", grad, |g| {
            Ok(if self.channels < BLOCK / 2 { self.backward::<[f32; 1]>(g) } else { self.backward::<[f32; BLOCK]>(g) })
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// [`super::roi_align`]'s means over rotated boxes.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`; f16 and bf16 are computed in f32
/// - `rois`: `[K, 6]`, rows `(image, cx, cy, w, h, angle)` in units of `1 / spatial_scale` pixels and radians; no gradient
///   flows into them
/// - output: `[K, C, output_size.0, output_size.1]`
pub fn roi_align_rotated(x: &Tensor, rois: &Tensor, cfg: &RoiAlignRotatedConfig) -> Result<Tensor> {
    const OP: &str = "roi_align_rotated";
    if matches!(x.dtype(), DType::F16 | DType::BF16) {
        return roi_align_rotated(&x.to_dtype(DType::F32)?, &rois.to_dtype(DType::F32)?, cfg)?.to_dtype(x.dtype());
    }
    check::f32s(OP, "x", x)?;
    check::f32s(OP, "rois", rois)?;
    let [n, channels, height, width] = check::dims(OP, "x", x, "[N, C, H, W]")?;
    let [count, _] = check::dims(OP, "rois", rois, "[K, 6]")?;
    check::shape(OP, "rois", rois, &[count, 6], "[K, 6]")?;
    let (oh, ow) = cfg.output_size;
    if oh == 0 || ow == 0 || (height * width == 0 && count > 0) {
        bail!("{OP}: output_size is {:?} and x has shape {:?}, expected bins and pixels", cfg.output_size, x.dims());
    }
    let (scale, offset) = (cfg.spatial_scale as f32, if cfg.aligned { 0.5 } else { 0.0 });
    let mut all: Vec<Vec<Roi>> = (0..n).map(|_| Vec::new()).collect();
    for (index, r) in to_vec(rois)?.as_chunks::<6>().0.iter().enumerate() {
        if !(r[0] > -1.0 && r[0] < n as f32) {
            bail!("{OP}: rois[{index}] is of image {}, expected one of 0..{n}", r[0]);
        }
        if r.iter().any(|v| !v.is_finite()) || (cfg.aligned && (r[3] < 0.0 || r[4] < 0.0)) {
            bail!("{OP}: rois[{index}] is {:?}, expected finite numbers, sizes not negative with aligned", &r[1..]);
        }
        let length = |v: f32| if cfg.aligned { v * scale } else { (v * scale).max(1.0) };
        let size = [length(r[4]), length(r[3])];
        let grid = |size: f32, bins: usize| match cfg.sampling_ratio {
            0 => (size / bins as f32).ceil(),
            n => n as f32,
        };
        if grid(size[0], oh) * grid(size[1], ow) > 1e7 {
            bail!("{OP}: rois[{index}] is {:?}, expected at most 10,000,000 samples a bin", &r[1..]);
        }
        let theta = if cfg.clockwise { -r[5] } else { r[5] };
        all[r[0] as usize].push(Roi {
            index,
            centre: [r[2] * scale - offset, r[1] * scale - offset],
            size,
            grid: [grid(size[0], oh), grid(size[1], ow)],
            sin: theta.sin(),
            cos: theta.cos(),
        });
    }
    apply1(x, Op { cfg: *cfg, rois: all, count, channels, size: [height, width] })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, grad, tensor, var, wave};
    use super::*;

    // tests/golden/ops/make.py roi_align_rotated
    #[test]
    fn values_and_gradients_are_mmcvs() {
        for case in golden("roi_align_rotated") {
            let cfg = RoiAlignRotatedConfig {
                output_size: (3, 2),
                spatial_scale: case.number("scale"),
                sampling_ratio: case.size("ratio"),
                aligned: case.size("aligned") == 1,
                clockwise: case.size("clockwise") == 1,
            };
            case.check("y", &["x"], |t| roi_align_rotated(&t["x"], &t["rois"], &cfg));
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let cfg = RoiAlignRotatedConfig {
            output_size: (2, 2),
            spatial_scale: 1.0,
            sampling_ratio: 0,
            aligned: true,
            clockwise: false,
        };
        let x = var(&wave(&[24]).to_vec1::<f32>().unwrap(), &[1, 2, 3, 4]);
        let y = roi_align_rotated(&x, &tensor(&[], &[0, 6]), &cfg).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 2, 2, 2][..], &[1, 2, 3, 4][..]));
        let e = roi_align_rotated(&x, &tensor(&[0.0; 5], &[1, 5]), &cfg).unwrap_err().to_string();
        assert!(e.contains("roi_align_rotated: rois has shape [1, 5], expected [K, 6]"), "{e}");
    }
}
