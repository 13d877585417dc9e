//! Test-time augmentation.

use mmcv::config::Node;
use mmcv::image::FlipDirection;
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::{OneOrMany, ensure, pairs};
use super::{PIPELINES, Pipeline, Results, ScaleFactor, Transform};

/// `type = "MultiScaleFlipAug"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MultiScaleFlipAugConfig {
    /// The steps that each version of the image goes through.
    pub transforms: Vec<Node>,
    /// `(width, height)` or a list of them.
    #[serde(default)]
    pub img_scale: Node,
    /// A number or a list of them; instead of `img_scale`.
    #[serde(default)]
    pub scale_factor: Option<OneOrMany<f64>>,
    /// Adds the mirrored versions.
    #[serde(default)]
    pub flip: bool,
    /// How they are mirrored: one direction or several.
    #[serde(default = "horizontal")]
    pub flip_direction: OneOrMany<FlipDirection>,
}

fn horizontal() -> OneOrMany<FlipDirection> {
    OneOrMany::One(FlipDirection::Horizontal)
}

#[derive(Debug, Clone, Copy)]
enum Scale {
    Size([f64; 2]),
    Factor(f64),
}

/// Runs its steps once for each scale and flip: scales in order, unmirrored first in each.
pub struct MultiScaleFlipAug {
    pipeline: Pipeline,
    scales: Vec<Scale>,
    flips: Vec<Option<FlipDirection>>,
}

impl MultiScaleFlipAug {
    /// An error unless exactly one of `img_scale` and `scale_factor` is given.
    pub fn new(cfg: &MultiScaleFlipAugConfig) -> Result<Self> {
        ensure(cfg.img_scale.is_null() != cfg.scale_factor.is_none(), || {
            "MultiScaleFlipAug: give either img_scale or scale_factor".into()
        })?;
        let scales: Vec<Scale> = match &cfg.scale_factor {
            Some(factors) => factors.to_vec().into_iter().map(Scale::Factor).collect(),
            None => pairs(&cfg.img_scale, "img_scale")?.into_iter().map(Scale::Size).collect(),
        };
        let mut flips = vec![None];
        if cfg.flip {
            flips.extend(cfg.flip_direction.to_vec().into_iter().map(Some));
            if !cfg.transforms.iter().any(|t| t.type_name() == Some("RandomFlip")) {
                tracing::warn!("MultiScaleFlipAug: flip has no effect, RandomFlip is not in transforms");
            }
        } else if !matches!(cfg.flip_direction.to_vec()[..], [FlipDirection::Horizontal]) {
            tracing::warn!("MultiScaleFlipAug: flip_direction has no effect when flip is false");
        }
        let pipeline = Pipeline::new(&cfg.transforms).map_err(|e| e.under("transforms"))?;
        Ok(Self { pipeline, scales, flips })
    }
}

impl Transform for MultiScaleFlipAug {
    fn apply(&self, results: Results, rng: &mut Rng) -> Result<Option<Results>> {
        let versions: Vec<_> = self.scales.iter().flat_map(|s| self.flips.iter().map(move |f| (*s, *f))).collect();
        let mut samples = Vec::with_capacity(versions.len());
        let mut start = Some(results);
        let mut end = Results::default();
        for (i, (scale, flip)) in versions.iter().enumerate() {
            // The last version takes the image itself.
            let taken = if i + 1 == versions.len() { start.take() } else { start.clone() };
            let mut version = taken.unwrap_or_default();
            match scale {
                Scale::Size(size) => version.scale = Some(*size),
                Scale::Factor(factor) => version.scale_factor = Some(ScaleFactor::Wanted(*factor)),
            }
            version.flip = Some(flip.is_some());
            version.flip_direction = Some(*flip);
            let Some(mut done) = self.pipeline.run(version, rng)? else { return Ok(None) };
            samples.append(&mut done.samples);
            end = done;
        }
        end.samples = samples;
        Ok(Some(end))
    }
}

register!(PIPELINES: dyn Transform, "MultiScaleFlipAug" => MultiScaleFlipAug(MultiScaleFlipAugConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{refused, sample};
    use super::*;

    fn aug(options: &str) -> Vec<crate::core::DetSample> {
        let json = format!(
            r#"{{"type": "MultiScaleFlipAug", {options}, "transforms": [
                {{"type": "Resize"}}, {{"type": "RandomFlip"}},
                {{"type": "Normalize", "mean": [0, 0, 0], "std": [1, 1, 1]}},
                {{"type": "ImageToTensor", "keys": ["img"]}}, {{"type": "Collect", "keys": ["img"]}}]}}"#
        );
        let steps = [Node::from_json(&json).unwrap()];
        Pipeline::new(&steps).unwrap().samples(sample(), &mut Rng::new(0)).unwrap().unwrap()
    }

    #[test]
    fn each_scale_comes_unmirrored_first() {
        let samples =
            aug(r#""img_scale": [[100, 60], [50, 30]], "flip": true, "flip_direction": ["horizontal", "diagonal"]"#);
        let seen: Vec<_> = samples.iter().map(|s| (s.meta.img_shape[0], s.meta.flip_direction)).collect();
        let (h, d) = (Some(FlipDirection::Horizontal), Some(FlipDirection::Diagonal));
        assert_eq!(seen, [(60, None), (60, h), (60, d), (30, None), (30, h), (30, d)]);
        let flags: Vec<bool> = samples.iter().map(|s| s.meta.flip).collect();
        assert_eq!(flags, [false, true, true, false, true, true]);
        // The mirrored version is the other's mirror image.
        let rows = |i: usize| samples[i].img.to_vec3::<f32>().unwrap();
        let mut mirrored = rows(1);
        mirrored.iter_mut().flatten().for_each(|row| row.reverse());
        assert_eq!(rows(0), mirrored);
    }

    #[test]
    fn factors_scale_the_image() {
        let samples = aug(r#""scale_factor": [1.37, 2]"#);
        assert_eq!(samples.iter().map(|s| s.meta.img_shape).collect::<Vec<_>>(), [[50, 72, 3], [74, 106, 3]]);
    }

    #[test]
    fn bad_options_are_refused() {
        for (json, part) in [
            (r#"{"type": "MultiScaleFlipAug", "transforms": []}"#, "either img_scale or scale_factor"),
            (
                r#"{"type": "MultiScaleFlipAug", "img_scale": [1, 1], "transforms": [{"type": "Pad", "size_divisor": 1}, {"type": "Resise"}]}"#,
                "transforms.1.type: 'Resise' is not in the PIPELINES registry; did you mean 'Resize'",
            ),
        ] {
            let message = refused(json);
            assert!(message.contains(part), "{json}: {message}");
        }
    }
}
