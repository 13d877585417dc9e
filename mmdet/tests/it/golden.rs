//! Whole models against the numbers of the originals.

use std::path::{Path, PathBuf};

use mmdet::tools::golden;

/// Greatest errors that pass. mmdet itself, run again on another CPU than the goldens', differs from them by 1.44e-3 of the
/// root mean square in single gradient values (RegNetX-800MF, `layer4.2.bn1.bias`) and by 1.1e-4 in their norms.
///
/// Some goldens are worse conditioned: mmdet on one thread in place of two differs from its own, in SSD300 by 2.9e-3
/// (`features.0.weight`, behind five pools), and in NAS-FPN by 8.1e-5 in norms and in training (batch norms over the 2 values
/// of the coarsest level) by 0.13, 5.8e-3 and 1e-5 in the losses; ours by more there than mmdet's, for the same reason.
fn tolerance(file: &Path, quantity: &str) -> f64 {
    let file = file.file_name().unwrap_or_default().to_string_lossy();
    let nas_in_training = file.contains("nasfpn") && quantity.ends_with("(train)");
    match quantity {
        q if q.starts_with("grad norm ") && nas_in_training => 2e-2,
        q if q.starts_with("grad norm ") && file.contains("nasfpn") => 5e-4,
        q if q.starts_with("grad norm ") => 2e-4,
        q if q.starts_with("grad ") && nas_in_training => 0.6,
        q if q.starts_with("grad ") && file.contains("ssd300") => 5e-3,
        q if q.starts_with("grad ") => 2e-3,
        _ if nas_in_training => 1e-2,
        // Scores behind 101 layers of chained slices.
        "detections" if file.contains("r2_101") => 1e-4,
        _ => 2e-5,
    }
}

fn goldens() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.file_name().unwrap().to_string_lossy().starts_with("mmdet__"));
    files.sort();
    files
}

#[test]
fn every_model_gives_the_originals_numbers() {
    mmcv::ops::set_exact(true);
    let files = goldens();
    assert!(!files.is_empty());
    for file in files {
        let report = golden::check(&file).unwrap();
        let bad: Vec<_> = report.errors.iter().filter(|(name, e)| **e > tolerance(&file, name)).collect();
        assert!(bad.is_empty(), "{}: {bad:?}", file.display());
        assert!(report.errors.len() > 40, "{}: only {} quantities were compared", file.display(), report.errors.len());
    }
}
