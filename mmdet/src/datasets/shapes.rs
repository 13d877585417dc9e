//! A small detection data set that is drawn, not downloaded: coloured shapes on noisy backgrounds,
//! in COCO format, the same bytes for the same seed.

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use mmcv::{Error, Result, Rng};
use rayon::prelude::*;
use serde_json::{Value, json};

/// The class names; category ids are their positions plus 1.
pub const SHAPES_CLASSES: [&str; 6] = ["circle", "square", "triangle", "star", "ring", "cross"];

/// A later shape may hide at most a fifth of an earlier one.
const LEAST_VISIBLE: f64 = 0.8;
/// Owner of a pixel that no labelled shape covers.
const NOBODY: u8 = u8::MAX;

/// One labelled shape of a drawn image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Label {
    class: usize,
    /// `[x, y, width, height]` in whole pixels: the extents of the pixels of the shape that are visible.
    bbox: [u32; 4],
    /// How many pixels of it are visible.
    area: u32,
}

/// Draws the data set into `dir`: `train/*.png`, `val/*.png`, `annotations/train.json` and `annotations/val.json`.
///
/// All six classes appear in a split of at least six images. Everything is written to a folder beside `dir` that is renamed at the
/// end, so `dir` is whole or absent. It is an error when `dir` exists already and is not an empty folder.
pub fn make_shapes(dir: &Path, seed: u64, train: usize, val: usize) -> Result<()> {
    refuse_occupied(dir)?;
    let temp = temp_beside(dir)?;
    let made =
        write_all(&temp, seed, train, val).and_then(|()| std::fs::rename(&temp, dir).map_err(|e| Error::io(dir, e)));
    if made.is_err() {
        // The error that is returned matters more than one of cleaning up.
        let _ = std::fs::remove_dir_all(&temp);
    }
    made
}

fn refuse_occupied(dir: &Path) -> Result<()> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => {
                Err(Error::Usage(format!("{}: exists already and is not empty; name a new folder", dir.display())))
            }
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(dir, e)),
    }
}

fn temp_beside(dir: &Path) -> Result<PathBuf> {
    let name = dir.file_name().ok_or_else(|| Error::data(dir, "is not the name of a folder"))?;
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
    let temp = parent.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    std::fs::create_dir(&temp).map_err(|e| Error::io(&temp, e))?;
    Ok(temp)
}

fn write_all(root: &Path, seed: u64, train: usize, val: usize) -> Result<()> {
    let annotations = root.join("annotations");
    std::fs::create_dir(&annotations).map_err(|e| Error::io(&annotations, e))?;
    for (split, name, count) in [(0, "train", train), (1, "val", val)] {
        let folder = root.join(name);
        std::fs::create_dir(&folder).map_err(|e| Error::io(&folder, e))?;
        let drawn = (0..count)
            .into_par_iter()
            .map(|i| {
                let (image, labels) = draw(&mut Rng::keyed(seed, &[split, i as u64]), i % SHAPES_CLASSES.len());
                let path = folder.join(file_name(i));
                image
                    .save_with_format(&path, image::ImageFormat::Png)
                    .map_err(|e| Error::io(&path, std::io::Error::other(e)))?;
                Ok((image.dimensions(), labels))
            })
            .collect::<Result<Vec<_>>>()?;
        let path = annotations.join(format!("{name}.json"));
        std::fs::write(&path, coco(&drawn).to_string()).map_err(|e| Error::io(&path, e))?;
    }
    Ok(())
}

fn file_name(i: usize) -> String {
    format!("{i:06}.png")
}

fn coco(drawn: &[((u32, u32), Vec<Label>)]) -> Value {
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for (i, ((width, height), labels)) in drawn.iter().enumerate() {
        images.push(json!({"id": i + 1, "file_name": file_name(i), "width": width, "height": height}));
        for label in labels {
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": i + 1, "category_id": label.class + 1,
                "bbox": label.bbox, "area": label.area, "iscrowd": 0,
            }));
        }
    }
    let categories: Vec<_> =
        SHAPES_CLASSES.iter().enumerate().map(|(i, name)| json!({"id": i + 1, "name": name})).collect();
    json!({"images": images, "annotations": annotations, "categories": categories})
}

type Colour = [f64; 3];

fn colour(rng: &mut Rng) -> Colour {
    std::array::from_fn(|_| rng.uniform(0.0, 256.0))
}

/// A colour that stands out from `from`.
fn contrasting(rng: &mut Rng, from: Colour) -> Colour {
    let apart = |c: &Colour| c.iter().zip(from).map(|(a, b)| (a - b).abs()).sum::<f64>() > 160.0;
    // A fallback that always stands out: each channel on the other side of the middle.
    let fallback = from.map(|v| if v < 128.0 { v + 120.0 } else { v - 120.0 });
    (0..20).map(|_| colour(rng)).find(apart).unwrap_or(fallback)
}

/// What most shapes of a class look like; a detector can't go by it alone, since every tenth has any colour.
const TYPICAL: [Colour; SHAPES_CLASSES.len()] = [
    [215.0, 55.0, 50.0],
    [55.0, 95.0, 215.0],
    [60.0, 180.0, 75.0],
    [235.0, 195.0, 50.0],
    [165.0, 65.0, 190.0],
    [70.0, 205.0, 205.0],
];

/// A class's typical colour, more or less, nine times of ten.
fn ink(rng: &mut Rng, class: usize, background: Colour) -> Colour {
    if rng.unit() < 0.9 {
        return TYPICAL[class].map(|v| v + rng.uniform(-35.0, 35.0));
    }
    contrasting(rng, background)
}

/// Pixels in `f64`, so that noise is added before rounding.
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Colour>,
}

impl Canvas {
    /// A gradient in a random direction, with waves.
    fn background(rng: &mut Rng, width: usize, height: usize) -> (Self, Colour) {
        let (from, to) = (colour(rng), colour(rng));
        let to: Colour = std::array::from_fn(|c| from[c] + (to[c] - from[c]) * 0.5);
        let (sin, cos) = rng.uniform(0.0, std::f64::consts::TAU).sin_cos();
        let (wave, period) = (rng.uniform(0.0, 10.0), rng.uniform(8.0, 40.0));
        let pixels = (0..width * height)
            .map(|i| {
                let (u, v) = ((i % width) as f64 / width as f64 - 0.5, (i / width) as f64 / height as f64 - 0.5);
                let t = (u * cos + v * sin + 0.5).clamp(0.0, 1.0);
                let ripple = wave * ((i % width) as f64 / period).sin() * ((i / width) as f64 / period).cos();
                std::array::from_fn(|c| from[c] + (to[c] - from[c]) * t + ripple)
            })
            .collect();
        (Self { width, height, pixels }, std::array::from_fn(|c| (from[c] + to[c]) / 2.0))
    }

    fn line(&mut self, rng: &mut Rng) {
        let ink = colour(rng);
        let mut end = || (rng.uniform(0.0, self.width as f64), rng.uniform(0.0, self.height as f64));
        let ((x0, y0), (x1, y1)) = (end(), end());
        let steps = (x1 - x0).abs().max((y1 - y0).abs()).ceil().max(1.0) as usize;
        for s in 0..=steps {
            let t = s as f64 / steps as f64;
            let (x, y) = ((x0 + (x1 - x0) * t) as usize, (y0 + (y1 - y0) * t) as usize);
            if x < self.width && y < self.height {
                self.pixels[y * self.width + x] = ink;
            }
        }
    }

    /// A soft spot without a label.
    fn blob(&mut self, rng: &mut Rng) {
        let ink = colour(rng);
        let (x, y) = (rng.uniform(0.0, self.width as f64), rng.uniform(0.0, self.height as f64));
        let (rx, ry) = (rng.uniform(4.0, 18.0), rng.uniform(4.0, 18.0));
        for (i, p) in self.pixels.iter_mut().enumerate() {
            let (u, v) = (((i % self.width) as f64 - x) / rx, ((i / self.width) as f64 - y) / ry);
            let alpha = 0.7 * (1.0 - (u * u + v * v)).max(0.0);
            for c in 0..3 {
                p[c] += (ink[c] - p[c]) * alpha;
            }
        }
    }

    fn finish(self, rng: &mut Rng) -> RgbImage {
        let sigma = rng.uniform(2.0, 9.0);
        let mut image = RgbImage::new(self.width as u32, self.height as u32);
        for (out, p) in image.pixels_mut().zip(&self.pixels) {
            // Casting to u8 saturates.
            *out = Rgb(p.map(|v| (v + sigma * rng.normal()).round() as u8));
        }
        image
    }
}

/// A shape's place: `size` is its diameter before clipping at the image's border.
struct Placed {
    class: usize,
    x: f64,
    y: f64,
    size: f64,
    sin: f64,
    cos: f64,
}

impl Placed {
    fn random(rng: &mut Rng, class: usize, width: usize, height: usize) -> Self {
        // Log-uniform: as many octaves of small shapes as of big ones.
        let size = 20.0 * (90.0f64 / 20.0).powf(rng.unit());
        let margin = size * 0.4;
        let (sin, cos) = rng.uniform(0.0, std::f64::consts::TAU).sin_cos();
        let x = rng.uniform(margin, width as f64 - margin);
        let y = rng.uniform(margin, height as f64 - margin);
        Self { class, x, y, size, sin, cos }
    }

    /// A pixel's centre in the shape's own frame, where the shape fits the unit circle.
    fn local(&self, x: usize, y: usize) -> (f64, f64) {
        let (dx, dy) = (x as f64 + 0.5 - self.x, y as f64 + 0.5 - self.y);
        let r = self.size / 2.0;
        ((dx * self.cos + dy * self.sin) / r, (dy * self.cos - dx * self.sin) / r)
    }

    fn covers(&self, (u, v): (f64, f64)) -> bool {
        let d2 = u * u + v * v;
        match SHAPES_CLASSES[self.class] {
            "circle" => d2 < 1.0,
            "square" => u.abs().max(v.abs()) < std::f64::consts::FRAC_1_SQRT_2,
            // Inside the three edges, each half a unit from the centre.
            "triangle" => v < 0.5 && 0.75f64.sqrt() * u.abs() - 0.5 * v < 0.5,
            "star" => in_star(u, v),
            "ring" => d2 < 1.0 && d2 > 0.55 * 0.55,
            _ => u.abs().min(v.abs()) < 0.3 && u.abs().max(v.abs()) < 0.95,
        }
    }

    fn mask(&self, width: usize, height: usize) -> Vec<usize> {
        (0..width * height).filter(|i| self.covers(self.local(i % width, i / width))).collect()
    }
}

/// A five-pointed star: the angle is folded into half a point, where the edge is one line.
fn in_star(u: f64, v: f64) -> bool {
    let half = std::f64::consts::PI / 5.0;
    let angle = v.atan2(u).rem_euclid(2.0 * half);
    let angle = angle.min(2.0 * half - angle);
    let (x, y) = (u.hypot(v) * angle.cos(), u.hypot(v) * angle.sin());
    // From the tip (1, 0) to the inner corner.
    let (cx, cy) = (0.42 * half.cos(), 0.42 * half.sin());
    (x - 1.0) * cy - y * (cx - 1.0) < 0.0
}

/// One image of 128x128 to 192x160 pixels; its first shape is of class `first`.
fn draw(rng: &mut Rng, first: usize) -> (RgbImage, Vec<Label>) {
    let (width, height) = (rng.int(128, 192) as usize, rng.int(128, 160) as usize);
    let (mut canvas, mean) = Canvas::background(rng, width, height);
    for _ in 0..rng.below(5) {
        canvas.line(rng);
    }
    for _ in 0..rng.below(4) {
        canvas.blob(rng);
    }
    let mut owner = vec![NOBODY; width * height];
    let mut placed: Vec<(Placed, usize)> = Vec::new();
    let wanted = 2 + rng.below(6);
    for n in 0..wanted {
        let class = if n == 0 { first } else { rng.below(SHAPES_CLASSES.len()) };
        // An image too full for another shape goes without it.
        for _ in 0..10 {
            let shape = Placed::random(rng, class, width, height);
            let mask = shape.mask(width, height);
            if !leaves_visible(&owner, &placed, &mask) {
                continue;
            }
            let id = placed.len() as u8;
            paint(rng, &mut canvas, &shape, &mask, mean);
            mask.iter().for_each(|&i| owner[i] = id);
            placed.push((shape, mask.len()));
            break;
        }
    }
    let labels = labels(&owner, &placed, width);
    (canvas.finish(rng), labels)
}

/// Whether each shape drawn so far stays visible enough when `mask` is drawn over it.
fn leaves_visible(owner: &[u8], placed: &[(Placed, usize)], mask: &[usize]) -> bool {
    let mut left = vec![0usize; placed.len()];
    for &o in owner.iter().filter(|o| **o != NOBODY) {
        left[usize::from(o)] += 1;
    }
    for &i in mask.iter().filter(|i| owner[**i] != NOBODY) {
        left[usize::from(owner[i])] -= 1;
    }
    left.iter().zip(placed).all(|(left, (_, whole))| *left as f64 >= LEAST_VISIBLE * *whole as f64)
}

fn paint(rng: &mut Rng, canvas: &mut Canvas, shape: &Placed, mask: &[usize], background: Colour) {
    let ink = ink(rng, shape.class, background);
    let second: Colour = contrasting(rng, ink);
    let (style, period) = (rng.below(4), rng.uniform(0.3, 0.8));
    let grain = rng.uniform(10.0, 40.0);
    for &i in mask {
        let (u, v) = shape.local(i % canvas.width, i / canvas.width);
        let shade = 1.0 - 0.15 * v;
        canvas.pixels[i] = match style {
            0 => ink,
            1 if (u / period).rem_euclid(1.0) < 0.4 => std::array::from_fn(|c| (ink[c] + second[c]) / 2.0),
            1 => ink,
            2 => {
                let n = grain * rng.normal();
                ink.map(|c| c + n)
            }
            _ => ink.map(|c| c * shade),
        };
    }
}

fn labels(owner: &[u8], placed: &[(Placed, usize)], width: usize) -> Vec<Label> {
    let mut found = Vec::with_capacity(placed.len());
    for (id, (shape, _)) in placed.iter().enumerate() {
        let (mut x0, mut y0, mut x1, mut y1, mut area) = (u32::MAX, u32::MAX, 0, 0, 0);
        for (i, _) in owner.iter().enumerate().filter(|(_, o)| usize::from(**o) == id) {
            let (x, y) = ((i % width) as u32, (i / width) as u32);
            (x0, y0, x1, y1, area) = (x0.min(x), y0.min(y), x1.max(x + 1), y1.max(y + 1), area + 1);
        }
        if area > 0 {
            found.push(Label { class: shape.class, bbox: [x0, y0, x1 - x0, y1 - y0], area });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut all = Vec::new();
        for sub in ["train", "val", "annotations"] {
            for entry in std::fs::read_dir(dir.join(sub)).unwrap() {
                let path = entry.unwrap().path();
                all.push((path.strip_prefix(dir).unwrap().to_owned(), std::fs::read(&path).unwrap()));
            }
        }
        all.sort();
        all
    }

    #[test]
    fn one_seed_gives_the_same_bytes_and_another_gives_others() {
        let temp = tempfile::tempdir().unwrap();
        let make = |name: &str, seed| {
            let dir = temp.path().join(name);
            make_shapes(&dir, seed, 7, 2).unwrap();
            files(&dir)
        };
        let a = make("a", 1);
        assert_eq!(a.len(), 7 + 2 + 2);
        assert!(a == make("b", 1), "two runs of one seed differ");
        assert!(a != make("c", 2), "two seeds draw the same");
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 3, "a temporary folder is left");
    }

    #[test]
    fn boxes_are_inside_their_images_and_all_classes_appear() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("shapes");
        make_shapes(&dir, 3, 24, 6).unwrap();
        for (name, count) in [("train", 24), ("val", 6)] {
            let text = std::fs::read_to_string(dir.join(format!("annotations/{name}.json"))).unwrap();
            let json: Value = serde_json::from_str(&text).unwrap();
            let images = json["images"].as_array().unwrap();
            assert_eq!(images.len(), count);
            let mut seen = [false; 6];
            for a in json["annotations"].as_array().unwrap() {
                let image = &images[a["image_id"].as_u64().unwrap() as usize - 1];
                let b: Vec<u64> = a["bbox"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
                assert!(b[0] + b[2] <= image["width"].as_u64().unwrap(), "{a} in {image}");
                assert!(b[1] + b[3] <= image["height"].as_u64().unwrap(), "{a} in {image}");
                let area = a["area"].as_u64().unwrap();
                assert!(area > 0 && area <= b[2] * b[3] && b[2].max(b[3]) <= 91, "{a}");
                seen[a["category_id"].as_u64().unwrap() as usize - 1] = true;
            }
            assert_eq!(seen, [true; 6], "{name}");
            for image in images {
                let path = dir.join(name).join(image["file_name"].as_str().unwrap());
                let (w, h) = image::image_dimensions(path).unwrap();
                assert_eq!((json!(w), json!(h)), (image["width"].clone(), image["height"].clone()));
            }
        }
    }

    #[test]
    fn a_box_is_what_later_shapes_leave_visible() {
        // Columns 0..4 belong to shape 0, of which shape 1 has taken columns 3..6.
        let owner = [0, 0, 0, 1, 1, 1, NOBODY, 0, 0, 0, 1, 1, 1, NOBODY];
        let shape = |class| Placed { class, x: 0.0, y: 0.0, size: 1.0, sin: 0.0, cos: 1.0 };
        let found = labels(&owner, &[(shape(4), 8), (shape(2), 6)], 7);
        assert_eq!(found[0], Label { class: 4, bbox: [0, 0, 3, 2], area: 6 });
        assert_eq!(found[1], Label { class: 2, bbox: [3, 0, 3, 2], area: 6 });
    }

    #[test]
    fn an_occupied_folder_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("mine"), "x").unwrap();
        let error = make_shapes(temp.path(), 0, 1, 1).unwrap_err().to_string();
        assert!(error.contains("not empty"), "{error}");
        assert_eq!(std::fs::read_to_string(temp.path().join("mine")).unwrap(), "x");
    }
}
