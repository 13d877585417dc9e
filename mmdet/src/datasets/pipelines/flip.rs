//! Mirroring.

use mmcv::image::{FlipDirection, imflip};
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::{OneOrMany, ensure};
use super::{PIPELINES, Picture, Results, Transform};

/// `type = "RandomFlip"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomFlipConfig {
    /// Probability; with several directions it is shared evenly, or a list gives each its own.
    #[serde(default)]
    pub flip_ratio: Option<OneOrMany<f64>>,
    /// `horizontal`, `vertical`, `diagonal`, or a list.
    #[serde(default = "horizontal")]
    pub direction: OneOrMany<FlipDirection>,
}

fn horizontal() -> OneOrMany<FlipDirection> {
    OneOrMany::One(FlipDirection::Horizontal)
}

/// Mirrors image, boxes, masks and semantic map, by chance or as test-time augmentation has decided.
pub struct RandomFlip {
    /// Each direction with its probability; none without `flip_ratio`.
    chances: Option<Vec<(FlipDirection, f64)>>,
}

impl RandomFlip {
    /// An error when probabilities are outside `[0, 1]` or don't match the directions.
    pub fn new(cfg: &RandomFlipConfig) -> Result<Self> {
        let directions = cfg.direction.to_vec();
        let ratios = match &cfg.flip_ratio {
            None => return Ok(Self { chances: None }),
            Some(OneOrMany::One(p)) => {
                ensure((0.0..=1.0).contains(p), || format!("RandomFlip: flip_ratio {p} is not in [0, 1]"))?;
                vec![p / directions.len().max(1) as f64; directions.len()]
            }
            Some(OneOrMany::Many(ps)) => {
                let sum: f64 = ps.iter().sum();
                ensure(ps.iter().all(|p| *p >= 0.0) && sum <= 1.0, || {
                    format!("RandomFlip: flip_ratio sums to {sum}, expected probabilities that sum to at most 1")
                })?;
                ps.clone()
            }
        };
        ensure(ratios.len() == directions.len(), || {
            format!("RandomFlip: {} probabilities for {} directions", ratios.len(), directions.len())
        })?;
        Ok(Self { chances: Some(directions.into_iter().zip(ratios).collect()) })
    }

    fn draw(&self, results: &Results, rng: &mut Rng) -> Result<Option<FlipDirection>> {
        let chances =
            self.chances.as_ref().ok_or_else(|| results.missing("RandomFlip (without flip_ratio)", "flip"))?;
        let mut left = rng.unit();
        for (direction, p) in chances {
            if left < *p {
                return Ok(Some(*direction));
            }
            left -= p;
        }
        Ok(None)
    }
}

impl Transform for RandomFlip {
    fn apply(&self, mut results: Results, rng: &mut Rng) -> Result<Option<Results>> {
        if results.flip.is_none() {
            let drawn = self.draw(&results, rng)?;
            results.flip = Some(drawn.is_some());
            results.flip_direction.get_or_insert(drawn);
        }
        let (Some(true), Some(Some(direction))) = (results.flip, results.flip_direction) else {
            return Ok(Some(results));
        };
        let [h, w, _] = results.shape("RandomFlip")?;
        let image = results.take_image("RandomFlip")?;
        results.img = Some(Picture::new(imflip(&image, direction)));
        let (h, w) = (h as f32, w as f32);
        let across = direction != FlipDirection::Vertical;
        let down = direction != FlipDirection::Horizontal;
        results.map_boxes(|b| {
            let [x1, y1, x2, y2] = *b;
            let (x1, x2) = if across { (w - x2, w - x1) } else { (x1, x2) };
            let (y1, y2) = if down { (h - y2, h - y1) } else { (y1, y2) };
            *b = [x1, y1, x2, y2];
        });
        if let Some(masks) = results.gt_masks.take() {
            results.gt_masks = Some(masks.flip(direction)?);
        }
        if let Some(seg) = results.gt_semantic_seg.take() {
            results.gt_semantic_seg = Some(imflip(&seg, direction));
        }
        Ok(Some(results))
    }
}

register!(PIPELINES: dyn Transform, "RandomFlip" => RandomFlip(RandomFlipConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{bitmap, bytes, image, polygon, refused, run, sample, step};
    use super::*;

    #[test]
    fn flips_are_mmdets() {
        // r['flip'], r['flip_direction'] = True, d; RandomFlip()(r)
        let cases = [
            (FlipDirection::Horizontal, [32.25, 4.25, 49.5, 30.5], [108, 137, 166]),
            (FlipDirection::Vertical, [3.5, 6.5, 20.75, 32.75], [212, 241, 14]),
            (FlipDirection::Diagonal, [32.25, 6.5, 49.5, 32.75], [66, 95, 124]),
        ];
        for (direction, first, corner) in cases {
            let asked = Results { flip: Some(true), flip_direction: Some(Some(direction)), ..sample() };
            let r = run(r#"{"type": "RandomFlip"}"#, asked);
            assert_eq!(r.gt_bboxes.as_ref().unwrap()[0], first);
            assert_eq!(bytes(&image(&r))[..3], corner);
        }
        for masks in [bitmap(), polygon()] {
            let asked = Results { gt_masks: Some(masks), flip: Some(true), ..sample() };
            let asked = Results { flip_direction: Some(Some(FlipDirection::Horizontal)), ..asked };
            let r = run(r#"{"type": "RandomFlip"}"#, asked);
            assert_eq!(r.gt_masks.unwrap().bboxes(), [[33.0, 3.0, 49.0, 30.0]]);
        }
    }

    #[test]
    fn a_decision_against_flipping_holds() {
        let asked = Results { flip: Some(false), flip_direction: Some(None), ..sample() };
        let r = run(r#"{"type": "RandomFlip", "flip_ratio": 1.0}"#, asked);
        assert_eq!(r.gt_bboxes, sample().gt_bboxes);
    }

    #[test]
    fn directions_come_as_often_as_their_probabilities() {
        let count = |json: &str| {
            let (step, mut rng) = (step(json).unwrap(), Rng::new(3));
            let mut counts = [0; 4];
            for _ in 0..4000 {
                let r = step.apply(sample(), &mut rng).unwrap().unwrap();
                let direction = r.flip_direction.unwrap();
                assert_eq!(r.flip, Some(direction.is_some()));
                counts[direction.map_or(3, |d| d as usize)] += 1;
            }
            counts.map(|c| f64::from(c) / 4000.0)
        };
        let near =
            |a: [f64; 4], b: [f64; 4]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.03), "{a:?} {b:?}");
        near(count(r#"{"type": "RandomFlip", "flip_ratio": 0.5}"#), [0.5, 0.0, 0.0, 0.5]);
        near(
            count(r#"{"type": "RandomFlip", "flip_ratio": 0.6, "direction": ["horizontal", "vertical", "diagonal"]}"#),
            [0.2, 0.2, 0.2, 0.4],
        );
        near(
            count(r#"{"type": "RandomFlip", "flip_ratio": [0.3, 0.5], "direction": ["vertical", "diagonal"]}"#),
            [0.0, 0.3, 0.5, 0.2],
        );
    }

    #[test]
    fn bad_options_are_refused() {
        for (json, part) in [
            (r#"{"type": "RandomFlip", "flip_ratio": 1.5}"#, "1.5 is not in [0, 1]"),
            (
                r#"{"type": "RandomFlip", "flip_ratio": [0.7, 0.7], "direction": ["vertical", "diagonal"]}"#,
                "sums to 1.4",
            ),
            (r#"{"type": "RandomFlip", "flip_ratio": [0.7, 0.1]}"#, "2 probabilities for 1 directions"),
        ] {
            let message = refused(json);
            assert!(message.contains(part), "{json}: {message}");
        }
        let message =
            step(r#"{"type": "RandomFlip"}"#).unwrap().apply(sample(), &mut Rng::new(0)).unwrap_err().to_string();
        assert!(message.contains("'flip' is not in the results"), "{message}");
    }
}
