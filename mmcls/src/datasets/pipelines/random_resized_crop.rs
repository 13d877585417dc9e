//! Random size and aspect ratio; mmcls's `RandomResizedCrop`.

use mmcv::config::OneOrMany;
use mmcv::image::crop;
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::crop::{square, thirty_two};
use super::resize::{ResizeBackend, Resizer, bilinear};
use super::{PIPELINES, Results, Transform, ensure};

/// `type = "RandomResizedCrop"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCropConfig {
    /// A side length, or `(height, width)`, of the result.
    pub size: OneOrMany<usize>,
    /// Least and greatest share of the image's area; default 0.08 to 1.
    #[serde(default = "scale")]
    pub scale: [f64; 2],
    /// Least and greatest aspect ratio; default 3/4 to 4/3.
    #[serde(default = "ratio")]
    pub ratio: [f64; 2],
    /// After so many crops that don't fit the middle is taken; default 10.
    #[serde(default = "ten")]
    pub max_attempts: usize,
    /// Draws as EfficientNet's preprocessing does; default false.
    #[serde(default)]
    pub efficientnet_style: bool,
    /// Least share of the area, in EfficientNet's way; default 0.1.
    #[serde(default = "tenth")]
    pub min_covered: f64,
    /// Border of the middle, in EfficientNet's way; default 32.
    #[serde(default = "thirty_two")]
    pub crop_padding: usize,
    /// Default `bilinear`.
    #[serde(default = "bilinear")]
    pub interpolation: String,
    /// `cv2` or `pillow`; default `cv2`.
    #[serde(default)]
    pub backend: ResizeBackend,
}

fn scale() -> [f64; 2] {
    [0.08, 1.0]
}
fn ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}
fn ten() -> usize {
    10
}
fn tenth() -> f64 {
    0.1
}

/// Cuts out a random part and resizes it.
pub struct RandomResizedCrop {
    cfg: RandomResizedCropConfig,
    size: (usize, usize),
    resizer: Resizer,
}

impl RandomResizedCrop {
    /// An error for ranges that are none.
    pub fn new(cfg: &RandomResizedCropConfig) -> Result<Self> {
        for (key, [low, high]) in [("scale", cfg.scale), ("ratio", cfg.ratio)] {
            ensure(0.0 < low && low <= high, key, || format!("is [{low}, {high}], expected [min, max] above 0"))?;
        }
        ensure(cfg.min_covered >= 0.0, "min_covered", || format!("is {}", cfg.min_covered))?;
        let (size, resizer) = (square(&cfg.size, "size")?, Resizer::new(&cfg.interpolation, cfg.backend)?);
        Ok(Self { cfg: cfg.clone(), size, resizer })
    }

    /// `(y, x, height, width)` of a crop of an image of `h` x `w`.
    fn draw(&self, h: usize, w: usize, rng: &mut Rng) -> (usize, usize, usize, usize) {
        if self.cfg.efficientnet_style { self.draw_efficientnet(h, w, rng) } else { self.draw_plain(h, w, rng) }
    }

    fn draw_plain(&self, h: usize, w: usize, rng: &mut Rng) -> (usize, usize, usize, usize) {
        let ([s0, s1], [r0, r1]) = (self.cfg.scale, self.cfg.ratio);
        for _ in 0..self.cfg.max_attempts {
            let area = rng.uniform(s0, s1) * (h * w) as f64;
            let aspect = rng.uniform(r0.ln(), r1.ln()).exp();
            let (tw, th) = ((area * aspect).sqrt().round_ties_even(), (area / aspect).sqrt().round_ties_even());
            let (tw, th) = (tw as usize, th as usize);
            if (1..=w).contains(&tw) && (1..=h).contains(&th) {
                return (rng.below(h - th + 1), rng.below(w - tw + 1), th, tw);
            }
        }
        let aspect = w as f64 / h as f64;
        let (th, tw) = if aspect < r0 {
            ((w as f64 / r0).round_ties_even() as usize, w)
        } else if aspect > r1 {
            (h, (h as f64 * r1).round_ties_even() as usize)
        } else {
            (h, w)
        };
        let (th, tw) = (th.clamp(1, h), tw.clamp(1, w));
        ((h - th) / 2, (w - tw) / 2, th, tw)
    }

    fn draw_efficientnet(&self, h: usize, w: usize, rng: &mut Rng) -> (usize, usize, usize, usize) {
        let (area, wf, hf) = ((h * w) as f64, w as f64, h as f64);
        let (least, most) = (self.cfg.scale[0] * area, self.cfg.scale[1] * area);
        for _ in 0..self.cfg.max_attempts {
            let aspect = rng.uniform(self.cfg.ratio[0], self.cfg.ratio[1]);
            let min_h = (least / aspect).sqrt().round_ties_even();
            let mut max_h = (most / aspect).sqrt().round_ties_even();
            if max_h * aspect > wf {
                max_h = ((wf + 0.5 - 1e-7) / aspect).floor();
                if max_h * aspect > wf {
                    max_h -= 1.0;
                }
            }
            let max_h = max_h.min(hf);
            let min_h = min_h.min(max_h);
            let th = rng.uniform(min_h, max_h).round_ties_even();
            let tw = (th * aspect).round_ties_even();
            let covered = th * tw;
            if covered < least
                || covered > most
                || tw > wf
                || th > hf
                || covered < self.cfg.min_covered * area
                || th < 1.0
                || tw < 1.0
            {
                continue;
            }
            let (th, tw) = (th as usize, tw as usize);
            return (rng.below(h - th + 1), rng.below(w - tw + 1), th, tw);
        }
        let size = self.size.0 as f64;
        let side = size / (size + self.cfg.crop_padding as f64) * hf.min(wf);
        let start = |whole: f64| ((whole - side) / 2.0).round_ties_even().max(0.0);
        let (y, x) = (start(hf), start(wf));
        let (th, tw) = (hf.min(y + side) - y, wf.min(x + side) - x);
        (y as usize, x as usize, (th as usize).max(1), (tw as usize).max(1))
    }
}

impl Transform for RandomResizedCrop {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        let image = results.take_image("RandomResizedCrop")?;
        let (y, x, h, w) = self.draw(image.height(), image.width(), rng);
        results.img = Some(self.resizer.apply(&crop(&image, y, x, h, w), self.size.1, self.size.0)?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "RandomResizedCrop" => RandomResizedCrop(RandomResizedCropConfig));

#[cfg(test)]
mod tests {
    use mmcv::config::Node;

    use super::*;

    #[test]
    fn crops_are_inside_and_of_the_asked_share_and_shape() {
        for style in [false, true] {
            let cfg = format!(r#"{{"size": 8, "efficientnet_style": {style}}}"#);
            let step = RandomResizedCrop::new(&Node::from_json(&cfg).unwrap().parse().unwrap()).unwrap();
            let mut rng = Rng::new(1);
            let mut shares = Vec::new();
            for _ in 0..500 {
                let (y, x, h, w) = step.draw(90, 120, &mut rng);
                assert!(y + h <= 90 && x + w <= 120 && h > 0 && w > 0);
                let aspect = w as f64 / h as f64;
                assert!((0.7..1.4).contains(&aspect), "{aspect}");
                shares.push((h * w) as f64 / (90.0 * 120.0));
            }
            assert!(shares.iter().any(|s| *s < 0.2) && shares.iter().any(|s| *s > 0.7));
            // Nothing fits in a strip: its middle is taken.
            let (y, x, h, w) = step.draw(2, 200, &mut rng);
            assert!(y + h <= 2 && x + w <= 200 && h > 0 && w > 0);
        }
    }
}
