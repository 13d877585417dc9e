//! Steps one after the other.

use mmcv::config::Node;
use mmcv::registry::build;
use mmcv::{Error, Result, Rng};

use super::{PIPELINES, Results, Transform};
use crate::core::DetSample;

/// A list of steps; mmdet's `Compose`.
pub struct Pipeline {
    steps: Vec<(String, Box<dyn Transform>)>,
}

impl Pipeline {
    /// Builds the steps; an error names the one at fault by its position.
    pub fn new(steps: &[Node]) -> Result<Self> {
        let build_one = |(i, node): (usize, &Node)| {
            let step = build(&PIPELINES, node, ()).map_err(|e| e.under(&i.to_string()))?;
            Ok((node.type_name().unwrap_or_default().to_owned(), step))
        };
        Ok(Self { steps: steps.iter().enumerate().map(build_one).collect::<Result<_>>()? })
    }

    /// Runs the steps until one drops the sample.
    pub fn run(&self, results: Results, rng: &mut Rng) -> Result<Option<Results>> {
        self.steps.iter().try_fold(Some(results), |results, (_, step)| match results {
            Some(results) => step.apply(results, rng),
            None => Ok(None),
        })
    }

    /// [`Pipeline::run`], and what `Collect` made of it: one sample, or one per test-time augmentation.
    pub fn samples(&self, results: Results, rng: &mut Rng) -> Result<Option<Vec<DetSample>>> {
        match self.run(results, rng)? {
            Some(results) if results.samples.is_empty() => Err(Error::config(
                "the pipeline makes no sample: it must end in Collect, or in MultiScaleFlipAug with Collect inside",
            )),
            Some(results) => Ok(Some(results.samples)),
            None => Ok(None),
        }
    }

    /// The steps with their types.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &dyn Transform)> {
        self.steps.iter().map(|(name, step)| (name.as_str(), &**step))
    }
}
