//! Sixteen channels side by side: the layout in which kernels that gather pixels work on whole vectors.
#![allow(unsafe_code)] // calls the transposing pack on checked slices

use super::gemm::transpose_panel;

/// Channels of a block.
pub(crate) const BLOCK: usize = 16;

/// Values of one pixel that are computed together.
pub(crate) trait Lanes: Copy + Send + Sync + 'static {
    /// How many.
    const COUNT: usize;
    /// All zero.
    const ZERO: Self;
    /// `self += w * x`.
    fn add(&mut self, w: f32, x: &Self);
    /// The values.
    fn get(&self) -> &[f32];
    /// The values.
    fn get_mut(&mut self) -> &mut [f32];
    /// A slice of values as pixels.
    fn cast(values: &mut [f32]) -> &mut [Self];
}

impl<const L: usize> Lanes for [f32; L] {
    const COUNT: usize = L;
    const ZERO: Self = [0.0; L];

    #[inline(always)]
    fn add(&mut self, w: f32, x: &Self) {
        for (a, x) in self.iter_mut().zip(x) {
            *a += w * x;
        }
    }

    #[inline(always)]
    fn get(&self) -> &[f32] {
        self
    }

    #[inline(always)]
    fn get_mut(&mut self) -> &mut [f32] {
        self
    }

    fn cast(values: &mut [f32]) -> &mut [Self] {
        values.as_chunks_mut::<L>().0
    }
}

/// Pixels `from..to` of planes of `plane` pixels into the same places of `out`; planes that a block lacks are zero.
pub(crate) fn gather<V: Lanes>(planes: &[f32], plane: usize, from: usize, to: usize, out: &mut [V]) {
    let out = &mut out[from..to];
    if V::COUNT == 1 {
        for (o, x) in out.iter_mut().zip(&planes[from..to]) {
            o.get_mut()[0] = *x;
        }
        return;
    }
    let channels = planes.len() / plane.max(1);
    assert!(channels <= V::COUNT && to <= plane);
    if from < to {
        // SAFETY: each of the `channels` planes has to - from values at `from`; `out` has as many blocks.
        unsafe {
            let (source, target) = (planes.as_ptr().add(from), out.as_mut_ptr().cast::<f32>());
            transpose_panel(source, plane, channels, to - from, target, V::COUNT);
        }
    }
}

/// The planes that lie in `blocks`.
pub(crate) fn scatter<V: Lanes>(blocks: &[V], planes: &mut [f32]) {
    let plane = blocks.len();
    if V::COUNT == 1 {
        for (o, x) in planes.iter_mut().zip(blocks) {
            *o = x.get()[0];
        }
        return;
    }
    let channels = planes.len() / plane.max(1);
    assert!(channels <= V::COUNT && planes.len() == channels * plane);
    for (at, piece) in blocks.chunks(64).enumerate() {
        for c in 0..channels {
            for (o, b) in planes[c * plane + at * 64..].iter_mut().zip(piece) {
                *o = b.get()[c];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattering_undoes_gathering() {
        for (channels, plane) in [(16, 21), (3, 70), (1, 5), (9, 64)] {
            let planes: Vec<f32> = (0..channels * plane).map(|i| i as f32).collect();
            let mut blocks = vec![[-1.0f32; BLOCK]; plane];
            gather(&planes, plane, 0, 2, &mut blocks);
            gather(&planes, plane, 2, plane, &mut blocks);
            assert_eq!(blocks[4][channels - 1], ((channels - 1) * plane + 4) as f32);
            assert!(blocks.iter().all(|b| b[channels..].iter().all(|v| *v == 0.0)));
            let mut back = vec![0.0; planes.len()];
            scatter(&blocks, &mut back);
            assert_eq!(back, planes);
        }
    }
}
