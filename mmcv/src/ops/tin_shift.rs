//! The temporal shift of the Temporal Interlacing Network, Shao et al., AAAI 2020 (<https://arxiv.org/abs/2001.06499>), as
//! mmcv's `tin_shift`. There is no CUDA kernel yet.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};

use super::check;
use super::kernel::{build, values, with_values};
use crate::nn::apply1;

struct Op {
    shifts: Vec<i64>,
    groups: usize,
    dims: [usize; 4],
}

impl Op {
    /// The pixels of `x` moved in time by each group's shift, or back.
    fn run(&self, x: &[f32], back: bool) -> Vec<f32> {
        let [_, t, c, area] = self.dims;
        build(x.len(), area, |at, out: &mut [f32]| {
            let plane = at / area;
            let (image, time, channel) = (plane / (t * c), plane / c % t, plane % c);
            let shift = self.shifts[image * self.groups + channel / (c / self.groups)];
            let from = time as i64 + if back { shift } else { -shift };
            if (0..t as i64).contains(&from) {
                out.copy_from_slice(&x[((image * t + from as usize) * c + channel) * area..][..area]);
            }
        })
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "tin_shift"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.run(values("tin_shift", s, l)?, false)), l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let dx = with_values("tin_shift_backward", grad, |g| Ok(self.run(g, true)))?;
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

/// Each group of channels moved later by its shift; what comes from before the first or after the last step is 0.
///
/// # Shapes
/// - `x` and output: `[N, T, C, HW]`
/// - `shift`: `[N, groups]` integers, `C` a multiple of the groups
pub fn tin_shift(x: &Tensor, shift: &Tensor) -> Result<Tensor> {
    const OP: &str = "tin_shift";
    check::f32s(OP, "x", x)?;
    let dims = check::dims::<4>(OP, "x", x, "[N, T, C, HW]")?;
    let [n, groups] = check::dims(OP, "shift", shift, "[N, groups]")?;
    if n != dims[0] || groups == 0 || dims[2] % groups != 0 || shift.dtype().is_float() {
        bail!(
            "{OP}: shift is {:?} {:?}, expected integers [{}, a divisor of {}]",
            shift.dtype(),
            shift.dims(),
            dims[0],
            dims[2]
        );
    }
    let shifts = shift.to_dtype(DType::I64)?.flatten_all()?.to_vec1()?;
    apply1(x, Op { shifts, groups, dims })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, tensor, var, weighted_grad, weights};
    use super::*;

    #[test]
    fn groups_move_in_time_and_gradients_move_back() {
        // Two groups of one channel, three steps, two pixels: later by one, earlier by two.
        let x = var(&(1..=12).map(|v| v as f32).collect::<Vec<_>>(), &[1, 3, 2, 2]);
        let shift = Tensor::new(&[[1i64, -2]], x.device()).unwrap();
        let y = tin_shift(&x, &shift).unwrap();
        close(&y, &[0.0, 0.0, 11.0, 12.0, 1.0, 2.0, 0.0, 0.0, 5.0, 6.0, 0.0, 0.0]);
        let w = weights(&[12]).to_vec1::<f32>().unwrap();
        let wanted = [w[4], w[5], 0.0, 0.0, w[8], w[9], 0.0, 0.0, 0.0, 0.0, w[2], w[3]];
        close(&weighted_grad(&y, &x), &wanted);
        assert_eq!(
            tin_shift(&tensor(&[], &[0, 3, 2, 2]), &shift.narrow(0, 0, 0).unwrap()).unwrap().dims(),
            &[0, 3, 2, 2]
        );
        let e = tin_shift(&x, &tensor(&[1.0], &[1, 1])).unwrap_err().to_string();
        assert!(e.contains("shift is F32 [1, 1], expected integers"), "{e}");
    }
}
