//! CIFAR-10 and CIFAR-100, from the pickles of their Python version.

use std::path::Path;
use std::sync::Arc;

use mmcv::config::{Node, OneOrMany};
use mmcv::fileio::{Data, Format, load_bytes};
use mmcv::image::{Image, Pixels};
use mmcv::{Error, Result, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::base::{Base, Source, delegate};
use super::class_lists::CIFAR10_CLASSES;
use super::{DATASETS, DatasetDefaults};

const SIDE: usize = 32;

/// `type = "CIFAR10"` and `type = "CIFAR100"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CifarConfig {
    /// The folder that holds `cifar-10-batches-py` or `cifar-100-python`.
    pub data_prefix: String,
    /// The steps an image goes through.
    pub pipeline: Vec<Node>,
    /// Class names, or a file with one in each line. As in the original, those in the data set's own file win.
    #[serde(default)]
    pub classes: Option<OneOrMany<String>>,
    /// Accepted: the files' names are fixed.
    #[serde(default)]
    pub ann_file: Option<String>,
    /// The 10,000 images of the test in place of those for training; default false for `data.train`.
    #[serde(default)]
    pub test_mode: Option<bool>,
}

struct Files {
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    meta: &'static str,
    names: &'static str,
    labels: &'static str,
}

const TEN: Files = Files {
    folder: "cifar-10-batches-py",
    train: &["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"],
    test: "test_batch",
    meta: "batches.meta",
    names: "label_names",
    labels: "labels",
};

const HUNDRED: Files = Files {
    folder: "cifar-100-python",
    train: &["train"],
    test: "test",
    meta: "meta",
    names: "fine_label_names",
    labels: "fine_labels",
};

/// Colour images of 32 x 32 in 10 classes.
pub struct Cifar10(Base);

/// Colour images of 32 x 32 in 100 classes.
pub struct Cifar100(Base);

impl Cifar10 {
    /// Reads the files.
    pub fn new(cfg: &CifarConfig, defaults: DatasetDefaults) -> Result<Self> {
        base(cfg, defaults, &TEN, &CIFAR10_CLASSES).map(Self)
    }
}

impl Cifar100 {
    /// Reads the files.
    pub fn new(cfg: &CifarConfig, defaults: DatasetDefaults) -> Result<Self> {
        base(cfg, defaults, &HUNDRED, &[]).map(Self)
    }
}

delegate!(Cifar10);
delegate!(Cifar100);

fn read(path: &Path) -> Result<Data> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    load_bytes(&bytes, Format::Pickle).map_err(|m| Error::data(path, m))
}

fn base(cfg: &CifarConfig, defaults: DatasetDefaults, files: &Files, names: &[&str]) -> Result<Base> {
    let folder = Path::new(&cfg.data_prefix).join(files.folder);
    let meta = folder.join(files.meta);
    let own = read(&meta)?;
    let names: Vec<String> = match own.get(files.names).and_then(Data::as_list) {
        Some(list) => list.iter().filter_map(Data::as_str).map(str::to_owned).collect(),
        None if names.is_empty() => return Err(Error::data(&meta, format!("has no '{}'", files.names))),
        None => names.iter().map(|n| (*n).to_owned()).collect(),
    };
    let mut base = Base::new(&cfg.data_prefix, &cfg.pipeline, names)?;
    let test = [files.test];
    let parts = if cfg.test_mode.unwrap_or(defaults.test_mode) { &test[..] } else { files.train };
    let mut items = Vec::new();
    for part in parts {
        let path = folder.join(part);
        let data = read(&path)?;
        items.extend(images(&data, files.labels).map_err(|m| Error::data(&path, m))?);
    }
    base.load(items)?;
    Ok(base)
}

/// The images and labels of one file: `data` is `[N, 3072]` bytes, planes of red, green and blue.
fn images(data: &Data, labels: &str) -> std::result::Result<Vec<(Source, i64)>, String> {
    let array = data.get("data").and_then(Data::as_array).ok_or("has no array 'data'")?;
    let labels = data.get(labels).and_then(Data::as_list).ok_or_else(|| format!("has no list '{labels}'"))?;
    let plane = SIDE * SIDE;
    if array.shape() != [labels.len(), 3 * plane] || array.bytes().len() != array.len() {
        return Err(format!("'data' is {:?}, expected [{}, {}] bytes", array.shape(), labels.len(), 3 * plane));
    }
    let one = |(bytes, label): (&[u8], &Data)| -> std::result::Result<(Source, i64), String> {
        // As mmcls: the channels stay red, green, blue.
        let pixels = (0..plane).flat_map(|i| [bytes[i], bytes[plane + i], bytes[2 * plane + i]]).collect();
        let image = Image::new(SIDE, SIDE, 3, Pixels::U8(pixels)).map_err(|e| e.to_string())?;
        let label = label.as_i64().ok_or("a label is no number")?;
        Ok((Source::Memory(Arc::new(image)), label))
    };
    array.bytes().chunks_exact(3 * plane).zip(labels).map(one).collect()
}

register!(DATASETS: dyn super::ClsDataset, "CIFAR10" => Cifar10, CifarConfig);
register!(DATASETS: dyn super::ClsDataset, "CIFAR100" => Cifar100, CifarConfig);

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use mmcv::fileio::{Key, NdArray, NdType, dump_bytes};

    use super::*;
    use crate::datasets::{ClsDataset as _, Label};

    fn dict(pairs: Vec<(&str, Data)>) -> Data {
        Data::Dict(pairs.into_iter().map(|(k, v)| (Key::Str(k.into()), v)).collect::<IndexMap<_, _>>())
    }

    #[test]
    fn the_python_version_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(TEN.folder);
        std::fs::create_dir(&folder).unwrap();
        let write = |name: &str, data: Data| {
            std::fs::write(folder.join(name), dump_bytes(&data, Format::Pickle).unwrap()).unwrap();
        };
        write(
            "batches.meta",
            dict(vec![("label_names", Data::List(vec![Data::Str("a".into()), Data::Str("b".into())]))]),
        );
        let pixels: Vec<u8> = (0..2 * 3072).map(|i| (i / 1024) as u8).collect();
        let array = |n| Data::Array(NdArray::new(NdType::U8, vec![n, 3072], pixels[..n * 3072].to_vec()).unwrap());
        write("test_batch", dict(vec![("data", array(2)), ("labels", Data::List(vec![Data::Int(1), Data::Int(0)]))]));
        let pipeline = [r#"{"type": "ImageToTensor", "keys": ["img"]}"#, r#"{"type": "Collect", "keys": ["img"]}"#];
        let cfg = CifarConfig {
            data_prefix: dir.path().to_str().unwrap().to_owned(),
            pipeline: pipeline.iter().map(|s| Node::from_json(s).unwrap()).collect(),
            classes: None,
            ann_file: None,
            test_mode: Some(true),
        };
        let test = Cifar10::new(&cfg, DatasetDefaults::default()).unwrap();
        assert_eq!((test.classes().len(), test.gt_labels()), (2, vec![Label::Class(1), Label::Class(0)]));
        let img = test.sample(1, &mut mmcv::Rng::new(0)).unwrap().img;
        let planes = img.to_vec3::<f32>().unwrap();
        assert_eq!((planes[0][0][0], planes[1][31][31], planes[2][5][5]), (3.0, 4.0, 5.0));

        write("test_batch", dict(vec![("data", array(1)), ("labels", Data::List(vec![Data::Int(1), Data::Int(0)]))]));
        let e = Cifar10::new(&cfg, DatasetDefaults::default()).err().unwrap().to_string();
        assert!(e.contains("test_batch: 'data' is [1, 3072], expected [2, 3072]"), "{e}");
        let train = CifarConfig { test_mode: None, ..cfg };
        let e = Cifar10::new(&train, DatasetDefaults::default()).err().unwrap().to_string();
        assert!(e.contains("data_batch_1"), "{e}");
    }
}
