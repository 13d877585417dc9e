//! Points near points: mmcv's `ball_query`, `knn` and `three_nn`.

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use crate::ops::check;
use crate::ops::kernel::with_values;

/// The points of a cloud as three lists.
struct Cloud {
    x: Vec<f32>,
    y: Vec<f32>,
    z: Vec<f32>,
}

impl Cloud {
    fn new(points: &[f32]) -> Self {
        let axis = |i: usize| points.iter().skip(i).step_by(3).copied().collect();
        Self { x: axis(0), y: axis(1), z: axis(2) }
    }
}

simd! {
    /// Squared distances of all points to one.
    fn distances(cloud: &Cloud, to: [f32; 3], out: &mut [f32]) {
        for (((o, x), y), z) in out.iter_mut().zip(&cloud.x).zip(&cloud.y).zip(&cloud.z) {
            let (dx, dy, dz) = (to[0] - x, to[1] - y, to[2] - z);
            *o = dx * dx + dy * dy + dz * dz;
        }
    }
}

/// Batch, points and centres of `points` `[B, N, 3]` and `centres` `[B, M, 3]`.
fn sizes(op: &str, names: [&str; 2], points: &Tensor, centres: &Tensor) -> Result<(usize, usize, usize)> {
    check::f32s(op, names[0], points)?;
    check::f32s(op, names[1], centres)?;
    let [b, n, _] = check::dims(op, names[0], points, "[B, N, 3]")?;
    let [_, m, _] = check::dims(op, names[1], centres, "[B, M, 3]")?;
    check::shape(op, names[0], points, &[b, n, 3], "[B, N, 3]")?;
    check::shape(op, names[1], centres, &[b, m, 3], "[B, M, 3]")?;
    Ok((b, n, m))
}

/// Calls `f(distances, places, values)` for each centre, which fills its `k` places and values.
fn each(
    op: &str,
    points: &Tensor,
    centres: &Tensor,
    k: usize,
    f: impl Fn(&[f32], &mut [u32], &mut [f32]) + Sync,
) -> Result<(Tensor, Tensor)> {
    let (b, n, m) = sizes(op, ["points", "centres"], points, centres)?;
    let (mut places, mut nearest) = (vec![0u32; b * m * k], vec![0.0f32; b * m * k]);
    with_values(op, points, |points| {
        with_values(op, centres, |centres| {
            if m * k == 0 {
                return Ok(());
            }
            for batch in 0..b {
                let cloud = Cloud::new(&points[batch * n * 3..][..n * 3]);
                let centres = &centres[batch * m * 3..][..m * 3];
                let all = places[batch * m * k..][..m * k].par_chunks_mut(k);
                all.zip(nearest[batch * m * k..][..m * k].par_chunks_mut(k)).enumerate().for_each_init(
                    || vec![0.0f32; n],
                    |all, (i, (places, nearest))| {
                        distances(&cloud, [centres[i * 3], centres[i * 3 + 1], centres[i * 3 + 2]], all);
                        f(all, places, nearest);
                    },
                );
            }
            Ok(())
        })
    })?;
    let dims = (b, m, k);
    Ok((Tensor::from_vec(places, dims, points.device())?, Tensor::from_vec(nearest, dims, points.device())?))
}

/// For each centre the first `samples` points at a distance in `[min_radius, max_radius)`, or just at the centre; where there
/// are fewer, the first is repeated, where there are none it is point 0.
///
/// # Shapes
/// - `points`: `[B, N, 3]`
/// - `centres`: `[B, M, 3]`
/// - output: `[B, M, samples]` u32
pub fn ball_query(
    min_radius: f64,
    max_radius: f64,
    samples: usize,
    points: &Tensor,
    centres: &Tensor,
) -> Result<Tensor> {
    let (low, high) = ((min_radius as f32).powi(2), (max_radius as f32).powi(2));
    let near = |all: &[f32], places: &mut [u32], _: &mut [f32]| {
        let inside = all.iter().enumerate().filter(|(_, d)| **d == 0.0 || (**d >= low && **d < high));
        for (found, (i, _)) in inside.take(places.len()).enumerate() {
            if found == 0 {
                places.fill(i as u32);
            }
            places[found] = i as u32;
        }
    };
    Ok(each("ball_query", points, centres, samples, near)?.0)
}

/// The `k` nearest points of each centre, nearest first, of equals the first.
///
/// # Shapes
/// - `points`: `[B, N, 3]` with at least `k` points
/// - `centres`: `[B, M, 3]`
/// - outputs: places `[B, M, k]` u32 and squared distances `[B, M, k]`; mmcv's `knn` gives the places as `[B, k, M]`
pub fn knn(k: usize, points: &Tensor, centres: &Tensor) -> Result<(Tensor, Tensor)> {
    if points.rank() == 3 && points.dims()[1] < k {
        bail!("knn: points has shape {:?}, expected at least {k} points", points.dims());
    }
    each("knn", points, centres, k, |all, places, nearest| {
        let mut order: Vec<u32> = (0..all.len() as u32).collect();
        let by = |a: &u32, b: &u32| all[*a as usize].total_cmp(&all[*b as usize]).then(a.cmp(b));
        let k = places.len();
        if k < order.len() {
            order.select_nth_unstable_by(k, by);
            order.truncate(k);
        }
        order.sort_unstable_by(by);
        for ((p, d), i) in places.iter_mut().zip(nearest).zip(order) {
            (*p, *d) = (i, all[i as usize]);
        }
    })
}

/// The three nearest of `known` for each of `unknown`: distances (not squared) and places. Where there are fewer than three
/// the distances are infinite and the places 0.
///
/// # Shapes
/// - `unknown`: `[B, N, 3]`
/// - `known`: `[B, M, 3]`
/// - outputs: `[B, N, 3]` f32 and `[B, N, 3]` u32
pub fn three_nn(unknown: &Tensor, known: &Tensor) -> Result<(Tensor, Tensor)> {
    sizes("three_nn", ["known", "unknown"], known, unknown)?;
    let (places, nearest) = each("three_nn", known, unknown, 3, |all, places, nearest| {
        nearest.fill(f32::INFINITY);
        for (i, d) in all.iter().enumerate() {
            if let Some(at) = nearest.iter().position(|n| d < n) {
                places[at..].rotate_right(1);
                nearest[at..].rotate_right(1);
                (places[at], nearest[at]) = (i as u32, *d);
            }
        }
        nearest.iter_mut().for_each(|d| *d = d.sqrt());
    })?;
    Ok((nearest, places))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{golden, tensor, wave};

    // tests/golden/ops/make.py points
    #[test]
    fn neighbours_are_the_reference_s() {
        for case in golden("points") {
            let (p, c) = (|| case.tensor("points"), || case.tensor("centres"));
            match case.text("op") {
                "ball_query" => {
                    let (low, high) = (case.number("min"), case.number("max"));
                    case.same("y", &ball_query(low, high, case.size("k"), p(), c()).unwrap());
                }
                "knn" => {
                    let (places, distances) = knn(case.size("k"), p(), c()).unwrap();
                    case.same("y", &places);
                    case.same("d", &distances);
                }
                "three_nn" => {
                    let (distances, places) = three_nn(c(), p()).unwrap();
                    case.same("y", &places);
                    case.same("d", &distances);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn few_and_wrong_points() {
        let one = tensor(&[1.0, 2.0, 3.0], &[1, 1, 3]);
        assert_eq!(ball_query(0.0, 1.0, 2, &one, &wave(&[1, 2, 3])).unwrap().dims(), &[1, 2, 2]);
        let (distances, places) = three_nn(&one, &one).unwrap();
        assert_eq!(distances.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [0.0, f32::INFINITY, f32::INFINITY]);
        assert_eq!(places.flatten_all().unwrap().to_vec1::<u32>().unwrap(), [0, 0, 0]);
        assert!(knn(2, &one, &one).unwrap_err().to_string().contains("expected at least 2 points"));
        assert_eq!(knn(1, &one, &tensor(&[], &[1, 0, 3])).unwrap().0.dims(), &[1, 0, 1]);
        let e = knn(1, &one, &wave(&[1, 2, 2])).unwrap_err().to_string();
        assert!(e.contains("knn: centres has shape [1, 2, 2], expected [B, M, 3] = [1, 2, 3]"), "{e}");
    }
}
