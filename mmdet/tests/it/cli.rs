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

/// The example's config on a few drawn images in `dir`.
fn on_shapes(dir: &std::path::Path, args: &[&str]) -> Output {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/mmdet/retinanet/retinanet_r18_fpn_shapes.toml");
    let data = dir.join("data/shapes");
    if !data.exists() {
        let out = mmdet(&["shapes", data.to_str().unwrap(), "--train", "5", "--val", "3"]);
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    }
    let args: Vec<&str> = args.iter().map(|a| if *a == "CONFIG" { config } else { *a }).collect();
    Command::new(env!("CARGO_BIN_EXE_mmdet")).args(args).current_dir(dir).output().unwrap()
}

#[test]
fn browsing_draws_a_contact_sheet_and_checking_counts() {
    let dir = tempfile::tempdir().unwrap();
    let out = on_shapes(dir.path(), &["browse-dataset", "CONFIG", "--number", "4", "--tile", "96"]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let sheet = mmcv::image::imread(
        dir.path().join("browse.png"),
        mmcv::image::ColorFlag::Color,
        mmcv::image::ChannelOrder::Bgr,
    )
    .unwrap();
    // Two rows and columns of 96 pixels, and gaps of 4.
    assert_eq!(sheet.shape(), [204, 204, 3]);
    let out = on_shapes(dir.path(), &["dataset", "check", "CONFIG", "--out", "found.json"]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let found = std::fs::read_to_string(dir.path().join("found.json")).unwrap();
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!((&found["train"]["images"], &found["val"]["images"]), (&5.into(), &3.into()));
    assert!(String::from_utf8_lossy(&out.stdout).contains("test: the same as val"));
    // A broken image is found and named.
    let first = std::fs::read_dir(dir.path().join("data/shapes/train")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&first, b"not an image").unwrap();
    let out = on_shapes(dir.path(), &["dataset", "check", "CONFIG", "--split", "train"]);
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains(first.file_name().unwrap().to_str().unwrap()) && text.contains("not an image"), "{text}");
    assert!(stderr(&out).contains("1 problems"), "{}", stderr(&out));
}

#[test]
fn bench_times_the_stages() {
    let dir = tempfile::tempdir().unwrap();
    let small = ["model.backbone.depth=18", "data.test.pipeline.1.img_scale=[64,64]"];
    let mut args = vec!["bench", "CONFIG", "--max-iter", "2", "--warmup", "1", "--out", "bench.json", "--cfg-options"];
    args.extend(small);
    let out = on_shapes(dir.path(), &args);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let text = std::fs::read_to_string(dir.path().join("bench.json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(numbers["images"], 2);
    for key in ["load_s", "forward_s", "img_per_s"] {
        assert!(numbers[key].as_f64().unwrap() > 0.0, "{numbers}");
    }
    assert!(numbers["peak_bytes"].is_null() || numbers["peak_bytes"].as_u64().unwrap() > 1 << 20);
    let out = on_shapes(dir.path(), &["bench", "CONFIG", "none.pth"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("none.pth"), "{}", stderr(&out));
}

#[test]
fn configs_are_dumped_explained_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    write("base.yaml", "model:\n  depth: 50\nthr: .inf\n");
    let top = write("top.toml", "_base_ = \"base.yaml\"\n[model]\ndepth = 18\n");
    let run = |args: &[&str]| {
        let out = mmdet(args);
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        String::from_utf8_lossy(&out.stdout).replace(&format!("{}/", dir.path().display()), "")
    };
    assert_eq!(run(&["config", "dump", &top]), "{\n  \"model\": {\n    \"depth\": 18\n  },\n  \"thr\": Infinity\n}\n");
    assert_eq!(run(&["config", "print", &top, "--format", "toml"]), "thr = inf\n\n[model]\ndepth = 18\n");
    assert_eq!(
        run(&["config", "explain", &top, "model.depth", "--cfg-options", "model.depth=34"]),
        "model.depth = 34\n  set at --cfg-options\n  over 18, set at top.toml:3\n  over 50, set at base.yaml:2\n"
    );
    let other = write("other.json", "{\"model\": {\"depth\": 18}}");
    assert_eq!(run(&["config", "diff", &top, &other]), "- thr = Infinity  (base.yaml:3)\n");
    let out = mmdet(&["config", "dump", &top, "--cfg-options", "model.dept=1"]);
    assert!(
        stderr(&out)
            .contains("warning: --cfg-options model.dept: no file of this config sets it; did you mean 'depth'?")
    );
    for (bad, part) in [
        ("_base_ = 'loop.py'", "loop.py:1: circular _base_"),
        ("x = (", "loop.py:1: "),
        ("_base_ = ['base.yaml', 'other.json']", "two bases set 'model': "),
    ] {
        let file = write("loop.py", bad);
        let out = mmdet(&["config", "dump", &file]);
        assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0));
        assert!(stderr(&out).contains(part), "{bad}: {}", stderr(&out));
    }
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
