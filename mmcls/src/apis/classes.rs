//! What inference on single pictures needs of a checkpoint and a config.

use mmcv::Result;
use mmcv::config::{Config, Node};
use serde_json::{Map, Value};

use crate::datasets::imagenet_classes;

/// Class names: the checkpoint's `CLASSES`, or ImageNet's where it carries none, as in mmcls.
pub fn class_names(meta: &Map<String, Value>) -> Vec<String> {
    let own = meta.get("CLASSES").and_then(|c| serde_json::from_value::<Vec<String>>(c.clone()).ok());
    own.unwrap_or_else(|| imagenet_classes().into_iter().map(str::to_owned).collect())
}

/// The steps of `data.test.pipeline` for a picture that comes as a file: with one that reads it, as in mmcls, where a data set of
/// images in memory needs none.
pub fn image_steps(config: &Config) -> Result<Vec<Node>> {
    let node = config.require("data.test.pipeline")?;
    let Some(steps) = node.as_list() else { return Err(node.error("expected a list").under("data.test.pipeline")) };
    let mut steps = steps.to_vec();
    if steps.first().is_none_or(|s| s.type_name() != Some("LoadImageFromFile")) {
        steps.insert(0, Node::from_json(r#"{"type": "LoadImageFromFile"}"#)?);
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_without_names_has_imagenets() {
        let meta = serde_json::json!({"CLASSES": ["a", "b"]});
        assert_eq!(class_names(meta.as_object().unwrap()), ["a", "b"]);
        assert_eq!(class_names(&Map::new()).len(), 1000);
    }
}
