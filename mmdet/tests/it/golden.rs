//! Whole models against the numbers of the originals.

use std::path::{Path, PathBuf};

use mmdet::tools::golden;

/// Single gradient values deep in a ResNet-50 differ by the order of sums (Winograd included) by up to 1.2e-3 of the tensor's
/// root mean square; everything else is within 4e-4.
const TOLERANCE: f64 = 2e-3;

fn goldens() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.file_name().unwrap().to_string_lossy().starts_with("mmdet__"));
    files.sort();
    files
}

#[test]
fn every_model_gives_the_originals_numbers() {
    let files = goldens();
    assert!(!files.is_empty());
    for file in files {
        let report = golden::check(&file).unwrap();
        let bad: Vec<_> = report.errors.iter().filter(|(_, e)| **e > TOLERANCE).collect();
        assert!(bad.is_empty(), "{}: {bad:?}", file.display());
        assert!(report.errors.len() > 40, "{}: only {} quantities were compared", file.display(), report.errors.len());
    }
}
