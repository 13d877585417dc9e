//! Images blended by pairs; mmcls's `BatchMixup`.

use candle_core::{Result, Tensor};
use mmcv::{Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{AUGMENT, Augment, blended, checked, mixed_labels, one, partners};

/// `type = "BatchMixup"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchMixupConfig {
    /// Both shapes of the beta distribution that an image's own share is drawn from.
    pub alpha: f64,
    /// Classes.
    pub num_classes: usize,
    /// Probability; default 1.
    #[serde(default = "one")]
    pub prob: f64,
}

/// Blends each image with another of the batch, by one share for all.
pub struct BatchMixup(BatchMixupConfig);

impl BatchMixup {
    /// An error for numbers out of their ranges.
    pub fn new(cfg: &BatchMixupConfig) -> mmcv::Result<Self> {
        checked(cfg.num_classes, cfg.prob, Some(cfg.alpha))?;
        Ok(Self(cfg.clone()))
    }

    fn mix(&self, img: &Tensor, label: &Tensor, partners: &[u32], lam: f64) -> Result<(Tensor, Tensor)> {
        Ok((blended(img, partners, lam)?, mixed_labels(label, self.0.num_classes, partners, lam)?))
    }
}

impl Augment for BatchMixup {
    fn prob(&self) -> f64 {
        self.0.prob
    }
    fn num_classes(&self) -> usize {
        self.0.num_classes
    }
    fn apply(&self, img: &Tensor, label: &Tensor, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        let lam = rng.beta(self.0.alpha, self.0.alpha);
        self.mix(img, label, &partners(img.dim(0)?, rng), lam)
    }
}

register!(AUGMENT: dyn Augment, "BatchMixup" => BatchMixup(BatchMixupConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{images, labels, near, rows};
    use super::*;

    // np.random.beta = lambda a, b: .25; torch.randperm = lambda n: tensor([1, 0])
    // BatchMixupLayer(1., 3)(torch.arange(48.).reshape(2, 1, 4, 6), tensor([0, 2]))
    #[test]
    fn values_are_mmcls() {
        let mixup = BatchMixup::new(&BatchMixupConfig { alpha: 1.0, num_classes: 3, prob: 1.0 }).unwrap();
        let (img, label) = mixup.mix(&images(), &labels(), &[1, 0], 0.25).unwrap();
        let img = rows(&img);
        near(&img[0], &(18..42).map(|v| v as f32).collect::<Vec<_>>());
        near(&img[1], &(6..30).map(|v| v as f32).collect::<Vec<_>>());
        let label = label.to_vec2::<f32>().unwrap();
        near(&label.concat(), &[0.25, 0.0, 0.75, 0.75, 0.0, 0.25]);
    }

    #[test]
    fn labels_stay_shares() {
        let mixup = BatchMixup::new(&BatchMixupConfig { alpha: 0.2, num_classes: 3, prob: 1.0 }).unwrap();
        let mut rng = Rng::new(2);
        for _ in 0..20 {
            let (_, label) = mixup.apply(&images(), &labels(), &mut rng).unwrap();
            for row in label.to_vec2::<f32>().unwrap() {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
            }
        }
    }
}
