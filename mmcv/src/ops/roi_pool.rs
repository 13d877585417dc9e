//! RoI max pooling of Fast R-CNN, Girshick, ICCV 2015 (<https://arxiv.org/abs/1504.08083>), as mmcv's `roi_pool`: bins of
//! whole pixels, not rounded boxes. There is no CUDA kernel yet.
#![allow(unsafe_code)] // tasks write parts of one output

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::check;
use super::gemm::Out;
use super::kernel::{values, with_values};
use super::roi_align::boxes;
use crate::nn::apply1;

/// One box's bins: pixel ranges along both axes, none where it is malformed.
struct Roi {
    index: usize,
    bins: Option<[Vec<(usize, usize)>; 2]>,
}

struct RoiPool {
    rois: Vec<Vec<Roi>>,
    count: usize,
    channels: usize,
    size: [usize; 2],
    output: (usize, usize),
}

simd! {
    /// `acc = max(acc, x)` and where it came from; the first of equals, never NaN.
    fn column_max(x: &[f32], row: u32, acc: &mut [f32], at: &mut [u32]) {
        for ((a, p), x) in acc.iter_mut().zip(at).zip(x) {
            let more = *x > *a;
            *a = if more { *x } else { *a };
            *p = if more { row } else { *p };
        }
    }
}

impl RoiPool {
    /// Calls `f(box, channel, bin, value, pixel)` for each bin of `channel`; the pixel is `None` where nothing is pooled.
    fn each_bin(&self, plane: &[f32], rois: &[Roi], mut f: impl FnMut(usize, usize, f32, Option<usize>)) {
        let width = self.size[1];
        let (mut best, mut from) = (vec![0.0f32; width], vec![0u32; width]);
        for roi in rois {
            let bins = self.output.0 * self.output.1;
            let Some([rows, cols]) = &roi.bins else {
                // mmcv skips it, which leaves 0 for the result and pixel 0 for where that came from.
                (0..bins).for_each(|bin| f(roi.index, bin, 0.0, Some(0)));
                continue;
            };
            let (left, right) = (cols[0].0, cols[cols.len() - 1].1.max(cols[0].0));
            for (i, &(y0, y1)) in rows.iter().enumerate() {
                let (best, from) = (&mut best[left..right], &mut from[left..right]);
                best.fill(-f32::MAX);
                from.fill(u32::MAX);
                for y in y0..y1 {
                    column_max(&plane[y * width + left..y * width + right], y as u32, best, from);
                }
                for (j, &(x0, x1)) in cols.iter().enumerate() {
                    let bin = i * cols.len() + j;
                    if y1 <= y0 || x1 <= x0 {
                        f(roi.index, bin, 0.0, None);
                        continue;
                    }
                    let (mut value, mut pixel) = (-f32::MAX, None);
                    for x in x0..x1 {
                        let (v, y) = (best[x - left], from[x - left]);
                        // Of equals the first in rows, not in columns.
                        let earlier = v == value && pixel.is_some_and(|p| (y as usize * width + x) < p);
                        if y != u32::MAX && (v > value || earlier) {
                            (value, pixel) = (v, Some(y as usize * width + x));
                        }
                    }
                    f(roi.index, bin, value, pixel);
                }
            }
        }
    }
}

impl CustomOp1 for RoiPool {
    fn name(&self) -> &'static str {
        "roi_pool"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("roi_pool", s, l)?;
        let (area, bins) = (self.size[0] * self.size[1], self.output.0 * self.output.1);
        let out = Out::new(self.count * self.channels * bins);
        (0..self.rois.len() * self.channels).into_par_iter().for_each(|plane| {
            let (image, channel) = (plane / self.channels, plane % self.channels);
            self.each_bin(&x[plane * area..][..area], &self.rois[image], |index, bin, value, _| {
                // SAFETY: inside the output; this box's bins in this channel are written by this task alone.
                unsafe { *out.ptr().add((index * self.channels + channel) * bins + bin) = value };
            });
        });
        // SAFETY: each box belongs to one image, whose tasks write all its channels and bins.
        let out = unsafe { out.into_vec() };
        Ok((CpuStorage::F32(out), Shape::from((self.count, self.channels, self.output.0, self.output.1))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        const OP: &str = "roi_pool_backward";
        let (area, bins) = (self.size[0] * self.size[1], self.output.0 * self.output.1);
        let dx = with_values(OP, x, |x| {
            with_values(OP, grad, |g| {
                Ok(super::kernel::build(x.len(), area, |at, dx: &mut [f32]| {
                    let plane = at / area;
                    let (image, channel) = (plane / self.channels, plane % self.channels);
                    self.each_bin(&x[at..at + area], &self.rois[image], |index, bin, _, pixel| {
                        if let Some(p) = pixel {
                            dx[p] += g[(index * self.channels + channel) * bins + bin];
                        }
                    });
                }))
            })
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// The largest pixel of each bin of each box; 0 where a bin has none.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`; f16 and bf16 are computed in f32
/// - `rois`: `[K, 5]`, rows `(image, x1, y1, x2, y2)` in units of `1 / spatial_scale` pixels, `x2` and `y2` inclusive
/// - output: `[K, C, output_size.0, output_size.1]`
pub fn roi_pool(x: &Tensor, rois: &Tensor, output_size: (usize, usize), spatial_scale: f64) -> Result<Tensor> {
    const OP: &str = "roi_pool";
    if matches!(x.dtype(), DType::F16 | DType::BF16) {
        let to = |t: &Tensor| t.to_dtype(DType::F32);
        return roi_pool(&to(x)?, &to(rois)?, output_size, spatial_scale)?.to_dtype(x.dtype());
    }
    check::f32s(OP, "x", x)?;
    let [n, channels, height, width] = check::dims(OP, "x", x, "[N, C, H, W]")?;
    if output_size.0 == 0 || output_size.1 == 0 {
        bail!("{OP}: output_size is {output_size:?}, expected positive sizes");
    }
    let boxes = boxes(OP, rois, n)?;
    if height * width == 0 && !boxes.is_empty() {
        bail!("{OP}: x has shape {:?}, expected pixels for {} boxes", x.dims(), boxes.len());
    }
    let scale = spatial_scale as f32;
    let mut rois: Vec<Vec<Roi>> = (0..n).map(|_| Vec::new()).collect();
    for (index, b) in boxes.iter().enumerate() {
        let [x1, y1, x2, y2] = [b[1] * scale, b[2] * scale, (b[3] + 1.0) * scale, (b[4] + 1.0) * scale];
        let (w, h) = (x2 - x1, y2 - y1);
        let axis = |start: f32, length: f32, bins: usize, size: usize| -> Vec<(usize, usize)> {
            let bin = length / bins as f32;
            let clip = |v: f32| (v.max(0.0) as usize).min(size);
            (0..bins)
                .map(|i| (clip((i as f32 * bin + start).floor()), clip(((i + 1) as f32 * bin + start).ceil())))
                .collect()
        };
        let bins =
            (w > 0.0 && h > 0.0).then(|| [axis(y1, h, output_size.0, height), axis(x1, w, output_size.1, width)]);
        rois[b[0] as usize].push(Roi { index, bins });
    }
    let op = RoiPool { rois, count: boxes.len(), channels, size: [height, width], output: output_size };
    apply1(x, op)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, grad, tensor, var, wave};
    use super::*;

    // tests/golden/ops/make.py roi_pool
    #[test]
    fn values_and_gradients_are_mmcvs() {
        for case in golden("roi_pool") {
            let (size, scale) = ((case.size("h"), case.size("w")), case.number("scale"));
            case.check("y", &["x"], |t| roi_pool(&t["x"], &t["rois"], size, scale));
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let x = var(&wave(&[24]).to_vec1::<f32>().unwrap(), &[1, 2, 3, 4]);
        let y = roi_pool(&x, &tensor(&[], &[0, 5]), (2, 2), 1.0).unwrap();
        assert_eq!((y.dims(), grad(&y, &x).dims()), (&[0, 2, 2, 2][..], &[1, 2, 3, 4][..]));
        let e = roi_pool(&x, &tensor(&[1.0, 0.0, 0.0, 1.0, 1.0], &[1, 5]), (2, 2), 1.0).unwrap_err().to_string();
        assert!(e.contains("rois[0] is of image 1, expected one of 0..1"), "{e}");
        let e = roi_pool(&x, &tensor(&[0.0; 4], &[1, 4]), (2, 2), 1.0).unwrap_err().to_string();
        assert!(e.contains("roi_pool: rois has shape [1, 4], expected [K, 5]"), "{e}");
    }
}
