//! The registered names: a crate that is linked but not named would lose its entries silently.

use mmcv::config::Node;
use mmcv::registry::{build, check_unique, listings};
use mmdet::LOSSES;

#[test]
fn the_registered_names_are_these() {
    check_unique().unwrap();
    let names: Vec<String> = listings()
        .iter()
        .filter(|l| !["DATASETS", "PIPELINES"].contains(&l.registry)) // in datasets.rs
        .map(|l| format!("{} {}", l.registry, l.name))
        .collect();
    assert_eq!(
        names,
        [
            "BBOX_ASSIGNERS MaxIoUAssigner",
            "BBOX_CODERS DeltaXYWHBBoxCoder",
            "BBOX_CODERS DistancePointBBoxCoder",
            "BBOX_CODERS LegacyDeltaXYWHBBoxCoder",
            "BBOX_CODERS PseudoBBoxCoder",
            "BBOX_CODERS TBLRBBoxCoder",
            "BBOX_CODERS YOLOBBoxCoder",
            "BBOX_SAMPLERS PseudoSampler",
            "BBOX_SAMPLERS RandomSampler",
            "IOU_CALCULATORS BboxOverlaps2D",
            "LOSSES CIoULoss",
            "LOSSES CrossEntropyLoss",
            "LOSSES DIoULoss",
            "LOSSES FocalLoss",
            "LOSSES GIoULoss",
            "LOSSES IoULoss",
            "LOSSES L1Loss",
            "LOSSES MSELoss",
            "LOSSES SmoothL1Loss",
            "PRIOR_GENERATORS AnchorGenerator",
            "PRIOR_GENERATORS LegacyAnchorGenerator",
            "PRIOR_GENERATORS LegacySSDAnchorGenerator",
            "PRIOR_GENERATORS MlvlPointGenerator",
            "PRIOR_GENERATORS SSDAnchorGenerator",
            "PRIOR_GENERATORS YOLOAnchorGenerator",
        ]
    );
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
