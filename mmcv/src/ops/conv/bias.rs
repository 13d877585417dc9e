//! The bias gradient: sums over images and positions.

use rayon::prelude::*;

use super::geometry::Geometry;

/// Sums `dy` `[N, O, positions]` over all but the channels; each map in eight lanes of f32, the maps in f64.
pub(super) fn bias_grad(g: &Geometry, dy: &[f32]) -> Vec<f32> {
    let px = g.output_area();
    (0..g.channels_out)
        .into_par_iter()
        .with_min_len(4)
        .map(|o| (0..g.images).map(|n| sum(&dy[(n * g.channels_out + o) * px..][..px]) as f64).sum::<f64>() as f32)
        .collect()
}

/// A sum in eight lanes.
fn sum(v: &[f32]) -> f32 {
    let mut lanes = [0f32; 8];
    let mut chunks = v.chunks_exact(8);
    for c in &mut chunks {
        for i in 0..8 {
            lanes[i] += c[i];
        }
    }
    lanes.iter().sum::<f32>() + chunks.remainder().iter().sum::<f32>()
}
