//! Features at points, as PointRend samples them (Kirillov et al., CVPR 2020): mmcv's `point_sample` and the conversions of
//! its points.

use candle_core::{Result, Tensor, bail};

use super::check;
use super::grid_sample::{SampleMode, SamplePadding, grid_sample};

/// Features at points of the unit square that spans the map. Gradients flow into both.
///
/// # Shapes
/// - `x`: `[N, C, H, W]`
/// - `points`: `[N, P, 2]` or `[N, GH, GW, 2]`, (x, y) in 0..1
/// - output: `[N, C, P]` or `[N, C, GH, GW]`
pub fn point_sample(
    x: &Tensor,
    points: &Tensor,
    mode: SampleMode,
    padding: SamplePadding,
    align_corners: bool,
) -> Result<Tensor> {
    const OP: &str = "point_sample";
    check::f32s(OP, "x", x)?;
    check::f32s(OP, "points", points)?;
    let [n, _, _, _] = check::dims(OP, "x", x, "[N, C, H, W]")?;
    let line = points.rank() == 3;
    let grid = if line { points.unsqueeze(2)? } else { points.clone() };
    match grid.dims() {
        [batch, _, _, 2] if *batch == n => {}
        _ => bail!("{OP}: points has shape {:?}, expected [{n}, P, 2] or [{n}, GH, GW, 2]", points.dims()),
    }
    let y = grid_sample(x, &grid.affine(2.0, -1.0)?.contiguous()?, mode, padding, align_corners)?;
    if line { y.squeeze(3) } else { Ok(y) }
}

/// Points given relative to boxes (0..1) in pixels of the image. No gradient flows.
///
/// # Shapes
/// - `rois`: `[K, 4]` corners, or `[K, 5]` with the image first
/// - `points` and output: `[K, P, 2]`, (x, y)
pub fn rel_roi_point_to_abs_img_point(rois: &Tensor, points: &Tensor) -> Result<Tensor> {
    const OP: &str = "rel_roi_point_to_abs_img_point";
    let [k, columns] = check::dims(OP, "rois", rois, "[K, 4 or 5]")?;
    let [_, p, _] = check::dims(OP, "points", points, "[K, P, 2]")?;
    check::shape(OP, "points", points, &[k, p, 2], "[K, P, 2]")?;
    if columns != 4 && columns != 5 {
        bail!("{OP}: rois has shape {:?}, expected [K, 4 or 5]", rois.dims());
    }
    let (rois, points) = (rois.detach(), points.detach());
    let corner = |first: usize| rois.narrow(1, columns - 4 + first, 2)?.unsqueeze(1);
    let (low, high) = (corner(0)?, corner(2)?);
    points.broadcast_mul(&(high - &low)?)?.broadcast_add(&low)
}

/// Points in pixels of the image relative to a map (or image) of `size` (height, width), `spatial_scale` map pixels each.
///
/// # Shapes
/// - `points` and output: `[K, P, 2]`, (x, y)
pub fn abs_img_point_to_rel_img_point(points: &Tensor, size: (usize, usize), spatial_scale: f64) -> Result<Tensor> {
    let [_, _, _] = check::dims("abs_img_point_to_rel_img_point", "points", points, "[K, P, 2]")?;
    let scale = Tensor::new(&[size.1 as f32, size.0 as f32], points.device())?;
    points.broadcast_div(&scale)? * spatial_scale
}

/// Points given relative to boxes, relative to the map of `size` (height, width): both conversions in turn.
pub fn rel_roi_point_to_rel_img_point(
    rois: &Tensor,
    points: &Tensor,
    size: (usize, usize),
    spatial_scale: f64,
) -> Result<Tensor> {
    abs_img_point_to_rel_img_point(&rel_roi_point_to_abs_img_point(rois, points)?, size, spatial_scale)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{golden, tensor, wave};
    use super::*;

    // tests/golden/ops/make.py point_sample
    #[test]
    fn values_and_gradients_are_mmcvs() {
        for case in golden("point_sample") {
            if case.text("op") == "convert" {
                let ours = rel_roi_point_to_rel_img_point(case.tensor("rois"), case.tensor("points"), (20, 30), 0.25);
                case.same("y", &ours.unwrap());
                continue;
            }
            let align = case.size("align") == 1;
            case.check("y", &["x", "points"], |t| {
                point_sample(&t["x"], &t["points"], SampleMode::Bilinear, SamplePadding::Zeros, align)
            });
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let sample = |x: &Tensor, p: &Tensor| point_sample(x, p, SampleMode::Bilinear, SamplePadding::Zeros, false);
        assert_eq!(sample(&wave(&[1, 2, 3, 3]), &tensor(&[], &[1, 0, 2])).unwrap().dims(), &[1, 2, 0]);
        let e = sample(&wave(&[1, 2, 3, 3]), &wave(&[2, 4, 2])).unwrap_err().to_string();
        assert!(e.contains("points has shape [2, 4, 2], expected [1, P, 2]"), "{e}");
        assert!(rel_roi_point_to_abs_img_point(&wave(&[2, 3]), &wave(&[2, 1, 2])).is_err());
    }
}
