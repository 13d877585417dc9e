//! The bias gradient: sums over images and positions.

use rayon::prelude::*;

/// Sums `dy` `[N, channels, area]` over all but the channels; each map in eight lanes of f32, the maps in f64.
pub(super) fn channel_sums(dy: &[f32], images: usize, channels: usize, area: usize) -> Vec<f32> {
    (0..channels)
        .into_par_iter()
        .with_min_len(4)
        .map(|c| (0..images).map(|n| sum(&dy[(n * channels + c) * area..][..area]) as f64).sum::<f64>() as f32)
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
