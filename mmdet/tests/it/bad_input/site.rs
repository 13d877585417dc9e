//! A folder with a data set, a config and a work folder, and the binary run on them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Images of a new site's data set.
pub const IMAGES: usize = 6;

/// RetinaNet of 8 channels on images of 64 pixels; `DIR` is the site's folder.
const CONFIG: &str = r#"
work_dir = "DIR/work"
seed = 3
optimizer = { type = "SGD", lr = 0.001, momentum = 0.9 }
optimizer_config = { grad_clip = { max_norm = 10 } }
lr_config = { policy = "step", step = [2] }
runner = { type = "EpochBasedRunner", max_epochs = 1 }
checkpoint_config = { interval = 1 }
evaluation = { interval = 1, metric = "bbox" }
log_config = { interval = 1, hooks = [{ type = "TextLoggerHook" }] }

[model]
type = "RetinaNet"
train_cfg = { assigner = { type = "MaxIoUAssigner", pos_iou_thr = 0.5, neg_iou_thr = 0.4, min_pos_iou = 0, ignore_iof_thr = -1 }, allowed_border = -1, pos_weight = -1, debug = false }
test_cfg = { nms_pre = 100, min_bbox_size = 0, score_thr = 0.001, nms = { type = "nms", iou_threshold = 0.5 }, max_per_img = 10 }

[model.backbone]
type = "ResNet"
depth = 18
base_channels = 8
norm_eval = false

[model.neck]
type = "FPN"
in_channels = [8, 16, 32, 64]
out_channels = 8
start_level = 1
add_extra_convs = "on_input"
num_outs = 5

[model.bbox_head]
type = "RetinaHead"
num_classes = 2
in_channels = 8
stacked_convs = 1
feat_channels = 8
anchor_generator = { type = "AnchorGenerator", octave_base_scale = 4, scales_per_octave = 1, ratios = [0.5, 1.0, 2.0], strides = [8, 16, 32, 64, 128] }
bbox_coder = { type = "DeltaXYWHBBoxCoder" }
loss_cls = { type = "FocalLoss", use_sigmoid = true, gamma = 2.0, alpha = 0.25, loss_weight = 1.0 }
loss_bbox = { type = "L1Loss", loss_weight = 1.0 }

[data]
samples_per_gpu = 2
workers_per_gpu = 1

[data.train]
type = "CocoDataset"
ann_file = "DIR/train.json"
img_prefix = "DIR/images/"
classes = ["disc", "square"]
pipeline = [
    { type = "LoadImageFromFile" },
    { type = "LoadAnnotations", with_bbox = true },
    { type = "Resize", img_scale = [64, 64], keep_ratio = true },
    { type = "RandomFlip", flip_ratio = 0.5 },
    { type = "Normalize", mean = [123.675, 116.28, 103.53], std = [58.395, 57.12, 57.375], to_rgb = true },
    { type = "Pad", size_divisor = 32 },
    { type = "DefaultFormatBundle" },
    { type = "Collect", keys = ["img", "gt_bboxes", "gt_labels"] },
]

[data.val]
type = "CocoDataset"
ann_file = "DIR/val.json"
img_prefix = "DIR/images/"
classes = ["disc", "square"]
pipeline = [
    { type = "LoadImageFromFile" },
    { type = "MultiScaleFlipAug", img_scale = [64, 64], flip = false, transforms = [
        { type = "Resize", keep_ratio = true },
        { type = "RandomFlip" },
        { type = "Normalize", mean = [123.675, 116.28, 103.53], std = [58.395, 57.12, 57.375], to_rgb = true },
        { type = "Pad", size_divisor = 32 },
        { type = "ImageToTensor", keys = ["img"] },
        { type = "Collect", keys = ["img"] },
    ] },
]

[data.test]
type = "CocoDataset"
ann_file = "DIR/val.json"
img_prefix = "DIR/images/"
classes = ["disc", "square"]
pipeline = [
    { type = "LoadImageFromFile" },
    { type = "MultiScaleFlipAug", img_scale = [64, 64], flip = false, transforms = [
        { type = "Resize", keep_ratio = true },
        { type = "Normalize", mean = [123.675, 116.28, 103.53], std = [58.395, 57.12, 57.375], to_rgb = true },
        { type = "Pad", size_divisor = 32 },
        { type = "ImageToTensor", keys = ["img"] },
        { type = "Collect", keys = ["img"] },
    ] },
]
"#;

/// A run of the binary that is over.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(out: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: out.status.code(), stdout: text(&out.stdout), stderr: text(&out.stderr) }
    }

    /// It ended well; `words` are in its log.
    #[track_caller]
    pub fn succeeds(&self, words: &[&str]) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.says(words);
    }

    /// It ended with `code` and one error, which has all of `words`.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        let starts = self.stderr.lines().filter(|l| l.starts_with("error: ")).count();
        assert_eq!(starts, 1, "expected one error: {}", self.stderr);
        // It may have several lines, and is the last word.
        let error = self.stderr.find("\nerror: ").map_or(&self.stderr[..], |at| &self.stderr[at + 1..]);
        for word in words {
            assert!(error.contains(word), "no {word:?} in {error:?}");
        }
        self.says(&[]);
    }

    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in {}", self.stderr);
        }
    }
}

/// The folder. What is in it goes with it.
pub struct Site {
    dir: TempDir,
    config: String,
}

impl Site {
    /// [`IMAGES`] pictures with a box each, of two classes, for training and validation alike.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("images")).unwrap();
        let config = CONFIG.replace("DIR", dir.path().to_str().unwrap());
        let site = Self { dir, config };
        for i in 0..IMAGES {
            picture(i).save(site.image(i)).unwrap();
        }
        site.annotate("train.json", &annotations());
        site.annotate("val.json", &annotations());
        site.edit("", "")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The file of an image.
    pub fn image(&self, i: usize) -> PathBuf {
        self.path(&format!("images/{i}.png"))
    }

    /// Writes an annotation file.
    pub fn annotate(&self, name: &str, annotations: &Value) {
        std::fs::write(self.path(name), annotations.to_string()).unwrap();
    }

    /// Replaces a piece of the config, which must be in it.
    pub fn edit(mut self, from: &str, to: &str) -> Self {
        let [from, to] = [from, to].map(|text| text.replace("DIR", self.dir.path().to_str().unwrap()));
        assert!(self.config.contains(&from), "{from}");
        self.config = self.config.replacen(&from, &to, 1);
        std::fs::write(self.path("config.toml"), &self.config).unwrap();
        self
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mmdet"));
        command.current_dir(self.dir.path()).args(args).env("RAYON_NUM_THREADS", "1").env_remove("MMDET_DATASETS");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the binary in the folder, to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        let ran = Ran::of(&self.command(args).output().unwrap());
        assert_eq!(partial(self.dir.path()), Vec::<PathBuf>::new(), "{args:?}: {}", ran.stderr);
        ran
    }

    pub fn train(&self, args: &[&str]) -> Ran {
        self.run(&[&["train", "config.toml"], args].concat())
    }

    /// Evaluates a checkpoint.
    pub fn test(&self, checkpoint: &str) -> Ran {
        self.run(&["test", "config.toml", checkpoint, "--eval", "bbox"])
    }

    /// Starts a training, whose output goes to `log`.
    pub fn start(&self, args: &[&str], log: &str) -> std::process::Child {
        let log = std::fs::File::create(self.path(log)).unwrap();
        let mut command = self.command(&[&["train", "config.toml"], args].concat());
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }
}

/// A picture with a bright spot, different for each `i`.
pub fn picture(i: usize) -> image::RgbImage {
    image::RgbImage::from_fn(64, 64, |x, y| {
        let inside = (x / 8 + y / 8 + i as u32).is_multiple_of(3) && (16..48).contains(&x) && (16..48).contains(&y);
        let noise = ((x * 31 + y * 17 + i as u32 * 7) % 32) as u8;
        image::Rgb(if inside { [200 + noise, 40, noise] } else { [noise, noise + 20, 90] })
    })
}

/// The annotations of a new site.
pub fn annotations() -> Value {
    let images: Vec<Value> =
        (0..IMAGES).map(|i| json!({"id": i, "file_name": format!("{i}.png"), "width": 64, "height": 64})).collect();
    let anns: Vec<Value> = (0..IMAGES)
        .map(|i| {
            json!({"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [16, 16, 32, 32], "area": 1024, "iscrowd": 0})
        })
        .collect();
    json!({
        "images": images, "annotations": anns,
        "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "square"}],
    })
}

/// Files below `dir` that a finished program should have removed or renamed.
pub fn partial(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            found.extend(partial(&path));
        } else if name.starts_with(".tmp") || name.ends_with(".tmp") || name.ends_with(".part") {
            found.push(path);
        }
    }
    found
}
