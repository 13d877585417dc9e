//! A classifier with its parameters, from a config.

use std::sync::Arc;

use candle_core::Device;
use mmcv::config::Config;
use mmcv::nn::{Ctx, ParamStore, VarBuilder};
use mmcv::runner::{Losses, Trainable};
use mmcv::{Error, Result};

use crate::datasets::ClsBatch;
use crate::models::classifiers::{Classifier, build_classifier};

/// A classifier and its parameters. Cheap to clone; all clones are one model.
#[derive(Clone)]
pub struct ClsModel {
    /// The network.
    pub classifier: Arc<dyn Classifier>,
    /// Its parameters and buffers.
    pub store: ParamStore,
}

impl ClsModel {
    /// The model of `config`, with the initial weights that `seed` gives. Nothing is read from disk.
    pub fn from_config(config: &Config, device: &Device, seed: u64) -> Result<Self> {
        let store = ParamStore::new(device, seed);
        let classifier = build_classifier(config.require("model")?, VarBuilder::new(&store))?;
        Ok(Self { classifier: Arc::from(classifier), store })
    }
}

impl Trainable<ClsBatch> for ClsModel {
    fn train_step(&self, batch: &ClsBatch, ctx: &Ctx) -> candle_core::Result<Losses> {
        self.classifier.forward_train(batch, ctx)
    }
}

/// An error unless the model has as many classes as the data set.
pub fn num_classes_fit(model: &dyn Classifier, classes: &[String], config: &Config) -> Result<()> {
    let Some(found) = model.num_classes().filter(|n| *n != classes.len()) else { return Ok(()) };
    let shown: Vec<&str> = classes.iter().take(5).map(String::as_str).collect();
    let more = if classes.len() > 5 { ", ..." } else { "" };
    let message = format!("the head has {found} classes, the data set {} ({}{more})", classes.len(), shown.join(", "));
    Err(match config.root.at("model.head.num_classes") {
        Some(node) => node.error(message).under("model.head.num_classes"),
        None => Error::config(message).under("model"),
    })
}
