//! Moving a config's data to where this machine has it.

use mmcv::config::{Node, Value};
use mmcv::{Error, Result};

/// The variable that names the folder to use instead of a config's `data_root`.
pub const DATASETS_VAR: &str = "MMDET_DATASETS";

/// Re-roots `cfg.data` when [`DATASETS_VAR`] is set; see [`replace_data_root`].
pub fn update_data_root(cfg: &mut Node) -> Result<()> {
    match std::env::var(DATASETS_VAR) {
        Ok(root) => {
            tracing::info!("{DATASETS_VAR} is set: using {root} as data root");
            replace_data_root(cfg, &root)
        }
        Err(std::env::VarError::NotPresent) => Ok(()),
        Err(e) => Err(Error::Usage(format!("{DATASETS_VAR}: {e}"))),
    }
}

/// Replaces `cfg.data_root` by `root` in the strings of `cfg.data` and its nested dictionaries; as in mmdet, not in lists.
pub fn replace_data_root(cfg: &mut Node, root: &str) -> Result<()> {
    let old = match cfg.get("data_root") {
        Some(node) => {
            let text = node.as_str().ok_or_else(|| node.error("expected the name of a folder").under("data_root"))?;
            text.to_owned()
        }
        None => return Err(cfg.error(format!("{DATASETS_VAR} is set, but the config has no data_root to replace"))),
    };
    if let Some(data) = cfg.as_dict_mut().and_then(|d| d.get_mut("data")) {
        replace(data, &old, root);
    }
    let origin = cfg.get("data_root").map(|n| n.origin.clone()).unwrap_or_default();
    cfg.set("data_root", Node { value: Value::Str(root.to_owned()), origin });
    Ok(())
}

fn replace(node: &mut Node, old: &str, new: &str) {
    match &mut node.value {
        Value::Str(text) if text.contains(old) => *text = text.replace(old, new),
        Value::Dict(dict) => dict.values_mut().for_each(|child| replace(child, old, new)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_nested_dicts_are_re_rooted_and_lists_are_not() {
        let mut cfg = Node::from_json(
            r#"{"data_root": "data/bccd/", "work_dir": "data/bccd/w", "data": {"n": 1,
                "train": {"type": "RepeatDataset", "dataset": {"ann_file": "data/bccd/train.txt", "img_prefix": "data/bccd/"}},
                "test": {"ann_file": ["data/bccd/a.txt"]}}}"#,
        )
        .unwrap();
        replace_data_root(&mut cfg, "/x/bccd/").unwrap();
        assert_eq!(cfg.at("data.train.dataset.ann_file").unwrap().as_str(), Some("/x/bccd/train.txt"));
        assert_eq!(cfg.at("data.train.dataset.img_prefix").unwrap().as_str(), Some("/x/bccd/"));
        assert_eq!(cfg.at("data.test.ann_file.0").unwrap().as_str(), Some("data/bccd/a.txt"));
        assert_eq!(cfg.at("data_root").unwrap().as_str(), Some("/x/bccd/"));
        assert_eq!(cfg.at("work_dir").unwrap().as_str(), Some("data/bccd/w"));
    }

    #[test]
    fn a_config_without_data_root_is_an_error() {
        let mut cfg = Node::from_json(r#"{"data": {}}"#).unwrap();
        assert!(replace_data_root(&mut cfg, "/x").unwrap_err().to_string().contains("no data_root"));
    }
}
