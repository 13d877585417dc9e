//! Whole images pasted small by pairs; mmcls's `BatchResizeMix`.

use candle_core::{Result, Tensor};
use mmcv::ops::{interpolate_area, interpolate_bicubic, interpolate_bilinear, interpolate_nearest};
use mmcv::{Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::cutmix::{Cutter, Patch, yes};
use super::{AUGMENT, Augment, checked, mixed_labels, of_partners, one, partners};

/// How images are made small; torch's modes for images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResizeMode {
    /// The nearest pixel.
    Nearest,
    /// Linear in both directions.
    #[default]
    Bilinear,
    /// Cubic in both directions.
    Bicubic,
    /// The mean over the area.
    Area,
}

/// `type = "BatchResizeMix"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchResizeMixConfig {
    /// Both shapes of the beta distribution that an image's own share is drawn from.
    pub alpha: f64,
    /// Classes.
    pub num_classes: usize,
    /// The drawn share 0 becomes this; default 0.1.
    #[serde(default = "tenth")]
    pub lam_min: f64,
    /// The drawn share 1 becomes this; default 0.8.
    #[serde(default = "four_fifths")]
    pub lam_max: f64,
    /// `nearest`, `bilinear`, `bicubic` or `area`; default `bilinear`.
    #[serde(default)]
    pub interpolation: ResizeMode,
    /// Probability; default 1.
    #[serde(default = "one")]
    pub prob: f64,
    /// `(min, max)` of a patch's sides, as shares of the image's, drawn evenly in place of `alpha`; default none.
    #[serde(default)]
    pub cutmix_minmax: Option<[f64; 2]>,
    /// Labels are mixed by the patch's area inside the image, not by the drawn share; default true.
    #[serde(default = "yes")]
    pub correct_lam: bool,
}

fn tenth() -> f64 {
    0.1
}
fn four_fifths() -> f64 {
    0.8
}

/// Pastes into each image another of the batch, made small, at one place for all.
pub struct BatchResizeMix {
    cfg: BatchResizeMixConfig,
    cutter: Cutter,
}

impl BatchResizeMix {
    /// An error for numbers out of their ranges.
    pub fn new(cfg: &BatchResizeMixConfig) -> mmcv::Result<Self> {
        checked(cfg.num_classes, cfg.prob, Some(cfg.alpha))?;
        for (key, v) in [("lam_min", cfg.lam_min), ("lam_max", cfg.lam_max)] {
            if !(0.0..=1.0).contains(&v) {
                return Err(mmcv::Error::config(format!("is {v}, expected 0 to 1")).under(key));
            }
        }
        Ok(Self { cfg: cfg.clone(), cutter: Cutter::new(cfg.cutmix_minmax, cfg.correct_lam)? })
    }

    fn mix(
        &self,
        img: &Tensor,
        label: &Tensor,
        partners: &[u32],
        (patch, lam): (Patch, f64),
    ) -> Result<(Tensor, Tensor)> {
        let label = mixed_labels(label, self.cfg.num_classes, partners, lam)?;
        let size = patch.size();
        if size.0 == 0 || size.1 == 0 {
            return Ok((img.clone(), label));
        }
        let other = of_partners(img, partners)?;
        let small = match self.cfg.interpolation {
            ResizeMode::Nearest => interpolate_nearest(&other, size)?,
            ResizeMode::Bilinear => interpolate_bilinear(&other, size, false)?,
            ResizeMode::Bicubic => interpolate_bicubic(&other, size, false)?,
            ResizeMode::Area => interpolate_area(&other, size)?,
        };
        Ok((patch.paste(img, &small)?, label))
    }
}

impl Augment for BatchResizeMix {
    fn prob(&self) -> f64 {
        self.cfg.prob
    }
    fn num_classes(&self) -> usize {
        self.cfg.num_classes
    }
    fn apply(&self, img: &Tensor, label: &Tensor, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let (b, _, h, w) = img.dims4()?;
        let lam = rng.beta(self.cfg.alpha, self.cfg.alpha);
        let lam = lam * (self.cfg.lam_max - self.cfg.lam_min) + self.cfg.lam_min;
        let partners = partners(b, rng);
        let drawn = self.cutter.draw(h, w, lam, rng)?;
        self.mix(img, label, &partners, drawn)
    }
}

register!(AUGMENT: dyn Augment, "BatchResizeMix" => BatchResizeMix(BatchResizeMixConfig));

#[cfg(test)]
mod tests {
    use mmcv::config::Node;

    use super::super::testing::{images, labels, near, rows};
    use super::*;

    fn made(more: &str) -> mmcv::Result<BatchResizeMix> {
        let json = format!(r#"{{"alpha": 1.0, "num_classes": 3{more}}}"#);
        BatchResizeMix::new(&Node::from_json(&json)?.parse()?)
    }

    // np.random.beta = lambda a, b: .4; torch.randperm = lambda n: tensor([1, 0]); np.random.randint gives 2, then 3
    // BatchResizeMixLayer(1., 3, interpolation=...)(torch.arange(48.).reshape(2, 1, 4, 6), tensor([0, 2]))
    #[test]
    fn values_are_mmcls() {
        for (mode, want) in [
            ("bilinear", [27.25, 28.75, 30.25, 31.75, 39.25, 40.75, 42.25, 43.75]),
            ("nearest", [24.0, 25.0, 27.0, 28.0, 36.0, 37.0, 39.0, 40.0]),
            (
                "bicubic",
                [26.628_906, 28.140_625, 29.734_375, 31.246_094, 39.753_906, 41.265_625, 42.859_375, 44.371_094],
            ),
            ("area", [27.5, 28.5, 30.5, 31.5, 39.5, 40.5, 42.5, 43.5]),
        ] {
            let mixed = made(&format!(r#", "interpolation": "{mode}""#)).unwrap();
            let patch = Patch { y: (1, 3), x: (1, 5) };
            let lam = 2.0 / 3.0;
            let (img, label) = mixed.mix(&images(), &labels(), &[1, 0], (patch, lam)).unwrap();
            let img = rows(&img);
            let mut first = rows(&images())[0].clone();
            let mut second = rows(&images())[1].clone();
            for (at, v) in (7..11).chain(13..17).zip(want) {
                first[at] = v;
                second[at] = v - 24.0;
            }
            near(&img[0], &first);
            near(&img[1], &second);
            let (own, other) = (0.666_666_7, 0.333_333_34);
            near(&label.to_vec2::<f32>().unwrap().concat(), &[own, 0.0, other, other, 0.0, own]);
        }
    }

    #[test]
    fn the_drawn_patch_is_the_originals() {
        // lam = .4 * (.8 - .1) + .1 = .38; the patch is rows 1 to 3 and columns 1 to 5, of which 2/3 are left.
        assert_eq!(Patch::around(4, 6, 0.38, 2, 3), Patch { y: (1, 3), x: (1, 5) });
        let mixed = made("").unwrap();
        let mut rng = Rng::new(0);
        for _ in 0..20 {
            let (img, label) = mixed.apply(&images(), &labels(), &mut rng).unwrap();
            assert_eq!(img.dims(), [2, 1, 4, 6]);
            assert!(label.to_vec2::<f32>().unwrap().iter().all(|r| (r.iter().sum::<f32>() - 1.0).abs() < 1e-6));
        }
        assert!(made(r#", "lam_max": 1.2"#).err().unwrap().to_string().contains("lam_max"));
        assert!(made(r#", "interpolation": "trilinear""#).err().unwrap().is_usage());
    }
}
