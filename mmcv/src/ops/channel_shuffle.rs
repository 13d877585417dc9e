//! Channels of groups dealt out in turn (ShuffleNet).

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::kernel::{build, planes, values};
use crate::nn::apply1;

/// Reads the channels as a `[groups, C / groups]` table by its columns.
struct ChannelShuffle {
    groups: usize,
}

impl CustomOp1 for ChannelShuffle {
    fn name(&self) -> &'static str {
        "channel_shuffle"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = values("channel_shuffle", storage, layout)?;
        let channels = layout.dims()[1];
        let size: usize = layout.dims()[2..].iter().product();
        let rows = channels / self.groups;
        let out = build(x.len(), size, |at, out: &mut [f32]| {
            for (k, plane) in out.chunks_mut(size.max(1)).enumerate() {
                let to = at / size + k;
                let (image, c) = (to / channels, to % channels);
                let from = image * channels + c % self.groups * rows + c / self.groups;
                plane.copy_from_slice(&x[from * size..(from + 1) * size]);
            }
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = ChannelShuffle { groups: (x.dims()[1] / self.groups).max(1) };
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&back)?))
    }
}

/// `[N, C, ...]` with channel `g * (C / groups) + k` moved to `k * groups + g`, mmcls's `channel_shuffle`.
pub fn channel_shuffle(x: &Tensor, groups: usize) -> Result<Tensor> {
    let (_, channels, _) = planes("channel_shuffle", x)?;
    if groups == 0 || channels % groups != 0 {
        bail!("channel_shuffle: {channels} channels don't divide into {groups} groups");
    }
    apply1(x, ChannelShuffle { groups })
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::testing::{close, wave, weighted_grad};
    use super::*;

    #[test]
    fn it_is_the_transposed_table_with_its_gradient() -> Result<()> {
        for (shape, groups) in [([2, 6, 3, 5], 2), ([2, 6, 3, 5], 3), ([1, 4, 1, 1], 4), ([0, 4, 2, 2], 2)] {
            let x = Var::from_tensor(&wave(&shape))?;
            let [n, c, h, w] = shape;
            let table = x.reshape((n, groups, c / groups, h * w))?.transpose(1, 2)?.contiguous()?.reshape(&shape)?;
            let ours = channel_shuffle(&x, groups)?;
            close(&ours, &table.flatten_all()?.to_vec1::<f32>()?);
            if ours.elem_count() > 0 {
                close(&weighted_grad(&ours, &x), &weighted_grad(&table, &x).flatten_all()?.to_vec1::<f32>()?);
            }
        }
        let e = channel_shuffle(&wave(&[1, 5, 1, 1]), 2).unwrap_err().to_string();
        assert!(e.contains("5 channels") && e.contains("2 groups"), "{e}");
        Ok(())
    }
}
