//! The extension's binary as its user would run it.

use std::path::Path;
use std::process::{Command, Output};

use extension as _;
use mmcv::config::Node;
use mmcv::registry::{build, listings};
use mmdet::datasets::PIPELINES;

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/shared_tower_tiny_shapes.toml");

fn run(folder: &Path, args: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_extension");
    Command::new(binary).args(args).current_dir(folder).output().expect("the binary was built with this test")
}

fn succeeds(folder: &Path, args: &[&str]) -> String {
    let out = run(folder, args);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    assert_eq!(out.status.code(), Some(0), "{args:?}: {}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

#[test]
fn its_components_stand_beside_mmdets() {
    let all: Vec<(&str, &str)> = listings().iter().map(|l| (l.registry, l.name)).collect();
    for entry in [
        ("BACKBONES", "TinyNet"),
        ("HEADS", "SharedTowerHead"),
        ("HOOKS", "LossRangeHook"),
        ("LOSSES", "CharbonnierLoss"),
        ("PIPELINES", "RandomInvert"),
        ("HEADS", "RetinaHead"),
    ] {
        assert!(all.contains(&entry), "{entry:?}");
    }
    let step = |json: &str| build(&PIPELINES, &Node::from_json(json).unwrap(), ()).err().map(|e| e.to_string());
    assert_eq!(step(r#"{"type": "RandomInvert", "prob": 0.5}"#), None);
    assert!(step(r#"{"type": "RandomInvert", "prop": 0.5}"#).unwrap().contains("did you mean 'prob'"));
    assert!(step(r#"{"type": "RandomInvert", "prob": 2}"#).unwrap().contains("prob: is 2, expected 0 to 1"));
}

#[test]
fn its_detector_trains_and_tests_by_the_commands_of_mmdet() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(dir.path(), &["shapes", "data/shapes", "--train", "16", "--val", "4"]);
    let schedule = ["runner.max_epochs=4", "data.samples_per_gpu=4", "log_config.interval=1", "evaluation.interval=4"];
    let mut train = vec!["train", CONFIG, "--work-dir", "work", "--seed", "0", "--cfg-options"];
    train.extend(schedule);
    succeeds(dir.path(), &train);
    let work = dir.path().join("work");
    let range = std::fs::read_to_string(work.join("loss_range.json")).unwrap();
    let range: serde_json::Value = serde_json::from_str(&range).unwrap();
    assert_eq!(range["iters"], 16);
    let [low, high] = [0, 1].map(|i| range["range"][i].as_f64().unwrap());
    // A head that starts at class scores of 0.01 and learns: the least loss is well below the greatest.
    assert!(low.is_finite() && low < 0.9 * high, "{low} to {high}");
    let checkpoint = work.join("epoch_4.safetensors");
    assert!(checkpoint.is_file());
    let names = succeeds(dir.path(), &["checkpoint", "list", checkpoint.to_str().unwrap()]);
    assert!(
        names.contains("backbone.stages.0.conv.weight") && names.contains("bbox_head.tower.conv.weight"),
        "{names}"
    );
    let metrics = succeeds(dir.path(), &["test", CONFIG, checkpoint.to_str().unwrap(), "--eval", "bbox"]);
    assert!(metrics.contains("bbox_mAP"), "{metrics}");
    // Without its batch norms it finds the same.
    succeeds(dir.path(), &["fuse", CONFIG, checkpoint.to_str().unwrap(), "fused.pth"]);
    let names = succeeds(dir.path(), &["checkpoint", "list", "fused.pth"]);
    assert!(names.contains("backbone.stages.0.conv.bias") && !names.contains(".bn."), "{names}");
    let numbers =
        |text: &str| text.lines().filter(|l| l.starts_with("bbox_mAP")).map(str::to_owned).collect::<Vec<_>>();
    let fused = succeeds(dir.path(), &["test", CONFIG, "fused.pth", "--eval", "bbox"]);
    assert_eq!(numbers(&fused), numbers(&metrics));
}

#[test]
fn a_misspelt_name_of_it_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(dir.path(), &["shapes", "data/shapes", "--train", "2", "--val", "1"]);
    let out = run(dir.path(), &["train", CONFIG, "--work-dir", "w", "--cfg-options", "model.backbone.type=TinyNett"]);
    let message = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{message}");
    assert!(message.contains("did you mean 'TinyNet'"), "{message}");
}
