//! Plots as PNG: curves (`analyze_logs`) and confusion matrices. The same numbers give the same bytes.

use std::path::Path;

use super::canvas::{Canvas, Color, Direction, text_size};
use super::palette::palette;
use crate::error::{Error, Result};
use crate::image::{Image, Pixels, imwrite};

const INK: Color = [40; 3];
const GRID: Color = [225; 3];
const WHITE: Color = [255; 3];
/// Dots of the font for most text.
const TEXT: usize = 2;

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// (x, y) in order; a value that is not finite breaks the line.
    pub points: Vec<(f64, f64)>,
}

/// A linear axis: values to pixels.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64, margin: f64) -> Self {
        let (mut low, mut high) =
            values.filter(|v| v.is_finite()).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let mut room = (high - low) * margin;
        if high - low <= f64::EPSILON * low.abs().max(high.abs()) || high == low {
            room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
        }
        Self { low: low - room, high: high + room, from, to }
    }

    fn at(&self, v: f64) -> f64 {
        self.from + (v / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0) * (self.to - self.from)
    }

    /// Round values about `n` in number: steps of 1, 2 or 5 times a power of ten. And how to write them.
    fn ticks(&self, n: usize) -> Vec<(f64, String)> {
        let rough = self.high / n as f64 - self.low / n as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough * 0.999).unwrap_or(power * 10.0);
        if !step.is_finite() || step <= 0.0 {
            return Vec::new();
        }
        let first = (self.low / step).ceil();
        let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        (0..=2 * n)
            .map(|i| (first + i as f64) * step)
            .take_while(|v| *v <= self.high)
            .map(|v| {
                // No "-0".
                let v = if v.abs() < step / 2.0 { 0.0 } else { v };
                let text = if v.abs() >= 1e6 || (v != 0.0 && step < 1e-5) {
                    format!("{v:.2e}")
                } else {
                    format!("{v:.decimals$}")
                };
                (v, text)
            })
            .collect()
    }
}

fn blank(w: usize, h: usize) -> Result<Image> {
    Image::new(h, w, 3, Pixels::U8(vec![255; w * h * 3]))
}

/// Cuts a text to `n` characters.
fn short(text: &str, n: usize) -> String {
    if text.chars().count() <= n {
        text.into()
    } else {
        text.chars().take(n.saturating_sub(2)).chain("..".chars()).collect()
    }
}

/// Draws `series` over one another with axes, grid and legend, 1000 x 700 pixels, and writes the PNG whole or not at
/// all.
pub fn plot_curves(path: impl AsRef<Path>, title: &str, series: &[Series], x_label: &str, y_label: &str) -> Result<()> {
    imwrite(&curves(title, series, x_label, y_label)?, png(path.as_ref())?)
}

fn png(path: &Path) -> Result<&Path> {
    match path.extension().and_then(|e| e.to_str()) {
        Some(e) if e.eq_ignore_ascii_case("png") => Ok(path),
        _ => Err(Error::Usage(format!("{}: a plot is written as .png", path.display()))),
    }
}

fn curves(title: &str, series: &[Series], x_label: &str, y_label: &str) -> Result<Image> {
    const SIZE: (usize, usize) = (1000, 700);
    const FRAME: [i64; 4] = [110, 50, 970, 620];
    let [left, top, right, bottom] = FRAME;
    let mut image = blank(SIZE.0, SIZE.1)?;
    let mut canvas = Canvas::new(&mut image)?;
    let points = || series.iter().flat_map(|s| &s.points);
    let x = Axis::new(points().map(|p| p.0), left as f64, right as f64, 0.0);
    let y = Axis::new(points().map(|p| p.1), bottom as f64, top as f64, 0.05);
    for (v, text) in x.ticks(8) {
        let at = x.at(v).round() as i64;
        canvas.fill_rect(at, top, at + 1, bottom, GRID, 1.0);
        let w = text_size(&text, TEXT).0 as i64;
        canvas.text(at - w / 2, bottom + 8, &text, TEXT, Direction::Right, INK);
    }
    for (v, text) in y.ticks(8) {
        let at = y.at(v).round() as i64;
        canvas.fill_rect(left, at, right, at + 1, GRID, 1.0);
        let (w, h) = text_size(&text, TEXT);
        canvas.text(left - 8 - w as i64, at - h as i64 / 2, &text, TEXT, Direction::Right, INK);
    }
    let colors = palette(series.len());
    for (s, &color) in series.iter().zip(&colors) {
        let pixel = |p: &(f64, f64)| [x.at(p.0) as f32, y.at(p.1) as f32];
        for pair in s.points.windows(2) {
            canvas.line(pixel(&pair[0]), pixel(&pair[1]), 2.0, color, 1.0);
        }
        // A point without neighbours would not be seen.
        let finite = |i: usize| s.points.get(i).is_some_and(|p| p.0.is_finite() && p.1.is_finite());
        for i in 0..s.points.len() {
            if finite(i) && !(i > 0 && finite(i - 1)) && !finite(i + 1) {
                canvas.disc(pixel(&s.points[i]), 3.0, color, 1.0);
            }
        }
    }
    canvas.rect(left, top, right, bottom, 1, INK, 1.0);
    centred(&mut canvas, SIZE.0 as i64 / 2, 14, title, 3);
    centred(&mut canvas, (left + right) / 2, 660, x_label, TEXT);
    let along = text_size(y_label, TEXT).0 as i64;
    canvas.text(8, (top + bottom) / 2 + along / 2, y_label, TEXT, Direction::Up, INK);
    legend(&mut canvas, series, &colors, right - 10, top + 10);
    if points().next().is_none() {
        centred(&mut canvas, (left + right) / 2, (top + bottom) / 2, "no data", TEXT);
    }
    Ok(image)
}

fn centred(canvas: &mut Canvas, x: i64, y: i64, text: &str, scale: usize) {
    canvas.text(x - text_size(text, scale).0 as i64 / 2, y, text, scale, Direction::Right, INK);
}

/// Names and colours in a box whose upper right corner is given.
fn legend(canvas: &mut Canvas, series: &[Series], colors: &[Color], right: i64, top: i64) {
    const LINE: i64 = 22;
    let names: Vec<String> = series.iter().map(|s| short(&s.name, 40)).collect();
    let Some(widest) = names.iter().map(|n| text_size(n, TEXT).0 as i64).max() else { return };
    let (w, h) = (widest + 54, names.len() as i64 * LINE + 6);
    canvas.fill_rect(right - w, top, right, top + h, WHITE, 0.85);
    canvas.rect(right - w, top, right, top + h, 1, GRID, 1.0);
    for (i, (name, &color)) in names.iter().zip(colors).enumerate() {
        let y = top + 4 + i as i64 * LINE;
        canvas.fill_rect(right - w + 8, y + 6, right - w + 36, y + 10, color, 1.0);
        canvas.text(right - w + 44, y, name, TEXT, Direction::Right, INK);
    }
}

/// From white over blue to dark, for 0 to 1.
fn shade(v: f64) -> Color {
    const STOPS: [[f64; 3]; 4] =
        [[255.0, 251.0, 247.0], [225.0, 202.0, 158.0], [198.0, 146.0, 66.0], [107.0, 48.0, 8.0]];
    let v = if v.is_finite() { v.clamp(0.0, 1.0) * 3.0 } else { 0.0 };
    let i = (v as usize).min(2);
    std::array::from_fn(|c| (STOPS[i][c] + (STOPS[i + 1][c] - STOPS[i][c]) * (v - i as f64)).round() as u8)
}

/// Draws a confusion matrix (rows: true classes, columns: predicted) and writes the PNG whole or not at all. Colours
/// are each row's shares; the numbers in the cells are percent of the row, as in mmdet's `confusion_matrix.py`, left out
/// where cells are too small. `matrix` must be square, with a name for each class.
pub fn plot_confusion_matrix(
    path: impl AsRef<Path>,
    title: &str,
    matrix: &[Vec<f64>],
    class_names: &[String],
) -> Result<()> {
    imwrite(&confusion(title, matrix, class_names)?, png(path.as_ref())?)
}

fn confusion(title: &str, matrix: &[Vec<f64>], class_names: &[String]) -> Result<Image> {
    let n = matrix.len();
    if n == 0 || class_names.len() != n || matrix.iter().any(|r| r.len() != n) {
        return Err(Error::Run(format!(
            "a confusion matrix of {n} rows (of {} values) and {} class names is not square with a name each",
            matrix.first().map_or(0, Vec::len),
            class_names.len()
        )));
    }
    let cell = (900 / n).clamp(12, 80) as i64;
    let scale = if cell >= 20 { TEXT } else { 1 };
    let names: Vec<String> = class_names.iter().map(|c| short(c, 24)).collect();
    let widest = names.iter().map(|c| text_size(c, scale).0 as i64).max().unwrap_or(0);
    let (left, top) = (widest + 50, widest + 90);
    let side = cell * n as i64;
    let width = (left + side + 30).max(text_size(title, 3).0 as i64 + 40);
    let mut image = blank(width as usize, (top + side + 30) as usize)?;
    let mut canvas = Canvas::new(&mut image)?;
    centred(&mut canvas, width / 2, 14, title, 3);
    centred(&mut canvas, left + side / 2, 48, "predicted", TEXT);
    let along = text_size("true", TEXT).0 as i64;
    canvas.text(8, top + side / 2 + along / 2, "true", TEXT, Direction::Up, INK);
    let half = text_size("", scale).1 as i64 / 2;
    for (i, row) in matrix.iter().enumerate() {
        let at = i as i64 * cell;
        let w = text_size(&names[i], scale).0 as i64;
        canvas.text(left - 8 - w, top + at + cell / 2 - half, &names[i], scale, Direction::Right, INK);
        canvas.text(left + at + cell / 2 - half, top - 8, &names[i], scale, Direction::Up, INK);
        let sum: f64 = row.iter().sum();
        for (j, &v) in row.iter().enumerate() {
            let share = if sum > 0.0 { v / sum } else { 0.0 };
            let (x, y) = (left + j as i64 * cell, top + at);
            canvas.fill_rect(x, y, x + cell, y + cell, shade(share), 1.0);
            let text = if v.is_finite() { format!("{:.0}", share * 100.0) } else { "nan".into() };
            let (w, h) = text_size(&text, scale);
            if cell >= text_size("100", scale).0 as i64 + 2 {
                let ink = if share > 0.55 { WHITE } else { INK };
                canvas.text(x + (cell - w as i64) / 2, y + (cell - h as i64) / 2, &text, scale, Direction::Right, ink);
            }
        }
    }
    canvas.rect(left - 1, top - 1, left + side, top + side, 1, INK, 1.0);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ChannelOrder, ColorFlag, imread};

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series { name: name.into(), points: points.to_vec() }
    }

    #[test]
    fn ticks_are_round_numbers() {
        let texts = |low, high| -> Vec<String> {
            Axis { low, high, from: 0.0, to: 1.0 }.ticks(5).into_iter().map(|t| t.1).collect()
        };
        assert_eq!(texts(0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(-0.03, 0.07), ["-0.02", "0.00", "0.02", "0.04", "0.06"]);
        assert_eq!(texts(3.0, 997.0), ["200", "400", "600", "800"]);
    }

    #[test]
    fn a_curve_is_drawn_in_its_colour_and_the_same_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let loss = [series("loss", &[(0.0, 3.0), (1.0, 1.0), (2.0, f64::NAN), (3.0, 0.5)])];
        let paths = ["a.png", "b.png"].map(|n| dir.path().join(n));
        for path in &paths {
            plot_curves(path, "training", &loss, "iteration", "loss").unwrap();
        }
        assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
        let image = imread(&paths[0], ColorFlag::Color, ChannelOrder::Bgr).unwrap();
        assert_eq!(image.shape(), [700, 1000, 3]);
        let Pixels::U8(v) = image.pixels() else { panic!() };
        let color = palette(1)[0];
        let inked = v.as_chunks::<3>().0.iter().filter(|p| **p == color).count();
        assert!(inked > 300, "{inked}");
    }

    #[test]
    fn odd_series_do_no_harm() {
        for points in [
            vec![],
            vec![(1.0, 2.0)],
            vec![(f64::NAN, f64::INFINITY)],
            vec![(0.0, -1e308), (1.0, 1e308)],
            vec![(5.0, 7.0), (5.0, 7.0)],
            vec![(0.0, 1e-300), (1.0, 2e-300)],
        ] {
            curves("t", &[series("s", &points)], "x", "y").unwrap();
        }
        curves("nothing", &[], "x", "y").unwrap();
    }

    #[test]
    fn a_confusion_matrix_needs_a_name_for_each_row() {
        let names = |n: usize| (0..n).map(|i| format!("class{i}")).collect::<Vec<_>>();
        let matrix = vec![vec![3.0, 1.0], vec![0.0, 0.0]];
        let image = confusion("m", &matrix, &names(2)).unwrap();
        let Pixels::U8(v) = image.pixels() else { panic!() };
        assert!(v.as_chunks::<3>().0.contains(&shade(0.75)));
        assert!(confusion("m", &matrix, &names(3)).is_err());
        assert!(confusion("m", &[], &[]).is_err());
        let large = vec![vec![1.0; 90]; 90];
        confusion("m", &large, &names(90)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let message = plot_confusion_matrix(dir.path().join("m.gif"), "m", &matrix, &names(2)).unwrap_err().to_string();
        assert!(message.contains("m.gif"), "{message}");
    }
}
