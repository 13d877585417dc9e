//! Colour taken away now and then; mmcls's `RandomGrayscale`.

use mmcv::image::{Image, Pixels, rgb2gray};
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PIPELINES, Results, Transform};

/// `type = "RandomGrayscale"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomGrayscaleConfig {
    /// Probability; default 0.1.
    #[serde(default = "tenth")]
    pub gray_prob: f64,
}

fn tenth() -> f64 {
    0.1
}

/// Makes the channels equal now and then. As in the original the first channel counts as red, also of BGR images.
pub struct RandomGrayscale(f64);

impl RandomGrayscale {
    /// There is nothing to refuse.
    pub fn new(cfg: &RandomGrayscaleConfig) -> Result<Self> {
        Ok(Self(cfg.gray_prob))
    }
}

/// Each value `n` times.
fn repeated<T: Copy>(values: &[T], n: usize) -> Vec<T> {
    values.iter().flat_map(|v| std::iter::repeat_n(*v, n)).collect()
}

impl Transform for RandomGrayscale {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        let image = results.take_image("RandomGrayscale")?;
        let [h, w, c] = image.shape();
        if !rng.chance(self.0) || c < 2 {
            results.img = Some(image);
            return Ok(());
        }
        let pixels = match rgb2gray(&image)?.into_pixels() {
            Pixels::U8(v) => Pixels::U8(repeated(&v, c)),
            Pixels::F32(v) => Pixels::F32(repeated(&v, c)),
        };
        results.img = Some(Image::new(h, w, c, pixels)?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "RandomGrayscale" => RandomGrayscale(RandomGrayscaleConfig));

#[cfg(test)]
mod tests {
    use super::*;

    // RandomGrayscale(gray_prob=1.)(dict(img=(np.arange(60) * 37 % 256).astype(np.uint8).reshape(4, 5, 3)))['img'][0, :3]
    #[test]
    fn values_are_mmcls() {
        let image = Image::new(4, 5, 3, Pixels::U8((0..60).map(|i| (i * 37 % 256) as u8).collect())).unwrap();
        let run = |prob: f64| {
            let step = RandomGrayscale::new(&RandomGrayscaleConfig { gray_prob: prob }).unwrap();
            let mut results = Results { img: Some(image.clone()), ..Results::default() };
            step.apply(&mut results, &mut Rng::new(0)).unwrap();
            results.img.unwrap()
        };
        let Pixels::U8(v) = run(1.0).into_pixels() else { panic!("bytes") };
        assert_eq!(v[..9], [30, 30, 30, 141, 141, 141, 73, 73, 73]);
        assert_eq!(run(0.0), image);
    }
}
