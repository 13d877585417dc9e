//! Policies drawn for each image, and the steps they are made of; mmcls's `auto_augment.py`.

mod cutout;
mod enhance;
mod geometric;
mod policies;
mod rand_augment;
mod tables;

use mmcv::{Result, Rng};

use super::ensure;

pub(super) use enhance::{brightness, color, contrast};

fn half() -> f64 {
    0.5
}

/// An error unless `p` is a probability.
fn probability(p: f64, key: &str) -> Result<()> {
    ensure((0.0..=1.0).contains(&p), key, || format!("is {p}, expected 0 to 1"))
}

/// Whether a step of probability `prob` is left out this time.
fn skipped(prob: f64, rng: &mut Rng) -> bool {
    rng.unit() > prob
}

/// `value`, with probability `prob` negated.
pub(super) fn signed(value: f64, prob: f64, rng: &mut Rng) -> f64 {
    if rng.chance(prob) { -value } else { value }
}

#[cfg(test)]
mod testing {
    use mmcv::config::Node;
    use mmcv::image::{Image, Pixels};
    use mmcv::registry::build;
    use mmcv::{Result, Rng};

    use crate::datasets::pipelines::{PIPELINES, Results};

    /// `(np.arange(4 * 5 * 3) * 37 % 256).astype(np.uint8).reshape(4, 5, 3)`
    pub fn picture() -> Image {
        Image::new(4, 5, 3, Pixels::U8((0..60).map(|i| (i * 37 % 256) as u8).collect())).unwrap()
    }

    /// The bytes that the step of `json` makes of [`picture`].
    pub fn applied(json: &str) -> Result<Vec<u8>> {
        let step = build(&PIPELINES, &Node::from_json(json)?, ())?;
        let mut results = Results { img: Some(picture()), ..Results::default() };
        step.apply(&mut results, &mut Rng::new(3))?;
        match results.take_image("test")?.into_pixels() {
            Pixels::U8(v) => Ok(v),
            Pixels::F32(_) => Err(mmcv::Error::config("the image is no longer of bytes")),
        }
    }

    /// Whether no byte differs by more than `bound` from `want`.
    pub fn check(json: &str, want: &[u8], bound: u8) {
        let found = applied(json).unwrap();
        let near = found.len() == want.len() && found.iter().zip(want).all(|(a, b)| a.abs_diff(*b) <= bound);
        assert!(near, "{json}: {found:?}");
    }
}
