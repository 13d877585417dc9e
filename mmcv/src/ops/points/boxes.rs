//! Points inside boxes and polygons: mmcv's `points_in_boxes_part`, `points_in_boxes_all` and `points_in_polygons`.

use candle_core::{Result, Tensor};

use crate::ops::check;
use crate::ops::kernel::{build, to_vec, with_values};

/// Whether a box `(x, y, z, dx, dy, dz, yaw)`, `z` of its bottom, holds a point: faces above and below do, sides don't.
fn holds(b: &[f32; 7], p: &[f32; 3]) -> bool {
    let half = b[5] / 2.0;
    if (p[2] - (b[2] + half)).abs() > half {
        return false;
    }
    let ((x, y), (sin, cos)) = ((p[0] - b[0], p[1] - b[1]), (-b[6]).sin_cos());
    let (along, across) = (x * cos - y * sin, x * sin + y * cos);
    along > -b[3] / 2.0 && along < b[3] / 2.0 && across > -b[4] / 2.0 && across < b[4] / 2.0
}

/// Batch, points and boxes.
fn sizes(op: &str, points: &Tensor, boxes: &Tensor) -> Result<(usize, usize, usize)> {
    check::f32s(op, "points", points)?;
    check::f32s(op, "boxes", boxes)?;
    let [b, n, _] = check::dims(op, "points", points, "[B, N, 3]")?;
    let [_, t, _] = check::dims(op, "boxes", boxes, "[B, T, 7]")?;
    check::shape(op, "points", points, &[b, n, 3], "[B, N, 3]")?;
    check::shape(op, "boxes", boxes, &[b, t, 7], "[B, T, 7]")?;
    Ok((b, n, t))
}

/// The first box that holds each point, -1 where none does.
///
/// # Shapes
/// - `points`: `[B, N, 3]`
/// - `boxes`: `[B, T, 7]`: x, y, z of the bottom's centre, sizes along x, y and z, yaw in radians
/// - output: `[B, N]` i64
pub fn points_in_boxes_part(points: &Tensor, boxes: &Tensor) -> Result<Tensor> {
    const OP: &str = "points_in_boxes_part";
    let (b, n, t) = sizes(OP, points, boxes)?;
    let boxes = to_vec(boxes)?;
    let out = with_values(OP, points, |points| {
        let points = points.as_chunks::<3>().0;
        Ok(build(b * n, 1024, |at, out: &mut [i64]| {
            for (i, o) in out.iter_mut().enumerate() {
                let boxes = boxes[(at + i) / n * t * 7..][..t * 7].as_chunks::<7>().0;
                *o = boxes.iter().position(|b| holds(b, &points[at + i])).map_or(-1, |k| k as i64);
            }
        }))
    })?;
    Tensor::from_vec(out, (b, n), points.device())
}

/// Whether each box holds each point.
///
/// # Shapes
/// - `points`, `boxes`: as [`points_in_boxes_part`]'s
/// - output: `[B, N, T]` u8
pub fn points_in_boxes_all(points: &Tensor, boxes: &Tensor) -> Result<Tensor> {
    const OP: &str = "points_in_boxes_all";
    let (b, n, t) = sizes(OP, points, boxes)?;
    let boxes = to_vec(boxes)?;
    let out = with_values(OP, points, |points| {
        let points = points.as_chunks::<3>().0;
        Ok(build(b * n * t, t, |at, out: &mut [u8]| {
            let row = at / t;
            let boxes = boxes[row / n * t * 7..][..t * 7].as_chunks::<7>().0;
            out.iter_mut().zip(boxes).for_each(|(o, b)| *o = u8::from(holds(b, &points[row])));
        }))
    })?;
    Tensor::from_vec(out, (b, n, t), points.device())
}

/// Whether each polygon holds each point, by the crossings of a ray to the right.
///
/// # Shapes
/// - `points`: `[N, 2]`
/// - `polygons`: `[M, 8]`, four corners x, y each
/// - output: `[N, M]` f32, 1 or 0
pub fn points_in_polygons(points: &Tensor, polygons: &Tensor) -> Result<Tensor> {
    const OP: &str = "points_in_polygons";
    check::f32s(OP, "points", points)?;
    check::f32s(OP, "polygons", polygons)?;
    let [n, _] = check::dims(OP, "points", points, "[N, 2]")?;
    let [m, _] = check::dims(OP, "polygons", polygons, "[M, 8]")?;
    check::shape(OP, "points", points, &[n, 2], "[N, 2]")?;
    check::shape(OP, "polygons", polygons, &[m, 8], "[M, 8]")?;
    let (points_of, polygons_of) = (to_vec(points)?, to_vec(polygons)?);
    let inside = |p: &[f32; 2], polygon: &[f32; 8]| {
        let corners = polygon.as_chunks::<2>().0;
        let mut crossings = 0;
        for i in 0..4 {
            let (a, b) = (corners[i], corners[(i + 3) % 4]);
            if p[1] < a[1].min(b[1]) || p[1] > a[1].max(b[1]) {
                continue;
            }
            // A point on the outline ends the count where it stands, as in mmcv.
            if a == *p || b == *p {
                break;
            }
            if (a[1] < p[1]) != (b[1] < p[1]) {
                let x = a[0] + (p[1] - a[1]) * (b[0] - a[0]) / (b[1] - a[1]);
                if x == p[0] {
                    break;
                }
                crossings += usize::from(x > p[0]);
            }
        }
        crossings % 2 == 1
    };
    let out = build(n * m, m, |at, out: &mut [f32]| {
        let p = &points_of.as_chunks::<2>().0[at / m];
        for (o, polygon) in out.iter_mut().zip(polygons_of.as_chunks::<8>().0) {
            *o = f32::from(u8::from(inside(p, polygon)));
        }
    });
    Tensor::from_vec(out, (n, m), points.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{golden, tensor, wave};

    // tests/golden/ops/make.py points_in_boxes
    #[test]
    fn answers_are_mmcvs() {
        for case in golden("points_in_boxes") {
            match case.text("op") {
                "part" => case.same("y", &points_in_boxes_part(case.tensor("points"), case.tensor("boxes")).unwrap()),
                "all" => case.same("y", &points_in_boxes_all(case.tensor("points"), case.tensor("boxes")).unwrap()),
                _ => case.same("y", &points_in_polygons(case.tensor("points"), case.tensor("polygons")).unwrap()),
            }
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let (none, points) = (tensor(&[], &[1, 0, 7]), wave(&[1, 2, 3]));
        assert_eq!(points_in_boxes_part(&points, &none).unwrap().to_vec2::<i64>().unwrap(), [[-1, -1]]);
        assert_eq!(points_in_boxes_all(&points, &none).unwrap().dims(), &[1, 2, 0]);
        assert_eq!(points_in_polygons(&wave(&[2, 2]), &tensor(&[], &[0, 8])).unwrap().dims(), &[2, 0]);
        let e = points_in_boxes_all(&points, &wave(&[1, 2, 6])).unwrap_err().to_string();
        assert!(e.contains("points_in_boxes_all: boxes has shape [1, 2, 6], expected [B, T, 7]"), "{e}");
    }
}
