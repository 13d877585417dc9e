//! The shipped configs' models against the key lists of mmcls's. Only where those are there.

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn the_shipped_models_have_mmclss_weights() {
    let root = std::env::var_os("MMRS_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let keys = root.join("../golden/keys/mmcls_keys.jsonl.gz");
    if !keys.exists() {
        println!("skipped: {} is not there", keys.display());
        return;
    }
    let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/mmcls");
    let args = ["coverage", "--configs", configs, "--keys", keys.to_str().unwrap()];
    let out = Command::new(env!("CARGO_BIN_EXE_mmcls")).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    assert!(!said.contains("\nother "), "{said}");
    let count = |start: &str| said.lines().filter(|l| l.starts_with(start)).count();
    assert!(count("ok ") >= 20, "{said}");
    assert!(said.contains("configs of the file are not in the folder"), "{said}");
}
