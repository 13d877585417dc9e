//! MNIST and Fashion-MNIST, from their original files.

use std::path::Path;
use std::sync::Arc;

use mmcv::config::{Node, OneOrMany};
use mmcv::image::{Image, Pixels};
use mmcv::{Error, Result, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::base::{Base, Source, delegate};
use super::{DATASETS, DatasetDefaults};

const DIGITS: [&str; 10] = [
    "0 - zero",
    "1 - one",
    "2 - two",
    "3 - three",
    "4 - four",
    "5 - five",
    "6 - six",
    "7 - seven",
    "8 - eight",
    "9 - nine",
];
const CLOTHES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// `type = "MNIST"` and `type = "FashionMNIST"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MnistConfig {
    /// The folder of `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
    /// `t10k-labels-idx1-ubyte`.
    pub data_prefix: String,
    /// The steps an image goes through.
    pub pipeline: Vec<Node>,
    /// Class names, or a file with one in each line; the data set's own without it.
    #[serde(default)]
    pub classes: Option<OneOrMany<String>>,
    /// Accepted: the files' names are fixed.
    #[serde(default)]
    pub ann_file: Option<String>,
    /// The 10,000 images of the test in place of those for training; default false for `data.train`.
    #[serde(default)]
    pub test_mode: Option<bool>,
}

/// Grey digits of 28 x 28.
pub struct Mnist(Base);

/// Grey clothes of 28 x 28.
pub struct FashionMnist(Base);

fn base(cfg: &MnistConfig, defaults: DatasetDefaults, names: &[&str]) -> Result<Base> {
    let classes = Base::class_names(cfg.classes.as_ref(), names)?;
    let mut base = Base::new(&cfg.data_prefix, &cfg.pipeline, classes)?;
    let part = if cfg.test_mode.unwrap_or(defaults.test_mode) { "t10k" } else { "train" };
    let folder = Path::new(&cfg.data_prefix);
    let images = read_images(&folder.join(format!("{part}-images-idx3-ubyte")))?;
    let file = folder.join(format!("{part}-labels-idx1-ubyte"));
    let labels = read_labels(&file)?;
    if images.len() != labels.len() {
        return Err(Error::data(file, format!("has {} labels for {} images", labels.len(), images.len())));
    }
    base.load(images.into_iter().map(Arc::new).map(Source::Memory).zip(labels).collect())?;
    Ok(base)
}

impl Mnist {
    /// Reads the files.
    pub fn new(cfg: &MnistConfig, defaults: DatasetDefaults) -> Result<Self> {
        base(cfg, defaults, &DIGITS).map(Self)
    }
}

impl FashionMnist {
    /// Reads the files.
    pub fn new(cfg: &MnistConfig, defaults: DatasetDefaults) -> Result<Self> {
        base(cfg, defaults, &CLOTHES).map(Self)
    }
}

delegate!(Mnist);
delegate!(FashionMnist);

/// The sizes and the bytes of an IDX file of `axes` axes.
fn read_idx(path: &Path, axes: usize) -> Result<(Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let head = 4 + 4 * axes;
    // Two zeros, 8 for bytes, the number of axes; then their sizes, big-endian.
    if bytes.len() < head || bytes[..4] != [0, 0, 8, axes as u8] {
        return Err(Error::data(path, format!("not an IDX file of bytes with {axes} axes")));
    }
    let sizes: Vec<usize> =
        bytes[4..head].chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let count = sizes.iter().try_fold(1usize, |n, s| n.checked_mul(*s));
    if count != Some(bytes.len() - head) {
        return Err(Error::data(path, format!("has {} bytes of data, its head says {sizes:?}", bytes.len() - head)));
    }
    Ok((sizes, bytes[head..].to_vec()))
}

fn read_images(path: &Path) -> Result<Vec<Image>> {
    let (sizes, bytes) = read_idx(path, 3)?;
    let [_, h, w] = sizes[..] else { return Err(Error::data(path, "expected three axes")) };
    if h * w == 0 {
        return Err(Error::data(path, format!("images of {h} x {w} have no pixels")));
    }
    bytes.chunks_exact(h * w).map(|b| Image::new(h, w, 1, Pixels::U8(b.to_vec()))).collect()
}

fn read_labels(path: &Path) -> Result<Vec<i64>> {
    Ok(read_idx(path, 1)?.1.into_iter().map(i64::from).collect())
}

register!(DATASETS: dyn super::ClsDataset, "MNIST" => Mnist, MnistConfig);
register!(DATASETS: dyn super::ClsDataset, "FashionMNIST" => FashionMnist, MnistConfig);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::{ClsDataset as _, Label};

    fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        bytes.extend(sizes.iter().flat_map(|s| s.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for part in ["train", "t10k"] {
            let n = if part == "train" { 3 } else { 2 };
            let pixels: Vec<u8> = (0..n as u8 * 6).collect();
            std::fs::write(dir.path().join(format!("{part}-images-idx3-ubyte")), idx(&[n, 2, 3], &pixels)).unwrap();
            let labels: Vec<u8> = (0..n as u8).map(|i| 9 - i).collect();
            std::fs::write(dir.path().join(format!("{part}-labels-idx1-ubyte")), idx(&[n], &labels)).unwrap();
        }
        dir
    }

    fn made(dir: &Path, test_mode: bool) -> Result<Mnist> {
        let pipeline = vec![
            Node::from_json(r#"{"type": "ImageToTensor", "keys": ["img"]}"#).unwrap(),
            Node::from_json(r#"{"type": "Collect", "keys": ["img", "gt_label"]}"#).unwrap(),
        ];
        let data_prefix = dir.to_str().unwrap().to_owned();
        let cfg = MnistConfig { data_prefix, pipeline, classes: None, ann_file: None, test_mode: None };
        Mnist::new(&cfg, DatasetDefaults { test_mode })
    }

    #[test]
    fn both_parts_are_read() {
        let dir = folder();
        let train = made(dir.path(), false).unwrap();
        assert_eq!((train.len(), train.gt_labels()), (3, [9, 8, 7].map(Label::Class).to_vec()));
        let sample = train.sample(1, &mut mmcv::Rng::new(0)).unwrap();
        assert_eq!(sample.img.to_vec3::<f32>().unwrap(), [[[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]]]);
        let test = made(dir.path(), true).unwrap();
        assert_eq!((test.len(), test.classes()[9].as_str()), (2, "9 - nine"));
    }

    #[test]
    fn broken_files_are_named() {
        let dir = folder();
        let labels = dir.path().join("train-labels-idx1-ubyte");
        for (bytes, words) in [
            (idx(&[2], &[1, 2]), "has 2 labels for 3 images"),
            (idx(&[3], &[1, 2]), "has 2 bytes of data, its head says [3]"),
            (vec![0, 0, 8], "not an IDX file"),
            (idx(&[3], &[1, 2, 10]), "image 2: label 10 is not one of 10 classes"),
        ] {
            std::fs::write(&labels, bytes).unwrap();
            let e = made(dir.path(), false).err().unwrap();
            assert!(!e.is_usage() && e.to_string().contains(words), "{e}");
        }
        std::fs::remove_file(&labels).unwrap();
        assert!(made(dir.path(), false).err().unwrap().to_string().contains("train-labels-idx1-ubyte"));
    }
}
