//! The registered names: a crate that is linked but not named would lose its entries silently.

use mmcls::models::classifiers::CLASSIFIERS;
use mmcv::config::Node;
use mmcv::nn::VarBuilder;
use mmcv::registry::{build, check_unique, listings};

/// `registered_names.txt`: one `REGISTRY name` a line, sorted. `UPDATE_NAMES=1 cargo test` writes it anew.
#[test]
fn the_registered_names_are_these() {
    check_unique().unwrap();
    let names: String = listings().iter().map(|l| format!("{} {}\n", l.registry, l.name)).collect();
    if std::env::var_os("UPDATE_NAMES").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/registered_names.txt");
        std::fs::write(file, &names).unwrap();
    } else {
        let pinned: Vec<&str> = include_str!("registered_names.txt").lines().collect();
        assert_eq!(names.lines().collect::<Vec<_>>(), pinned);
    }
}

#[test]
fn a_wrong_model_is_named() {
    let cases = [
        (r#"{"type": "ImageClasifier"}"#, "did you mean 'ImageClassifier'"),
        (
            r#"{"type": "ImageClassifier", "backbone": {"type": "ResNet", "depth": 19}, "head": {"type": "ClsHead"}}"#,
            "backbone.depth: is 19",
        ),
        (
            r#"{"type": "ImageClassifier", "backbone": {"type": "LeNet5"}, "head": {"type": "LinearClsHead", "num_classes": 0, "in_channels": 1}}"#,
            "head.num_classes: is 0",
        ),
        (r#"{"type": "ImageClassifier", "backbone": {"type": "LeNet5"}}"#, "missing required field 'head'"),
        (
            r#"{"type": "ImageClassifier", "backbone": {"type": "LeNet5"}, "head": {"type": "ClsHead", "loss": {"type": "LabelSmoothLoss", "label_smooth_val": 1}}}"#,
            "head.loss.label_smooth_val: is 1",
        ),
    ];
    for (json, words) in cases {
        let e = build(&CLASSIFIERS, &Node::from_json(json).unwrap(), VarBuilder::scratch()).err().expect(json);
        assert!(e.is_usage() && e.to_string().contains(words), "{e}");
    }
}
