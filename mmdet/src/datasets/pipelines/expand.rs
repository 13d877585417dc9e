//! Placing the image on a larger canvas.

use mmcv::image::{Image, Pixels};
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::{ensure, yes};
use super::{PIPELINES, Results, Transform};

/// `type = "Expand"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpandConfig {
    /// The canvas's colour, per channel.
    #[serde(default = "black")]
    pub mean: Vec<f64>,
    /// `mean` is RGB and turned to the image's BGR.
    #[serde(default = "yes")]
    pub to_rgb: bool,
    /// The canvas is this many times larger each way; drawn.
    #[serde(default = "one_to_four")]
    pub ratio_range: [f64; 2],
    /// Fills semantic maps; needed when there are any.
    #[serde(default)]
    pub seg_ignore_label: Option<f64>,
    /// Probability.
    #[serde(default = "half")]
    pub prob: f64,
}

fn black() -> Vec<f64> {
    vec![0.0; 3]
}

fn one_to_four() -> [f64; 2] {
    [1.0, 4.0]
}

fn half() -> f64 {
    0.5
}

/// Places the image at random on a canvas of one colour. `img_shape` stays, as in mmdet: a `Resize` comes after it.
pub struct Expand {
    cfg: ExpandConfig,
    mean: Vec<f64>,
}

impl Expand {
    /// An error when the canvas could be smaller than the image.
    pub fn new(cfg: &ExpandConfig) -> Result<Self> {
        let [low, high] = cfg.ratio_range;
        ensure(low >= 1.0 && high >= low, || format!("Expand: ratio_range ({low}, {high}) must be 1 <= low <= high"))?;
        let mut mean = cfg.mean.clone();
        if cfg.to_rgb {
            mean.reverse();
        }
        Ok(Self { cfg: cfg.clone(), mean })
    }

    /// `[height, width]` of the canvas and the image's top and left on it.
    fn place(&self, h: usize, w: usize, rng: &mut Rng) -> ([usize; 2], usize, usize) {
        let (h, w) = (h as f64, w as f64);
        let ratio = rng.uniform(self.cfg.ratio_range[0], self.cfg.ratio_range[1]);
        let left = rng.uniform(0.0, w * ratio - w) as usize;
        let top = rng.uniform(0.0, h * ratio - h) as usize;
        ([(h * ratio) as usize, (w * ratio) as usize], top, left)
    }

    fn expand(&self, mut results: Results, size: [usize; 2], top: usize, left: usize) -> Result<Results> {
        let image = results.take_image("Expand")?;
        ensure(self.mean.len() == image.channels(), || {
            format!("Expand: mean has {} values, the image {} channels", self.mean.len(), image.channels())
        })?;
        results.set_image(on_canvas(&image, size, top, left, &self.mean)?);
        let (dx, dy) = (left as f32, top as f32);
        results.map_boxes(|b| *b = [b[0] + dx, b[1] + dy, b[2] + dx, b[3] + dy]);
        if let Some(masks) = results.gt_masks.take() {
            results.gt_masks = Some(masks.expand(size, top, left)?);
        }
        if let Some(seg) = results.gt_semantic_seg.take() {
            let fill = self.cfg.seg_ignore_label.ok_or_else(|| {
                mmcv::Error::config("Expand: set seg_ignore_label, the value that fills semantic maps")
            })?;
            results.gt_semantic_seg = Some(on_canvas(&seg, size, top, left, &[fill])?);
        }
        Ok(results)
    }
}

fn on_canvas(image: &Image, [h, w]: [usize; 2], top: usize, left: usize, colour: &[f64]) -> Result<Image> {
    let shape = image.shape();
    let pixels = match image.pixels() {
        // Cutting off decimals as numpy does.
        Pixels::U8(v) => Pixels::U8(placed(v, shape, [h, w], [top, left], &cast(colour, |c| c as i64 as u8))),
        Pixels::F32(v) => Pixels::F32(placed(v, shape, [h, w], [top, left], &cast(colour, |c| c as f32))),
    };
    Image::new(h, w, shape[2], pixels)
}

fn cast<T>(colour: &[f64], to: impl Fn(f64) -> T) -> Vec<T> {
    colour.iter().map(|c| to(*c)).collect()
}

fn placed<T: Copy>(
    values: &[T],
    [h, w, c]: [usize; 3],
    [to_h, to_w]: [usize; 2],
    [top, left]: [usize; 2],
    colour: &[T],
) -> Vec<T> {
    let row: Vec<T> = colour.iter().copied().cycle().take(to_w * c).collect();
    let mut out = row.repeat(to_h);
    for y in 0..h {
        let to = ((top + y) * to_w + left) * c;
        out[to..to + w * c].copy_from_slice(&values[y * w * c..(y + 1) * w * c]);
    }
    out
}

impl Transform for Expand {
    fn apply(&self, results: Results, rng: &mut Rng) -> Result<Option<Results>> {
        if rng.unit() > self.cfg.prob {
            return Ok(Some(results));
        }
        let [h, w, _] = results.picture("Expand")?.shape();
        let (size, top, left) = self.place(h, w, rng);
        self.expand(results, size, top, left).map(Some)
    }
}

register!(PIPELINES: dyn Transform, "Expand" => Expand(ExpandConfig));
