//! Scratch memory kept between calls, outputs that threads fill in parts, and the transposing pack.

use std::cell::RefCell;

use rayon::prelude::*;

thread_local!(static SCRATCH: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) });

/// Runs `f` on `n` values of this thread's scratch memory, aligned to a cache line. Their contents are whatever was left.
/// Calls may nest; each level has memory of its own, kept for the next call.
pub fn with_scratch<R>(n: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buf = SCRATCH.with(|s| {
        let mut free = s.borrow_mut();
        let best = (0..free.len()).filter(|&i| free[i].len() >= n + 16).min_by_key(|&i| free[i].len());
        // Where none is large enough, the largest makes room for one that is.
        let largest = || (0..free.len()).max_by_key(|&i| free[i].len());
        best.or_else(largest).map(|i| free.swap_remove(i)).unwrap_or_default()
    });
    if buf.len() < n + 16 {
        drop(std::mem::take(&mut buf));
        buf = vec![0.0; n + 16];
    }
    let skip = (buf.as_ptr() as usize).wrapping_neg() % 64 / 4;
    let r = f(&mut buf[skip..skip + n]);
    SCRATCH.with(|s| s.borrow_mut().push(buf));
    r
}

/// A vector being filled by several threads, each writing elements of its own.
pub struct Out {
    vec: Vec<f32>,
    len: usize,
    ptr: *mut f32,
}

// SAFETY: the pointer is only used to write disjoint elements, which each user vouches for.
unsafe impl Sync for Out {}

impl Out {
    /// Room for `len` values, not yet set.
    pub fn new(len: usize) -> Self {
        let mut vec = Vec::with_capacity(len);
        let ptr = vec.as_mut_ptr();
        Self { vec, len, ptr }
    }

    /// Sets each run of `len` values to what `value` says of its index.
    pub fn fill_with(&self, len: usize, value: impl Fn(usize) -> f32 + Sync) {
        let ptr = Shared(self.ptr);
        assert!(len > 0 && self.len.is_multiple_of(len));
        (0..self.len / len).into_par_iter().for_each(|i| {
            let v = value(i);
            for j in 0..len {
                // SAFETY: this task's own part of the vector.
                unsafe { *ptr.ptr().add(i * len + j) = v };
            }
        });
    }

    /// Where the values lie.
    pub fn ptr(&self) -> *mut f32 {
        self.ptr
    }

    /// The filled vector.
    ///
    /// # Safety
    /// Every element was written.
    pub unsafe fn into_vec(mut self) -> Vec<f32> {
        // SAFETY: the capacity is `len` at least, and the caller says that all are set.
        unsafe { self.vec.set_len(self.len) };
        self.vec
    }
}

/// Memory that several threads use in parts of their own.
#[derive(Debug, Clone, Copy)]
pub struct Shared(*mut f32);

// SAFETY: only a pointer; each use vouches that no two threads meet.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// `memory`, to be shared as long as it lives.
    pub fn new(memory: &mut [f32]) -> Self {
        Self(memory.as_mut_ptr())
    }

    /// Where it starts.
    pub fn ptr(&self) -> *mut f32 {
        self.0
    }
}

/// `dst[j][width] = src[row][j]` for `cols` columns `j`: `rows` rows that lie `ld` apart become one panel, in which the
/// values of one column are neighbours. Places past `rows` (up to `width`) get zeros.
///
/// # Safety
/// `src` has `cols` values at each of `rows` steps of `ld`, `dst` room for `cols · width`, `rows <= width`.
pub unsafe fn transpose_panel(src: *const f32, ld: usize, rows: usize, cols: usize, dst: *mut f32, width: usize) {
    #[cfg(target_arch = "x86_64")]
    if super::has_avx2() {
        // SAFETY: the caller's promise; the features were asked for.
        unsafe { transpose_avx2(src, ld, rows, cols, dst, width) };
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { transpose_from(src, ld, rows, 0, cols, dst, width) };
}

/// The plain loop from column `first` on.
#[inline(always)]
unsafe fn transpose_from(
    src: *const f32,
    ld: usize,
    rows: usize,
    first: usize,
    cols: usize,
    dst: *mut f32,
    width: usize,
) {
    for j in first..cols {
        for r in 0..width {
            // SAFETY: r < rows guards the read; the write is inside cols·width.
            unsafe { *dst.add(j * width + r) = if r < rows { *src.add(r * ld + j) } else { 0.0 } };
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn transpose_avx2(src: *const f32, ld: usize, rows: usize, cols: usize, dst: *mut f32, width: usize) {
    use std::arch::x86_64::*;
    let full = cols / 8 * 8;
    let mut r0 = 0;
    while r0 < width {
        // Rows r0..r0+8 of the panel; only `lanes` of them belong to it.
        let lanes = (width - r0).min(8);
        let mut j = 0;
        while j < full {
            let mut v = [_mm256_setzero_ps(); 8];
            for r in 0..8 {
                if r0 + r < rows && r < lanes {
                    // SAFETY: the row is inside and j + 8 <= cols.
                    v[r] = unsafe { _mm256_loadu_ps(src.add((r0 + r) * ld + j)) };
                }
            }
            let t = transpose8(v);
            // A store of eight lanes may spill into the next column's place, which is written after it; the last
            // column, and panels of which this is not the last piece, are stored lane by lane.
            for c in 0..8 {
                // SAFETY: inside cols·width: a full store only where another column follows or all lanes are ours.
                unsafe {
                    let p = dst.add((j + c) * width + r0);
                    if lanes == 8 || (width < 8 && j + c + 2 < cols) {
                        _mm256_storeu_ps(p, t[c]);
                    } else {
                        let mut tmp = [0f32; 8];
                        _mm256_storeu_ps(tmp.as_mut_ptr(), t[c]);
                        std::ptr::copy_nonoverlapping(tmp.as_ptr(), p, lanes);
                    }
                }
            }
            j += 8;
        }
        r0 += 8;
    }
    // SAFETY: the caller's promise.
    unsafe { transpose_from(src, ld, rows, full, cols, dst, width) };
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose8(v: [std::arch::x86_64::__m256; 8]) -> [std::arch::x86_64::__m256; 8] {
    use std::arch::x86_64::*;
    let mut a = v;
    for i in 0..4 {
        a[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
    }
    let mut b = a;
    for h in 0..2 {
        let o = 4 * h;
        b[o] = _mm256_shuffle_ps::<0x44>(a[o], a[o + 2]);
        b[o + 1] = _mm256_shuffle_ps::<0xee>(a[o], a[o + 2]);
        b[o + 2] = _mm256_shuffle_ps::<0x44>(a[o + 1], a[o + 3]);
        b[o + 3] = _mm256_shuffle_ps::<0xee>(a[o + 1], a[o + 3]);
    }
    let mut c = b;
    for i in 0..4 {
        c[i] = _mm256_permute2f128_ps::<0x20>(b[i], b[i + 4]);
        c[i + 4] = _mm256_permute2f128_ps::<0x31>(b[i], b[i + 4]);
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_transposed_and_padded() {
        for (rows, cols, width) in [
            (6, 40, 6),
            (4, 17, 6),
            (16, 33, 16),
            (11, 24, 16),
            (8, 8, 8),
            (3, 7, 8),
            (48, 19, 48),
            (30, 9, 48),
            (1, 8, 6),
        ] {
            let ld = cols + 2;
            let src: Vec<f32> = (0..rows * ld).map(|i| i as f32).collect();
            let mut dst = vec![-1f32; cols * width + 1];
            // SAFETY: both vectors are as long as asked for.
            unsafe { transpose_panel(src.as_ptr(), ld, rows, cols, dst.as_mut_ptr(), width) };
            for j in 0..cols {
                for r in 0..width {
                    let want = if r < rows { src[r * ld + j] } else { 0.0 };
                    assert_eq!(dst[j * width + r], want, "rows {rows} cols {cols} width {width}: {j} {r}");
                }
            }
            assert_eq!(dst[cols * width], -1.0);
        }
    }

    #[test]
    fn nested_scratch_is_separate() {
        with_scratch(10, |a| {
            a.fill(1.0);
            with_scratch(10, |b| b.fill(2.0));
            assert!(a.iter().all(|&v| v == 1.0));
        });
    }
}
