//! Steps one after the other.

use mmcv::config::Node;
use mmcv::registry::build;
use mmcv::{Error, Result, Rng};

use super::{PIPELINES, Results, Transform};
use crate::datasets::ClsSample;

/// A list of steps; mmcls's `Compose`.
pub struct Pipeline(Vec<Box<dyn Transform>>);

impl Pipeline {
    /// Builds the steps; an error names the one at fault by its position.
    pub fn new(steps: &[Node]) -> Result<Self> {
        let one = |(i, node): (usize, &Node)| build(&PIPELINES, node, ()).map_err(|e| e.under(&i.to_string()));
        steps.iter().enumerate().map(one).collect::<Result<_>>().map(Self)
    }

    /// Runs the steps.
    pub fn run(&self, mut results: Results, rng: &mut Rng) -> Result<Results> {
        for step in &self.0 {
            step.apply(&mut results, rng)?;
        }
        Ok(results)
    }

    /// [`Self::run`], and the sample that came out.
    pub fn sample(&self, results: Results, rng: &mut Rng) -> Result<ClsSample> {
        let results = self.run(results, rng)?;
        match results.tensor {
            Some(img) if results.collected => {
                Ok(ClsSample { img, gt_label: results.gt_label, filename: results.filename })
            }
            _ => Err(Error::config("the pipeline makes no sample: it must end in ImageToTensor and Collect")),
        }
    }
}
