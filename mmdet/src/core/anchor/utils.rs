//! Helpers over priors: mmdet's `anchor/utils.py` and `unmap`.

use crate::core::BBox;

/// Which anchors are flagged valid and no more than `allowed_border` pixels outside an image of `(h, w)`.
/// A negative border allows all.
pub fn anchor_inside_flags(
    anchors: &[BBox],
    valid_flags: &[bool],
    img_shape: (usize, usize),
    allowed_border: f32,
) -> Vec<bool> {
    if allowed_border < 0.0 {
        return valid_flags.to_vec();
    }
    let (bottom, right) = (img_shape.0 as f32 + allowed_border, img_shape.1 as f32 + allowed_border);
    let inside = |b: &BBox| b[0] >= -allowed_border && b[1] >= -allowed_border && b[2] < right && b[3] < bottom;
    anchors.iter().zip(valid_flags).map(|(b, valid)| *valid && inside(b)).collect()
}

/// Per image lists over all levels become per level lists over all images: `out[level]` holds the images one after another.
pub fn images_to_levels<T: Clone>(targets: &[Vec<T>], num_levels: &[usize]) -> Vec<Vec<T>> {
    let mut start = 0;
    num_levels
        .iter()
        .map(|n| {
            let level = start..start + n;
            start = level.end;
            targets.iter().flat_map(|t| t[level.clone()].iter().cloned()).collect()
        })
        .collect()
}

/// Spreads values of the kept items over all of them; `fill` takes the rest.
pub fn unmap<T: Clone>(values: &[T], kept: &[bool], fill: T) -> Vec<T> {
    let mut values = values.iter();
    kept.iter().map(|k| k.then(|| values.next().cloned()).flatten().unwrap_or_else(|| fill.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::boxes;

    // anchor_inside_flags(boxes(12, 3), torch.tensor([True] * 11 + [False]), (70, 60), 1)
    #[test]
    fn anchors_past_the_border_are_flagged() {
        let (anchors, mut valid) = (boxes(12, 3), vec![true; 12]);
        valid[11] = false;
        let expected = [true, true, true, true, false, true, true, false, false, true, true, false];
        assert_eq!(anchor_inside_flags(&anchors, &valid, (70, 60), 1.0), expected);
        assert_eq!(anchor_inside_flags(&anchors, &valid, (70, 60), -1.0), valid);
        assert_eq!(anchor_inside_flags(&[[-1.0, 0.0, 1.0, 1.0]], &[true], (2, 2), 0.0), [false]);
        assert_eq!(anchor_inside_flags(&[[-1.0, 0.0, 1.0, 1.0]], &[true], (2, 2), 1.0), [true]);
    }

    #[test]
    fn targets_go_to_their_levels_and_back_to_all_anchors() {
        assert_eq!(images_to_levels(&[vec![1, 2, 3], vec![4, 5, 6]], &[2, 1]), [vec![1, 2, 4, 5], vec![3, 6]]);
        assert_eq!(unmap(&[7, 8], &[false, true, true, false], 0), [0, 7, 8, 0]);
    }
}
