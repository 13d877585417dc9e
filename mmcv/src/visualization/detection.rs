//! What models find, drawn on the picture: boxes, masks, polygons, keypoints, segmentation maps.

use super::canvas::{Canvas, Color, Direction, text_size};
use crate::error::{Error, Result};
use crate::image::Image;

const BLACK: Color = [0; 3];
const WHITE: Color = [255; 3];

fn color_of(palette: &[Color], label: usize) -> Color {
    if palette.is_empty() { [0, 255, 0] } else { palette[label % palette.len()] }
}

/// Dots of the font for a picture of this size: 1 up to 600 pixels, then one more per 600.
fn text_scale(canvas: &Canvas) -> usize {
    (canvas.width().min(canvas.height()) / 600 + 1).min(4)
}

/// A label on dark ground with its upper left corner at (`x`, `y`), moved inside the picture.
fn label(canvas: &mut Canvas, x: i64, y: i64, text: &str, color: Color) {
    let scale = text_scale(canvas);
    let (w, h) = text_size(text, scale);
    let (w, h, pad) = (w as i64, h as i64, scale as i64);
    let x = x.min(canvas.width() as i64 - w - 2 * pad).max(0);
    let y = y.min(canvas.height() as i64 - h - 2 * pad).max(0);
    canvas.fill_rect(x, y, x + w + 2 * pad, y + h + 2 * pad, BLACK, 0.8);
    canvas.text(x + pad, y + pad, text, scale, Direction::Right, color);
}

/// mmdet's text for a box: `name|0.95`, or `class 3` without names.
fn caption(label: usize, score: Option<f32>, class_names: &[String]) -> String {
    let name = class_names.get(label).cloned().unwrap_or_else(|| format!("class {label}"));
    score.map_or(name.clone(), |s| format!("{name}|{s:.2}"))
}

fn same_length(what: &str, n: usize, boxes: usize) -> Result<()> {
    if n == boxes { Ok(()) } else { Err(Error::Run(format!("{n} {what} for {boxes} boxes"))) }
}

/// Boxes `[x1, y1, x2, y2]` (pixels, fractions cut off as mmdet does) in the colour of their label, `thickness` pixels
/// wide, each with its class and score. A label past the palette takes it from the start; boxes that are not finite are
/// left out.
pub fn draw_bboxes(
    image: &mut Image,
    boxes: &[[f32; 4]],
    labels: &[usize],
    scores: Option<&[f32]>,
    class_names: &[String],
    palette: &[Color],
    thickness: usize,
) -> Result<()> {
    same_length("labels", labels.len(), boxes.len())?;
    if let Some(scores) = scores {
        same_length("scores", scores.len(), boxes.len())?;
    }
    let mut canvas = Canvas::new(image)?;
    let finite = |b: &[f32; 4]| b.iter().all(|v| v.is_finite());
    // All boxes first: captions stay readable.
    for (b, &l) in boxes.iter().zip(labels).filter(|(b, _)| finite(b)) {
        let [x0, y0, x1, y1] = b.map(|v| v as i64);
        canvas.rect(x0, y0, x1, y1, thickness.max(1), color_of(palette, l), 0.8);
    }
    for (i, (b, &l)) in boxes.iter().zip(labels).enumerate().filter(|(_, (b, _))| finite(b)) {
        let text = caption(l, scores.map(|s| s[i]), class_names);
        let inset = thickness as i64;
        label(&mut canvas, b[0] as i64 + inset, b[1] as i64 + inset, &text, color_of(palette, l));
    }
    Ok(())
}

/// Mixes `color` into the pixels where `mask` (height x width values, row by row) is not 0, and draws the mask's border
/// pixels in white when `edge`. mmdet's alpha is 0.8.
pub fn draw_mask(image: &mut Image, mask: &[u8], color: Color, alpha: f32, edge: bool) -> Result<()> {
    let [h, w, _] = image.shape();
    if mask.len() != h * w {
        return Err(Error::Run(format!("a mask of {} values for an image of {h}x{w}", mask.len())));
    }
    let mut canvas = Canvas::new(image)?;
    for y in 0..h {
        for x in 0..w {
            if mask[y * w + x] == 0 {
                continue;
            }
            let inner = x > 0
                && y > 0
                && x + 1 < w
                && y + 1 < h
                && [y * w + x - 1, y * w + x + 1, (y - 1) * w + x, (y + 1) * w + x].iter().all(|&i| mask[i] != 0);
            canvas.blend(x as i64, y as i64, color, alpha);
            if edge && !inner {
                canvas.blend(x as i64, y as i64, WHITE, 0.8);
            }
        }
    }
    Ok(())
}

/// Polygons of points (x, y), filled with `alpha` (0: outlines alone) and outlined `thickness` pixels wide (0: no
/// outline).
pub fn draw_polygons(
    image: &mut Image,
    polygons: &[Vec<[f32; 2]>],
    color: Color,
    alpha: f32,
    thickness: f32,
) -> Result<()> {
    let mut canvas = Canvas::new(image)?;
    for points in polygons {
        if alpha > 0.0 {
            canvas.fill_polygon(points, color, alpha);
        }
        if thickness > 0.0 {
            canvas.polyline(points, true, thickness, color, 1.0);
        }
    }
    Ok(())
}

/// The keypoints `[x, y, score]` of one body and the `skeleton`'s links (pairs of indices into them); what scores below
/// `score_thr`, and links with such an end, are left out. Colours go by index and repeat.
pub fn draw_keypoints(
    image: &mut Image,
    keypoints: &[[f32; 3]],
    score_thr: f32,
    skeleton: &[[usize; 2]],
    point_colors: &[Color],
    link_colors: &[Color],
    radius: f32,
    thickness: f32,
) -> Result<()> {
    if let Some(link) = skeleton.iter().find(|l| l.iter().any(|&i| i >= keypoints.len())) {
        return Err(Error::Run(format!("the link {link:?} is past the {} keypoints", keypoints.len())));
    }
    let mut canvas = Canvas::new(image)?;
    let seen = |i: usize| keypoints[i][2] >= score_thr;
    let at = |i: usize| [keypoints[i][0], keypoints[i][1]];
    for (i, &[a, b]) in skeleton.iter().enumerate().filter(|(_, l)| l.iter().all(|&p| seen(p))) {
        canvas.line(at(a), at(b), thickness, color_of(link_colors, i), 1.0);
    }
    for i in (0..keypoints.len()).filter(|&i| seen(i)) {
        canvas.disc(at(i), radius, color_of(point_colors, i), 1.0);
    }
    Ok(())
}

/// mmseg's overlay: `image * (1 - opacity) + palette[label] * opacity`, fractions cut off. Labels past the palette (255:
/// ignored) leave the picture as it is.
pub fn draw_segmentation(image: &mut Image, labels: &[usize], palette: &[Color], opacity: f32) -> Result<()> {
    let [h, w, _] = image.shape();
    if labels.len() != h * w {
        return Err(Error::Run(format!("{} labels for an image of {h}x{w}", labels.len())));
    }
    Canvas::new(image)?;
    if let crate::image::Pixels::U8(v) = image.pixels_mut() {
        for (p, &label) in v.as_chunks_mut::<3>().0.iter_mut().zip(labels) {
            if let Some(color) = palette.get(label) {
                p.iter_mut().zip(color).for_each(|(p, &c)| {
                    *p = (f32::from(*p) * (1.0 - opacity) + f32::from(c) * opacity) as u8;
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Pixels;

    fn black(h: usize, w: usize) -> Image {
        Image::new(h, w, 3, Pixels::U8(vec![0; h * w * 3])).unwrap()
    }

    fn at(image: &Image, x: usize, y: usize) -> Color {
        let Pixels::U8(v) = image.pixels() else { panic!() };
        v.as_chunks::<3>().0[y * image.width() + x]
    }

    #[test]
    fn a_box_has_its_labels_colour_and_caption() {
        let mut image = black(80, 120);
        let names = ["cat".to_owned()];
        let palette = [[10, 20, 200], [250, 0, 0]];
        draw_bboxes(&mut image, &[[10.9, 20.2, 90.0, 70.0]], &[0], Some(&[0.5]), &names, &palette, 1).unwrap();
        assert_eq!(at(&image, 10, 45), [8, 16, 160]);
        assert_eq!(at(&image, 9, 45), BLACK);
        assert_eq!(at(&image, 50, 45), BLACK);
        let inked = (12..50).any(|x| (22..30).any(|y| at(&image, x, y) == palette[0]));
        assert!(inked, "the caption is in the box's colour");
        assert_eq!(caption(0, Some(0.954), &names), "cat|0.95");
        assert_eq!(caption(3, None, &names), "class 3");
    }

    #[test]
    fn boxes_outside_or_not_finite_do_no_harm_and_counts_are_checked() {
        let mut image = black(8, 8);
        let wild = [[-1e30, -5.0, 1e30, 5.0], [f32::NAN; 4], [6.0, 6.0, 2.0, 2.0]];
        draw_bboxes(&mut image, &wild, &[0, 1, 2], None, &[], &[], 2).unwrap();
        assert!(draw_bboxes(&mut image, &wild, &[0], None, &[], &[], 2).is_err());
        assert!(draw_bboxes(&mut image, &wild, &[0; 3], Some(&[]), &[], &[], 2).is_err());
        draw_bboxes(&mut image, &[], &[], None, &[], &[], 2).unwrap();
    }

    #[test]
    fn masks_and_maps_mix_their_colours() {
        let mut image = black(3, 3);
        draw_mask(&mut image, &[1; 9], [100, 0, 0], 0.5, true).unwrap();
        assert_eq!(at(&image, 1, 1), [50, 0, 0]);
        assert_eq!(at(&image, 0, 0), [214, 204, 204]);
        assert!(draw_mask(&mut image, &[1; 8], [0; 3], 0.5, true).is_err());
        let mut image = black(1, 3);
        draw_segmentation(&mut image, &[0, 1, 255], &[[9, 9, 9], [100, 50, 25]], 0.5).unwrap();
        assert_eq!(image.pixels(), &Pixels::U8(vec![4, 4, 4, 50, 25, 12, 0, 0, 0]));
    }

    #[test]
    fn keypoints_below_the_threshold_are_left_out() {
        let mut image = black(9, 30);
        let points = [[4.0, 4.0, 0.9], [14.0, 4.0, 0.9], [24.0, 4.0, 0.1]];
        draw_keypoints(&mut image, &points, 0.3, &[[0, 1], [1, 2]], &[[1, 2, 3]], &[[7, 8, 9]], 2.0, 1.0).unwrap();
        assert_eq!(at(&image, 4, 4), [1, 2, 3]);
        assert_eq!(at(&image, 9, 4), [7, 8, 9]);
        assert_eq!(at(&image, 19, 4), BLACK);
        assert_eq!(at(&image, 24, 4), BLACK);
        assert!(draw_keypoints(&mut image, &points, 0.3, &[[0, 3]], &[], &[], 2.0, 1.0).is_err());
    }

    #[test]
    fn polygons_are_filled_and_outlined() {
        let mut image = black(10, 10);
        let square = vec![[2.0, 2.0], [7.0, 2.0], [7.0, 7.0], [2.0, 7.0]];
        draw_polygons(&mut image, &[square], [200, 100, 0], 0.5, 1.0).unwrap();
        assert_eq!(at(&image, 4, 4), [100, 50, 0]);
        assert_eq!(at(&image, 2, 4), [200, 100, 0]);
        assert_eq!(at(&image, 9, 9), BLACK);
    }
}
