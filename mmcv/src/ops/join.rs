//! Two vectors as one, for kernels that take both.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::kernel::values;
use crate::nn::{apply2, tracked};

struct Join;

impl CustomOp2 for Join {
    fn name(&self) -> &'static str {
        "join"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let joined = [values("join", s1, l1)?, values("join", s2, l2)?].concat();
        let len = joined.len();
        Ok((CpuStorage::F32(joined), len.into()))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let part = |t: &Tensor, from: usize| {
            tracked(t).then(|| grad.narrow(0, from, t.elem_count())?.contiguous()).transpose()
        };
        Ok((part(a, 0)?, part(b, a.elem_count())?))
    }
}

/// `[A]` and `[B]` as `[A + B]`.
pub(super) fn join(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    apply2(a, b, Join)
}
