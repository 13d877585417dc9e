//! Checkpoints that are broken, or of something else.

use std::path::Path;

use super::site::Site;

/// A site with a trained model in `good.safetensors` and `good.pth`.
fn trained() -> Site {
    let site = Site::new();
    site.train(&["--no-validate"]).succeeds(&[]);
    std::fs::rename(site.path("work/epoch_1.safetensors"), site.path("good.safetensors")).unwrap();
    std::fs::remove_dir_all(site.path("work")).unwrap();
    site.run(&["checkpoint", "convert", "good.safetensors", "good.pth"]).succeeds(&[]);
    site
}

#[test]
fn a_broken_checkpoint_is_refused_wherever_one_is_read() {
    let site = trained();
    for good in ["good.safetensors", "good.pth"] {
        let bytes = std::fs::read(site.path(good)).unwrap();
        let bad = format!("bad{}", &good[4..]);
        let cuts = [0, 1, 7, 8, 9, 100, bytes.len() / 2, bytes.len() - 1];
        for n in cuts {
            std::fs::write(site.path(&bad), &bytes[..n]).unwrap();
            site.test(&bad).fails(1, &[&bad]);
        }
        site.train(&["--load-from", &bad]).fails(1, &[&bad]);
        site.train(&["--resume-from", &bad]).fails(1, &[&bad]);
        site.run(&["infer", "config.toml", &bad, "images/0.png", "--out", "out"]).fails(1, &[&bad]);
        site.run(&["checkpoint", "list", &bad]).fails(1, &[&bad]);
        site.run(&["checkpoint", "convert", &bad, "new.pth"]).fails(1, &[&bad]);
        site.run(&["checkpoint", "publish", &bad, "new.pth"]).fails(1, &[&bad]);
        assert!(!site.path("new.pth").exists() && !site.path("out").exists());
    }
    // Not a checkpoint at all, whatever it is called.
    for other in ["images/0.png", "train.json", "config.toml"] {
        site.test(other).fails(1, &["checkpoint", other]);
        std::fs::copy(site.path(other), site.path("other.pth")).unwrap();
        site.test("other.pth").fails(1, &["checkpoint", "other.pth"]);
    }
    site.test("nowhere.pth").fails(1, &["nowhere.pth", "No such file"]);
    site.test("images").fails(1, &["images"]);
}

#[test]
fn a_checkpoint_of_another_architecture_is_refused_by_tensor() {
    let good = trained();
    let others: [(&str, &str, &[&str]); 3] = [
        // Tensors that are not there.
        ("depth = 18", "depth = 34", &["backbone.layer1.2.conv1: weight", "missing"]),
        // Tensors of another shape.
        ("base_channels = 8", "base_channels = 4", &["backbone.conv1.weight", "[8, 3, 7, 7]", "[4, 3, 7, 7]"]),
        ("num_classes = 2", "num_classes = 1", &["bbox_head.retina_cls.weight"]),
    ];
    for (from, to, words) in others {
        let mut site = Site::new().edit(from, to);
        if to.starts_with("base") {
            site = site.edit("in_channels = [8, 16, 32, 64]", "in_channels = [4, 8, 16, 32]");
        }
        if to.starts_with("num_classes") {
            for _ in 0..3 {
                site = site.edit("[\"disc\", \"square\"]", "[\"disc\"]");
            }
        }
        for file in ["good.safetensors", "good.pth"] {
            std::fs::copy(good.path(file), site.path(file)).unwrap();
            site.test(file).fails(1, &[&[file], words].concat());
            let run: &Path = file.as_ref();
            site.train(&["--resume-from", file]).fails(1, &[&run.display().to_string()]);
        }
        // Starting from what fits is meant (another number of classes, say): what doesn't is told.
        site.train(&["--load-from", "good.pth", "--no-validate"]).succeeds(&["good.pth", words[0]]);
    }
}

#[test]
fn weights_that_fit_nothing_are_not_taken_for_a_start() {
    let good = trained();
    let site = Site::new().edit("base_channels = 8", "base_channels = 4");
    let site = site
        .edit("in_channels = [8, 16, 32, 64]", "in_channels = [4, 8, 16, 32]")
        .edit("out_channels = 8", "out_channels = 4");
    let site = site.edit("in_channels = 8\n", "in_channels = 4\n").edit("feat_channels = 8", "feat_channels = 4");
    let site = site.edit("ratios = [0.5, 1.0, 2.0]", "ratios = [0.5, 1.0]");
    std::fs::copy(good.path("good.pth"), site.path("good.pth")).unwrap();
    site.train(&["--load-from", "good.pth", "--no-validate"]).fails(1, &["good.pth", "nothing"]);
}
