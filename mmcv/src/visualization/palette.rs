//! Colours for classes.

use super::Color;
use crate::error::{Error, Result, did_you_mean};

/// mmcv's named colours, in BGR.
const NAMED: [(&str, Color); 8] = [
    ("red", [0, 0, 255]),
    ("green", [0, 255, 0]),
    ("blue", [255, 0, 0]),
    ("cyan", [255, 255, 0]),
    ("yellow", [0, 255, 255]),
    ("magenta", [255, 0, 255]),
    ("white", [255, 255, 255]),
    ("black", [0, 0, 0]),
];

/// mmcv's `color_val` of a name.
pub fn color_val(name: &str) -> Result<Color> {
    NAMED.iter().find(|(n, _)| *n == name).map(|(_, c)| *c).ok_or_else(|| {
        let names = NAMED.map(|(n, _)| n);
        Error::config(format!("unknown color '{name}'; known: {}{}", names.join(", "), did_you_mean(name, names)))
    })
}

/// `n` colours told apart by hue (each is the golden angle on from the last), saturation and value. BGR, the same each
/// time.
pub fn palette(n: usize) -> Vec<Color> {
    (0..n)
        .map(|i| {
            let hue = (i as f64 * 137.507_764 + 8.0) % 360.0 / 60.0;
            let (saturation, value) = ([0.85, 0.6, 1.0][i / 7 % 3], [0.95, 0.75][i / 21 % 2]);
            let channel = |offset: f64| {
                let k = (offset + hue) % 6.0;
                let v = value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0);
                (v * 255.0).round() as u8
            };
            [channel(1.0), channel(3.0), channel(5.0)]
        })
        .collect()
}

/// PASCAL VOC's colour map of `n` labels, in BGR: the bits of a label are dealt to red, green and blue from the top.
pub fn voc_colormap(n: usize) -> Vec<Color> {
    (0..n)
        .map(|label| {
            let mut color = [0u8; 3];
            for bit in 0..8 {
                for (channel, c) in color.iter_mut().rev().enumerate() {
                    *c |= ((label >> (3 * bit + channel) & 1) as u8) << (7 - bit);
                }
            }
            color
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mmcvs_and_a_typo_is_told() {
        // mmcv.color_val('cyan')
        assert_eq!(color_val("cyan").unwrap(), [255, 255, 0]);
        let message = color_val("grean").unwrap_err().to_string();
        assert!(message.contains("did you mean 'green'"), "{message}");
    }

    #[test]
    fn the_voc_colours_are_those_of_its_devkit() {
        // mmdet's VOCDataset.PALETTE order, in RGB: (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), ... (64, 0, 0)
        let rgb: Vec<Color> = voc_colormap(9).into_iter().map(|[b, g, r]| [r, g, b]).collect();
        assert_eq!(rgb[..4], [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]);
        assert_eq!(rgb[8], [64, 0, 0]);
    }

    #[test]
    fn a_hundred_classes_have_a_hundred_colours() {
        let colors: std::collections::BTreeSet<Color> = palette(100).into_iter().collect();
        assert_eq!(colors.len(), 100);
        assert_eq!(palette(3), palette(100)[..3]);
    }
}
