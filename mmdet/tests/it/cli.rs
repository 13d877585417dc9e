//! What a user sees of the command line: output, messages, exit codes.

use std::process::{Command, Output};

fn mmdet(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmdet")).args(args).output().expect("the binary was built with this test")
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn an_unknown_command_exits_with_2_and_names_the_nearest() {
    let out = mmdet(&["module"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("modules"), "{}", stderr(&out));
}

#[test]
fn modules_of_an_unknown_name_exits_with_2() {
    let out = mmdet(&["modules", "Nonesuch"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("'Nonesuch'"), "{}", stderr(&out));
    assert!(out.stdout.is_empty());
}

#[test]
fn help_teaches_the_commands() {
    let out = mmdet(&["--help"]);
    assert_eq!(out.status.code(), Some(0));
    let help = String::from_utf8_lossy(&out.stdout);
    assert!(help.contains("modules") && help.contains("Make a small detection data set"), "{help}");
}

#[test]
fn shapes_makes_a_coco_data_set_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("shapes");
    let make = || mmdet(&["shapes", data.to_str().unwrap(), "--train", "3", "--val", "2"]);
    let out = make();
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let text = std::fs::read_to_string(data.join("annotations/val.json")).unwrap();
    let val: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(val["images"].as_array().unwrap().len(), 2);
    assert_eq!(val["categories"].as_array().unwrap().len(), 6);
    let again = make();
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("exists already"), "{}", stderr(&again));
}

#[test]
fn a_deprecated_config_says_what_to_use_and_still_loads() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("old.py");
    std::fs::write(&file, "x = 1\n_deprecation_ = dict(expected='new.py')\n").unwrap();
    let out = mmdet(&["config", "dump", file.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap(), serde_json::json!({"x": 1}));
    assert!(stderr(&out).contains("old.py is deprecated, use new.py"), "{}", stderr(&out));
}
