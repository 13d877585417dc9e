//! Points sorted into a grid: mmcv's `Voxelization`, hard and dynamic.

use std::collections::HashMap;

use candle_core::{Result, Tensor, bail};

use crate::ops::check;
use crate::ops::kernel::with_values;

/// A grid over space, axes x, y, z.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VoxelGrid {
    /// Size of a voxel.
    pub voxel_size: [f32; 3],
    /// Lowest and highest corner: x, y, z of each.
    pub range: [f32; 6],
}

impl VoxelGrid {
    /// Voxels along x, y and z.
    pub fn size(&self) -> [usize; 3] {
        let one = |i: usize| (self.range[3 + i] - self.range[i]) / self.voxel_size[i];
        [0, 1, 2].map(|i| one(i).round().max(0.0) as usize)
    }

    /// The voxel of a point as (z, y, x), `None` outside the grid.
    fn place(&self, size: [usize; 3], point: &[f32]) -> Option<[usize; 3]> {
        let mut place = [0; 3];
        for i in 0..3 {
            let at = ((point[i] - self.range[i]) / self.voxel_size[i]).floor();
            // Also of NaN.
            if !(at >= 0.0 && at < size[i] as f32) {
                return None;
            }
            place[2 - i] = at as usize;
        }
        Some(place)
    }

    fn check(&self, op: &str, points: &Tensor) -> Result<(usize, usize)> {
        check::f32s(op, "points", points)?;
        let [n, features] = check::dims(op, "points", points, "[N, 3 or more]")?;
        if features < 3 {
            bail!("{op}: points has shape {:?}, expected [N, 3 or more]", points.dims());
        }
        if !self.voxel_size.iter().all(|s| *s > 0.0) {
            bail!("{op}: voxel_size is {:?}, expected positive sizes", self.voxel_size);
        }
        Ok((n, features))
    }
}

/// What [`hard_voxelize`] gives.
#[derive(Debug, Clone)]
pub struct Voxels {
    /// `[V, max_points, features]`, zeros behind a voxel's points.
    pub voxels: Tensor,
    /// `[V, 3]` i64: z, y, x of each, in the order in which they first got a point.
    pub coords: Tensor,
    /// `[V]` u32.
    pub num_points: Tensor,
}

/// The voxels that hold points, each with its first `max_points`; `max_voxels` of them at most, where given.
///
/// # Shapes
/// - `points`: `[N, features]`, the first three are x, y, z
pub fn hard_voxelize(
    points: &Tensor,
    grid: &VoxelGrid,
    max_points: usize,
    max_voxels: Option<usize>,
) -> Result<Voxels> {
    const OP: &str = "hard_voxelize";
    let (_, features) = grid.check(OP, points)?;
    let size = grid.size();
    let cells = size.iter().product::<usize>();
    let (mut voxels, mut coords, mut counts) = (Vec::<f32>::new(), Vec::<i64>::new(), Vec::<u32>::new());
    // A table is quicker than a map where it fits.
    let mut table = if cells <= 1 << 26 { vec![u32::MAX; cells] } else { Vec::new() };
    let mut map = HashMap::new();
    with_values(OP, points, |points| {
        for p in points.chunks_exact(features) {
            let Some([z, y, x]) = grid.place(size, p) else { continue };
            let cell = (z * size[1] + y) * size[0] + x;
            let slot = if table.is_empty() { map.entry(cell).or_insert(u32::MAX) } else { &mut table[cell] };
            if *slot == u32::MAX {
                if max_voxels.is_some_and(|m| counts.len() >= m) {
                    continue;
                }
                *slot = counts.len() as u32;
                counts.push(0);
                coords.extend([z, y, x].map(|v| v as i64));
                voxels.resize(voxels.len() + max_points * features, 0.0);
            }
            let count = &mut counts[*slot as usize];
            if (*count as usize) < max_points {
                let at = (*slot as usize * max_points + *count as usize) * features;
                voxels[at..at + features].copy_from_slice(p);
                *count += 1;
            }
        }
        Ok(())
    })?;
    let (n, device) = (counts.len(), points.device());
    Ok(Voxels {
        voxels: Tensor::from_vec(voxels, (n, max_points, features), device)?,
        coords: Tensor::from_vec(coords, (n, 3), device)?,
        num_points: Tensor::from_vec(counts, n, device)?,
    })
}

/// The voxel of each point as z, y, x, -1 for points outside the grid.
///
/// # Shapes
/// - `points`: `[N, features]`, the first three are x, y, z
/// - output: `[N, 3]` i64
pub fn dynamic_voxelize(points: &Tensor, grid: &VoxelGrid) -> Result<Tensor> {
    const OP: &str = "dynamic_voxelize";
    let (n, features) = grid.check(OP, points)?;
    let size = grid.size();
    let places = with_values(OP, points, |points| {
        let place = |p: &[f32]| grid.place(size, p).map_or([-1; 3], |c| c.map(|v| v as i64));
        Ok(points.chunks_exact(features).flat_map(place).collect::<Vec<i64>>())
    })?;
    Tensor::from_vec(places, (n, 3), points.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{golden, tensor};

    const GRID: VoxelGrid = VoxelGrid { voxel_size: [0.5, 0.4, 1.0], range: [0.0, -2.0, -1.0, 4.0, 2.0, 3.0] };

    // tests/golden/ops/make.py voxelize
    #[test]
    fn voxels_are_mmcvs() {
        for case in golden("voxelize") {
            let points = case.tensor("points");
            case.same("places", &dynamic_voxelize(points, &GRID).unwrap());
            let most = case.size("voxels");
            let ours = hard_voxelize(points, &GRID, case.size("points"), (most > 0).then_some(most)).unwrap();
            case.same("voxels", &ours.voxels);
            case.same("coords", &ours.coords);
            case.same("counts", &ours.num_points);
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let none = hard_voxelize(&tensor(&[], &[0, 4]), &GRID, 5, None).unwrap();
        assert_eq!((none.voxels.dims(), none.coords.dims()), (&[0, 5, 4][..], &[0, 3][..]));
        let nan = dynamic_voxelize(&tensor(&[f32::NAN, 0.0, 0.0], &[1, 3]), &GRID).unwrap();
        assert_eq!(nan.to_vec2::<i64>().unwrap(), [[-1, -1, -1]]);
        let e = dynamic_voxelize(&tensor(&[0.0; 2], &[1, 2]), &GRID).unwrap_err().to_string();
        assert!(e.contains("dynamic_voxelize: points has shape [1, 2], expected [N, 3 or more]"), "{e}");
    }
}
