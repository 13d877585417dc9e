//! Crops of a fixed size; mmcls's `CenterCrop` and `RandomCrop`.

use mmcv::config::OneOrMany;
use mmcv::image::{PadMode, crop, pad};
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::resize::{ResizeBackend, Resizer, bilinear};
use super::{PIPELINES, Results, Transform, ensure};

/// A side length, or `(height, width)`.
pub(super) fn square(size: &OneOrMany<usize>, key: &str) -> Result<(usize, usize)> {
    let pair = match size {
        OneOrMany::One(n) => (*n, *n),
        OneOrMany::Many(list) => match list.as_slice() {
            [h, w] => (*h, *w),
            _ => (0, 0),
        },
    };
    ensure(pair.0 > 0 && pair.1 > 0, key, || {
        format!("is {:?}, expected a length or (height, width) above 0", size.to_vec())
    })?;
    Ok(pair)
}

/// `type = "CenterCrop"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CenterCropConfig {
    /// A side length, or `(height, width)`.
    pub crop_size: OneOrMany<usize>,
    /// Crops a share of the short side, and resizes that; default false.
    #[serde(default)]
    pub efficientnet_style: bool,
    /// The share is `crop_size / (crop_size + crop_padding)`; default 32.
    #[serde(default = "thirty_two")]
    pub crop_padding: usize,
    /// Of that resizing; default `bilinear`.
    #[serde(default = "bilinear")]
    pub interpolation: String,
    /// Of that resizing: `cv2` or `pillow`; default `cv2`.
    #[serde(default)]
    pub backend: ResizeBackend,
}

pub(super) fn thirty_two() -> usize {
    32
}

/// Cuts out the middle; of a smaller image as much as there is.
pub struct CenterCrop {
    size: (usize, usize),
    efficientnet: Option<(usize, Resizer)>,
}

impl CenterCrop {
    /// An error for a size that is none.
    pub fn new(cfg: &CenterCropConfig) -> Result<Self> {
        let size = square(&cfg.crop_size, "crop_size")?;
        let resizer = Resizer::new(&cfg.interpolation, cfg.backend)?;
        Ok(Self { size, efficientnet: cfg.efficientnet_style.then_some((cfg.crop_padding, resizer)) })
    }
}

impl Transform for CenterCrop {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        let image = results.take_image("CenterCrop")?;
        let (h, w) = (image.height() as f64, image.width() as f64);
        let (mut ch, mut cw) = (self.size.0 as f64, self.size.1 as f64);
        if let Some((padding, _)) = &self.efficientnet {
            let (short, padding) = (h.min(w), *padding as f64);
            (ch, cw) = (ch / (ch + padding) * short, cw / (cw + padding) * short);
        }
        let start = |whole: f64, part: f64| ((whole - part) / 2.0).round_ties_even().max(0.0);
        let (y1, x1) = (start(h, ch), start(w, cw));
        // imcrop takes whole pixels, the last one included.
        let (y2, x2) = ((h.min(y1 + ch) - 1.0) as usize, (w.min(x1 + cw) - 1.0) as usize);
        let (y1, x1) = (y1 as usize, x1 as usize);
        let cut = crop(&image, y1, x1, y2 + 1 - y1, x2 + 1 - x1);
        results.img = Some(match &self.efficientnet {
            Some((_, resizer)) => resizer.apply(&cut, self.size.1, self.size.0)?,
            None => cut,
        });
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "CenterCrop" => CenterCrop(CenterCropConfig));

/// `type = "RandomCrop"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomCropConfig {
    /// A side length, or `(height, width)`.
    pub size: OneOrMany<usize>,
    /// Added first: on all sides, `(left and right, top and bottom)` or `(left, top, right, bottom)`; default none.
    #[serde(default)]
    pub padding: Option<OneOrMany<usize>>,
    /// Enlarges an image that is smaller than the crop; default false, which is an error for such.
    #[serde(default)]
    pub pad_if_needed: bool,
    /// Fill, a number or one for each channel; default 0.
    #[serde(default = "zero")]
    pub pad_val: OneOrMany<f64>,
    /// `constant`, `edge`, `reflect` or `symmetric`, of `pad_if_needed` (`padding` is constant, as in the original).
    #[serde(default)]
    pub padding_mode: PadMode,
}

fn zero() -> OneOrMany<f64> {
    OneOrMany::One(0.0)
}

/// Cuts out a random place.
pub struct RandomCrop {
    size: (usize, usize),
    /// Left, top, right, bottom.
    padding: Option<[usize; 4]>,
    pad_if_needed: bool,
    pad_val: Vec<f64>,
    mode: PadMode,
}

impl RandomCrop {
    /// An error for sizes and paddings that are none.
    pub fn new(cfg: &RandomCropConfig) -> Result<Self> {
        let padding = match cfg.padding.as_ref().map(OneOrMany::to_vec).as_deref() {
            None => None,
            Some([n]) => Some([*n; 4]),
            Some([x, y]) => Some([*x, *y, *x, *y]),
            Some([l, t, r, b]) => Some([*l, *t, *r, *b]),
            Some(other) => {
                let message = format!("has {} numbers, expected 1, 2 or 4", other.len());
                return Err(Error::config(message).under("padding"));
            }
        };
        Ok(Self {
            size: square(&cfg.size, "size")?,
            padding,
            pad_if_needed: cfg.pad_if_needed,
            pad_val: cfg.pad_val.to_vec(),
            mode: cfg.padding_mode,
        })
    }
}

impl Transform for RandomCrop {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        let mut image = results.take_image("RandomCrop")?;
        if let Some(padding) = self.padding {
            image = pad(&image, padding, &self.pad_val, PadMode::Constant)?;
        }
        let (th, tw) = self.size;
        if self.pad_if_needed && image.height() < th {
            let n = th - image.height();
            image = pad(&image, [0, n, 0, n], &self.pad_val, self.mode)?;
        }
        if self.pad_if_needed && image.width() < tw {
            let n = tw - image.width();
            image = pad(&image, [n, 0, n, 0], &self.pad_val, self.mode)?;
        }
        let (h, w) = (image.height(), image.width());
        if h < th || w < tw {
            let message = format!("is {h} x {w}, smaller than RandomCrop's {th} x {tw} (pad_if_needed enlarges it)");
            return Err(Error::data(&results.filename, message));
        }
        if (h, w) != (th, tw) {
            let (y, x) = (rng.below(h - th + 1), rng.below(w - tw + 1));
            image = crop(&image, y, x, th, tw);
        }
        results.img = Some(image);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "RandomCrop" => RandomCrop(RandomCropConfig));
