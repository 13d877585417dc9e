//! Data sets from configs.

use mmcv::Result;
use mmcv::config::{Node, Value};
use mmcv::registry::build;

use super::{ConcatDataset, DATASETS, DetDataset};

/// What holds for a data set whose config doesn't say otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub struct DatasetDefaults {
    /// Nothing is filtered, and annotations aren't given to the pipeline.
    pub test_mode: bool,
}

/// Builds a data set. A list of configs, or a config with a list of `ann_file`s, becomes a [`ConcatDataset`].
pub fn build_dataset(node: &Node, defaults: DatasetDefaults) -> Result<Box<dyn DetDataset>> {
    if let Some(list) = node.as_list() {
        let parts = build_all(list, defaults)?;
        return Ok(Box::new(ConcatDataset::of(parts, true)?));
    }
    let Some(files) = node.get("ann_file").and_then(Node::as_list) else {
        return build(&DATASETS, node, defaults);
    };
    let separate_eval = match node.get("separate_eval") {
        Some(n) => n.as_bool().ok_or_else(|| n.error("expected True or False").under("separate_eval"))?,
        None => true,
    };
    let parts: Vec<Node> = (0..files.len()).map(|i| part(node, i)).collect::<Result<_>>()?;
    Ok(Box::new(ConcatDataset::of(build_all(&parts, defaults)?, separate_eval)?))
}

/// Builds each of a list; errors are under its position.
pub(super) fn build_all(nodes: &[Node], defaults: DatasetDefaults) -> Result<Vec<Box<dyn DetDataset>>> {
    let one = |(i, node)| build_dataset(node, defaults).map_err(|e| e.under(&usize::to_string(&i)));
    nodes.iter().enumerate().map(one).collect()
}

/// The config of the `i`th `ann_file`: prefixes may be lists too, one for each.
fn part(node: &Node, i: usize) -> Result<Node> {
    let mut part = node.without("separate_eval");
    for key in ["ann_file", "img_prefix", "seg_prefix", "proposal_file"] {
        let Some(field) = node.get(key) else { continue };
        if let Value::List(items) = &field.value {
            let item = items.get(i).ok_or_else(|| {
                field.error(format!("has {} entries, fewer than there are ann_files", items.len())).under(key)
            })?;
            part.set(key, item.clone());
        }
    }
    Ok(part)
}
