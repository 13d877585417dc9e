//! Lines, areas and text on a picture.

use super::font::{CELL, glyph};
use crate::error::{Error, Result};
use crate::image::{Image, Pixels};

/// A colour in the picture's order of channels: BGR.
pub type Color = [u8; 3];

/// A u8 picture of three channels that is drawn on. Whatever lies outside the picture is left out; coordinates are
/// pixels, with (0, 0) the middle of the upper left pixel, and ones that are not finite draw nothing.
pub struct Canvas<'a> {
    width: usize,
    height: usize,
    pixels: &'a mut [[u8; 3]],
}

/// Which way text runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the right; the position is the upper left corner.
    Right,
    /// Upwards, turned left; the position is the lower left corner.
    Up,
}

impl<'a> Canvas<'a> {
    /// Draws on `image`; an error unless it is u8 with three channels.
    pub fn new(image: &'a mut Image) -> Result<Self> {
        let [height, width, c] = image.shape();
        match image.pixels_mut() {
            Pixels::U8(v) if c == 3 => Ok(Self { width, height, pixels: v.as_chunks_mut::<3>().0 }),
            Pixels::U8(_) => Err(Error::Run(format!("drawing needs an image of 3 channels, not {c}"))),
            Pixels::F32(_) => Err(Error::Run("drawing needs a u8 image".into())),
        }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Mixes `color` into a pixel; `alpha` 1 covers it.
    pub fn blend(&mut self, x: i64, y: i64, color: Color, alpha: f32) {
        if x < 0 || y < 0 || x >= self.width as i64 || y >= self.height as i64 {
            return;
        }
        let pixel = &mut self.pixels[y as usize * self.width + x as usize];
        for (p, c) in pixel.iter_mut().zip(color) {
            *p = (f32::from(*p) * (1.0 - alpha) + f32::from(c) * alpha + 0.5) as u8;
        }
    }

    /// Fills columns `x0..x1` of rows `y0..y1`.
    pub fn fill_rect(&mut self, x0: i64, y0: i64, x1: i64, y1: i64, color: Color, alpha: f32) {
        for y in y0.max(0)..y1.min(self.height as i64) {
            for x in x0.max(0)..x1.min(self.width as i64) {
                self.blend(x, y, color, alpha);
            }
        }
    }

    /// The outline of a box whose corner pixels are (`x0`, `y0`) and (`x1`, `y1`), `thickness` pixels wide about them.
    pub fn rect(&mut self, x0: i64, y0: i64, x1: i64, y1: i64, thickness: usize, color: Color, alpha: f32) {
        let (out, inn) = ((thickness / 2) as i64, (thickness.div_ceil(2)) as i64);
        let (x0, x1, y0, y1) = (x0.min(x1), x0.max(x1), y0.min(y1), y0.max(y1));
        let (left, right, top, bottom) = (x0 - out, x1 + out + 1, y0 - out, y1 + out + 1);
        let (top_in, bottom_in) = (y0 + inn, (y1 - inn + 1).max(y0 + inn));
        self.fill_rect(left, top, right, top_in, color, alpha);
        self.fill_rect(left, bottom_in, right, bottom, color, alpha);
        self.fill_rect(left, top_in, x0 + inn, bottom_in, color, alpha);
        self.fill_rect((x1 - inn + 1).max(x0 + inn), top_in, right, bottom_in, color, alpha);
    }

    /// A straight line with round ends and smooth edges.
    pub fn line(&mut self, from: [f32; 2], to: [f32; 2], thickness: f32, color: Color, alpha: f32) {
        let ([x0, y0], [x1, y1]) = (from, to);
        if ![x0, y0, x1, y1, thickness].iter().all(|v| v.is_finite()) {
            return;
        }
        let reach = thickness / 2.0 + 1.0;
        let (dx, dy) = (x1 - x0, y1 - y0);
        let length2 = dx * dx + dy * dy;
        let rows = clip(y0.min(y1) - reach, y0.max(y1) + reach, self.height);
        for y in rows {
            // The part of the line that is near this row bounds the columns to look at.
            let (mut left, mut right) = (x0.min(x1), x0.max(x1));
            if dy.abs() > 1e-6 {
                let at = |row: f32| x0 + ((row - y0) / dy).clamp(0.0, 1.0) * dx;
                let (a, b) = (at(y as f32 - reach), at(y as f32 + reach));
                (left, right) = (a.min(b), a.max(b));
            }
            for x in clip(left - reach, right + reach, self.width) {
                let (px, py) = (x as f32 - x0, y as f32 - y0);
                let t = if length2 > 0.0 { ((px * dx + py * dy) / length2).clamp(0.0, 1.0) } else { 0.0 };
                let distance = (px - t * dx).hypot(py - t * dy);
                let cover = (thickness / 2.0 + 0.5 - distance).clamp(0.0, 1.0);
                if cover > 0.0 {
                    self.blend(x as i64, y as i64, color, alpha * cover);
                }
            }
        }
    }

    /// Lines from point to point, and back to the first when `closed`.
    pub fn polyline(&mut self, points: &[[f32; 2]], closed: bool, thickness: f32, color: Color, alpha: f32) {
        for pair in points.windows(2) {
            self.line(pair[0], pair[1], thickness, color, alpha);
        }
        if let ([first, .., last], true) = (points, closed) {
            self.line(*last, *first, thickness, color, alpha);
        }
    }

    /// A disc with a smooth edge.
    pub fn disc(&mut self, centre: [f32; 2], radius: f32, color: Color, alpha: f32) {
        self.line(centre, centre, 2.0 * radius, color, alpha);
    }

    /// Fills the pixels whose middle lies inside the polygon (even-odd rule).
    pub fn fill_polygon(&mut self, points: &[[f32; 2]], color: Color, alpha: f32) {
        if points.len() < 3 || points.iter().flatten().any(|v| !v.is_finite()) {
            return;
        }
        let low = points.iter().map(|p| p[1]).fold(f32::INFINITY, f32::min);
        let high = points.iter().map(|p| p[1]).fold(f32::NEG_INFINITY, f32::max);
        let mut crossings = Vec::new();
        for y in clip(low, high, self.height) {
            let row = y as f32;
            crossings.clear();
            for (i, &[x0, y0]) in points.iter().enumerate() {
                let [x1, y1] = points[(i + 1) % points.len()];
                // Half-open, so that a corner counts once.
                if (y0 <= row) != (y1 <= row) {
                    crossings.push(x0 + (row - y0) / (y1 - y0) * (x1 - x0));
                }
            }
            crossings.sort_by(f32::total_cmp);
            for pair in crossings.chunks_exact(2) {
                let (left, right) = (pair[0].ceil().max(0.0) as i64, pair[1].ceil().max(0.0) as i64);
                for x in left..right.min(self.width as i64) {
                    self.blend(x, y as i64, color, alpha);
                }
            }
        }
    }

    /// ASCII text, each dot of the font `scale` pixels wide; other characters are boxes.
    pub fn text(&mut self, x: i64, y: i64, text: &str, scale: usize, direction: Direction, color: Color) {
        let s = scale as i64;
        for (i, c) in text.chars().enumerate() {
            for (column, bits) in glyph(c).into_iter().enumerate() {
                for row in (0..8).filter(|row| bits >> row & 1 == 1) {
                    let (along, down) = ((i * CELL.0 + column) as i64 * s, row as i64 * s);
                    let (px, py) = match direction {
                        Direction::Right => (x + along, y + down),
                        Direction::Up => (x + down, y - along - s),
                    };
                    self.fill_rect(px, py, px + s, py + s, color, 1.0);
                }
            }
        }
    }
}

/// Width and height of a text that runs to the right.
pub fn text_size(text: &str, scale: usize) -> (usize, usize) {
    ((text.chars().count() * CELL.0).saturating_sub(1) * scale, (CELL.1 - 1) * scale)
}

/// The whole numbers of `from..=to` inside `0..n`.
fn clip(from: f32, to: f32, n: usize) -> std::ops::Range<usize> {
    let from = from.floor().max(0.0) as usize;
    let to = if to < 0.0 { 0 } else { (to.ceil() as usize).saturating_add(1).min(n) };
    from.min(to)..to
}

#[cfg(test)]
mod tests {
    use super::*;

    const INK: Color = [1, 1, 1];

    /// `#` where the picture was drawn on.
    fn drawn(h: usize, w: usize, draw: impl Fn(&mut Canvas)) -> Vec<String> {
        let mut image = Image::new(h, w, 3, Pixels::U8(vec![0; h * w * 3])).unwrap();
        draw(&mut Canvas::new(&mut image).unwrap());
        let Pixels::U8(v) = image.pixels() else { panic!() };
        let mark = |p: &[u8; 3]| if p[0] == 1 { '#' } else { '.' };
        v.as_chunks::<3>().0.chunks_exact(w).map(|row| row.iter().map(mark).collect()).collect()
    }

    #[test]
    fn a_box_is_as_thick_as_asked_about_its_corners() {
        assert_eq!(
            drawn(5, 6, |c| c.rect(1, 1, 4, 3, 1, INK, 1.0)),
            ["......", ".####.", ".#..#.", ".####.", "......"]
        );
        assert_eq!(
            drawn(7, 7, |c| c.rect(1, 1, 5, 5, 3, INK, 1.0)),
            ["#######", "#######", "#######", "###.###", "#######", "#######", "#######"]
        );
    }

    #[test]
    fn a_polygon_holds_the_pixels_whose_middle_is_inside() {
        let triangle = [[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]];
        assert_eq!(drawn(4, 5, |c| c.fill_polygon(&triangle, INK, 1.0)), ["####.", "###..", "##...", "#...."]);
    }

    #[test]
    fn text_runs_right_and_up() {
        let right = drawn(8, 11, |c| c.text(0, 0, "Li", 1, Direction::Right, INK));
        assert_eq!(
            right,
            [
                "#.......#..",
                "#..........",
                "#......##..",
                "#.......#..",
                "#.......#..",
                "#.......#..",
                "#####..###.",
                "..........."
            ]
        );
        let up = drawn(11, 8, |c| c.text(0, 11, "Li", 1, Direction::Up, INK));
        let turned: Vec<String> =
            (0..11).map(|y| (0..8).map(|x| right[x].as_bytes()[10 - y] as char).collect()).collect();
        assert_eq!(up, turned);
        assert_eq!(text_size("Li", 2), (22, 16));
    }

    #[test]
    fn what_lies_outside_or_is_not_finite_draws_nothing() {
        let nothing = vec!["....".to_owned(); 3];
        let far = drawn(3, 4, |c| {
            c.fill_rect(-9, -9, -1, -1, INK, 1.0);
            c.rect(i64::from(i32::MIN), 50, i64::from(i32::MAX), 60, 3, INK, 1.0);
            c.line([f32::NAN, 0.0], [1.0, 1.0], 1.0, INK, 1.0);
            c.line([1e9, 1e9], [2e9, 1e9], 5.0, INK, 1.0);
            c.line([-1e9, -50.0], [1e9, -60.0], 5.0, INK, 1.0);
            c.fill_polygon(&[[0.0, 0.0], [f32::INFINITY, 0.0], [0.0, 5.0]], INK, 1.0);
            c.text(-100, 0, "a", 1, Direction::Right, INK);
            c.disc([-5.0, -5.0], 2.0, INK, 1.0);
        });
        assert_eq!(far, nothing);
    }

    #[test]
    fn only_u8_colour_is_drawn_on() {
        let mut gray = Image::new(1, 1, 1, Pixels::U8(vec![0])).unwrap();
        assert!(Canvas::new(&mut gray).is_err());
        let mut deep = Image::new(1, 1, 3, Pixels::F32(vec![0.0; 3])).unwrap();
        assert!(Canvas::new(&mut deep).is_err());
    }
}
