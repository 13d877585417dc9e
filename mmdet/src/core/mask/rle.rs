//! COCO's run-length encoding, equal to pycocotools to the last bit.
//!
//! A mask is read column by column (Fortran order); runs alternate, starting with a run of zeros
//! that may be empty.

/// A binary mask of `height` x `width` pixels as run lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rle {
    height: usize,
    width: usize,
    counts: Vec<u32>,
}

impl Rle {
    /// From run lengths, which must sum to `height * width`; `None` when they don't.
    pub fn from_counts(height: usize, width: usize, counts: Vec<u32>) -> Option<Self> {
        let sum: u64 = counts.iter().map(|c| u64::from(*c)).sum();
        (sum == height as u64 * width as u64).then_some(Self { height, width, counts })
    }

    /// Height of the mask in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width of the mask in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The runs: zeros, ones, zeros, ...
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Encodes a row-major mask; any value but 0 is inside. `mask.len()` must be `height * width`.
    pub fn encode(mask: &[u8], height: usize, width: usize) -> Self {
        assert_eq!(mask.len(), height * width, "a mask has height * width pixels");
        let (mut counts, mut run, mut inside) = (Vec::new(), 0, false);
        for x in 0..width {
            for y in 0..height {
                if (mask[y * width + x] != 0) != inside {
                    counts.push(run);
                    run = 0;
                    inside = !inside;
                }
                run += 1;
            }
        }
        counts.push(run);
        Self { height, width, counts }
    }

    /// The row-major mask of 0 and 1.
    pub fn decode(&self) -> Vec<u8> {
        let mut mask = vec![0; self.height * self.width];
        for (start, end) in self.ones() {
            for at in start as usize..end as usize {
                mask[at % self.height * self.width + at / self.height] = 1;
            }
        }
        mask
    }

    /// Column-major `[start, end)` of each run of ones.
    fn ones(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut at = 0;
        self.counts.chunks(2).filter_map(move |pair| {
            let start = at + pair[0];
            at = start + pair.get(1).copied().unwrap_or(0);
            (at > start).then_some((start, at))
        })
    }

    /// Number of pixels inside.
    pub fn area(&self) -> u64 {
        self.counts.iter().skip(1).step_by(2).map(|c| u64::from(*c)).sum()
    }

    /// `[x, y, width, height]` around the pixels inside, in pixels; zeros when there are none.
    pub fn to_bbox(&self) -> [f64; 4] {
        let h = self.height as u32;
        let (mut xs, mut ys) = ((u32::MAX, 0), (u32::MAX, 0));
        for (start, end) in self.ones() {
            let (x0, x1) = (start / h, (end - 1) / h);
            // A run over a column's end touches the first and the last row.
            let (y0, y1) = if x0 < x1 { (0, h - 1) } else { (start % h, (end - 1) % h) };
            xs = (xs.0.min(x0), xs.1.max(x1));
            ys = (ys.0.min(y0), ys.1.max(y1));
        }
        if xs.0 == u32::MAX {
            return [0.0; 4];
        }
        [xs.0, ys.0, xs.1 - xs.0 + 1, ys.1 - ys.0 + 1].map(f64::from)
    }

    /// Union of masks of one size, or their intersection. `None` for no masks or different sizes.
    pub fn merge(masks: &[Self], intersect: bool) -> Option<Self> {
        let (first, rest) = masks.split_first()?;
        rest.iter().try_fold(first.clone(), |a, b| a.combine(b, |p, q| if intersect { p && q } else { p || q }))
    }

    fn combine(&self, other: &Self, op: impl Fn(bool, bool) -> bool) -> Option<Self> {
        if (self.height, self.width) != (other.height, other.width) {
            return None;
        }
        let (mut counts, mut run, mut inside) = (Vec::new(), 0u32, false);
        walk(&self.counts, &other.counts, |len, p, q| {
            if op(p, q) != inside {
                counts.push(run);
                run = 0;
                inside = !inside;
            }
            run += len;
        });
        counts.push(run);
        Some(Self { height: self.height, width: self.width, counts })
    }

    /// Number of pixels inside both.
    pub fn intersection(&self, other: &Self) -> u64 {
        let mut both = 0;
        walk(&self.counts, &other.counts, |len, p, q| {
            if p && q {
                both += u64::from(len);
            }
        });
        both
    }

    /// Intersection over union of each detection (rows) with each ground truth (columns); over the detection's
    /// own area where the ground truth is a crowd. Sizes that differ give -1, as pycocotools does.
    pub fn iou(dt: &[Self], gt: &[Self], crowd: &[bool]) -> Vec<Vec<f64>> {
        let boxes: Vec<[f64; 4]> = gt.iter().map(Self::to_bbox).collect();
        dt.iter()
            .map(|d| {
                let (d_box, d_area) = (d.to_bbox(), d.area());
                gt.iter()
                    .zip(&boxes)
                    .zip(crowd)
                    .map(|((g, g_box), &crowd)| {
                        if !overlap(&d_box, g_box) {
                            return 0.0;
                        }
                        if (d.height, d.width) != (g.height, g.width) {
                            return -1.0;
                        }
                        let both = d.intersection(g);
                        if both == 0 {
                            return 0.0;
                        }
                        let whole = if crowd { d_area } else { d_area + g.area() - both };
                        both as f64 / whole as f64
                    })
                    .collect()
            })
            .collect()
    }
}

/// Whether two `[x, y, w, h]` boxes share some area.
fn overlap(a: &[f64; 4], b: &[f64; 4]) -> bool {
    (0..2).all(|i| (a[i] + a[i + 2]).min(b[i] + b[i + 2]) > a[i].max(b[i]))
}

/// Calls `f(length, inside a, inside b)` for each stretch in which neither mask changes.
fn walk(a: &[u32], b: &[u32], mut f: impl FnMut(u32, bool, bool)) {
    let (mut i, mut j) = (0, 0);
    let (mut left_a, mut left_b) = (a.first().copied().unwrap_or(0), b.first().copied().unwrap_or(0));
    while i < a.len() && j < b.len() {
        let len = left_a.min(left_b);
        if len > 0 {
            f(len, i % 2 == 1, j % 2 == 1);
        }
        left_a -= len;
        left_b -= len;
        if left_a == 0 {
            i += 1;
            left_a = a.get(i).copied().unwrap_or(0);
        }
        if left_b == 0 {
            j += 1;
            left_b = b.get(j).copied().unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use mmcv::Rng;
    use proptest::prelude::*;

    use super::*;

    fn mask(seed: u64, h: usize, w: usize) -> Vec<u8> {
        let mut rng = Rng::new(seed);
        let mut on = false;
        (0..h * w)
            .map(|_| {
                on ^= rng.chance(0.2);
                u8::from(on)
            })
            .collect()
    }

    #[test]
    fn a_small_mask_by_hand() {
        // 0 1 1
        // 0 1 0
        let r = Rle::encode(&[0, 1, 1, 0, 1, 0], 2, 3);
        assert_eq!(r.counts(), [2, 3, 1]);
        assert_eq!((r.area(), r.to_bbox()), (3, [1.0, 0.0, 2.0, 2.0]));
        let full = Rle::encode(&[1; 6], 2, 3);
        assert_eq!(full.counts(), [0, 6]);
        assert_eq!(Rle::iou(std::slice::from_ref(&r), std::slice::from_ref(&full), &[false]), [[0.5]]);
        assert_eq!(Rle::iou(&[r], &[full], &[true]), [[1.0]]);
    }

    #[test]
    fn an_empty_mask_has_no_area_and_meets_nothing() {
        let empty = Rle::encode(&[0; 6], 2, 3);
        assert_eq!((empty.area(), empty.to_bbox()), (0, [0.0; 4]));
        assert_eq!(Rle::iou(std::slice::from_ref(&empty), std::slice::from_ref(&empty), &[false]), [[0.0]]);
        assert!(Rle::merge(&[], false).is_none());
        assert!(Rle::from_counts(2, 3, vec![2, 3]).is_none());
    }

    proptest! {
        #[test]
        fn encoding_and_merging_agree_with_pixels(a in 0u64..500, b in 0u64..500, h in 1usize..12, w in 1usize..12) {
            let (ma, mb) = (mask(a, h, w), mask(b, h, w));
            let (ra, rb) = (Rle::encode(&ma, h, w), Rle::encode(&mb, h, w));
            prop_assert_eq!(&ra.decode(), &ma);
            let both: u64 = ma.iter().zip(&mb).map(|(p, q)| u64::from(p & q)).sum();
            let any: u64 = ma.iter().zip(&mb).map(|(p, q)| u64::from(p | q)).sum();
            prop_assert_eq!(ra.intersection(&rb), both);
            let pair = [ra, rb];
            prop_assert_eq!(Rle::merge(&pair, true).unwrap().area(), both);
            let union = Rle::merge(&pair, false).unwrap();
            prop_assert_eq!(union.area(), any);
            prop_assert_eq!(Rle::encode(&union.decode(), h, w), union);
        }
    }
}
