//! From images to tensors; mmcls's `formatting.py`.

use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PIPELINES, Results, Transform};

/// `type = "ImageToTensor"` and `type = "ToTensor"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// What is converted: `img`, `gt_label`.
    pub keys: Vec<String>,
}

/// `type = "Collect"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectConfig {
    /// What goes on to the network: `img`, `gt_label`.
    pub keys: Vec<String>,
    /// Accepted: what a sample says of its image is not chosen here.
    #[serde(default)]
    #[allow(dead_code)] // so that configs that give it are taken
    pub meta_keys: Option<Vec<String>>,
}

fn known(keys: &[String]) -> Result<()> {
    match keys.iter().find(|k| !["img", "gt_label"].contains(&k.as_str())) {
        Some(k) => Err(Error::config(format!("'{k}' is none (allowed: 'img', 'gt_label')")).under("keys")),
        None => Ok(()),
    }
}

/// The image `[H, W, C]` becomes a tensor `[C, H, W]`.
pub struct ImageToTensor;

impl ImageToTensor {
    /// An error for keys that are none.
    pub fn new(cfg: &KeysConfig) -> Result<Self> {
        known(&cfg.keys).map(|()| Self)
    }
}

impl Transform for ImageToTensor {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        results.tensor = Some(results.take_image("ImageToTensor")?.to_chw_tensor()?);
        Ok(())
    }
}

/// The label becomes a tensor with its batch; until then it is a number.
pub struct ToTensor;

impl ToTensor {
    /// An error for keys that are none.
    pub fn new(cfg: &KeysConfig) -> Result<Self> {
        known(&cfg.keys).map(|()| Self)
    }
}

impl Transform for ToTensor {
    fn apply(&self, _: &mut Results, _: &mut Rng) -> Result<()> {
        Ok(())
    }
}

/// Ends a pipeline.
pub struct Collect;

impl Collect {
    /// An error unless the image is among the keys.
    pub fn new(cfg: &CollectConfig) -> Result<Self> {
        known(&cfg.keys)?;
        if !cfg.keys.iter().any(|k| k == "img") {
            return Err(Error::config("'img' is not in it").under("keys"));
        }
        Ok(Self)
    }
}

impl Transform for Collect {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        results.collected = true;
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "ImageToTensor" => ImageToTensor(KeysConfig));
register!(PIPELINES: dyn Transform, "ToTensor" => ToTensor(KeysConfig));
register!(PIPELINES: dyn Transform, "Collect" => Collect(CollectConfig));
