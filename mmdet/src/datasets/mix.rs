//! Samples made of several images.

use std::sync::Arc;

use mmcv::config::Node;
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::pipelines::{ImgInfo, Pipeline, Results};
use super::{DATASETS, DatasetDefaults, DetDataset, Source, build_dataset};
use crate::core::AnnInfo;

/// `type = "MultiImageMixDataset"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MultiImageMixDatasetConfig {
    /// Gives the single images; its pipeline only loads.
    pub dataset: Node,
    /// The steps that mix, and those after them.
    pub pipeline: Vec<Node>,
    /// Steps (by type) to leave out.
    #[serde(default)]
    pub skip_type_keys: Option<Vec<String>>,
    /// How often a step is tried again when it drops the sample.
    #[serde(default = "max_refetch")]
    pub max_refetch: usize,
}

fn max_refetch() -> usize {
    15
}

/// Gives the steps of its pipeline other images to mix in, such as `Mosaic` and `MixUp` ask for.
pub struct MultiImageMixDataset {
    dataset: Box<dyn DetDataset>,
    pipeline: Pipeline,
    skip: Vec<String>,
    max_refetch: usize,
}

impl MultiImageMixDataset {
    /// Builds the data set and the steps.
    pub fn new(cfg: &MultiImageMixDatasetConfig, defaults: DatasetDefaults) -> Result<Self> {
        Ok(Self {
            dataset: build_dataset(&cfg.dataset, defaults).map_err(|e| e.under("dataset"))?,
            pipeline: Pipeline::new(&cfg.pipeline).map_err(|e| e.under("pipeline"))?,
            skip: cfg.skip_type_keys.clone().unwrap_or_default(),
            max_refetch: cfg.max_refetch,
        })
    }
}

impl DetDataset for MultiImageMixDataset {
    fn len(&self) -> usize {
        self.dataset.len()
    }
    fn classes(&self) -> &[String] {
        self.dataset.classes()
    }
    fn palette(&self) -> &[[u8; 3]] {
        self.dataset.palette()
    }
    fn img_info(&self, index: usize) -> &ImgInfo {
        self.dataset.img_info(index)
    }
    fn ann_info(&self, index: usize) -> Result<Arc<AnnInfo>> {
        self.dataset.ann_info(index)
    }
    fn cat_ids(&self, index: usize) -> Result<Vec<i64>> {
        self.dataset.cat_ids(index)
    }
    fn labels_in(&self, index: usize) -> Result<Vec<i64>> {
        self.dataset.labels_in(index)
    }
    fn flag(&self, index: usize) -> u8 {
        self.dataset.flag(index)
    }
    fn fetch(&self, index: usize, rng: &mut Rng) -> Result<Results> {
        let mut results = self.dataset.fetch(index, rng)?;
        let steps = self.pipeline.steps().filter(|(name, _)| !self.skip.iter().any(|s| s == name));
        for (name, step) in steps {
            let mut done = None;
            for _ in 0..self.max_refetch.max(1) {
                let mut tried = results.clone();
                for other in step.mix_indices(self.dataset.len(), rng) {
                    tried.mix_results.push(self.dataset.fetch(other, rng)?);
                }
                done = step.apply(tried, rng)?;
                if done.is_some() {
                    break;
                }
            }
            results = done.ok_or_else(|| {
                let file = &self.dataset.img_info(index).filename;
                Error::data(file, format!("{name} dropped the sample {} times in a row", self.max_refetch))
            })?;
            results.mix_results.clear();
        }
        Ok(results)
    }
    fn source(&self) -> Source<'_> {
        Source::Wrapped(&*self.dataset)
    }
}

register!(DATASETS: dyn DetDataset, "MultiImageMixDataset" => MultiImageMixDataset, MultiImageMixDatasetConfig);
