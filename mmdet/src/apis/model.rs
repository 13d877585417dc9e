//! A detector with its parameters, from a config.

use std::sync::Arc;

use candle_core::Device;
use mmcv::config::Config;
use mmcv::nn::{Ctx, ParamStore, VarBuilder};
use mmcv::runner::{Losses, Trainable};
use mmcv::{Error, Result};

use crate::core::DetBatch;
use crate::models::detectors::{Detector, build_detector};

/// A detector and its parameters. Cheap to clone; all clones are one model.
#[derive(Clone)]
pub struct DetModel {
    /// The network.
    pub detector: Arc<Box<dyn Detector>>,
    /// Its parameters and buffers.
    pub store: ParamStore,
}

impl DetModel {
    /// The model of `config`, with the initial weights that `seed` gives. Nothing is read from disk.
    pub fn from_config(config: &Config, device: &Device, seed: u64) -> Result<Self> {
        let store = ParamStore::new(device, seed);
        let model = config.require("model")?;
        let (train, test) = (config.root.get("train_cfg"), config.root.get("test_cfg"));
        let detector = build_detector(model, train, test, VarBuilder::new(&store))?;
        Ok(Self { detector: Arc::new(detector), store })
    }
}

impl Trainable<DetBatch> for DetModel {
    fn train_step(&self, batch: &DetBatch, ctx: &Ctx) -> candle_core::Result<Losses> {
        self.detector.forward_train(batch, ctx)
    }
}

/// An error unless the model has as many classes as the data set (mmdet's `NumClassCheckHook`).
pub fn num_classes_fit(model: &dyn Detector, classes: &[String], config: &Config) -> Result<()> {
    let (found, expected) = (model.num_classes(), classes.len());
    if found == expected {
        return Ok(());
    }
    let message = format!("the head has {found} classes, the data set {expected} ({})", classes.join(", "));
    let node = config.root.at("model.bbox_head.num_classes");
    Err(match node {
        Some(node) => node.error(message).under("model.bbox_head.num_classes"),
        None => Error::config(message).under("model"),
    })
}
