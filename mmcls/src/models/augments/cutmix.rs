//! Patches pasted by pairs; mmcls's `BatchCutMix`.

use candle_core::{Result, Tensor, bail};
use mmcv::{Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{AUGMENT, Augment, checked, mixed_labels, of_partners, one, partners};

/// `type = "BatchCutMix"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchCutMixConfig {
    /// Both shapes of the beta distribution that an image's own share is drawn from.
    pub alpha: f64,
    /// Classes.
    pub num_classes: usize,
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

pub(super) fn yes() -> bool {
    true
}

/// A patch: rows `y.0..y.1`, columns `x.0..x.1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Patch {
    pub y: (usize, usize),
    pub x: (usize, usize),
}

impl Patch {
    /// About (`cy`, `cx`) of an image of `h` x `w`: of the area `1 - lam`, cut at the image's border.
    pub(super) fn around(h: usize, w: usize, lam: f64, cy: usize, cx: usize) -> Self {
        let ratio = (1.0 - lam).max(0.0).sqrt();
        let span = |side: usize, centre: usize| {
            let half = (side as f64 * ratio) as usize / 2;
            (centre.saturating_sub(half), (centre + half).min(side))
        };
        Self { y: span(h, cy), x: span(w, cx) }
    }

    fn area(self) -> usize {
        (self.y.1 - self.y.0) * (self.x.1 - self.x.0)
    }

    /// Rows and columns.
    pub(super) fn size(self) -> (usize, usize) {
        (self.y.1 - self.y.0, self.x.1 - self.x.0)
    }

    /// `img` with `patch` `[B, C, h, w]` in its place.
    pub(super) fn paste(self, img: &Tensor, patch: &Tensor) -> Result<Tensor> {
        let (b, c) = (img.dim(0)?, img.dim(1)?);
        img.slice_assign(&[0..b, 0..c, self.y.0..self.y.1, self.x.0..self.x.1], patch)
    }
}

/// How a patch is drawn; mmcls's `BaseCutMixLayer`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cutter {
    pub minmax: Option<[f64; 2]>,
    pub correct_lam: bool,
}

impl Cutter {
    /// An error for sides that are no shares.
    pub(super) fn new(minmax: Option<[f64; 2]>, correct_lam: bool) -> mmcv::Result<Self> {
        if minmax.is_none_or(|[low, high]| low >= 0.0 && high <= 1.0 && high > low) {
            return Ok(Self { minmax, correct_lam });
        }
        let message = format!("is {:?}, expected [min, max] from 0 to 1", minmax.unwrap_or_default());
        Err(mmcv::Error::config(message).under("cutmix_minmax"))
    }

    /// A patch of an image of `h` x `w`, and the share that is left of the image.
    pub(super) fn draw(self, h: usize, w: usize, lam: f64, rng: &mut Rng) -> Result<(Patch, f64)> {
        let patch = match self.minmax {
            None => {
                let (cy, cx) = (rng.below(h), rng.below(w));
                Patch::around(h, w, lam, cy, cx)
            }
            Some(minmax) => {
                let (cut_h, cut_w) = (side(h, minmax, rng)?, side(w, minmax, rng)?);
                let (y, x) = (rng.below(h - cut_h), rng.below(w - cut_w));
                Patch { y: (y, y + cut_h), x: (x, x + cut_w) }
            }
        };
        Ok((patch, self.share(patch, h, w, lam)))
    }

    /// The share that counts for labels.
    fn share(self, patch: Patch, h: usize, w: usize, lam: f64) -> f64 {
        if self.correct_lam || self.minmax.is_some() { 1.0 - patch.area() as f64 / (h * w) as f64 } else { lam }
    }
}

/// The length of a patch's side; the greatest is never drawn, as in the original.
fn side(n: usize, [low, high]: [f64; 2], rng: &mut Rng) -> Result<usize> {
    let (low, high) = ((n as f64 * low) as usize, (n as f64 * high) as usize);
    if low >= high {
        bail!("cutmix_minmax: between them lies no length of a side of {n} pixels");
    }
    Ok(low + rng.below(high - low))
}

/// Pastes into each image a patch of another of the batch, at one place for all.
pub struct BatchCutMix {
    cfg: BatchCutMixConfig,
    cutter: Cutter,
}

impl BatchCutMix {
    /// An error for numbers out of their ranges.
    pub fn new(cfg: &BatchCutMixConfig) -> mmcv::Result<Self> {
        checked(cfg.num_classes, cfg.prob, Some(cfg.alpha))?;
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
        if patch.area() == 0 {
            return Ok((img.clone(), label));
        }
        let (h, w) = patch.size();
        let other = of_partners(&img.narrow(2, patch.y.0, h)?.narrow(3, patch.x.0, w)?, partners)?;
        Ok((patch.paste(img, &other)?, label))
    }
}

impl Augment for BatchCutMix {
    fn prob(&self) -> f64 {
        self.cfg.prob
    }
    fn num_classes(&self) -> usize {
        self.cfg.num_classes
    }
    fn apply(&self, img: &Tensor, label: &Tensor, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let (b, _, h, w) = img.dims4()?;
        let lam = rng.beta(self.cfg.alpha, self.cfg.alpha);
        let partners = partners(b, rng);
        let drawn = self.cutter.draw(h, w, lam, rng)?;
        self.mix(img, label, &partners, drawn)
    }
}

register!(AUGMENT: dyn Augment, "BatchCutMix" => BatchCutMix(BatchCutMixConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{images, labels, near, rows};
    use super::*;

    fn made(correct_lam: bool, cutmix_minmax: Option<[f64; 2]>) -> mmcv::Result<BatchCutMix> {
        BatchCutMix::new(&BatchCutMixConfig { alpha: 1.0, num_classes: 3, prob: 1.0, cutmix_minmax, correct_lam })
    }

    // np.random.beta = lambda a, b: .64; torch.randperm = lambda n: tensor([1, 0]); np.random.randint gives 1, then 4
    // BatchCutMixLayer(1., 3, correct_lam=...)(torch.arange(48.).reshape(2, 1, 4, 6), tensor([0, 2]))
    #[test]
    fn values_are_mmcls() {
        for (correct, own) in [(true, 0.833_333_3), (false, 0.64)] {
            let cutmix = made(correct, None).unwrap();
            let patch = Patch::around(4, 6, 0.64, 1, 4);
            assert_eq!(patch, Patch { y: (0, 2), x: (3, 5) });
            let lam = cutmix.cutter.share(patch, 4, 6, 0.64);
            let (img, label) = cutmix.mix(&images(), &labels(), &[1, 0], (patch, lam)).unwrap();
            let mut want = rows(&images());
            for (row, offset) in want.iter_mut().zip([24.0, -24.0]) {
                [3, 4, 9, 10].iter().for_each(|i| row[*i] += offset);
            }
            assert_eq!(rows(&img), want);
            near(&label.to_vec2::<f32>().unwrap().concat(), &[own, 0.0, 1.0 - own, 1.0 - own, 0.0, own]);
        }
    }

    // The same with cutmix_minmax=[.25, .75]; np.random.randint gives 2, 3, 1, 2: labels [[.75, 0, .25], [.25, 0, .75]]
    #[test]
    fn patches_between_bounds_are_mmcls() {
        let cutmix = made(false, Some([0.25, 0.75])).unwrap();
        let patch = Patch { y: (1, 3), x: (2, 5) };
        assert_eq!(cutmix.cutter.share(patch, 4, 6, 0.5), 0.75);
        let mut rng = Rng::new(0);
        for _ in 0..200 {
            let (patch, lam) = cutmix.cutter.draw(40, 60, 0.5, &mut rng).unwrap();
            let (h, w) = patch.size();
            assert!((10..30).contains(&h) && (15..45).contains(&w) && patch.y.1 <= 40 && patch.x.1 <= 60, "{patch:?}");
            assert!((lam - (1.0 - (h * w) as f64 / 2400.0)).abs() < 1e-12);
        }
        assert!(cutmix.cutter.draw(1, 60, 0.5, &mut rng).is_err());
        assert!(made(true, Some([0.5, 0.2])).err().unwrap().to_string().contains("cutmix_minmax"));
    }

    #[test]
    fn whole_batches_are_mixed() {
        let cutmix = made(true, None).unwrap();
        let mut rng = Rng::new(4);
        for _ in 0..50 {
            let (img, label) = cutmix.apply(&images(), &labels(), &mut rng).unwrap();
            let (img, label) = (rows(&img), label.to_vec2::<f32>().unwrap());
            // As much of the first image is its own as its label says.
            let own = img[0].iter().filter(|v| **v < 24.0).count() as f32 / 24.0;
            assert!((label[0][0] - own).abs() < 1e-6 || (own == 1.0 && label[0][0] == 1.0), "{own} {label:?}");
        }
    }
}
