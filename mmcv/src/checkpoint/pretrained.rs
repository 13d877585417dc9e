//! `init_cfg = dict(type='Pretrained', ...)` (mmcv `cnn/utils/weight_init.py`).

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::{LoadReport, LoadRules, load_state_dict};
use super::{Checkpoint, Sources, load};
use crate::config::{Node, Value};
use crate::error::Result;
use crate::nn::{ParamStore, init_weights};

/// `type = "Pretrained"`: weights of a checkpoint.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pretrained {
    /// A path, a URL, `torchvision://resnet50`, `open-mmlab://...` or `mmcls://...`.
    pub checkpoint: String,
    /// Module of the checkpoint that is loaded (`backbone.`); all of it by default.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Device to read to in mmcv; nothing changes by it here.
    #[serde(default)]
    pub map_location: Option<String>,
}

/// Loads the `Pretrained` entries of `init_cfg` (a dict or a list of dicts) into the module at `path`; empty is the whole
/// model. Other kinds are left to [`crate::nn::initialize`]. As in mmcv, a checkpoint that doesn't fit whole is no error:
/// the reports tell.
pub fn load_pretrained(store: &ParamStore, path: &str, init_cfg: &Node, sources: &Sources) -> Result<Vec<LoadReport>> {
    let cfgs = match &init_cfg.value {
        Value::List(list) => list.as_slice(),
        _ => std::slice::from_ref(init_cfg),
    };
    let pretrained = cfgs.iter().filter(|cfg| cfg.type_name() == Some("Pretrained"));
    pretrained
        .map(|cfg| {
            let made: Pretrained = cfg.without("type").parse()?;
            let file = sources.find(&made.checkpoint).map_err(|e| e.at(&cfg.origin))?;
            let checkpoint = load(file)?;
            let rules =
                LoadRules { from: made.prefix.unwrap_or_default(), into: path.to_owned(), ..LoadRules::default() };
            load_state_dict(store, &checkpoint.state_dict, &rules).map_err(|e| e.at(&cfg.origin))
        })
        .collect()
}

/// Starts a whole model: every module's `init_cfg`, checkpoints included. Gives what each checkpoint filled, by the path of
/// its module.
pub fn init_model(store: &ParamStore, sources: &Sources) -> Result<Vec<(String, LoadReport)>> {
    let mut reports = Vec::new();
    init_weights(store, |path, entry| {
        let found = load_pretrained(store, path, entry, sources)?;
        reports.extend(found.into_iter().map(|report| (path.to_owned(), report)));
        Ok(())
    })?;
    Ok(reports)
}

/// Starts a whole model as [`init_model`] does, from the usual [`Sources`], and logs what each checkpoint filled.
pub fn start_model(store: &ParamStore) -> Result<()> {
    for (path, report) in init_model(store, &Sources::default())? {
        tracing::info!("pretrained weights of {path}: {report}");
    }
    Ok(())
}

/// Takes the weights of a checkpoint into a model, as mmcv's `load_checkpoint`. The report says what fitted.
pub fn load_checkpoint(store: &ParamStore, path: &Path) -> Result<(Checkpoint, LoadReport)> {
    let found = load(path)?;
    let report = load_state_dict(store, &found.state_dict, &LoadRules::default())?;
    Ok((found, report))
}

/// [`load_checkpoint`], and an error unless every weight of the model was in the file in its shape.
pub fn load_whole_checkpoint(store: &ParamStore, path: &Path) -> Result<Checkpoint> {
    let (found, report) = load_checkpoint(store, path)?;
    report.require_filled(path)?;
    if !report.is_complete() {
        tracing::warn!("{}: {report}", path.display());
    }
    Ok(found)
}
