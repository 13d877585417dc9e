//! PASCAL VOC's pictures with all the classes in them; mmcls's `voc.py`.

use mmcv::config::{Node, OneOrMany};
use mmcv::data::VOC_CLASSES;
use mmcv::fileio::{FileClient, list_from_file};
use mmcv::{Error, Result, register};
use roxmltree::{Document, ParsingOptions};
use schemars::JsonSchema;
use serde::Deserialize;

use super::base::{Base, Source, delegate};
use super::{DATASETS, DatasetDefaults};

/// `type = "VOC"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VocConfig {
    /// The folder of `JPEGImages` and `Annotations`; `VOC2007` must be in its name.
    pub data_prefix: String,
    /// The steps an image goes through.
    pub pipeline: Vec<Node>,
    /// A file with an image id in each line.
    pub ann_file: String,
    /// Class names, or a file with one in each line; VOC's own without it.
    #[serde(default)]
    pub classes: Option<OneOrMany<String>>,
    /// Accepted: `ann_file` says which part it is.
    #[serde(default)]
    pub test_mode: Option<bool>,
    /// Classes of which an image has only difficult objects: true makes them labels like others, false no labels. Default
    /// null, which leaves them out of mAP (training takes them as labels).
    #[serde(default)]
    pub difficult_as_postive: Option<bool>,
}

/// Pictures of several classes each.
pub struct Voc(Base);

impl Voc {
    /// Reads the annotations.
    pub fn new(cfg: &VocConfig, _: DatasetDefaults) -> Result<Self> {
        if !cfg.data_prefix.contains("VOC2007") {
            let message = format!("is '{}': only VOC2007 is known, by its name in the path", cfg.data_prefix);
            return Err(Error::config(message).under("data_prefix"));
        }
        let classes = Base::class_names(cfg.classes.as_ref(), &VOC_CLASSES)?;
        let mut base = Base::new(&cfg.data_prefix, &cfg.pipeline, classes)?;
        let client = FileClient::default();
        let ids = list_from_file(&client, &cfg.ann_file, "", 0, 0)?;
        let prefix = cfg.data_prefix.trim_end_matches('/');
        let one = |id: &String| -> Result<(Source, Vec<i8>)> {
            let path = format!("{prefix}/Annotations/{id}.xml");
            let text = client.get_text(&path)?;
            let label = label(&text, &base.classes, cfg.difficult_as_postive).map_err(|m| Error::data(&path, m))?;
            Ok((Source::File(format!("JPEGImages/{id}.jpg")), label))
        };
        let items = ids.iter().map(one).collect::<Result<Vec<_>>>()?;
        base.load_multi_label(items)?;
        Ok(Self(base))
    }
}

delegate!(Voc);

/// For each class 1, 0 or -1, from an image's XML.
fn label(text: &str, classes: &[String], difficult_as_positive: Option<bool>) -> Result<Vec<i8>, String> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text.trim_start_matches('\u{feff}'), options)
        .map_err(|e| format!("not XML: {e}"))?;
    let hard = match difficult_as_positive {
        None => -1,
        Some(positive) => i8::from(positive),
    };
    let mut label = vec![0; classes.len()];
    let objects = document.root_element().children().filter(|n| n.has_tag_name("object"));
    for (i, object) in objects.enumerate() {
        let field = |name: &str| -> Result<&str, String> {
            let child = object.children().find(|n| n.has_tag_name(name));
            child.and_then(|n| n.text()).ok_or_else(|| format!("object {}: has no <{name}>", i + 1))
        };
        let name = field("name")?;
        // Objects of other classes are left out, as the original does.
        let Some(at) = classes.iter().position(|c| c == name) else { continue };
        let difficult = field("difficult")?;
        let difficult: i64 = difficult
            .trim()
            .parse()
            .map_err(|_| format!("object {}: <difficult> is '{difficult}', expected a whole number", i + 1))?;
        // One that is easy to see decides, whatever the order.
        if difficult == 0 {
            label[at] = 1;
        } else if label[at] != 1 {
            label[at] = hard;
        }
    }
    Ok(label)
}

register!(DATASETS: dyn super::ClsDataset, "VOC" => Voc, VocConfig);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::datasets::{ClsDataset as _, Label};

    fn object(name: &str, difficult: u8) -> String {
        format!("<object><name>{name}</name><difficult>{difficult}</difficult></object>")
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("VOC2007");
        std::fs::create_dir_all(root.join("Annotations")).unwrap();
        let write = |id: &str, objects: &[String]| {
            let text = format!("<annotation><filename>{id}.jpg</filename>{}</annotation>", objects.concat());
            std::fs::write(root.join(format!("Annotations/{id}.xml")), text).unwrap();
        };
        write("01", &[object("cat", 1), object("dog", 0), object("unicorn", 0)]);
        write("02", &[object("cat", 0), object("cat", 1), object("dog", 1)]);
        std::fs::write(root.join("list.txt"), "01\n02\n").unwrap();
        dir
    }

    fn made(root: &Path, more: &str) -> Result<Voc> {
        let mut node = Node::from_json(&format!(r#"{{"pipeline": [], "classes": ["dog", "cat"]{more}}}"#)).unwrap();
        node.set("data_prefix", root.to_str().unwrap());
        node.set("ann_file", root.join("list.txt").to_str().unwrap());
        Voc::new(&node.parse()?, DatasetDefaults::default())
    }

    // VOC(data_prefix=..., ann_file=..., pipeline=[], classes=['dog', 'cat'], difficult_as_postive=...).get_gt_labels()
    #[test]
    fn difficult_objects_are_mmcls() {
        let dir = folder();
        let root = dir.path().join("VOC2007");
        for (more, first, second) in [
            ("", [1, -1], [-1, 1]),
            (r#", "difficult_as_postive": true"#, [1, 1], [1, 1]),
            (r#", "difficult_as_postive": false"#, [1, 0], [0, 1]),
        ] {
            let set = made(&root, more).unwrap();
            let want = [first, second].map(|row| Label::Classes(row.to_vec()));
            assert_eq!((set.gt_labels(), set.name(1)), (want.to_vec(), "JPEGImages/02.jpg".to_owned()), "{more}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let dir = folder();
        let root = dir.path().join("VOC2007");
        assert!(made(dir.path(), "").err().unwrap().to_string().contains("data_prefix"));
        std::fs::write(root.join("Annotations/02.xml"), "<annotation><object><name>cat</name></object></annotation>")
            .unwrap();
        let e = made(&root, "").err().unwrap();
        assert!(!e.is_usage() && e.to_string().contains("02.xml: object 1: has no <difficult>"), "{e}");
        std::fs::write(root.join("list.txt"), "").unwrap();
        assert!(made(&root, "").err().unwrap().to_string().contains("the data set is empty"));
    }
}
