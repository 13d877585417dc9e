//! mmcv's ops, for `cargo xtask bench ops`. Sizes, in order:
//!
//! - `nms`, `nms_match`, `soft_nms_*`, `nms_rotated`: boxes; `batched_nms`: boxes and classes
//! - `bbox_overlaps`, `bbox_overlaps_giou`, `box_iou_rotated`: boxes of both sides
//! - `roi_align`, `roi_align_max`, `roi_align_rotated`: map N C H W, RoIs, bins, sampling ratio; `roi_pool` without the last
//! - `deform_conv`, `modulated_deform_conv`: map N C H W, output channels, kernel, groups, deformable groups
//! - `ms_deform_attn`: batch, heads, channels a head, levels, H W of the largest, points, queries
//! - `psa_mask_*`: N, mask h w, map H W; `corner_pool_*` and `fused_bias_leakyrelu`: map N C H W
//! - `point_sample`: map N C H W, points; `upfirdn2d`: map N C H W, filter, up, down, padding before and after
//! - `hard_voxelize_*`, `dynamic_voxelize`: points; `points_in_boxes`: batch, points, boxes
//!
//! Boxes are 20 to 170 pixels large, maps a quarter of their picture.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, SQRT_2};
use std::hint::black_box;

use anyhow::{Result, bail};
use candle_core::{Device, Tensor};
use mmcv::Rng;
use mmcv::ops::points::{VoxelGrid, dynamic_voxelize, hard_voxelize, points_in_boxes_all};
use mmcv::ops::{
    self, CornerPoolMode, DeformConvConfig, NmsConfig, PoolMode, PsaMode, RoiAlignConfig, RoiAlignRotatedConfig,
    RotatedBox, RotatedOverlap, SampleMode, SamplePadding, SoftNmsMethod, UpFirDnConfig,
};
use mmdet::core::bbox::iou_calculators::{OverlapMode, bbox_overlaps};

use crate::ops::{Op, in_graph, random, timed};
use crate::run::{Run, whole};

/// Height and width of a picture.
const PICTURE: [usize; 2] = [800, 1216];

/// PointPillars' grid, with at most 32 points in each of 16000 voxels.
const PILLARS: VoxelGrid = VoxelGrid { voxel_size: [0.16, 0.16, 4.0], range: [0.0, -39.68, -3.0, 69.12, 39.68, 1.0] };

/// SECOND's grid, with at most 5 points in each of 16000 voxels.
const SECOND: VoxelGrid = VoxelGrid { voxel_size: [0.05, 0.05, 0.1], range: [0.0, -40.0, -3.0, 70.4, 40.0, 1.0] };

/// Values in [0, 1), always the same.
fn unit(shape: &[usize]) -> Result<Tensor> {
    Ok(random(shape)?.affine(0.25, 0.5)?)
}

/// Boxes as corners.
fn corners(n: usize, [h, w]: [usize; 2]) -> Vec<[f32; 4]> {
    let mut rng = Rng::new(n as u64);
    let mut one = || {
        let (x, y) = (rng.uniform(0.0, w as f64 - 170.0), rng.uniform(0.0, h as f64 - 170.0));
        [x, y, x + rng.uniform(20.0, 170.0), y + rng.uniform(20.0, 170.0)].map(|v| v as f32)
    };
    (0..n).map(|_| one()).collect()
}

/// The same boxes turned.
fn rotated(n: usize, size: [usize; 2]) -> Vec<RotatedBox> {
    let mut rng = Rng::new(1);
    let turn = |[x1, y1, x2, y2]: [f32; 4]| {
        let angle = rng.uniform(-FRAC_PI_2, FRAC_PI_2) as f32;
        [(x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1, angle]
    };
    corners(n, size).into_iter().map(turn).collect()
}

fn scores(n: usize) -> Vec<f32> {
    let mut rng = Rng::new(2);
    (0..n).map(|_| rng.unit() as f32).collect()
}

/// Boxes with the place of their image in front, `[K, 1 + D]`.
fn rois<const D: usize>(boxes: &[[f32; D]], images: usize) -> Result<Tensor> {
    let mut values = Vec::with_capacity(boxes.len() * (D + 1));
    for (i, b) in boxes.iter().enumerate() {
        values.push((i % images.max(1)) as f32);
        values.extend_from_slice(b);
    }
    Ok(Tensor::from_vec(values, (boxes.len(), D + 1), &Device::Cpu)?)
}

/// Points x, y, z in metres, dense near the sensor and in front of it, with a reflectance.
fn cloud(n: usize) -> Vec<[f32; 4]> {
    let mut rng = Rng::new(n as u64);
    let mut one = || {
        let (r, a) = (2.0 + 68.0 * rng.unit().powi(3), rng.uniform(-FRAC_PI_4, FRAC_PI_4));
        [r * a.cos(), r * a.sin(), rng.uniform(-3.0, 1.0), rng.unit()].map(|v| v as f32)
    };
    (0..n).map(|_| one()).collect()
}

/// A cloud as a tensor `[N, 4]`.
fn points(n: usize) -> Result<Tensor> {
    let values: Vec<f32> = cloud(n).into_iter().flatten().collect();
    Ok(Tensor::from_vec(values, (n, 4), &Device::Cpu)?)
}

/// A case that is a function.
fn plain<T: 'static>(f: impl Fn() -> Result<T> + 'static) -> Run {
    whole(move || {
        black_box(f()?);
        Ok(())
    })
}

/// The ops that have no gradient.
fn without_gradient(kind: &str, sizes: &[usize]) -> Result<Option<Run>> {
    Ok(Some(match (kind, sizes) {
        ("nms", &[n]) => {
            let (boxes, scores) = (corners(n, PICTURE), scores(n));
            plain(move || Ok(ops::nms(&boxes, &scores, 0.5, 0.0)))
        }
        ("batched_nms", &[n, classes]) => {
            let (boxes, scores, mut rng) = (corners(n, PICTURE), scores(n), Rng::new(3));
            let ids: Vec<usize> = (0..n).map(|_| rng.below(classes)).collect();
            let cfg: NmsConfig = serde_json::from_str(r#"{"type": "nms", "iou_threshold": 0.5}"#)?;
            plain(move || Ok(ops::batched_nms(&boxes, &scores, &ids, Some(&cfg), false)?))
        }
        ("nms_match", &[n]) => {
            let (boxes, scores) = (corners(n, PICTURE), scores(n));
            plain(move || Ok(ops::nms_match(&boxes, &scores, 0.5)?))
        }
        ("soft_nms_naive" | "soft_nms_linear" | "soft_nms_gaussian", &[n]) => {
            let (boxes, scores) = (corners(n, PICTURE), scores(n));
            let method = match kind {
                "soft_nms_naive" => SoftNmsMethod::Naive,
                "soft_nms_linear" => SoftNmsMethod::Linear,
                _ => SoftNmsMethod::Gaussian,
            };
            plain(move || Ok(ops::soft_nms(&boxes, &scores, 0.3, 0.5, 1e-3, method, 0.0)?))
        }
        ("nms_rotated", &[n]) => {
            let (boxes, scores) = (rotated(n, PICTURE), scores(n));
            plain(move || Ok(ops::nms_rotated(&boxes, &scores, 0.5, None, true)?))
        }
        ("box_iou_rotated", &[n, m]) => {
            let (a, b) = (rotated(n, PICTURE), rotated(m, PICTURE));
            plain(move || Ok(ops::box_iou_rotated(&a, &b, RotatedOverlap::Iou, true)))
        }
        ("bbox_overlaps" | "bbox_overlaps_giou", &[n, m]) => {
            let (a, b) = (corners(n, PICTURE), corners(m, PICTURE));
            let mode = if kind == "bbox_overlaps" { OverlapMode::Iou } else { OverlapMode::Giou };
            plain(move || Ok(bbox_overlaps(&a, &b, mode)))
        }
        ("hard_voxelize_pillars" | "hard_voxelize_second", &[n]) => {
            let points = points(n)?;
            let (grid, most) = if kind == "hard_voxelize_pillars" { (PILLARS, 32) } else { (SECOND, 5) };
            plain(move || Ok(hard_voxelize(&points, &grid, most, Some(16_000))?))
        }
        ("dynamic_voxelize", &[n]) => {
            let points = points(n)?;
            plain(move || Ok(dynamic_voxelize(&points, &PILLARS)?))
        }
        ("points_in_boxes", &[b, n, m]) => {
            let points = points(b * n)?.narrow(1, 0, 3)?.contiguous()?.reshape((b, n, 3))?;
            let mut rng = Rng::new(4);
            let car = |[x, y, z, _]: [f32; 4]| {
                let size = [rng.uniform(3.0, 5.0), rng.uniform(1.4, 2.0), rng.uniform(1.4, 2.0)].map(|v| v as f32);
                [x, y, z, size[0], size[1], size[2], rng.uniform(-3.0, 3.0) as f32]
            };
            let cars: Vec<f32> = cloud(b * m).into_iter().flat_map(car).collect();
            let cars = Tensor::from_vec(cars, (b, m, 7), &Device::Cpu)?;
            plain(move || Ok(points_in_boxes_all(&points, &cars)?))
        }
        _ => return Ok(None),
    }))
}

/// The ops that have one.
fn with_gradient(kind: &str, sizes: &[usize]) -> Result<Op> {
    let op: Op = match (kind, sizes) {
        ("roi_align" | "roi_align_max", &[n, c, h, w, k, bins, sampling_ratio]) => {
            let cfg = RoiAlignConfig {
                output_size: (bins, bins),
                spatial_scale: 0.25,
                sampling_ratio,
                pool_mode: if kind == "roi_align" { PoolMode::Avg } else { PoolMode::Max },
                aligned: true,
            };
            let rois = rois(&corners(k, [4 * h, 4 * w]), n)?;
            (vec![random(&[n, c, h, w])?], Box::new(move |t| ops::roi_align(&t[0], &rois, &cfg)))
        }
        ("roi_align_rotated", &[n, c, h, w, k, bins, sampling_ratio]) => {
            let cfg = RoiAlignRotatedConfig {
                output_size: (bins, bins),
                spatial_scale: 0.25,
                sampling_ratio,
                aligned: true,
                clockwise: false,
            };
            let rois = rois(&rotated(k, [4 * h, 4 * w]), n)?;
            (vec![random(&[n, c, h, w])?], Box::new(move |t| ops::roi_align_rotated(&t[0], &rois, &cfg)))
        }
        ("roi_pool", &[n, c, h, w, k, bins]) => {
            let rois = rois(&corners(k, [4 * h, 4 * w]), n)?;
            (vec![random(&[n, c, h, w])?], Box::new(move |t| ops::roi_pool(&t[0], &rois, (bins, bins), 0.25)))
        }
        ("deform_conv", &[n, c, h, w, o, k, groups, deform_groups]) => {
            let cfg = DeformConvConfig { padding: [k / 2; 2], groups, deform_groups, ..Default::default() };
            let offset = random(&[n, 2 * deform_groups * k * k, h, w])?;
            let inputs = vec![random(&[n, c, h, w])?, offset, random(&[o, c / groups, k, k])?];
            (inputs, Box::new(move |t| ops::deform_conv2d(&t[0], &t[1], &t[2], &cfg)))
        }
        ("modulated_deform_conv", &[n, c, h, w, o, k, groups, deform_groups]) => {
            let cfg = DeformConvConfig { padding: [k / 2; 2], groups, deform_groups, ..Default::default() };
            let taps = deform_groups * k * k;
            let (offset, mask) = (random(&[n, 2 * taps, h, w])?, random(&[n, taps, h, w])?);
            let inputs = vec![random(&[n, c, h, w])?, offset, mask, random(&[o, c / groups, k, k])?];
            (inputs, Box::new(move |t| ops::modulated_deform_conv2d(&t[0], &t[1], &t[2], &t[3], None, &cfg)))
        }
        ("ms_deform_attn", &[b, heads, d, count, h, w, points, queries]) => {
            let levels: Vec<(usize, usize)> = (0..count).map(|i| (h.div_ceil(1 << i), w.div_ceil(1 << i))).collect();
            let keys: usize = levels.iter().map(|(h, w)| h * w).sum();
            let weights = unit(&[b, queries, heads, count, points])?.affine(1.0 / (count * points) as f64, 0.0)?;
            let locations = unit(&[b, queries, heads, count, points, 2])?;
            let inputs = vec![random(&[b, keys, heads, d])?, locations, weights];
            (inputs, Box::new(move |t| ops::multi_scale_deform_attn(&t[0], &levels, &t[1], &t[2])))
        }
        ("psa_mask_collect" | "psa_mask_distribute", &[n, mask_h, mask_w, h, w]) => {
            let mode = if kind == "psa_mask_collect" { PsaMode::Collect } else { PsaMode::Distribute };
            let x = random(&[n, mask_h * mask_w, h, w])?;
            (vec![x], Box::new(move |t| ops::psa_mask(&t[0], mode, [mask_h, mask_w])))
        }
        ("corner_pool_top" | "corner_pool_bottom" | "corner_pool_left" | "corner_pool_right", &[n, c, h, w]) => {
            let mode = match kind {
                "corner_pool_top" => CornerPoolMode::Top,
                "corner_pool_bottom" => CornerPoolMode::Bottom,
                "corner_pool_left" => CornerPoolMode::Left,
                _ => CornerPoolMode::Right,
            };
            (vec![random(&[n, c, h, w])?], Box::new(move |t| ops::corner_pool(&t[0], mode)))
        }
        ("point_sample", &[n, c, h, w, p]) => {
            let (x, at) = (random(&[n, c, h, w])?, unit(&[n, p, 2])?);
            let (mode, padding) = (SampleMode::Bilinear, SamplePadding::Zeros);
            (vec![x], Box::new(move |t| ops::point_sample(&t[0], &at, mode, padding, false)))
        }
        ("upfirdn2d", &[n, c, h, w, k, up, down, before, after]) => {
            let (before, after) = (before as i64, after as i64);
            let cfg = UpFirDnConfig { up: (up, up), down: (down, down), pad: [before, after, before, after] };
            let (x, filter) = (random(&[n, c, h, w])?, random(&[k, k])?);
            (vec![x], Box::new(move |t| ops::upfirdn2d(&t[0], &filter, &cfg)))
        }
        ("fused_bias_leakyrelu", &[n, c, h, w]) => {
            let inputs = vec![random(&[n, c, h, w])?, random(&[c])?];
            (inputs, Box::new(|t| ops::fused_bias_leakyrelu(&t[0], &t[1], 0.2, SQRT_2)))
        }
        _ => bail!("unknown case '{kind}' with sizes {sizes:?}"),
    };
    Ok(op)
}

/// The case `kind sizes.. mode`.
pub fn make(kind: &str, sizes: &[usize], mode: &str) -> Result<Run> {
    if let Some(run) = without_gradient(kind, sizes)? {
        if mode != "forward" {
            bail!("{kind} has no gradient: mode '{mode}', expected forward");
        }
        return Ok(run);
    }
    let op = with_gradient(kind, sizes)?;
    match (kind, mode) {
        // Ops of candle's are a part of these, which a region doesn't record.
        ("modulated_deform_conv" | "point_sample", "backward" | "both") => in_graph(op, mode),
        _ => timed(op, mode),
    }
}
