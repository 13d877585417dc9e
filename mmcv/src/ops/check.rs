//! Checks of arguments whose errors name the op, the argument, what was found and what is expected.

use candle_core::{DType, Result, Tensor, bail};

/// An error unless `t` is f32.
pub(crate) fn f32s(op: &str, arg: &str, t: &Tensor) -> Result<()> {
    match t.dtype() {
        DType::F32 => Ok(()),
        found => bail!("{op}: {arg} is {found:?}, expected f32"),
    }
}

/// The sizes of `t`, an error unless it has `D` axes; `axes` names them, as `[N, C, H, W]`.
pub(crate) fn dims<const D: usize>(op: &str, arg: &str, t: &Tensor, axes: &str) -> Result<[usize; D]> {
    match <[usize; D]>::try_from(t.dims()) {
        Ok(dims) => Ok(dims),
        Err(_) => bail!("{op}: {arg} has shape {:?}, expected {axes}", t.dims()),
    }
}

/// An error unless `t` has the shape `expected`, whose axes are `axes`.
pub(crate) fn shape(op: &str, arg: &str, t: &Tensor, expected: &[usize], axes: &str) -> Result<()> {
    if t.dims() != expected {
        bail!("{op}: {arg} has shape {:?}, expected {axes} = {expected:?}", t.dims());
    }
    Ok(())
}
