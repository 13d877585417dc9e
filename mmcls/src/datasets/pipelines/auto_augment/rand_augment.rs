//! Some steps of a list for each image, all of one magnitude; mmcls's `RandAugment`.

use mmcv::config::Node;
use mmcv::registry::build;
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::policies::{hparams, merged};
use crate::datasets::pipelines::{PIPELINES, Results, Transform, ensure};

/// `type = "RandAugment"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandAugmentConfig {
    /// Steps. One with a magnitude names its field by `magnitude_key`, and by `magnitude_range` the field's values at level
    /// 0 and at the total level.
    pub policies: Vec<Node>,
    /// How many are drawn for an image; one may come more than once.
    pub num_policies: usize,
    /// The level of all magnitudes.
    pub magnitude_level: f64,
    /// Above 0: the deviation of the level, which is drawn anew for each step; `"inf"`: the level is drawn evenly from 0 to
    /// `magnitude_level`. Default 0.
    #[serde(default)]
    pub magnitude_std: Option<Node>,
    /// The highest level; default 30.
    #[serde(default = "thirty")]
    pub total_level: f64,
    /// Values of fields that steps have and don't set; default `pad_val` 128.
    #[serde(default = "hparams")]
    pub hparams: Node,
}

fn thirty() -> f64 {
    30.0
}

/// How the level of a step is found.
#[derive(Debug, Clone, Copy)]
enum Spread {
    /// It is the config's.
    None,
    /// Normal about the config's, by this deviation.
    Normal(f64),
    /// Evenly up to the config's.
    Even,
}

/// A step, and what its magnitude means.
struct Policy {
    /// Without `magnitude_key` and `magnitude_range`.
    step: Node,
    /// The field, and its values at level 0 and at the highest.
    magnitude: Option<(String, [f64; 2])>,
}

impl Policy {
    fn new(policy: &Node, hparams: &Node) -> Result<Self> {
        let Some(key) = policy.get("magnitude_key").filter(|k| !k.is_null()) else {
            return Ok(Self { step: merged(&policy.without("magnitude_key"), hparams)?, magnitude: None });
        };
        let Some(key) = key.as_str() else {
            return Err(key.error(format!("found {}, expected a field's name", key.kind())).under("magnitude_key"));
        };
        let Some(range) = policy.get("magnitude_range") else {
            return Err(policy.error("missing required field 'magnitude_range'"));
        };
        let range = range.parse::<[f64; 2]>().map_err(|e| e.under("magnitude_range"))?;
        let step = policy.without("magnitude_key").without("magnitude_range");
        Ok(Self { step: merged(&step, hparams)?, magnitude: Some((key.to_owned(), range)) })
    }

    /// The step at a `share` of the highest level.
    fn build(&self, share: f64) -> Result<Box<dyn Transform>> {
        let Some((key, [low, high])) = &self.magnitude else { return build(&PIPELINES, &self.step, ()) };
        let mut step = self.step.clone();
        step.set(key, share * (high - low) + low);
        build(&PIPELINES, &step, ())
    }
}

/// Sends each image through some of the policies.
pub struct RandAugment {
    policies: Vec<Policy>,
    count: usize,
    level: f64,
    total: f64,
    spread: Spread,
}

impl RandAugment {
    /// An error for numbers out of their ranges, and for steps that can't be built.
    pub fn new(cfg: &RandAugmentConfig) -> Result<Self> {
        ensure(!cfg.policies.is_empty(), "policies", || "is empty, expected steps".into())?;
        ensure(cfg.num_policies > 0, "num_policies", || "is 0, expected at least 1".into())?;
        ensure(cfg.magnitude_level >= 0.0, "magnitude_level", || format!("is {}", cfg.magnitude_level))?;
        ensure(cfg.total_level > 0.0, "total_level", || format!("is {}, expected above 0", cfg.total_level))?;
        let spread = match &cfg.magnitude_std {
            None => Spread::None,
            Some(node) => match (node.as_f64(), node.as_str()) {
                (Some(std), _) if std > 0.0 => Spread::Normal(std),
                (Some(_), _) => Spread::None,
                (None, Some("inf")) => Spread::Even,
                _ => return Err(node.error("expected a number or \"inf\"").under("magnitude_std")),
            },
        };
        let one = |(i, node): (usize, &Node)| -> Result<Policy> {
            let made = Policy::new(node, &cfg.hparams).and_then(|p| {
                p.build(cfg.magnitude_level / cfg.total_level)?;
                Ok(p)
            });
            made.map_err(|e: Error| e.under(&i.to_string()))
        };
        let policies = cfg.policies.iter().enumerate().map(one).collect::<Result<Vec<_>>>();
        Ok(Self {
            policies: policies.map_err(|e| e.under("policies"))?,
            count: cfg.num_policies,
            level: cfg.magnitude_level,
            total: cfg.total_level,
            spread,
        })
    }

    fn draw_level(&self, rng: &mut Rng) -> f64 {
        match self.spread {
            Spread::None => self.level,
            Spread::Normal(std) => (self.level + std * rng.normal()).clamp(0.0, self.total),
            Spread::Even => rng.uniform(0.0, self.level),
        }
    }
}

impl Transform for RandAugment {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        let drawn: Vec<usize> = (0..self.count).map(|_| rng.below(self.policies.len())).collect();
        let mut steps = Vec::with_capacity(drawn.len());
        for i in drawn {
            let policy = &self.policies[i];
            let level = if policy.magnitude.is_some() { self.draw_level(rng) } else { self.level };
            steps.push(policy.build(level / self.total)?);
        }
        steps.iter().try_for_each(|step| step.apply(results, rng))
    }
}

register!(PIPELINES: dyn Transform, "RandAugment" => RandAugment(RandAugmentConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, picture};
    use super::*;
    use mmcv::image::{Pixels, solarize};

    fn json(policies: &str, more: &str) -> String {
        format!(r#"{{"type": "RandAugment", "policies": [{policies}], "num_policies": 1, {more}}}"#)
    }

    const SOLARIZE: &str = r#"{"type": "Solarize", "magnitude_key": "thr", "magnitude_range": [256, 0], "prob": 1}"#;

    // RandAugment([dict(type='Solarize', magnitude_key='thr', magnitude_range=(256, 0), prob=1.)], 1, 12)
    //     ._process_policies(self.policies)[0]['thr'] is 12 / 30 * (0 - 256) + 256 = 153.6
    #[test]
    fn the_level_is_a_share_of_the_range() {
        let Pixels::U8(want) = solarize(&picture(), 153.6).into_pixels() else { panic!("bytes") };
        assert_eq!(applied(&json(SOLARIZE, r#""magnitude_level": 12"#)).unwrap(), want);
        let Pixels::U8(want) = solarize(&picture(), 128.0).into_pixels() else { panic!("bytes") };
        assert_eq!(applied(&json(SOLARIZE, r#""magnitude_level": 5, "total_level": 10"#)).unwrap(), want);
    }

    // configs/_base_/datasets/pipelines/rand_aug.py and imagenet_bs64_swin_224.py
    #[test]
    fn the_originals_policies_run() {
        let plain = ["AutoContrast", "Equalize", "Invert"].map(|name| format!(r#"{{"type": "{name}"}}"#));
        let ranged = [
            ("Rotate", "angle", 0.0, 30.0, ""),
            ("Posterize", "bits", 4.0, 0.0, ""),
            ("Solarize", "thr", 256.0, 0.0, ""),
            ("SolarizeAdd", "magnitude", 0.0, 110.0, ""),
            ("ColorTransform", "magnitude", 0.0, 0.9, ""),
            ("Contrast", "magnitude", 0.0, 0.9, ""),
            ("Brightness", "magnitude", 0.0, 0.9, ""),
            ("Sharpness", "magnitude", 0.0, 0.9, ""),
            ("Shear", "magnitude", 0.0, 0.3, r#", "direction": "horizontal""#),
            ("Shear", "magnitude", 0.0, 0.3, r#", "direction": "vertical""#),
            ("Translate", "magnitude", 0.0, 0.45, r#", "direction": "horizontal""#),
            ("Translate", "magnitude", 0.0, 0.45, r#", "direction": "vertical""#),
        ]
        .map(|(name, key, low, high, more)| {
            format!(r#"{{"type": "{name}", "magnitude_key": "{key}", "magnitude_range": [{low}, {high}]{more}}}"#)
        });
        let policies = [&plain[..], &ranged[..]].concat().join(", ");
        let cfg = format!(
            r#"{{"policies": [{policies}], "num_policies": 2, "total_level": 10, "magnitude_level": 9,
                "magnitude_std": 0.5, "hparams": {{"pad_val": [104, 116, 124], "interpolation": "bicubic"}}}}"#
        );
        let step = RandAugment::new(&Node::from_json(&cfg).unwrap().parse().unwrap()).unwrap();
        let mut rng = Rng::new(1);
        let mut changed = 0;
        for _ in 0..100 {
            let mut results = Results { img: Some(picture()), ..Results::default() };
            step.apply(&mut results, &mut rng).unwrap();
            let image = results.img.unwrap();
            assert_eq!(image.shape(), [4, 5, 3]);
            changed += usize::from(image != picture());
        }
        // Each of two steps is left out half of the time; Equalize finds nothing to do in so small a picture.
        assert!((50..95).contains(&changed), "{changed}");
    }

    #[test]
    fn levels_spread_as_asked() {
        let made = |more: &str| {
            let cfg = Node::from_json(&json(SOLARIZE, more)).unwrap().without("type");
            RandAugment::new(&cfg.parse().unwrap()).unwrap()
        };
        let mut rng = Rng::new(1);
        let normal = made(r#""magnitude_level": 15, "magnitude_std": 10"#);
        let levels: Vec<f64> = (0..2000).map(|_| normal.draw_level(&mut rng)).collect();
        let mean = levels.iter().sum::<f64>() / 2000.0;
        assert!((mean - 15.0).abs() < 1.0 && levels.iter().all(|l| (0.0..=30.0).contains(l)), "{mean}");
        assert!(levels.contains(&0.0) && levels.contains(&30.0));
        let even = made(r#""magnitude_level": 10, "magnitude_std": "inf""#);
        let levels: Vec<f64> = (0..2000).map(|_| even.draw_level(&mut rng)).collect();
        let mean = levels.iter().sum::<f64>() / 2000.0;
        assert!((mean - 5.0).abs() < 0.4 && levels.iter().all(|l| (0.0..10.0).contains(l)), "{mean}");
    }

    #[test]
    fn mistakes_are_named() {
        for (policies, more, words) in [
            ("", r#""magnitude_level": 1"#, "policies"),
            (SOLARIZE, r#""magnitude_level": -1"#, "magnitude_level"),
            (SOLARIZE, r#""magnitude_level": 1, "total_level": 0"#, "total_level"),
            (SOLARIZE, r#""magnitude_level": 1, "magnitude_std": "infinite""#, "magnitude_std"),
            (r#"{"type": "Solarize", "magnitude_key": "thr"}"#, r#""magnitude_level": 1"#, "magnitude_range"),
            (r#"{"type": "Solarize", "prob": 1}"#, r#""magnitude_level": 1"#, "policies.0"),
        ] {
            let e = applied(&json(policies, more)).unwrap_err();
            assert!(e.is_usage() && e.to_string().contains(words), "{e}");
        }
    }
}
