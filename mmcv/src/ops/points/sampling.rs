//! Points that lie far from each other: mmcv's `furthest_point_sample`.

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use crate::ops::check;
use crate::ops::kernel::with_values;

simd! {
    /// Lowers each point's distance to the chosen ones by that to the newest.
    fn lower(distances: &[f32], nearest: &mut [f32]) {
        for (n, d) in nearest.iter_mut().zip(distances) {
            *n = if *d < *n { *d } else { *n };
        }
    }
}

simd! {
    fn squared(points: &[f32], to: [f32; 3], out: &mut [f32]) {
        for (o, p) in out.iter_mut().zip(points.as_chunks::<3>().0) {
            let d = [p[0] - to[0], p[1] - to[1], p[2] - to[2]];
            *o = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
        }
    }
}

/// From point 0 on, always the one that is furthest from those chosen; `distances(chosen, out)` gives all distances to one.
fn sample(n: usize, out: &mut [u32], distances: impl Fn(usize, &mut [f32])) {
    // mmcv's start.
    let (mut nearest, mut current) = (vec![1e10f32; n], vec![0.0f32; n]);
    let mut chosen = 0;
    for (i, o) in out.iter_mut().enumerate() {
        if i > 0 {
            distances(chosen, &mut current);
            lower(&current, &mut nearest);
            let mut best = -1.0f32;
            let mut at = 0;
            for (j, d) in nearest.iter().enumerate() {
                if *d > best {
                    (best, at) = (*d, j);
                }
            }
            chosen = at;
        }
        *o = chosen as u32;
    }
}

fn run(
    op: &str,
    t: &Tensor,
    width: usize,
    count: usize,
    distances: impl Fn(&[f32], usize, &mut [f32]) + Sync,
) -> Result<Tensor> {
    let (b, n) = (t.dims()[0], t.dims()[1]);
    if n == 0 && b * count > 0 {
        bail!("{op}: points has shape {:?}, expected points to take {count} of", t.dims());
    }
    let mut out = vec![0u32; b * count];
    with_values(op, t, |v| {
        if count > 0 {
            out.par_chunks_mut(count).enumerate().for_each(|(batch, out)| {
                let v = &v[batch * n * width..][..n * width];
                sample(n, out, |chosen, current| distances(v, chosen, current));
            });
        }
        Ok(())
    })?;
    Tensor::from_vec(out, (b, count), t.device())
}

/// `count` points of each cloud, the first and then always the one furthest from all chosen; of equals the first.
///
/// # Shapes
/// - `points`: `[B, N, 3]`
/// - output: `[B, count]` u32
pub fn furthest_point_sample(points: &Tensor, count: usize) -> Result<Tensor> {
    const OP: &str = "furthest_point_sample";
    check::f32s(OP, "points", points)?;
    let [b, n, _] = check::dims(OP, "points", points, "[B, N, 3]")?;
    check::shape(OP, "points", points, &[b, n, 3], "[B, N, 3]")?;
    run(OP, points, 3, count, |v, chosen, out| squared(v, [v[chosen * 3], v[chosen * 3 + 1], v[chosen * 3 + 2]], out))
}

/// [`furthest_point_sample`] by given distances.
///
/// # Shapes
/// - `distances`: `[B, N, N]`
/// - output: `[B, count]` u32
pub fn furthest_point_sample_with_dist(distances: &Tensor, count: usize) -> Result<Tensor> {
    const OP: &str = "furthest_point_sample_with_dist";
    check::f32s(OP, "distances", distances)?;
    let [b, n, _] = check::dims(OP, "distances", distances, "[B, N, N]")?;
    check::shape(OP, "distances", distances, &[b, n, n], "[B, N, N]")?;
    run(OP, distances, n, count, |v, chosen, out| out.copy_from_slice(&v[chosen * n..][..n]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{golden, tensor, wave};

    // tests/golden/ops/make.py points
    #[test]
    fn samples_are_the_reference_s() {
        for case in golden("points") {
            match case.text("op") {
                "fps" => case.same("y", &furthest_point_sample(case.tensor("points"), case.size("k")).unwrap()),
                "fps_dist" => {
                    case.same("y", &furthest_point_sample_with_dist(case.tensor("points"), case.size("k")).unwrap());
                }
                _ => {}
            }
        }
    }

    #[test]
    fn more_than_there_are_repeat_and_none_is_an_error() {
        let two = tensor(&[0.0, 0.0, 0.0, 1.0, 0.0, 0.0], &[1, 2, 3]);
        assert_eq!(furthest_point_sample(&two, 4).unwrap().to_vec2::<u32>().unwrap(), [[0, 1, 0, 0]]);
        assert_eq!(furthest_point_sample(&two, 0).unwrap().dims(), &[1, 0]);
        assert!(furthest_point_sample(&tensor(&[], &[1, 0, 3]), 1).is_err());
        assert!(furthest_point_sample_with_dist(&wave(&[1, 2, 3]), 1).is_err());
    }
}
