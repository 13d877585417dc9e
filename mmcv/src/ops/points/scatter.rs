//! Features of points gathered by voxel: mmcv's `dynamic_scatter`.

use std::collections::BTreeMap;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use crate::nn::apply1;
use crate::ops::check;
use crate::ops::kernel::{build, values, with_values};

/// What a voxel makes of its points' features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoxelReduce {
    /// The largest of each; of equals the first point's gets the gradient.
    Max,
    /// Their mean.
    Mean,
    /// Their sum.
    Sum,
}

struct Op {
    how: VoxelReduce,
    /// The points of each voxel in order.
    members: Vec<Vec<usize>>,
    channels: usize,
}

impl Op {
    /// The point whose feature is a voxel's largest.
    fn largest(&self, x: &[f32], members: &[usize], channel: usize) -> usize {
        let value = |p: usize| x[p * self.channels + channel];
        members.iter().copied().reduce(|best, p| if value(p) > value(best) { p } else { best }).unwrap_or(0)
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "dynamic_scatter"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("dynamic_scatter", s, l)?;
        let c = self.channels;
        let out = build(self.members.len() * c, c, |at, out: &mut [f32]| {
            let members = &self.members[at / c];
            if self.how == VoxelReduce::Max {
                for (channel, o) in out.iter_mut().enumerate() {
                    *o = x[self.largest(x, members, channel) * c + channel];
                }
                return;
            }
            for p in members {
                out.iter_mut().zip(&x[p * c..]).for_each(|(o, x)| *o += x);
            }
            if self.how == VoxelReduce::Mean {
                out.iter_mut().for_each(|o| *o /= members.len() as f32);
            }
        });
        Ok((CpuStorage::F32(out), Shape::from((self.members.len(), c))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        const OP: &str = "dynamic_scatter_backward";
        let c = self.channels;
        let mut dx = vec![0.0f32; x.elem_count()];
        with_values(OP, x, |x| {
            with_values(OP, grad, |g| {
                for (members, g) in self.members.iter().zip(g.chunks_exact(c)) {
                    for (channel, g) in g.iter().enumerate() {
                        match self.how {
                            VoxelReduce::Max => dx[self.largest(x, members, channel) * c + channel] = *g,
                            VoxelReduce::Sum => members.iter().for_each(|p| dx[p * c + channel] = *g),
                            VoxelReduce::Mean => {
                                members.iter().for_each(|p| dx[p * c + channel] = g / members.len() as f32);
                            }
                        }
                    }
                }
                Ok(())
            })
        })?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// The features of each voxel's points as one, and the voxels, in ascending order. Points with a negative coordinate are in
/// none. Gradients flow into the features.
///
/// # Shapes
/// - `features`: `[N, C]`
/// - `coords`: `[N, D]` integers, each point's voxel
/// - outputs: `[M, C]` and `[M, D]` i64
pub fn dynamic_scatter(features: &Tensor, coords: &Tensor, how: VoxelReduce) -> Result<(Tensor, Tensor)> {
    const OP: &str = "dynamic_scatter";
    check::f32s(OP, "features", features)?;
    let [n, channels] = check::dims(OP, "features", features, "[N, C]")?;
    let [m, d] = check::dims(OP, "coords", coords, "[N, D]")?;
    if m != n || d == 0 || channels == 0 || coords.dtype().is_float() {
        bail!("{OP}: coords is {:?} {:?}, expected integers [{n}, D]", coords.dtype(), coords.dims());
    }
    let places = coords.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
    let mut voxels = BTreeMap::<&[i64], Vec<usize>>::new();
    for (point, place) in places.chunks_exact(d).enumerate().filter(|(_, c)| c.iter().all(|v| *v >= 0)) {
        voxels.entry(place).or_default().push(point);
    }
    let out: Vec<i64> = voxels.keys().flat_map(|c| c.iter().copied()).collect();
    let members: Vec<Vec<usize>> = voxels.into_values().collect();
    let out = Tensor::from_vec(out, (members.len(), d), features.device())?;
    Ok((apply1(features, Op { how, members, channels })?, out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{golden, tensor, wave};

    // tests/golden/ops/make.py dynamic_scatter
    #[test]
    fn values_and_gradients_are_the_reference_s() {
        for case in golden("dynamic_scatter") {
            let how = match case.text("how") {
                "max" => VoxelReduce::Max,
                "mean" => VoxelReduce::Mean,
                _ => VoxelReduce::Sum,
            };
            case.check("y", &["x"], |t| Ok(dynamic_scatter(&t["x"], &t["coords"], how)?.0));
            case.same("voxels", &dynamic_scatter(case.tensor("x"), case.tensor("coords"), how).unwrap().1);
        }
    }

    #[test]
    fn empty_and_wrong_arguments() {
        let none = Tensor::zeros((0, 3), DType::I64, &candle_core::Device::Cpu).unwrap();
        let (y, voxels) = dynamic_scatter(&tensor(&[], &[0, 4]), &none, VoxelReduce::Max).unwrap();
        assert_eq!((y.dims(), voxels.dims()), (&[0, 4][..], &[0, 3][..]));
        let e = dynamic_scatter(&wave(&[2, 4]), &none, VoxelReduce::Max).unwrap_err().to_string();
        assert!(e.contains("coords is I64 [0, 3], expected integers [2, D]"), "{e}");
    }
}
