//! The registered names: a crate that is linked but not named would lose its entries silently.

use mmcv::config::Node;
use mmcv::registry::{build, check_unique, listings};
use mmdet::LOSSES;

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
fn a_loss_is_built_from_a_config_and_a_typo_is_named() {
    let built = |json: &str| build(&LOSSES, &Node::from_json(json).unwrap(), ());
    assert!(built(r#"{"type": "FocalLoss", "gamma": 2.0, "alpha": 0.25}"#).is_ok());
    let e = built(r#"{"type": "FocalLos"}"#).err().unwrap().to_string();
    assert!(e.contains("did you mean 'FocalLoss'"), "{e}");
    let e = built(r#"{"type": "FocalLoss", "gama": 2.0}"#).err().unwrap().to_string();
    assert!(e.contains("unknown field 'gama'; did you mean 'gamma'"), "{e}");
}
