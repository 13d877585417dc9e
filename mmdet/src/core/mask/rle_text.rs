//! The text form of a run-length encoding: six bits a character, each count as the difference to the one two before.

use super::Rle;

impl Rle {
    /// COCO's compressed text (`segmentation.counts` of results).
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let counts = self.counts();
        for (i, count) in counts.iter().enumerate() {
            let mut x = i64::from(*count);
            if i > 2 {
                x -= i64::from(counts[i - 2]);
            }
            loop {
                let bits = (x & 0x1f) as u8;
                x >>= 5;
                // The fifth bit is the sign: stop when what is left only repeats it.
                let more = if bits & 0x10 != 0 { x != -1 } else { x != 0 };
                text.push(char::from(bits + 48 + if more { 0x20 } else { 0 }));
                if !more {
                    break;
                }
            }
        }
        text
    }

    /// Reads COCO's compressed text; `None` when it is none or doesn't fill the mask.
    pub fn from_text(height: usize, width: usize, text: &str) -> Option<Self> {
        let (mut counts, mut bytes) = (Vec::<u32>::new(), text.bytes());
        while let Some(first) = bytes.next() {
            let (mut x, mut shift, mut byte) = (0i64, 0, first);
            loop {
                let c = byte.checked_sub(48).filter(|c| *c < 64)?;
                x |= i64::from(c & 0x1f).checked_shl(shift)?;
                shift += 5;
                if c & 0x20 == 0 {
                    if c & 0x10 != 0 {
                        x |= -1i64 << shift;
                    }
                    break;
                }
                if shift > 40 {
                    return None;
                }
                byte = bytes.next()?;
            }
            if counts.len() > 2 {
                x += i64::from(counts[counts.len() - 2]);
            }
            counts.push(u32::try_from(x).ok()?);
        }
        Self::from_counts(height, width, counts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bad_text_is_refused() {
        for text in ["", "0", "oooooooooooooooooo", "~", "\u{e9}", "P"] {
            assert!(Rle::from_text(3, 3, text).is_none(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn text_reads_back(runs in prop::collection::vec(0u32..100_000, 1..40)) {
            let sum = runs.iter().sum::<u32>() as usize;
            let rle = Rle::from_counts(sum, 1, runs).unwrap();
            prop_assert_eq!(Rle::from_text(sum, 1, &rle.to_text()), Some(rle));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,30}") {
            let _ = Rle::from_text(10, 10, &text);
        }
    }
}
