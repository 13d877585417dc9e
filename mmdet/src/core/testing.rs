//! Boxes for tests, the same in Python:
//!
//! ```python
//! def lcg(seed):
//!     while True:
//!         seed = (seed * 1103515245 + 12345) % 2**31
//!         yield seed >> 8
//! def boxes(n, seed, size=64, side=40):  # corners at quarters of pixels
//!     g, out = lcg(seed), []
//!     for _ in range(n):
//!         x, y, w, h = next(g) % (size * 4) / 4, next(g) % (size * 4) / 4, (1 + next(g) % (side * 4)) / 4, (1 + next(g) % (side * 4)) / 4
//!         out.append([x, y, x + w, y + h])
//!     return torch.tensor(out)
//! ```

use super::BBox;

/// The numbers of `lcg`.
pub struct Lcg(pub u64);

impl Lcg {
    /// The next one, below 2^23.
    pub fn draw(&mut self) -> u64 {
        self.0 = (self.0 * 1_103_515_245 + 12_345) % (1 << 31);
        self.0 >> 8
    }
}

pub fn boxes_of(n: usize, seed: u64, size: u64, side: u64) -> Vec<BBox> {
    let mut g = Lcg(seed);
    (0..n)
        .map(|_| {
            let [x, y] = [0, 1].map(|_| (g.draw() % (size * 4)) as f32 / 4.0);
            let [w, h] = [0, 1].map(|_| (1 + g.draw() % (side * 4)) as f32 / 4.0);
            [x, y, x + w, y + h]
        })
        .collect()
}

/// `boxes(n, seed)`.
pub fn boxes(n: usize, seed: u64) -> Vec<BBox> {
    boxes_of(n, seed, 64, 40)
}

/// f32 on both sides: a few units in the last place of the larger numbers.
#[track_caller]
pub fn close(ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{ours:?}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!(a == b || (a - b).abs() <= 2e-6 + 2e-6 * b.abs(), "element {i}: {a}, expected {b}\n{ours:?}");
    }
}
