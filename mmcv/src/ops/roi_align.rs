//! RoIAlign of Mask R-CNN, He et al., ICCV 2017 (<https://arxiv.org/abs/1703.06870>), as mmcv's `roi_align`.
//!
//! A bin's average of bilinear samples is a product of weights along the two axes, so each row of a RoI is pooled along x
//! once and then added to the bins that it belongs to, sixteen channels at a time. There is no CUDA kernel yet.
#![allow(unsafe_code)] // tasks write parts of one output

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::blocks::{BLOCK, Lanes, gather, scatter};
use super::check;
use super::gemm::{Out, with_scratch};
use super::kernel::{to_vec, values, with_values};
use crate::nn::apply1;

/// What a bin makes of its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolMode {
    /// Their mean.
    #[default]
    Avg,
    /// Their maximum.
    Max,
}

/// `mmcv.ops.RoIAlign`'s arguments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoiAlignConfig {
    /// Bins, `(vertical, horizontal)`.
    pub output_size: (usize, usize),
    /// Map pixels per RoI unit.
    pub spatial_scale: f64,
    /// Samples of a bin along each axis; 0 takes `ceil(RoI size / output size)`.
    pub sampling_ratio: usize,
    /// What a bin makes of its samples.
    pub pool_mode: PoolMode,
    /// Take half a pixel off (pixel centres at .5); without, boxes are at least one pixel large.
    pub aligned: bool,
}

impl Default for RoiAlignConfig {
    /// A 7x7 output; the other values are mmcv's defaults.
    fn default() -> Self {
        Self { output_size: (7, 7), spatial_scale: 1.0, sampling_ratio: 0, pool_mode: PoolMode::Avg, aligned: true }
    }
}

/// Where a sample reads along one axis: pixels `low` and `high` with weights.
#[derive(Debug, Clone, Copy)]
struct Tap {
    low: u32,
    high: u32,
    low_weight: f32,
    high_weight: f32,
}

/// The samples of a RoI along one axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    start: f32,
    bin: f32,
    /// Samples of a bin, as a whole number that may be beyond any integer's range.
    grid: f32,
    size: usize,
}

impl Axis {
    fn position(&self, bin: usize, sample: usize) -> f32 {
        // In f32 and in mmcv's order: which pixels are read depends on the last bit.
        self.start + bin as f32 * self.bin + (sample as f32 + 0.5) * self.bin / self.grid
    }

    fn tap(&self, at: f32) -> Option<Tap> {
        // Also of NaN.
        if !(at >= -1.0 && at <= self.size as f32) || self.size == 0 {
            return None;
        }
        let at = at.max(0.0);
        let low = at as usize;
        if low >= self.size - 1 {
            let last = self.size as u32 - 1;
            return Some(Tap { low: last, high: last, low_weight: 1.0, high_weight: 0.0 });
        }
        let high_weight = at - low as f32;
        Some(Tap { low: low as u32, high: low as u32 + 1, low_weight: 1.0 - high_weight, high_weight })
    }

    /// The samples of `bin` that may lie on the map: large RoIs have many that don't.
    fn samples(&self, bin: usize) -> std::ops::Range<usize> {
        if self.grid <= 64.0 {
            return 0..self.grid as usize;
        }
        let step = f64::from(self.bin) / f64::from(self.grid);
        let first = f64::from(self.start) + bin as f64 * f64::from(self.bin) + 0.5 * step;
        // f32 positions are off by a few units in the last place.
        let slack = 2.0 + 1e-6 * f64::from(self.start.abs() + (bin as f32 + 1.0) * self.bin) / step;
        let bound = |at: f64| (((at - first) / step).max(0.0).min(f64::from(self.grid))) as usize;
        let from = bound(-1.0 - slack * step);
        from..bound(self.size as f64 + (slack + 1.0) * step).max(from)
    }
}

/// One box, ready to be pooled.
#[derive(Debug)]
struct Roi {
    /// Its place in the output.
    index: usize,
    axes: [Axis; 2],
}

/// `(pixel, bin, weight)`: what a pixel adds to a bin's mean along one axis, in order of pixels.
type Weights = Vec<(u32, u32, f32)>;

impl Roi {
    /// The weights along an axis of `bins` bins, each sample's divided by `count`.
    fn weights(&self, axis: usize, bins: usize) -> Weights {
        let mut all = Weights::new();
        let axis = self.axes[axis];
        for bin in 0..bins {
            let first = all.len();
            let mut add = |pixel: u32, weight: f32| {
                let recent = all.len().saturating_sub(2).max(first);
                match all[recent..].iter_mut().find(|e| e.0 == pixel) {
                    Some(e) => e.2 += weight,
                    None => all.push((pixel, bin as u32, weight)),
                }
            };
            for tap in axis.samples(bin).filter_map(|s| axis.tap(axis.position(bin, s))) {
                add(tap.low, tap.low_weight);
                add(tap.high, tap.high_weight);
            }
        }
        all.sort_by_key(|e| e.0);
        all
    }

    /// Rows of the map that are read.
    fn rows(&self, bins: usize) -> Option<(usize, usize)> {
        let axis = self.axes[0];
        let end = axis.start + bins as f32 * axis.bin;
        let (low, high) = (axis.start.min(end) - 1.0, axis.start.max(end) + 2.0);
        let (from, to) = (low.max(0.0) as usize, (high.max(0.0) as usize + 1).min(axis.size));
        let last = axis.size.saturating_sub(2);
        (axis.size > 0).then(|| (from.min(last), to.max(from.min(last) + 1).min(axis.size)))
    }
}

struct RoiAlign {
    cfg: RoiAlignConfig,
    /// Boxes of each image.
    rois: Vec<Vec<Roi>>,
    count: usize,
    channels: usize,
    size: [usize; 2],
}

/// What the avg kernels need of one RoI.
struct Mean {
    rows: Weights,
    cols: Weights,
    scale: f32,
}

simd! {
    /// Adds the means of the bins to `bins`; `row` has room for a row of bins.
    fn mean_forward<V: Lanes>(map: &[V], width: usize, m: &Mean, row: &mut [V], bins: &mut [V]) {
        let ow = row.len();
        let mut current = u32::MAX;
        for &(y, ph, wy) in &m.rows {
            if y != current {
                current = y;
                row.fill(V::ZERO);
                let line = &map[y as usize * width..][..width];
                for &(x, pw, wx) in &m.cols {
                    row[pw as usize].add(wx, &line[x as usize]);
                }
            }
            for (b, r) in bins[ph as usize * ow..][..ow].iter_mut().zip(row.iter()) {
                b.add(wy, r);
            }
        }
    }
}

simd! {
    fn mean_backward<V: Lanes>(grads: &[V], width: usize, m: &Mean, row: &mut [V], map: &mut [V]) {
        let ow = row.len();
        let mut at = 0;
        while at < m.rows.len() {
            let y = m.rows[at].0;
            row.fill(V::ZERO);
            while at < m.rows.len() && m.rows[at].0 == y {
                let (_, ph, wy) = m.rows[at];
                for (r, g) in row.iter_mut().zip(&grads[ph as usize * ow..][..ow]) {
                    r.add(wy, g);
                }
                at += 1;
            }
            let line = &mut map[y as usize * width..][..width];
            for &(x, pw, wx) in &m.cols {
                line[x as usize].add(wx, &row[pw as usize]);
            }
        }
    }
}

/// The samples of a bin along both axes, and each one's position.
struct Grid {
    y: Vec<(f32, Option<Tap>)>,
    x: Vec<(f32, Option<Tap>)>,
    width: usize,
}

/// mmcv's lower bound of a maximum, and so the result of a bin without samples.
const LOWEST: f32 = -10000.0;

simd! {
    /// Maximum and the number of the sample it came from, `u32::MAX` where none is above the bound.
    fn max_bin<V: Lanes>(map: &[V], grid: &Grid, best: &mut V, from: &mut [u32]) {
        best.get_mut().fill(LOWEST);
        from.fill(u32::MAX);
        for (i, (_, y)) in grid.y.iter().enumerate() {
            for (j, (_, x)) in grid.x.iter().enumerate() {
                let mut value = V::ZERO;
                if let (Some(y), Some(x)) = (y, x) {
                    let (top, bottom) = (y.low as usize * grid.width, y.high as usize * grid.width);
                    value.add(y.low_weight * x.low_weight, &map[top + x.low as usize]);
                    value.add(y.low_weight * x.high_weight, &map[top + x.high as usize]);
                    value.add(y.high_weight * x.low_weight, &map[bottom + x.low as usize]);
                    value.add(y.high_weight * x.high_weight, &map[bottom + x.high as usize]);
                }
                let number = (i * grid.x.len() + j) as u32;
                for ((b, f), v) in best.get_mut().iter_mut().zip(from.iter_mut()).zip(value.get()) {
                    let more = *v > *b;
                    *b = if more { *v } else { *b };
                    *f = if more { number } else { *f };
                }
            }
        }
    }
}

impl RoiAlign {
    fn bins(&self) -> usize {
        self.cfg.output_size.0 * self.cfg.output_size.1
    }

    fn area(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Each image's boxes with their weights, for means.
    fn means(&self) -> Vec<Vec<(usize, Mean)>> {
        let (oh, ow) = self.cfg.output_size;
        let mean = |roi: &Roi| {
            let count = (roi.axes[0].grid * roi.axes[1].grid).max(1.0);
            (roi.index, Mean { rows: roi.weights(0, oh), cols: roi.weights(1, ow), scale: 1.0 / count })
        };
        self.rois.iter().map(|rois| rois.par_iter().map(mean).collect()).collect()
    }

    /// Calls `f(image, first channel, channels)` for each block of channels in parallel.
    fn each_block(&self, lanes: usize, f: impl Fn(usize, usize, usize) + Sync) {
        let blocks = self.channels.div_ceil(lanes);
        (0..self.rois.len() * blocks).into_par_iter().for_each(|task| {
            let (image, first) = (task / blocks, task % blocks * lanes);
            f(image, first, lanes.min(self.channels - first));
        });
    }

    /// The rows of a block of planes that its boxes read, as pixels of `V`.
    fn load<V: Lanes>(&self, image: usize, planes: &[f32], map: &mut [V]) {
        let mut wanted = vec![false; self.size[0]];
        for (from, to) in self.rois[image].iter().filter_map(|r| r.rows(self.cfg.output_size.0)) {
            wanted[from..to].fill(true);
        }
        let mut y = 0;
        for run in wanted.chunk_by(|a, b| a == b) {
            if run[0] {
                gather(planes, self.area(), y * self.size[1], (y + run.len()) * self.size[1], map);
            }
            y += run.len();
        }
    }

    fn forward<V: Lanes>(&self, x: &[f32]) -> Vec<f32> {
        let (bins, area, width) = (self.bins(), self.area(), self.size[1]);
        let ow = self.cfg.output_size.1;
        let out = Out::new(self.count * self.channels * bins);
        let means = if self.cfg.pool_mode == PoolMode::Avg { self.means() } else { Vec::new() };
        self.each_block(V::COUNT, |image, first, channels| {
            if self.rois[image].is_empty() {
                return;
            }
            let planes = &x[(image * self.channels + first) * area..][..channels * area];
            with_scratch((area + bins + ow) * V::COUNT, |scratch| {
                let (map, rest) = V::cast(scratch).split_at_mut(area);
                let (pooled, row) = rest.split_at_mut(bins);
                self.load(image, planes, map);
                let write = |index: usize, pooled: &[V]| {
                    let at = (index * self.channels + first) * bins;
                    // SAFETY: this box's part of this block's channels is this task's alone and inside the output.
                    let to = unsafe { std::slice::from_raw_parts_mut(out.ptr().add(at), channels * bins) };
                    scatter(pooled, to);
                };
                if self.cfg.pool_mode == PoolMode::Avg {
                    for (index, mean) in &means[image] {
                        pooled.fill(V::ZERO);
                        mean_forward(map, width, mean, row, pooled);
                        for v in pooled.iter_mut().flat_map(V::get_mut) {
                            *v *= mean.scale;
                        }
                        write(*index, pooled);
                    }
                    return;
                }
                let mut from = [0; BLOCK];
                for roi in &self.rois[image] {
                    self.each_grid(roi, |bin, grid| max_bin(map, grid, &mut pooled[bin], &mut from));
                    write(roi.index, pooled);
                }
            });
        });
        // SAFETY: each box belongs to one image, and that image's tasks write all its channels.
        unsafe { out.into_vec() }
    }

    /// Calls `f(bin, samples)` for each bin of a box.
    fn each_grid(&self, roi: &Roi, mut f: impl FnMut(usize, &Grid)) {
        let (oh, ow) = self.cfg.output_size;
        let line = |axis: usize, bin: usize| -> Vec<(f32, Option<Tap>)> {
            let a = roi.axes[axis];
            // A sample off the map counts as 0, so one such before and after stand for all.
            let on_map = a.samples(bin);
            let last = (a.grid as usize).max(on_map.end);
            let range = on_map.start.saturating_sub(1)..(on_map.end + 1).min(last);
            range.map(|s| a.position(bin, s)).map(|at| (at, a.tap(at))).collect()
        };
        let columns: Vec<_> = (0..ow).map(|bin| line(1, bin)).collect();
        for ph in 0..oh {
            let mut grid = Grid { y: line(0, ph), x: Vec::new(), width: self.size[1] };
            for (pw, column) in columns.iter().enumerate() {
                grid.x.clone_from(column);
                f(ph * ow + pw, &grid);
            }
        }
    }

    /// The gradient of `x`; its values are needed for maxima only.
    fn backward<V: Lanes>(&self, x: &[f32], g: &[f32]) -> Vec<f32> {
        let (bins, area, width) = (self.bins(), self.area(), self.size[1]);
        let ow = self.cfg.output_size.1;
        let out = Out::new(self.rois.len() * self.channels * area);
        let max = self.cfg.pool_mode == PoolMode::Max;
        let means = if max { Vec::new() } else { self.means() };
        self.each_block(V::COUNT, |image, first, channels| {
            let at = (image * self.channels + first) * area;
            // SAFETY: these planes are this task's alone and inside the output.
            let planes = unsafe { std::slice::from_raw_parts_mut(out.ptr().add(at), channels * area) };
            if self.rois[image].is_empty() {
                planes.fill(0.0);
                return;
            }
            let maps = if max { 2 } else { 1 };
            with_scratch((maps * area + bins + ow) * V::COUNT, |scratch| {
                let (map, rest) = V::cast(scratch).split_at_mut(area);
                let (grads, rest) = rest.split_at_mut(bins);
                let (row, source) = rest.split_at_mut(ow);
                map.fill(V::ZERO);
                let read = |index: usize, grads: &mut [V]| {
                    let at = (index * self.channels + first) * bins;
                    gather(&g[at..at + channels * bins], bins, 0, bins, grads);
                };
                for (index, mean) in means.get(image).into_iter().flatten() {
                    read(*index, grads);
                    for v in grads.iter_mut().flat_map(V::get_mut) {
                        *v *= mean.scale;
                    }
                    mean_backward(grads, width, mean, row, map);
                }
                if max {
                    self.load(image, &x[at..at + channels * area], source);
                    let (mut best, mut from) = (V::ZERO, [0u32; BLOCK]);
                    for roi in &self.rois[image] {
                        read(roi.index, grads);
                        self.each_grid(roi, |bin, grid| {
                            max_bin(source, grid, &mut best, &mut from[..V::COUNT]);
                            for lane in 0..channels {
                                spread(map, grid, from[lane], lane, grads[bin].get()[lane]);
                            }
                        });
                    }
                }
                scatter(map, planes);
            });
        });
        // SAFETY: the tasks cover all planes.
        unsafe { out.into_vec() }
    }
}

/// Adds the gradient `g` of the sample with a number to the pixels it reads.
fn spread<V: Lanes>(map: &mut [V], grid: &Grid, number: u32, lane: usize, g: f32) {
    let number = number as usize;
    if number >= grid.y.len() * grid.x.len() {
        return;
    }
    let ((at, Some(y)), (_, Some(x))) = (grid.y[number / grid.x.len()], grid.x[number % grid.x.len()]) else { return };
    // mmcv marks a bin without a maximum by y = -1, and so takes a sample that lies just there for one.
    if at == -1.0 {
        return;
    }
    let (top, bottom) = (y.low as usize * grid.width, y.high as usize * grid.width);
    for (pixel, w) in [
        (top + x.low as usize, y.low_weight * x.low_weight),
        (top + x.high as usize, y.low_weight * x.high_weight),
        (bottom + x.low as usize, y.high_weight * x.low_weight),
        (bottom + x.high as usize, y.high_weight * x.high_weight),
    ] {
        map[pixel].get_mut()[lane] += g * w;
    }
}

impl CustomOp1 for RoiAlign {
    fn name(&self) -> &'static str {
        "roi_align"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("roi_align", s, l)?;
        let out = if self.channels < BLOCK / 2 { self.forward::<[f32; 1]>(x) } else { self.forward::<[f32; BLOCK]>(x) };
        let (oh, ow) = self.cfg.output_size;
        Ok((CpuStorage::F32(out), Shape::from((self.count, self.channels, oh, ow))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        const OP: &str = "roi_align_backward";
        let dx = with_values(OP, x, |v| {
            with_values(OP, grad, |g| {
                Ok(if self.channels < BLOCK / 2 {
                    self.backward::<[f32; 1]>(v, g)
                } else {
                    self.backward::<[f32; BLOCK]>(v, g)
                })
            })
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// The boxes `[K, 5]` as rows; an error unless each names one of `images` and is finite.
pub(super) fn boxes(op: &str, rois: &Tensor, images: usize) -> Result<Vec<[f32; 5]>> {
    check::f32s(op, "rois", rois)?;
    let [_, columns] = check::dims::<2>(op, "rois", rois, "[K, 5]")?;
    if columns != 5 {
        bail!("{op}: rois has shape {:?}, expected [K, 5]", rois.dims());
    }
    let flat = to_vec(rois)?;
    for (i, r) in flat.as_chunks::<5>().0.iter().enumerate() {
        if !(r[0] > -1.0 && r[0] < images as f32) {
            bail!("{op}: rois[{i}] is of image {}, expected one of 0..{images}", r[0]);
        }
        if r.iter().any(|v| !v.is_finite()) {
            bail!("{op}: rois[{i}] is {:?}, expected finite coordinates", &r[1..]);
        }
    }
    Ok(flat.as_chunks::<5>().0.to_vec())
}

/// Pools each box of a feature map into a fixed number of bins by bilinear samples.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`; f16 and bf16 are computed in f32
/// - `rois`: `[K, 5]`, rows `(image, x1, y1, x2, y2)` in units of `1 / spatial_scale` pixels; no gradient flows into them
/// - output: `[K, C, output_size.0, output_size.1]`
///
/// As in mmcv's CPU kernel, an inverted box is an error with `aligned`; a bin without samples is 0 as a mean and -10000 as a
/// maximum.
pub fn roi_align(x: &Tensor, rois: &Tensor, cfg: &RoiAlignConfig) -> Result<Tensor> {
    const OP: &str = "roi_align";
    if matches!(x.dtype(), DType::F16 | DType::BF16) {
        return roi_align(&x.to_dtype(DType::F32)?, &rois.to_dtype(DType::F32)?, cfg)?.to_dtype(x.dtype());
    }
    check::f32s(OP, "x", x)?;
    let [n, channels, height, width] = check::dims(OP, "x", x, "[N, C, H, W]")?;
    let (oh, ow) = cfg.output_size;
    if oh == 0 || ow == 0 {
        bail!("{OP}: output_size is {:?}, expected positive sizes", cfg.output_size);
    }
    let boxes = boxes(OP, rois, n)?;
    if height * width == 0 && !boxes.is_empty() {
        bail!("{OP}: x has shape {:?}, expected pixels for {} boxes", x.dims(), boxes.len());
    }
    let (scale, offset) = (cfg.spatial_scale as f32, if cfg.aligned { 0.5 } else { 0.0 });
    let mut rois: Vec<Vec<Roi>> = (0..n).map(|_| Vec::new()).collect();
    for (index, b) in boxes.iter().enumerate() {
        let axis = |low: f32, high: f32, bins: usize, size: usize| {
            let start = low * scale - offset;
            let length = high * scale - offset - start;
            if cfg.aligned && (length.is_nan() || length < 0.0) {
                bail!("{OP}: rois[{index}] is {:?}, expected x1 <= x2 and y1 <= y2 with aligned", &b[1..]);
            }
            let length = if cfg.aligned { length } else { length.max(1.0) };
            let grid = match cfg.sampling_ratio {
                0 => (length / bins as f32).ceil(),
                n => n as f32,
            };
            Ok(Axis { start, bin: length / bins as f32, grid, size })
        };
        let axes = [axis(b[2], b[4], oh, height)?, axis(b[1], b[3], ow, width)?];
        rois[b[0] as usize].push(Roi { index, axes });
    }
    // Neighbours in the map one after the other find it in the cache.
    for image in &mut rois {
        image.sort_by(|a, b| a.axes[0].start.total_cmp(&b.axes[0].start));
    }
    apply1(x, RoiAlign { cfg: *cfg, rois, count: boxes.len(), channels, size: [height, width] })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradient, golden, grad, tensor, var, wave};
    use super::*;

    // tests/golden/ops/make.py roi_align
    #[test]
    fn values_and_gradients_are_mmcvs() {
        for case in golden("roi_align") {
            let cfg = RoiAlignConfig {
                output_size: (case.size("h"), case.size("w")),
                spatial_scale: case.number("scale"),
                sampling_ratio: case.size("ratio"),
                pool_mode: case.named("mode"),
                aligned: case.size("aligned") == 1,
            };
            case.check("y", &["x"], |t| roi_align(&t["x"], &t["rois"], &cfg));
        }
    }

    #[test]
    fn gradients_are_slopes_also_of_strided_maps() {
        let rois = tensor(&[0.0, 0.4, 0.3, 3.1, 2.2, 1.0, -1.0, 0.5, 2.0, 5.0], &[2, 5]);
        let cfg = RoiAlignConfig { output_size: (2, 3), ..Default::default() };
        check_gradient(&wave(&[2, 4, 3, 2]), 1e-2, |x| roi_align(&x.transpose(1, 3)?, &rois, &cfg));
    }

    #[test]
    fn large_boxes_are_sampled_where_the_map_is() {
        // mmcv.ops.roi_align(torch.ones(1, 1, 4, 4), torch.tensor([[0, -1000., -900, 1500, 1100]]), 2, 1.0, 0, mode)
        let rois = tensor(&[0.0, -1000.0, -900.0, 1500.0, 1100.0], &[1, 5]);
        for (pool_mode, wanted) in [(PoolMode::Avg, [2.88e-5, 0.0, 0.0, 0.0]), (PoolMode::Max, [1.0, 0.0, 0.0, 0.0])] {
            let cfg = RoiAlignConfig { output_size: (2, 2), pool_mode, ..Default::default() };
            let y = roi_align(&tensor(&[1.0; 16], &[1, 1, 4, 4]), &rois, &cfg).unwrap();
            super::super::testing::close(&y, &wanted);
        }
        let far = tensor(&[0.0, -1e30, -1e30, 1e30, 1e30], &[1, 5]);
        roi_align(&tensor(&[1.0; 16], &[1, 1, 4, 4]), &far, &RoiAlignConfig::default()).unwrap();
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let cfg = RoiAlignConfig::default();
        let x = var(&wave(&[24]).to_vec1::<f32>().unwrap(), &[1, 2, 3, 4]);
        let y = roi_align(&x, &tensor(&[], &[0, 5]), &cfg).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 2, 7, 7][..], &[1, 2, 3, 4][..]));
        let none = roi_align(&tensor(&[], &[0, 2, 3, 4]), &tensor(&[], &[0, 5]), &cfg).unwrap();
        assert_eq!(none.dims(), &[0, 2, 7, 7]);
        let box_ = tensor(&[0.0, 3.0, 0.0, 1.0, 1.0], &[1, 5]);
        for (e, wanted) in [
            (roi_align(&x, &box_, &cfg), "rois[0] is [3.0, 0.0, 1.0, 1.0], expected x1 <= x2 and y1 <= y2"),
            (roi_align(&x.flatten_to(1).unwrap(), &box_, &cfg), "x has shape [2, 3, 4], expected [N, C, H, W]"),
            (roi_align(&x.to_dtype(DType::F64).unwrap(), &box_, &cfg), "roi_align: x is F64, expected f32"),
            (roi_align(&x, &tensor(&[f32::NAN; 5], &[1, 5]), &cfg), "is of image NaN, expected one of 0..1"),
        ] {
            let e = e.unwrap_err().to_string();
            assert!(e.contains(wanted), "{e}");
        }
    }
}
