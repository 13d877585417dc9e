//! What the box losses' kernels share.

use candle_core::{CpuStorage, Layout, Result, bail};

/// Below this many elements a second thread costs more than it saves.
pub(super) const GRAIN: usize = 4096;

/// The f32 values of a contiguous tensor's storage.
pub(super) fn values<'s>(op: &str, storage: &'s CpuStorage, layout: &Layout) -> Result<&'s [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("{op}: the input is not contiguous") };
    Ok(&storage.as_slice::<f32>()?[start..end])
}
