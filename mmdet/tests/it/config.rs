//! Every config that MMDetection 2.28.2 and MMClassification 0.25.0 ship, against mmcv's `Config.fromfile`.

use std::path::{Path, PathBuf};

use mmcv::config::{Config, Node};

/// Needs `$MMRS_CONFIGS` with `<package>/` (the shipped `.mim/configs`) and `<package>.json` (what mmcv gives,
/// `{relative path: tree}`); says so and passes where it is not set.
#[test]
fn shipped_configs_equal_mmcvs_reading() {
    let Some(root) = std::env::var_os("MMRS_CONFIGS").map(PathBuf::from) else {
        eprintln!("skipped: MMRS_CONFIGS is not set");
        return;
    };
    for (package, files) in [("mmdet", 666), ("mmcls", 470)] {
        let text = std::fs::read_to_string(root.join(format!("{package}.json"))).unwrap();
        let golden = Node::from_json(&text).unwrap();
        let golden = golden.as_dict().unwrap();
        assert_eq!(golden.len(), files);
        for (file, tree) in golden {
            let config = read(&root.join(package).join(file));
            assert!(config.root == *tree, "{package}/{file} differs");
        }
    }
}

fn read(path: &Path) -> Config {
    Config::from_file(path).unwrap_or_else(|e| panic!("{e}"))
}
