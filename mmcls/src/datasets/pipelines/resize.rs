//! Resizing; mmcls's `Resize`.

use mmcv::config::OneOrMany;
use mmcv::image::{Image, Interpolation, PillowInterpolation, imresize, imresize_pillow};
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PIPELINES, Results, Transform, ensure};

/// Whose arithmetic resizes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResizeBackend {
    /// OpenCV's, without antialiasing.
    #[default]
    Cv2,
    /// Pillow's, which averages where it shrinks.
    Pillow,
}

/// A resizing, as the options of several steps ask for it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Resizer {
    Cv2(Interpolation),
    Pillow(PillowInterpolation),
}

impl Resizer {
    /// By the name of an interpolation, which each backend has its own of.
    pub(super) fn new(name: &str, backend: ResizeBackend) -> Result<Self> {
        let node = mmcv::config::Node::from(name);
        match backend {
            ResizeBackend::Cv2 => node.parse().map(Self::Cv2),
            ResizeBackend::Pillow => node.parse().map(Self::Pillow),
        }
        .map_err(|e: Error| e.under("interpolation"))
    }

    /// To `width` x `height`.
    pub(super) fn apply(self, image: &Image, width: usize, height: usize) -> Result<Image> {
        match self {
            Self::Cv2(interpolation) => imresize(image, (width, height), interpolation),
            Self::Pillow(interpolation) => imresize_pillow(image, (width, height), interpolation),
        }
    }
}

/// The side that gets the given length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The shorter.
    #[default]
    Short,
    /// The longer.
    Long,
    /// The vertical.
    Height,
    /// The horizontal.
    Width,
}

/// `type = "Resize"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeConfig {
    /// A side length, or `(height, width)`; a width of -1 keeps the aspect ratio, and the first number is then the length of
    /// the `adaptive_side`.
    pub size: OneOrMany<i64>,
    /// cv2: `nearest`, `bilinear`, `bicubic`, `area`, `lanczos`; pillow: `nearest`, `bilinear`, `bicubic`, `box`,
    /// `lanczos`, `hamming`. Default `bilinear`.
    #[serde(default = "bilinear")]
    pub interpolation: String,
    /// `short`, `long`, `height` or `width`; default `short`.
    #[serde(default)]
    pub adaptive_side: Side,
    /// `cv2` or `pillow`; default `cv2`.
    #[serde(default)]
    pub backend: ResizeBackend,
}

pub(super) fn bilinear() -> String {
    "bilinear".into()
}

/// Resizes the image.
pub struct Resize {
    height: usize,
    /// None: by the aspect ratio.
    width: Option<usize>,
    side: Side,
    resizer: Resizer,
}

impl Resize {
    /// An error for lengths that are none.
    pub fn new(cfg: &ResizeConfig) -> Result<Self> {
        let resizer = Resizer::new(&cfg.interpolation, cfg.backend)?;
        let wrong = || {
            let message = format!("is {:?}, expected a length, (height, width) or (length, -1)", cfg.size.to_vec());
            Error::config(message).under("size")
        };
        let length = |n: i64| usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(wrong);
        let (height, width) = match &cfg.size {
            OneOrMany::One(n) => (length(*n)?, Some(length(*n)?)),
            OneOrMany::Many(pair) => match pair.as_slice() {
                [h, -1] => (length(*h)?, None),
                [h, w] => (length(*h)?, Some(length(*w)?)),
                _ => return Err(wrong()),
            },
        };
        Ok(Self { height, width, side: cfg.adaptive_side, resizer })
    }

    /// `(height, width)` of the result for an image of `h` x `w`.
    fn target(&self, h: usize, w: usize) -> (usize, usize) {
        let n = self.height;
        if let Some(width) = self.width {
            return (n, width);
        }
        let there = match self.side {
            Side::Short => h.min(w) == n,
            Side::Long => h.max(w) == n,
            Side::Height => h == n,
            Side::Width => w == n,
        };
        let by_width =
            (self.side == Side::Short && w < h) || (self.side == Side::Long && w > h) || self.side == Side::Width;
        match (there, by_width) {
            (true, _) => (h, w),
            (_, true) => ((n as f64 * h as f64 / w as f64) as usize, n),
            (_, false) => (n, (n as f64 * w as f64 / h as f64) as usize),
        }
    }
}

impl Transform for Resize {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        let image = results.take_image("Resize")?;
        let (h, w) = (image.height(), image.width());
        let (th, tw) = self.target(h, w);
        ensure(th > 0 && tw > 0, "size", || format!("an image of {h} x {w} would become {th} x {tw}"))?;
        // With both lengths given mmcls resizes always, which changes nothing where they are there.
        results.img = Some(if (th, tw) == (h, w) { image } else { self.resizer.apply(&image, tw, th)? });
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "Resize" => Resize(ResizeConfig));

#[cfg(test)]
mod tests {
    use mmcv::config::Node;

    use super::*;

    fn target(json: &str, h: usize, w: usize) -> Result<(usize, usize)> {
        Ok(Resize::new(&Node::from_json(json)?.parse()?)?.target(h, w))
    }

    // results = Resize(size, adaptive_side=side)(dict(img=zeros((h, w, 3), uint8))); results['img'].shape[:2]
    #[test]
    fn sizes_are_mmcls() {
        let side = |s: &str| format!(r#"{{"size": [256, -1], "adaptive_side": "{s}"}}"#);
        assert_eq!(target(r#"{"size": 32}"#, 28, 30).unwrap(), (32, 32));
        assert_eq!(target(r#"{"size": [10, 20]}"#, 28, 30).unwrap(), (10, 20));
        for (s, want) in [("short", (256, 341)), ("long", (192, 256)), ("height", (256, 341)), ("width", (192, 256))] {
            assert_eq!(target(&side(s), 300, 400).unwrap(), want, "{s}");
        }
        assert_eq!(target(&side("short"), 400, 300).unwrap(), (341, 256));
        assert_eq!(target(&side("short"), 256, 999).unwrap(), (256, 999));
        for bad in [
            r#"{"size": 0}"#,
            r#"{"size": [1, 2, 3]}"#,
            r#"{"size": [-1, 5]}"#,
            r#"{"size": 9, "interpolation": "box"}"#,
        ] {
            assert!(target(bad, 9, 9).unwrap_err().is_usage(), "{bad}");
        }
        assert!(target(r#"{"size": 9, "interpolation": "box", "backend": "pillow"}"#, 9, 9).is_ok());
    }
}
