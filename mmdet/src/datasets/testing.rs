//! What the data sets' tests share.

use std::path::{Path, PathBuf};

use mmcv::config::Node;

use super::{DatasetDefaults, DetDataset, build_dataset};

/// The data set of a JSON config in which `{dir}` is `dir`; the pipeline is empty when there is none.
pub fn built(dir: &Path, json: &str, test_mode: bool) -> mmcv::Result<Box<dyn DetDataset>> {
    let mut node = Node::from_json(&json.replace("{dir}", &dir.display().to_string())).unwrap();
    if ["pipeline", "dataset", "datasets"].iter().all(|key| node.get(key).is_none()) {
        node.set("pipeline", Vec::<Node>::new());
    }
    build_dataset(&node, DatasetDefaults { test_mode })
}

/// The message of a data set that can't be built.
pub fn message(dir: &Path, json: &str, test_mode: bool) -> String {
    built(dir, json, test_mode).err().map(|e| e.to_string()).unwrap_or_default()
}

pub fn files(d: &dyn DetDataset) -> Vec<&str> {
    (0..d.len()).map(|i| d.img_info(i).filename.as_str()).collect()
}

/// The real data's folder of this name, or a note that it is absent.
pub fn real(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("MMRS_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let dir = root.join(name);
    if dir.exists() {
        return Some(dir);
    }
    println!("skipped: {} is not there", dir.display());
    None
}
