//! Random light, contrast and colour in random order; mmcls's `ColorJitter`.

use mmcv::image::Image;
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::auto_augment::{brightness, color, contrast, signed};
use super::{PIPELINES, Results, Transform};

/// `type = "ColorJitter"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColorJitterConfig {
    /// The factor of light is 1 plus or minus a number drawn evenly from 0 to this.
    pub brightness: f64,
    /// Of contrast likewise.
    pub contrast: f64,
    /// Of colour likewise.
    pub saturation: f64,
}

/// Changes light, contrast and colour.
pub struct ColorJitter([(fn(&Image, f64) -> Result<Image>, f64); 3]);

impl ColorJitter {
    /// There is nothing to refuse.
    pub fn new(cfg: &ColorJitterConfig) -> Result<Self> {
        Ok(Self([(brightness, cfg.brightness), (contrast, cfg.contrast), (color, cfg.saturation)]))
    }
}

impl Transform for ColorJitter {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        let mut image = results.take_image("ColorJitter")?;
        let magnitudes = self.0.map(|(_, most)| rng.uniform(0.0, most));
        for i in rng.permutation(3) {
            let magnitude = signed(magnitudes[i], 0.5, rng);
            image = (self.0[i].0)(&image, 1.0 + magnitude)?;
        }
        results.img = Some(image);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "ColorJitter" => ColorJitter(ColorJitterConfig));

#[cfg(test)]
mod tests {
    use mmcv::image::Pixels;

    use super::*;

    fn mean(image: &Image) -> f64 {
        let Pixels::U8(v) = image.pixels() else { panic!("bytes") };
        v.iter().map(|v| f64::from(*v)).sum::<f64>() / v.len() as f64
    }

    #[test]
    fn each_part_does_its_own() {
        let grey = Image::new(2, 2, 3, Pixels::U8(vec![100; 12])).unwrap();
        let mut rng = Rng::new(1);
        let mut means = |b: f64, c: f64, s: f64| -> Vec<f64> {
            let step = ColorJitter::new(&ColorJitterConfig { brightness: b, contrast: c, saturation: s }).unwrap();
            let one = |_| {
                let mut results = Results { img: Some(grey.clone()), ..Results::default() };
                step.apply(&mut results, &mut rng).unwrap();
                mean(&results.img.unwrap())
            };
            (0..200).map(one).collect()
        };
        // A grey picture of one level has neither contrast nor colour.
        assert!(means(0.0, 0.5, 0.5).iter().all(|m| (m - 100.0).abs() <= 2.0));
        let light = means(0.5, 0.0, 0.0);
        assert!(light.iter().all(|m| (49.0..=150.0).contains(m)), "{light:?}");
        assert!(light.iter().any(|m| *m < 70.0) && light.iter().any(|m| *m > 130.0), "{light:?}");
    }
}
