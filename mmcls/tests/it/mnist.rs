//! Training, testing, resuming and inference on digits, by the binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mmcv::fileio::{Data, FileClient, load};

fn mmcls(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmcls")).current_dir(dir).args(args).output().unwrap()
}

fn text(out: &Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/mmcls/lenet/lenet5_mnist.toml")
}

/// The first images of the shared digits as MNIST's four files in `dir`; false where they are not there.
fn make(dir: &Path, train: usize, test: usize) -> bool {
    let root = std::env::var_os("MMRS_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let file = root.join("mnist10k/mnist10k.npz");
    if !file.exists() {
        println!("skipped: {} is not there", file.display());
        return false;
    }
    let data = load(&FileClient::default(), file.to_str().unwrap()).unwrap();
    let arrays: Vec<&mmcv::fileio::NdArray> = data.as_dict().unwrap().values().filter_map(Data::as_array).collect();
    let images = arrays.iter().find(|a| a.shape().len() == 3).unwrap();
    let labels: Vec<u8> =
        arrays.iter().find(|a| a.shape().len() == 1).unwrap().to_i64s().unwrap().into_iter().map(|l| l as u8).collect();
    let write = |part: &str, from: usize, n: usize| {
        let head = |sizes: &[u32]| -> Vec<u8> {
            [0, 0, 8, sizes.len() as u8].into_iter().chain(sizes.iter().flat_map(|s| s.to_be_bytes())).collect()
        };
        // The file is sorted by class: 7919 and 10,000 have no common factor.
        let places: Vec<usize> = (from..from + n).map(|i| i * 7919 % 10_000).collect();
        let pixels: Vec<u8> = places.iter().flat_map(|i| &images.bytes()[i * 784..(i + 1) * 784]).copied().collect();
        let bytes = [&head(&[n as u32, 28, 28])[..], &pixels].concat();
        std::fs::write(dir.join(format!("{part}-images-idx3-ubyte")), bytes).unwrap();
        let classes: Vec<u8> = places.iter().map(|i| labels[*i]).collect();
        let bytes = [&head(&[n as u32])[..], &classes].concat();
        std::fs::write(dir.join(format!("{part}-labels-idx1-ubyte")), bytes).unwrap();
    };
    write("train", 0, train);
    write("t10k", 8000, test);
    true
}

#[test]
fn lenet_learns_digits_and_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    std::fs::create_dir_all(d.join("data/mnist")).unwrap();
    if !make(&d.join("data/mnist"), 2048, 500) {
        return;
    }
    let config = config();
    let train = |work: &str, epochs: &str, more: &[&str]| {
        let options = [
            "--seed",
            "1",
            "--work-dir",
            work,
            "--cfg-options",
            "optimizer.lr=0.05",
            "data.samples_per_gpu=32",
            epochs,
        ];
        text(&mmcls(d, &[&["train", config.to_str().unwrap()], more, &options[..]].concat()));
    };
    train("whole", "runner.max_epochs=4", &[]);
    let test = |checkpoint: &str| {
        text(&mmcls(
            d,
            &["test", config.to_str().unwrap(), checkpoint, "--metrics", "accuracy", "f1_score", "--out", "out.json"],
        ))
    };
    let said = test("whole/epoch_4.safetensors");
    let results: serde_json::Value = serde_json::from_slice(&std::fs::read(d.join("out.json")).unwrap()).unwrap();
    assert!(results["accuracy_top-1"].as_f64().unwrap() > 85.0, "{said}");
    assert_eq!(results["results"].as_array().unwrap().len(), 500);

    train("parts", "runner.max_epochs=1", &[]);
    train("parts", "runner.max_epochs=4", &["--auto-resume"]);
    let load = |p: &str| mmcv::checkpoint::load(d.join(p)).unwrap().state_dict;
    let (whole, parts) = (load("whole/epoch_4.safetensors"), load("parts/epoch_4.safetensors"));
    for (name, t) in &whole {
        let values = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(t), values(&parts[name]), "{name}");
    }

    // A digit as a file: three channels, which LeNet's config doesn't take.
    let out = mmcls(d, &["test", config.to_str().unwrap(), "whole/epoch_4.safetensors"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("nothing to do"));
}

// 8,000 digits to learn from, 2,000 to test on: the data's README has 97 to 98 % for LeNet.
#[test]
fn the_small_configs_lenet_reads_98_digits_of_100() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    std::fs::create_dir_all(d.join("data/mnist10k")).unwrap();
    if !make(&d.join("data/mnist10k"), 8000, 2000) {
        return;
    }
    let config = config().with_file_name("lenet5_mnist10k.toml");
    let config = config.to_str().unwrap();
    text(&mmcls(d, &["train", config, "--seed", "1", "--work-dir", "work", "--no-validate"]));
    text(&mmcls(d, &["test", config, "work/epoch_12.safetensors", "--metrics", "accuracy", "--out", "out.json"]));
    let results: serde_json::Value = serde_json::from_slice(&std::fs::read(d.join("out.json")).unwrap()).unwrap();
    assert!(results["accuracy_top-1"].as_f64().unwrap() >= 98.0, "{}", results["accuracy_top-1"]);
}
