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

#[cfg(test)]
mod tests {
    use super::super::testing::{bitmap, bytes, image, polygon, refused, run, sample, sum};
    use super::*;
    use proptest::prelude::{any, prop_assert, proptest};

    fn expander(json: &str) -> Expand {
        Expand::new(&mmcv::config::Node::from_json(json).unwrap().parse().unwrap()).unwrap()
    }

    #[test]
    fn an_expansion_is_mmdets() {
        // Expand(mean=(123.675, 116.28, 103.53), to_rgb=True)(sample), uniform giving 0.1, 1.5 (ratio), 7.9 (left), 11.2 (top)
        let e = expander(r#"{"mean": [123.675, 116.28, 103.53]}"#);
        let r = e.expand(Results { gt_masks: Some(bitmap()), ..sample() }, [55, 79], 11, 7).unwrap();
        let image = image(&r);
        assert_eq!((image.shape(), r.img_shape), ([55, 79, 3], Some([37, 53, 3])));
        assert_eq!((sum(&image), &bytes(&image)[..3]), (1_571_064, &[103, 116, 123][..]));
        assert_eq!(
            r.gt_bboxes.as_deref().unwrap(),
            [[10.5, 15.25, 27.75, 41.5], [17.0, 8.0, 67.0, 23.0], [57.2, 46.1, 59.9, 47.9]]
        );
        assert_eq!(r.gt_masks.unwrap().bboxes(), [[11.0, 14.0, 27.0, 41.0]]);
    }

    #[test]
    fn what_mmdet_can_not_expand_is_an_error() {
        let e = expander("{}");
        let all = |gt_masks, gt_semantic_seg| Results { gt_masks, gt_semantic_seg, ..sample() };
        assert!(e.expand(all(Some(polygon()), None), [55, 79], 11, 7).is_err());
        let seg = Image::new(37, 53, 1, Pixels::U8(vec![3; 37 * 53])).unwrap();
        let message = e.expand(all(None, Some(seg.clone())), [55, 79], 11, 7).unwrap_err().to_string();
        assert!(message.contains("seg_ignore_label"), "{message}");
        let r = expander(r#"{"seg_ignore_label": 255}"#).expand(all(None, Some(seg)), [55, 79], 11, 7).unwrap();
        assert_eq!(sum(&r.gt_semantic_seg.unwrap()), 255 * (55 * 79 - 37 * 53) + 3 * 37 * 53);
        assert!(refused(r#"{"type": "Expand", "ratio_range": [0.5, 2]}"#).contains("ratio_range (0.5, 2)"));
    }

    #[test]
    fn probability_0_leaves_the_image_alone() {
        assert_eq!(image(&run(r#"{"type": "Expand", "prob": 0}"#, sample())), image(&sample()));
    }

    proptest! {
        #[test]
        fn the_image_is_on_the_canvas(h in 1usize..200, w in 1usize..200, seed in any::<u64>()) {
            let ([to_h, to_w], top, left) = expander("{}").place(h, w, &mut Rng::new(seed));
            prop_assert!(to_h >= h && to_w >= w && to_h <= 4 * h && to_w <= 4 * w);
            prop_assert!(top + h <= to_h && left + w <= to_w, "{top} {left}");
        }
    }
}
