//! Images in a folder for each class, or listed in a file; mmcls's `custom.py` and `imagenet.py`.

use std::path::Path;

use mmcv::config::{Node, OneOrMany};
use mmcv::fileio::{FileClient, FileClientConfig, list_from_file};
use mmcv::{Error, Result, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::base::{Base, Source, delegate};
use super::class_lists::imagenet_classes;
use super::{DATASETS, DatasetDefaults};

/// `type = "CustomDataset"` and `type = "ImageNet"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomDatasetConfig {
    /// The folder of the images.
    pub data_prefix: String,
    /// The steps an image goes through; default none.
    #[serde(default)]
    pub pipeline: Vec<Node>,
    /// Class names, or a file with one in each line; default the folders' names (ImageNet's own for `ImageNet`).
    #[serde(default)]
    pub classes: Option<OneOrMany<String>>,
    /// A file with `path label` in each line; without it each folder in `data_prefix` is a class.
    #[serde(default)]
    pub ann_file: Option<String>,
    /// Endings of images; default jpg, jpeg, png, ppm, bmp, pgm, tif.
    #[serde(default = "extensions")]
    pub extensions: Vec<String>,
    /// Accepted: both parts are read alike.
    #[serde(default)]
    pub test_mode: Option<bool>,
    /// Where `ann_file` is read from.
    #[serde(default)]
    pub file_client_args: Option<FileClientConfig>,
}

fn extensions() -> Vec<String> {
    [".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif"].map(str::to_owned).to_vec()
}

/// A folder of folders, or a list.
pub struct CustomDataset(Base);

/// The same with ImageNet's 1000 classes.
pub struct ImageNet(Base);

impl CustomDataset {
    /// Lists the images.
    pub fn new(cfg: &CustomDatasetConfig, _: DatasetDefaults) -> Result<Self> {
        base(cfg, &[]).map(Self)
    }
}

impl ImageNet {
    /// Lists the images.
    pub fn new(cfg: &CustomDatasetConfig, _: DatasetDefaults) -> Result<Self> {
        base(cfg, &imagenet_classes()).map(Self)
    }
}

delegate!(CustomDataset);
delegate!(ImageNet);

fn base(cfg: &CustomDatasetConfig, names: &[&str]) -> Result<Base> {
    let classes = Base::class_names(cfg.classes.as_ref(), names)?;
    let mut base = Base::new(&cfg.data_prefix, &cfg.pipeline, classes)?;
    let items = match &cfg.ann_file {
        Some(file) => listed(cfg, file)?,
        None => {
            let (folders, items) = walked(cfg)?;
            if base.classes.is_empty() {
                base.classes = folders;
            } else if base.classes.len() != folders.len() {
                let message =
                    format!("{} classes, but {} has {} folders", base.classes.len(), cfg.data_prefix, folders.len());
                return Err(Error::config(message).under("classes"));
            }
            items
        }
    };
    if base.classes.is_empty() {
        return Err(Error::config("missing: a list of images names no classes").under("classes"));
    }
    base.load(items)?;
    Ok(base)
}

fn listed(cfg: &CustomDatasetConfig, file: &str) -> Result<Vec<(Source, i64)>> {
    let client = FileClient::new(&cfg.file_client_args.clone().unwrap_or_default())?;
    let lines = list_from_file(&client, file, "", 0, 0)?;
    let one = |(i, line): (usize, &String)| -> Result<(Source, i64)> {
        let bad = || Error::data(file, format!("line {}: '{line}' is not 'path label'", i + 1));
        let (path, label) = line.trim().rsplit_once(' ').ok_or_else(bad)?;
        Ok((Source::File(path.to_owned()), label.parse().map_err(|_| bad())?))
    };
    lines.iter().enumerate().map(one).collect()
}

/// The folders in order, and the images in each and below it.
fn walked(cfg: &CustomDatasetConfig) -> Result<(Vec<String>, Vec<(Source, i64)>)> {
    let root = Path::new(&cfg.data_prefix);
    let names = |dir: &Path, folders: bool| -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
            let path = entry.map_err(|e| Error::io(dir, e))?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() == folders && !name.starts_with('.') {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    };
    let wanted: Vec<String> = cfg.extensions.iter().map(|e| e.to_lowercase()).collect();
    let folders = names(root, true)?;
    let mut items = Vec::new();
    for (label, folder) in folders.iter().enumerate() {
        let (mut files, mut open) = (Vec::new(), vec![folder.clone()]);
        while let Some(at) = open.pop() {
            open.extend(names(&root.join(&at), true)?.into_iter().map(|n| format!("{at}/{n}")));
            files.extend(names(&root.join(&at), false)?.into_iter().map(|n| format!("{at}/{n}")));
        }
        files.retain(|f| wanted.iter().any(|e| f.to_lowercase().ends_with(e.as_str())));
        files.sort();
        if files.is_empty() {
            tracing::warn!("{}/{folder} holds no image ({})", cfg.data_prefix, cfg.extensions.join(", "));
        }
        items.extend(files.into_iter().map(|f| (Source::File(f), label as i64)));
    }
    if items.is_empty() {
        let message = format!("no image in its folders (looked for {})", cfg.extensions.join(", "));
        return Err(Error::data(root, message));
    }
    Ok((folders, items))
}

register!(DATASETS: dyn super::ClsDataset, "CustomDataset" => CustomDataset, CustomDatasetConfig);
register!(DATASETS: dyn super::ClsDataset, "ImageNet" => ImageNet, CustomDatasetConfig);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::{ClsDataset as _, Label};

    fn config(dir: &Path, more: &str) -> CustomDatasetConfig {
        let mut node = Node::from_json(&format!("{{{more}}}")).unwrap();
        node.set("data_prefix", dir.to_str().unwrap());
        node.parse().unwrap()
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in ["b/2.PNG", "b/1.jpg", "a/x/3.jpeg", "a/notes.txt", "a/.hidden.jpg"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        dir
    }

    #[test]
    fn folders_are_classes() {
        let dir = folder();
        let d = CustomDataset::new(&config(dir.path(), ""), DatasetDefaults::default()).unwrap();
        assert_eq!(
            (d.classes(), d.gt_labels()),
            (&["a".to_owned(), "b".into()][..], [0, 1, 1].map(Label::Class).to_vec())
        );
        assert_eq!((d.name(0).as_str(), d.name(1).as_str(), d.name(2).as_str()), ("a/x/3.jpeg", "b/1.jpg", "b/2.PNG"));
        let wrong = config(dir.path(), r#""classes": ["one"]"#);
        let e = CustomDataset::new(&wrong, DatasetDefaults::default()).err().unwrap();
        assert!(e.is_usage() && e.to_string().contains("classes: 1 classes, but"), "{e}");
        let none = config(dir.path(), r#""extensions": [".gif"]"#);
        assert!(CustomDataset::new(&none, DatasetDefaults::default()).err().unwrap().to_string().contains("no image"));
    }

    #[test]
    fn a_list_says_path_and_label() {
        let dir = folder();
        let list = dir.path().join("list.txt");
        let made = |text: &str| {
            std::fs::write(&list, text).unwrap();
            let cfg = config(dir.path(), &format!(r#""ann_file": "{}", "classes": ["a", "b"]"#, list.display()));
            CustomDataset::new(&cfg, DatasetDefaults::default())
        };
        let d = made("b/1.jpg 1\na b/c d.jpg 0\n").unwrap();
        assert_eq!((d.name(1).as_str(), d.gt_labels()), ("a b/c d.jpg", [1, 0].map(Label::Class).to_vec()));
        assert!(made("b/1.jpg\n").err().unwrap().to_string().contains("list.txt: line 1: 'b/1.jpg' is not"));
        assert!(made("b/1.jpg 2\n").err().unwrap().to_string().contains("b/1.jpg: label 2 is not one of 2 classes"));
        let e = CustomDataset::new(
            &config(dir.path(), &format!(r#""ann_file": "{}""#, list.display())),
            DatasetDefaults::default(),
        );
        assert!(e.err().unwrap().to_string().contains("classes: missing"));
        assert_eq!(imagenet_classes().len(), 1000);
    }
}
