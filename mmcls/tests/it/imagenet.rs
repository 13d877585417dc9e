//! torchvision's MobileNetV2 on real pictures, by the binary. Only where the shared data is there.

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::Device;
use mmcls::apis::{CamMethod, ClsModel, activations, class_activation_map, image_steps};
use mmcls::datasets::pipelines::{Pipeline, Results};
use mmcv::checkpoint::load_whole_checkpoint;
use mmcv::config::Config;

/// The shared data, where it has `file`.
fn data(file: &str) -> Option<PathBuf> {
    let root = std::env::var_os("MMRS_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let path = root.join(file);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(std::fs::canonicalize(path).unwrap())
}

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/mmcls/mobilenet_v2/mobilenet-v2_8xb32_in1k.toml");

fn run(dir: &Path, args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_mmcls")).current_dir(dir).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A folder with `net.safetensors`, under mmcls's names.
fn converted() -> Option<tempfile::TempDir> {
    let weights = data("weights/mobilenet_v2/mobilenet_v2-b0353104.pth")?;
    let dir = tempfile::tempdir().unwrap();
    let said = run(dir.path(), &["checkpoint", "convert", "torchvision", weights.to_str().unwrap(), "net.safetensors"]);
    assert!(said.contains("314 tensors of torchvision's MobileNetV2"), "{said}");
    Some(dir)
}

/// The number behind `key=` in a line.
fn field(line: &str, key: &str) -> u64 {
    line.split(' ').find_map(|w| w.strip_prefix(key)?.strip_prefix('=')?.parse().ok()).unwrap()
}

// torch_pred_1000.txt: what torch makes of these weights and pictures, 85 of the 100 right.
#[test]
fn a_hundred_pictures_are_what_they_are_in_torch() {
    let Some(dir) = converted() else { return };
    let (Some(pictures), Some(theirs)) = (data("imagenet_samples"), data("weights/mobilenet_v2/torch_pred_1000.txt"))
    else {
        return;
    };
    let prefix = format!("data.test.data_prefix={}/img", pictures.display());
    let list = format!("data.test.ann_file={}/labels.txt", pictures.display());
    run(
        dir.path(),
        &[
            "test",
            CONFIG,
            "net.safetensors",
            "--metrics",
            "accuracy",
            "--out",
            "out.json",
            "--cfg-options",
            &prefix,
            &list,
        ],
    );
    let out = json(&dir.path().join("out.json"));
    assert!((out["accuracy_top-1"].as_f64().unwrap() - 85.0).abs() < 1e-3, "{}", out["accuracy_top-1"]);
    let results = out["results"].as_array().unwrap();
    assert_eq!(results.len(), 100);
    let theirs = std::fs::read_to_string(theirs).unwrap();
    for result in results {
        let image = result["image"].as_str().unwrap();
        let line = theirs.lines().find(|l| l.split(' ').next() == Some(image)).unwrap();
        assert_eq!(result["pred_label"].as_u64(), Some(field(line, "pred")), "{image}");
    }
}

#[test]
fn the_demo_pictures_have_their_scores_and_are_drawn() {
    let Some(dir) = converted() else { return };
    let (Some(demo), Some(theirs)) =
        (data("openmmlab_samples/mmpretrain/demo"), data("weights/mobilenet_v2/ref_demo_images.txt"))
    else {
        return;
    };
    let theirs = std::fs::read_to_string(theirs).unwrap();
    // bird.JPEG [(12, 'house finch', 0.9887), (10, 'brambling', 0.0052)]
    let lines: Vec<(&str, &str)> = theirs.lines().filter_map(|l| l.split_once(' ')).collect();
    assert_eq!(lines.len(), 4);
    let images: Vec<String> = lines.iter().map(|(name, _)| demo.join(name).display().to_string()).collect();
    let mut args = vec!["infer", CONFIG, "net.safetensors"];
    args.extend(images.iter().map(String::as_str));
    args.extend(["--topk", "5", "--out", "top.json", "--show-dir", "shown"]);
    let said = run(dir.path(), &args);
    assert!(said.contains("house finch"), "{said}");
    let found = json(&dir.path().join("top.json"));
    for ((name, best), ours) in lines.iter().zip(found.as_array().unwrap()) {
        for (entry, own) in best.split('(').skip(1).zip(ours["top"].as_array().unwrap()) {
            let label: u64 = entry.split(',').next().unwrap().parse().unwrap();
            let score: f64 = entry.split(')').next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
            assert_eq!(own["label"].as_u64(), Some(label), "{name}");
            assert!((own["score"].as_f64().unwrap() - score).abs() < 1e-3, "{name}: {own}, {score} in torch");
        }
        assert_eq!(ours["top"].as_array().unwrap().len(), 5);
    }
    for shown in ["bird.png", "cat-dog.png", "demo.png", "dog.png"] {
        assert!(dir.path().join("shown").join(shown).is_file(), "{shown}");
    }
    let dog = demo.join("dog.jpg");
    let layers = ["--target-layers", "backbone.layer4", "backbone.conv2", "--save-path", "cam.png"];
    let said = run(dir.path(), &[&["cam", dog.to_str().unwrap(), CONFIG, "net.safetensors"][..], &layers[..]].concat());
    assert!(said.contains("class 180 (American Staffordshire terrier"), "{said}");
    let heat =
        mmcv::image::imread(dir.path().join("cam.png"), mmcv::image::ColorFlag::Color, mmcv::image::ChannelOrder::Bgr);
    assert_eq!(heat.unwrap().shape(), [224, 224, 3]);
}

// torch: f = mobilenet_v2.features, x = dog.jpg; a = f[:k](x) for k = 19 (the last stage) and 11 (layer4), o the score of class
// 180 from it; g = torch.autograd.grad(o, a); the maps by grad-cam's formulas, of each the middle row, row 3 or 7.
#[test]
#[allow(clippy::approx_constant)] // printed numbers
fn activation_maps_are_those_of_torch() {
    let Some(dir) = converted() else { return };
    let Some(dog) = data("openmmlab_samples/mmpretrain/demo/dog.jpg") else { return };
    let mut config = Config::from_file(CONFIG).unwrap();
    let results = Results { filename: dog.display().to_string(), ..Results::default() };
    let pipeline = Pipeline::new(&image_steps(&config).unwrap()).unwrap();
    let img = pipeline.sample(results, &mut mmcv::Rng::new(0)).unwrap().img.unsqueeze(0).unwrap();
    let row = |config: &Config, stage: Option<usize>, method: CamMethod| -> Vec<f32> {
        let model = ClsModel::from_config(config, &Device::Cpu, 0).unwrap();
        load_whole_checkpoint(&model.store, &dir.path().join("net.safetensors")).unwrap();
        let found = activations(&model, &img, stage, None).unwrap();
        assert_eq!(found.category, 180);
        let [_, h, w] = found.shape;
        class_activation_map(&found, method, false)[h / 2 * w..(h / 2 + 1) * w].to_vec()
    };
    let near = |ours: &[f32], theirs: &[f32], bound: f32| {
        assert_eq!(ours.len(), theirs.len());
        assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < bound), "{ours:?}, {theirs:?} in torch");
    };
    // Before an average over the map gradients are the same everywhere: two methods are one.
    let plain = [0.1241, 0.2465, 0.6677, 1.0, 0.9487, 0.7511, 0.4856];
    near(&row(&config, None, CamMethod::GradCam), &plain, 5e-3);
    near(&row(&config, None, CamMethod::XGradCam), &plain, 5e-3);
    let squared = [0.1817, 0.2801, 0.6201, 0.9698, 0.9258, 0.8234, 0.5213];
    near(&row(&config, None, CamMethod::GradCamPlusPlus), &squared, 5e-3);
    near(&row(&config, None, CamMethod::LayerCam), &[0.1859, 0.2867, 0.6134, 0.9636, 0.9160, 0.8296, 0.5182], 5e-3);
    config.merge_options(&["model.backbone.out_indices=[3,7]"]).unwrap();
    near(
        &row(&config, Some(3), CamMethod::GradCam),
        &[0.0, 0.0, 0.0, 0.0, 0.0, 0.1247, 0.2127, 0.0, 0.0, 0.0, 0.4315, 0.0, 0.0, 0.4623],
        3e-2,
    );
    near(
        &row(&config, Some(3), CamMethod::LayerCam),
        &[0.1232, 0.0, 0.2937, 0.2254, 0.4343, 0.0761, 0.1126, 0.0, 0.0, 0.4495, 0.0, 0.4723, 0.0, 0.0],
        3e-2,
    );
}
