//! Steps one after the other.

use mmcv::config::Node;
use mmcv::registry::build;
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

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
        self.apply(&mut results, rng)?;
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

impl Transform for Pipeline {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        self.0.iter().try_for_each(|step| step.apply(results, rng))
    }
}

/// `type = "Compose"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComposeConfig {
    /// The steps.
    pub transforms: Vec<Node>,
}

/// A list of steps as one step.
pub struct Compose(Pipeline);

impl Compose {
    /// Builds the steps.
    pub fn new(cfg: &ComposeConfig) -> Result<Self> {
        Pipeline::new(&cfg.transforms).map(Self).map_err(|e| e.under("transforms"))
    }
}

impl Transform for Compose {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        self.0.apply(results, rng)
    }
}

register!(PIPELINES: dyn Transform, "Compose" => Compose(ComposeConfig));
