//! Configs that can't be meant: exit code 2, the file, the line and the key.

use super::site::Site;

/// A piece of the config, what stands there instead, and the words of the error.
type Edit = (&'static str, &'static str, &'static [&'static str]);

const EDITS: &[Edit] = &[
    // Unknown types, with the nearest name.
    ("\"RetinaNet\"", "\"RetinaNett\"", &["model.type", "'RetinaNett'", "did you mean 'RetinaNet'"]),
    ("\"ResNet\"", "\"ResNett\"", &["model.backbone.type", "'ResNett'", "did you mean 'ResNet'"]),
    ("\"FPN\"", "\"FPNN\"", &["model.neck.type", "did you mean 'FPN'"]),
    ("\"FocalLoss\"", "\"FocalLos\"", &["model.bbox_head.loss_cls.type", "did you mean 'FocalLoss'"]),
    ("\"MaxIoUAssigner\"", "\"MaxIouAssigner\"", &["train_cfg.assigner.type", "did you mean 'MaxIoUAssigner'"]),
    ("\"SGD\"", "\"SDG\"", &["optimizer.type", "'SDG'", "known: Adagrad", "SGD"]),
    ("\"CocoDataset\"", "\"CoccoDataset\"", &["data.train.type", "did you mean 'CocoDataset'"]),
    ("\"RandomFlip\"", "\"RandomFlipp\"", &["data.train.pipeline.3.type", "did you mean 'RandomFlip'"]),
    ("\"TextLoggerHook\"", "\"TextLogerHook\"", &["log_config.hooks.0.type", "did you mean 'TextLoggerHook'"]),
    ("\"EpochBasedRunner\"", "\"EpochRunner\"", &["runner.type", "'EpochRunner'", "EpochBasedRunner"]),
    ("\"step\", step", "\"stop\", step", &["lr_config.policy", "'stop'", "did you mean 'Step'"]),
    // Unknown fields, with those allowed.
    ("base_channels = 8", "base_chanels = 8", &["model.backbone.base_chanels", "base_channels", "num_stages"]),
    ("start_level = 1", "start_levels = 1", &["model.neck.start_levels", "start_level", "num_outs"]),
    ("stacked_convs", "stacked_conv", &["model.bbox_head.stacked_conv", "stacked_convs", "feat_channels"]),
    ("\nclasses =", "\nclases =", &["data.train.clases", "classes", "ann_file"]),
    ("lr = 0.001", "learning_rate = 0.001", &["optimizer.learning_rate", "lr", "momentum"]),
    ("max_norm = 10", "max_norms = 10", &["optimizer_config.grad_clip.max_norms", "max_norm"]),
    ("checkpoint_config = { interval", "checkpoint_config = { intervall", &["checkpoint_config.intervall", "interval"]),
    ("flip_ratio", "flip_ratios", &["data.train.pipeline.3.flip_ratios", "flip_ratio"]),
    ("samples_per_gpu", "samples_per_gpus", &["data.samples_per_gpus", "samples_per_gpu"]),
    // Wrong types of values.
    ("depth = 18", "depth = \"18\"", &["model.backbone.depth", "\"18\""]),
    ("depth = 18", "depth = 19", &["model.backbone", "19", "18"]),
    ("in_channels = [8", "in_channels = [-8", &["model.neck.in_channels", "-8"]),
    ("octave_base_scale = 4", "octave_base_scale = []", &["model.bbox_head.anchor_generator.octave_base_scale"]),
    ("lr = 0.001", "lr = \"fast\"", &["optimizer.lr", "fast"]),
    ("max_epochs = 1", "max_epochs = 1.5", &["runner.max_epochs", "1.5"]),
    ("samples_per_gpu = 2", "samples_per_gpu = \"two\"", &["data.samples_per_gpu", "two"]),
    ("samples_per_gpu = 2", "samples_per_gpu = 0", &["data.samples_per_gpu", "0"]),
    ("workers_per_gpu = 1", "workers_per_gpu = -1", &["data.workers_per_gpu", "-1"]),
    ("ann_file = \"DIR/train.json\"", "ann_file = 7", &["data.train.ann_file", "7"]),
    ("seed = 3", "seed = \"three\"", &["seed", "three"]),
    ("img_scale = [64, 64], keep", "img_scale = [64], keep", &["data.train.pipeline.2", "img_scale"]),
    // Required fields that are missing.
    ("depth = 18\n", "", &["model.backbone", "missing", "'depth'"]),
    ("type = \"RetinaNet\"\n", "", &["model", "missing", "'type'"]),
    ("ann_file = \"DIR/train.json\"\n", "", &["data.train", "missing", "'ann_file'"]),
    ("num_classes = 2\n", "", &["model.bbox_head", "missing", "'num_classes'"]),
    ("optimizer = { type = \"SGD\", lr = 0.001, momentum = 0.9 }\n", "", &["optimizer"]),
    ("runner = { type = \"EpochBasedRunner\", max_epochs = 1 }\n", "", &["runner"]),
    ("[data.train]", "[data.tain]", &["data.tain", "did you mean 'train'"]),
    // Classes.
    (
        "[\"disc\", \"square\"]",
        "[\"disk\", \"square\"]",
        &["data.train.classes", "'disk'", "did you mean 'disc'", "train.json"],
    ),
    ("[\"disc\", \"square\"]", "[\"disc\", \"disc\"]", &["data.train.classes", "'disc' is listed twice"]),
    ("num_classes = 2", "num_classes = 3", &["model.bbox_head.num_classes", "3 classes", "2 (disc, square)"]),
    ("[\"disc\", \"square\"]", "[\"disc\"]", &["model.bbox_head.num_classes", "2 classes", "1 (disc)"]),
    ("num_outs = 5", "num_outs = 1", &["model.neck", "num_outs"]),
    // Syntax.
    ("depth = 18", "depth = ", &["config.toml"]),
    ("[data.val]", "[data.train]", &["config.toml", "duplicate key"]),
];

/// Parts that don't fit each other, as the first batch shows: the place of each, and the batch.
const MISMATCHES: &[Edit] = &[
    ("in_channels = [8, 16, 32, 64]", "in_channels = [8, 16, 32, 65]", &["in neck.lateral_convs.2", "65"]),
    ("strides = [8, 16, 32, 64, 128]", "strides = [8, 16]", &["prior generator has 2 levels and got 5 feature maps"]),
    ("out_channels = 8", "out_channels = 16", &["in bbox_head.cls_convs.0", "16"]),
];

fn edited(from: &str, to: &str) -> Site {
    let site = Site::new();
    let folder = site.path("").display().to_string();
    let from = from.replace("DIR/", &folder);
    site.edit(&from, to)
}

#[test]
fn a_wrong_config_is_refused_by_file_and_key() {
    for (from, to, words) in EDITS {
        println!("{from:?} -> {to:?}");
        let site = edited(from, to);
        let ran = site.train(&[]);
        // The file, and the line where there is one.
        ran.fails(2, &[&["config.toml"], *words].concat());
        assert!(!site.path("work/epoch_1.safetensors").exists());
    }
}

#[test]
fn parts_that_dont_fit_end_the_run_at_its_first_batch() {
    for (from, to, words) in MISMATCHES {
        println!("{from:?} -> {to:?}");
        edited(from, to).train(&[]).fails(1, &[&["iteration 1, on ", ".png"], *words].concat());
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let site = Site::new();
    let cases: [(&[&str], &[&str]); 9] = [
        (&["train", "nowhere.toml"], &["nowhere.toml", "No such file"]),
        (&["train", "config.ini"], &["config.ini"]),
        (&["train", "config.toml", "--device", "gpu"], &["--device gpu", "cpu or cuda:N"]),
        (&["train", "config.toml", "--cfg-options", "model.backbone.depth"], &["model.backbone.depth"]),
        (&["train", "config.toml", "--cfg-options", "model.backbone.depht=50"], &["model.backbone.depht", "depth"]),
        (&["train", "config.toml", "--cfg-options", "data.train.pipeline.99.type=X"], &["data.train.pipeline", "99"]),
        (&["test", "config.toml", "none.pth"], &["nothing to do", "--eval"]),
        (&["test", "config.toml", "none.pth", "--out", "a.txt"], &["--out", ".json"]),
        (&["test", "config.toml", "none.pth", "--eval", "bbox", "--cfg-options", "data.test=0"], &["data.test"]),
    ];
    std::fs::write(site.path("config.ini"), "[model]").unwrap();
    for (args, words) in cases {
        println!("{args:?}");
        site.run(args).fails(2, words);
    }
}
