//! Covering parts of the image.

use mmcv::config::Node;
use mmcv::image::Pixels;
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::{OneOrMany, ensure, pairs};
use super::{PIPELINES, Results, Transform};

/// `type = "CutOut"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CutOutConfig {
    /// How many parts: a number, or the least and the greatest.
    pub n_holes: OneOrMany<i64>,
    /// `(width, height)` in pixels, or a list to draw from.
    #[serde(default)]
    pub cutout_shape: Node,
    /// `(width, height)` as fractions of the image, or a list to draw from.
    #[serde(default)]
    pub cutout_ratio: Node,
    /// The colour.
    #[serde(default = "black")]
    pub fill_in: Vec<f64>,
}

fn black() -> Vec<f64> {
    vec![0.0; 3]
}

/// Fills random rectangles with one colour.
pub struct CutOut {
    holes: [i64; 2],
    candidates: Vec<[f64; 2]>,
    with_ratio: bool,
    fill_in: Vec<f64>,
}

impl CutOut {
    /// An error unless exactly one of `cutout_shape` and `cutout_ratio` is given.
    pub fn new(cfg: &CutOutConfig) -> Result<Self> {
        ensure(cfg.cutout_shape.is_null() != cfg.cutout_ratio.is_null(), || {
            "CutOut: give either cutout_shape or cutout_ratio".into()
        })?;
        let with_ratio = !cfg.cutout_ratio.is_null();
        let candidates = if with_ratio {
            pairs(&cfg.cutout_ratio, "cutout_ratio")?
        } else {
            pairs(&cfg.cutout_shape, "cutout_shape")?
        };
        let holes = match cfg.n_holes.to_vec()[..] {
            [n] => [n, n],
            [a, b] if a < b => [a, b],
            _ => [-1, -1],
        };
        ensure(holes[0] >= 0, || "CutOut: n_holes must be a number or (least, greatest)".into())?;
        Ok(Self { holes, candidates, with_ratio, fill_in: cfg.fill_in.clone() })
    }
}

impl Transform for CutOut {
    fn apply(&self, mut results: Results, rng: &mut Rng) -> Result<Option<Results>> {
        let mut image = results.take_image("CutOut")?;
        let [h, w, c] = image.shape();
        ensure(self.fill_in.len() == c || self.fill_in.len() == 1, || {
            format!("CutOut: fill_in has {} values, the image {c} channels", self.fill_in.len())
        })?;
        for _ in 0..rng.int(self.holes[0], self.holes[1]) {
            let (x1, y1) = (rng.below(w), rng.below(h));
            let [cut_w, cut_h] = self.candidates[rng.below(self.candidates.len())];
            let (cut_w, cut_h) = if self.with_ratio { (cut_w * w as f64, cut_h * h as f64) } else { (cut_w, cut_h) };
            let (x2, y2) = ((x1 + cut_w as usize).min(w), (y1 + cut_h as usize).min(h));
            for y in y1..y2 {
                let row = (y * w + x1) * c..(y * w + x2) * c;
                let colour = self.fill_in.iter().cycle();
                match image.pixels_mut() {
                    Pixels::U8(v) => v[row].iter_mut().zip(colour).for_each(|(v, f)| *v = *f as i64 as u8),
                    Pixels::F32(v) => v[row].iter_mut().zip(colour).for_each(|(v, f)| *v = *f as f32),
                }
            }
        }
        results.set_image(image);
        Ok(Some(results))
    }
}

register!(PIPELINES: dyn Transform, "CutOut" => CutOut(CutOutConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{bytes, image, refused, run, sample};

    #[test]
    fn holes_have_the_colour_and_size() {
        // All holes start inside, so one of the image's size covers everything right of and below its corner.
        let r = run(r#"{"type": "CutOut", "n_holes": 1, "cutout_shape": [4, 3], "fill_in": [7, 8.9, 9]}"#, sample());
        let (now, old) = (image(&r), image(&sample()));
        let changed: Vec<&[u8]> = bytes(&now)
            .chunks_exact(3)
            .zip(bytes(&old).chunks_exact(3))
            .filter_map(|(a, b)| (a != b).then_some(a))
            .collect();
        assert!(!changed.is_empty() && changed.len() <= 12, "{}", changed.len());
        assert!(changed.iter().all(|p| *p == [7, 8, 9]));
        let r = run(r#"{"type": "CutOut", "n_holes": [2, 3], "cutout_ratio": [[1, 1], [0.5, 1]]}"#, sample());
        assert!(bytes(&image(&r)).contains(&0));
    }

    #[test]
    fn bad_options_are_refused() {
        for (json, part) in [
            (r#"{"type": "CutOut", "n_holes": 1}"#, "either cutout_shape or cutout_ratio"),
            (
                r#"{"type": "CutOut", "n_holes": 1, "cutout_shape": [1, 1], "cutout_ratio": [1, 1]}"#,
                "either cutout_shape",
            ),
            (r#"{"type": "CutOut", "n_holes": [3, 1], "cutout_shape": [1, 1]}"#, "n_holes"),
        ] {
            let message = refused(json);
            assert!(message.contains(part), "{json}: {message}");
        }
    }
}
