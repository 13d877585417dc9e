//! Pictures of what a detector finds.

use std::path::Path;

use mmcv::Result;
use mmcv::image::{ChannelOrder, ColorFlag, Image, imread, imwrite};
use mmcv::visualization::{draw_bboxes, draw_mask, palette};

use crate::core::DetResult;

/// How detections are drawn.
#[derive(Debug, Clone)]
pub struct ShowOptions {
    /// Detections below are left out.
    pub score_thr: f32,
    /// Width of the boxes' lines, pixels.
    pub thickness: usize,
}

impl Default for ShowOptions {
    /// mmdet's 0.3, lines of 2 pixels.
    fn default() -> Self {
        Self { score_thr: 0.3, thickness: 2 }
    }
}

/// Draws boxes with names and scores, and masks where there are any, onto a BGR image.
pub fn draw_result(image: &mut Image, result: &DetResult, classes: &[String], options: &ShowOptions) -> Result<()> {
    let colors = palette(classes.len());
    let (mut boxes, mut labels, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for (label, found) in result.bboxes.iter().enumerate() {
        for (i, b) in found.iter().enumerate().filter(|(_, b)| b[4] >= options.score_thr) {
            if let Some(mask) = result.masks.as_ref().and_then(|m| m.get(label)?.get(i)) {
                let bits = mask.decode();
                if let Some(color) = colors.get(label) {
                    draw_mask(image, &bits, *color, 0.5, true)?;
                }
            }
            boxes.push([b[0], b[1], b[2], b[3]]);
            labels.push(label);
            scores.push(b[4]);
        }
    }
    draw_bboxes(image, &boxes, &labels, Some(&scores), classes, &colors, options.thickness)
}

/// Draws the result of the image file `image` into `out`.
pub fn show_result(
    image: &Path,
    result: &DetResult,
    classes: &[String],
    out: &Path,
    options: &ShowOptions,
) -> Result<()> {
    let mut picture = imread(image, ColorFlag::Color, ChannelOrder::Bgr)?;
    draw_result(&mut picture, result, classes, options)?;
    imwrite(&picture, out)
}

/// A file name for the drawing of `filename`, which may have folders in it.
pub fn drawing_name(filename: &str) -> String {
    filename.replace(['/', '\\'], "_")
}
