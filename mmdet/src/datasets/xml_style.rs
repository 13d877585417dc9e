//! PASCAL VOC's XML, with any classes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use mmcv::config::Node;
use mmcv::error::did_you_mean;
use mmcv::fileio::{FileClient, FileClientConfig, list_from_file};
use mmcv::{Error, Result, Rng, register};
use roxmltree::{Document, ParsingOptions};
use schemars::JsonSchema;
use serde::Deserialize;

use super::base::{Args, Base, MIN_SIZE, filter};
use super::custom::{here, png};
use super::pipelines::{ImgInfo, OneOrMany, Results, join, yes};
use super::{DATASETS, DatasetDefaults, DetDataset, Source};
use crate::core::{AnnInfo, BBox};

/// `type = "XMLDataset"` and `type = "VOCDataset"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct XmlDatasetConfig {
    /// A text file with an image id in each line.
    pub ann_file: String,
    /// The steps an image goes through.
    pub pipeline: Vec<Node>,
    /// Boxes narrower or lower than this are ignored; only when training.
    #[serde(default)]
    pub min_size: Option<f64>,
    /// Folder of the images below `img_prefix`.
    #[serde(default = "jpeg_images")]
    pub img_subdir: String,
    /// Folder of the XML files below `img_prefix`.
    #[serde(default = "annotations")]
    pub ann_subdir: String,
    /// Class names, or a file with one in each line.
    #[serde(default)]
    pub classes: Option<OneOrMany<String>>,
    /// Folder that `ann_file`, the prefixes and `proposal_file` are in when they are relative.
    #[serde(default)]
    pub data_root: Option<String>,
    /// The folder that holds `img_subdir` and `ann_subdir`.
    #[serde(default = "here")]
    pub img_prefix: Option<String>,
    /// Folder of the semantic maps.
    #[serde(default)]
    pub seg_prefix: Option<String>,
    /// Ending of the semantic maps' names.
    #[serde(default = "png")]
    pub seg_suffix: String,
    /// Boxes proposed by another detector: a JSON list with each image's list.
    #[serde(default)]
    pub proposal_file: Option<String>,
    /// Nothing is filtered, and annotations aren't given to the pipeline.
    #[serde(default)]
    pub test_mode: Option<bool>,
    /// Leaves out images without an object of the classes, when training.
    #[serde(default = "yes")]
    pub filter_empty_gt: bool,
    /// Where files are read from.
    #[serde(default)]
    pub file_client_args: FileClientConfig,
}

fn jpeg_images() -> String {
    "JPEGImages".to_owned()
}

fn annotations() -> String {
    "Annotations".to_owned()
}

impl XmlDatasetConfig {
    fn args(&self, defaults: DatasetDefaults) -> Args<'_> {
        Args {
            ann_file: &self.ann_file,
            pipeline: &self.pipeline,
            classes: self.classes.as_ref(),
            data_root: self.data_root.as_deref(),
            img_prefix: self.img_prefix.as_deref(),
            seg_prefix: self.seg_prefix.as_deref(),
            proposal_file: self.proposal_file.as_deref(),
            test_mode: self.test_mode.unwrap_or(defaults.test_mode),
            file_client_args: &self.file_client_args,
        }
    }
}

/// One XML file for each image.
///
/// Coordinates count from 1 in the files and are made to count from 0. Difficult objects, and those smaller than `min_size`, are
/// ignored.
pub struct XmlDataset {
    base: Base,
    anns: Vec<Arc<AnnInfo>>,
    /// Label of every object, ignored ones included.
    cat_ids: Vec<Vec<i64>>,
}

impl XmlDataset {
    /// Reads the annotations.
    pub fn new(cfg: &XmlDatasetConfig, defaults: DatasetDefaults) -> Result<Self> {
        Self::with_classes(cfg, defaults, &[])
    }

    pub(super) fn with_classes(cfg: &XmlDatasetConfig, defaults: DatasetDefaults, classes: &[&str]) -> Result<Self> {
        let mut base = Base::new(&cfg.args(defaults), classes)?;
        if base.classes.is_empty() {
            return Err(Error::config("set the class names").under("classes"));
        }
        let min_size = cfg.min_size.filter(|m| *m != 0.0);
        if base.test_mode && min_size.is_some() {
            return Err(Error::config("min_size is for training only, this data set is in test mode").under("min_size"));
        }
        let mut reader = Reader { base: &base, cfg, min_size, seen: BTreeMap::new(), broken: 0 };
        let mut read = reader.read_all()?;
        let (seen, broken) = (reader.seen, reader.broken);
        warn(&base, &seen, broken);
        let infos: Vec<ImgInfo> = read.iter_mut().map(|r| std::mem::take(&mut r.info)).collect();
        let keep = (!base.test_mode).then(|| filter(&infos, cfg.filter_empty_gt, |i| !read[i].cat_ids.is_empty()));
        let mut read: Vec<Option<Annotated>> = read.into_iter().map(Some).collect();
        let order = keep.clone().unwrap_or_else(|| (0..read.len()).collect());
        let kept = order.iter().filter_map(|i| read[*i].take());
        let (anns, cat_ids) = kept.map(|r| (Arc::new(r.ann), r.cat_ids)).unzip();
        base.load(infos, keep, || {
            let names: Vec<&str> = seen.keys().map(String::as_str).collect();
            format!(
                "they are smaller than {MIN_SIZE} pixels or, with filter_empty_gt, without an object of the classes; \
                 the annotations name: {}",
                names.join(", ")
            )
        })?;
        Ok(Self { base, anns, cat_ids })
    }

    /// Folder of the data set.
    pub fn img_prefix(&self) -> &str {
        self.base.img_prefix.as_deref().unwrap_or_default()
    }
}

/// Says what may be a mistake: classes that no object has, boxes that are nothing.
fn warn(base: &Base, seen: &BTreeMap<String, usize>, broken: usize) {
    for class in base.classes.iter().filter(|c| !seen.contains_key(*c)) {
        let hint = did_you_mean(class, seen.keys().map(String::as_str));
        tracing::warn!("{}: no object is of class '{class}'{hint}", base.ann_file);
    }
    if broken > 0 {
        tracing::warn!("{}: {broken} boxes are empty or inverted; training ignores them", base.ann_file);
    }
}

/// One image with its annotation.
struct Annotated {
    info: ImgInfo,
    ann: AnnInfo,
    cat_ids: Vec<i64>,
}

struct Reader<'a> {
    base: &'a Base,
    cfg: &'a XmlDatasetConfig,
    min_size: Option<f64>,
    /// How many objects there are of each class, of the list or not.
    seen: BTreeMap<String, usize>,
    broken: usize,
}

impl Reader<'_> {
    fn read_all(&mut self) -> Result<Vec<Annotated>> {
        let ids = list_from_file(&self.base.client, &self.base.ann_file, "", 0, 0)?;
        let mut known = HashSet::new();
        let mut all = Vec::with_capacity(ids.len());
        for (line, id) in ids.iter().enumerate() {
            if !known.insert(id.as_str()) {
                let message = format!("line {}: image '{id}' is listed twice", line + 1);
                return Err(Error::data(&self.base.ann_file, message));
            }
            all.push(self.read(id)?);
        }
        Ok(all)
    }

    fn read(&mut self, id: &str) -> Result<Annotated> {
        let prefix = self.base.img_prefix.as_deref();
        let filename = join(Some(&self.cfg.img_subdir), &format!("{id}.jpg"));
        let path = join(prefix, &join(Some(&self.cfg.ann_subdir), &format!("{id}.xml")));
        let text = self.base.client.get_text(&path)?;
        let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text.trim_start_matches('\u{feff}'), options)
            .map_err(|e| Error::data(&path, format!("not XML: {e}")))?;
        let root = document.root_element();
        let (width, height) = match child(root, "size") {
            Some(size) => (
                whole(size, "width").map_err(|m| Error::data(&path, m))?,
                whole(size, "height").map_err(|m| Error::data(&path, m))?,
            ),
            None => image_size(&self.base.client, &join(prefix, &filename))?,
        };
        let info = ImgInfo { id: id.to_owned(), filename, width, height };
        let mut annotated = Annotated { info, ann: AnnInfo::default(), cat_ids: Vec::new() };
        let objects = root.children().filter(|n| n.has_tag_name("object"));
        for (i, object) in objects.enumerate() {
            self.object(object, &mut annotated).map_err(|m| Error::data(&path, format!("object {}: {m}", i + 1)))?;
        }
        Ok(annotated)
    }

    fn object(&mut self, object: roxmltree::Node<'_, '_>, to: &mut Annotated) -> Result<(), String> {
        let name = text(object, "name")?;
        *self.seen.entry(name.to_owned()).or_default() += 1;
        let Some(label) = self.base.classes.iter().position(|c| c == name) else { return Ok(()) };
        let difficult = match child(object, "difficult") {
            Some(_) => number(object, "difficult")? != 0.0,
            None => false,
        };
        let bndbox = child(object, "bndbox").ok_or("has no <bndbox>")?;
        let mut corners = [0.0; 4];
        for (value, key) in corners.iter_mut().zip(["xmin", "ymin", "xmax", "ymax"]) {
            *value = number(bndbox, key)?.trunc();
        }
        let (w, h) = (corners[2] - corners[0], corners[3] - corners[1]);
        // mmdet would train on empty and inverted boxes, whose targets are not finite.
        let broken = w <= 0.0 || h <= 0.0;
        self.broken += usize::from(broken);
        let small = self.min_size.is_some_and(|least| w < least || h < least) || (broken && !self.base.test_mode);
        let bbox: BBox = corners.map(|v| (v - 1.0) as f32);
        to.cat_ids.push(label as i64);
        let (boxes, labels) = if difficult || small {
            (&mut to.ann.bboxes_ignore, &mut to.ann.labels_ignore)
        } else {
            (&mut to.ann.bboxes, &mut to.ann.labels)
        };
        boxes.push(bbox);
        labels.push(label as i64);
        Ok(())
    }
}

fn child<'a, 'i>(node: roxmltree::Node<'a, 'i>, name: &str) -> Option<roxmltree::Node<'a, 'i>> {
    node.children().find(|n| n.has_tag_name(name))
}

fn text<'a>(node: roxmltree::Node<'a, '_>, name: &str) -> Result<&'a str, String> {
    child(node, name).and_then(|n| n.text()).ok_or_else(|| format!("has no <{name}>"))
}

fn number(node: roxmltree::Node<'_, '_>, name: &str) -> Result<f64, String> {
    let text = text(node, name)?;
    match text.trim().parse::<f64>() {
        Ok(v) if v.is_finite() => Ok(v),
        _ => Err(format!("<{name}> is '{text}', expected a number")),
    }
}

fn whole(node: roxmltree::Node<'_, '_>, name: &str) -> Result<usize, String> {
    let text = text(node, name)?;
    text.trim().parse().map_err(|_| format!("<size>: <{name}> is '{text}', expected a whole number"))
}

/// Width and height from the image's header, when the XML doesn't say.
fn image_size(client: &FileClient, path: &str) -> Result<(usize, usize)> {
    let bytes = client.get(path)?;
    let bad = |e: String| Error::data(path, format!("can't read the image's size: {e}"));
    let reader = image::ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format();
    let (w, h) = reader.map_err(|e| bad(e.to_string()))?.into_dimensions().map_err(|e| bad(e.to_string()))?;
    Ok((w as usize, h as usize))
}

impl DetDataset for XmlDataset {
    fn len(&self) -> usize {
        self.base.infos.len()
    }
    fn classes(&self) -> &[String] {
        &self.base.classes
    }
    fn palette(&self) -> &[[u8; 3]] {
        &[]
    }
    fn img_info(&self, index: usize) -> &ImgInfo {
        &self.base.infos[index]
    }
    fn ann_info(&self, index: usize) -> Result<Arc<AnnInfo>> {
        Ok(self.anns[index].clone())
    }
    fn cat_ids(&self, index: usize) -> Result<Vec<i64>> {
        Ok(self.cat_ids[index].clone())
    }
    fn flag(&self, index: usize) -> u8 {
        self.base.flag(index)
    }
    fn fetch(&self, index: usize, rng: &mut Rng) -> Result<Results> {
        self.base.fetch(index, rng, |i| self.ann_info(i))
    }
    fn source(&self) -> Source<'_> {
        Source::Xml
    }
}

register!(DATASETS: dyn DetDataset, "XMLDataset" => XmlDataset, XmlDatasetConfig);

#[cfg(test)]
mod tests {
    use super::super::testing::{built, files, message, real};
    use super::*;
    use std::path::Path;

    fn object(name: &str, [x1, y1, x2, y2]: [&str; 4], more: &str) -> String {
        format!(
            "<object><name>{name}</name>{more}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>\
             <ymax>{y2}</ymax></bndbox></object>"
        )
    }

    fn write(dir: &Path, id: &str, body: &str) {
        std::fs::create_dir_all(dir.join("Annotations")).unwrap();
        std::fs::write(dir.join(format!("Annotations/{id}.xml")), format!("<annotation>{body}</annotation>")).unwrap();
    }

    const SIZE: &str = "<size><width>100</width><height> 80 </height><depth>3</depth></size>";
    const CFG: &str =
        r#"{"type": "XMLDataset", "ann_file": "{dir}/list.txt", "img_prefix": "{dir}", "classes": ["cat", "dog"]}"#;

    fn folder(list: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("list.txt"), list).unwrap();
        let objects = [
            object("dog", ["1", "2", "30.7", "41"], "<difficult>0</difficult>"),
            object("cat", ["5", "5", "9", "50"], "<difficult>1</difficult>"),
            object("bird", ["5", "5", "9", "50"], ""),
            object("cat", ["10", "10", "14", "60"], ""),
            object("cat", ["20", "20", "20", "60"], ""),
        ];
        write(dir.path(), "a", &format!("{SIZE}{}", objects.concat()));
        write(dir.path(), "bird", &format!("{SIZE}{}", objects[2]));
        write(dir.path(), "small", &SIZE.replace("100", "31").replace("</size>", &format!("</size>{}", objects[0])));
        dir
    }

    #[test]
    fn objects_are_parsed_as_mmdet_does() {
        // Coordinates are cut to whole numbers and count from 0; difficult ones are ignored.
        let dir = folder("a\nbird\nsmall");
        let d = built(dir.path(), CFG, false).unwrap();
        assert_eq!((files(&*d), d.flag(0)), (vec!["JPEGImages/a.jpg"], 1));
        let ann = d.ann_info(0).unwrap();
        assert_eq!(ann.bboxes, [[0.0, 1.0, 29.0, 40.0], [9.0, 9.0, 13.0, 59.0]]);
        assert_eq!((&ann.labels[..], &ann.labels_ignore[..]), (&[1, 0][..], &[0, 0][..]));
        // The empty box is ignored in training: its targets would not be finite.
        assert_eq!(ann.bboxes_ignore, [[4.0, 4.0, 8.0, 49.0], [19.0, 19.0, 19.0, 59.0]]);
        assert_eq!(d.cat_ids(0).unwrap(), [1, 0, 0, 0]);
        let small = CFG.replace("\"classes\"", "\"min_size\": 5, \"classes\"");
        assert_eq!(built(dir.path(), &small, false).unwrap().ann_info(0).unwrap().bboxes, [[0.0, 1.0, 29.0, 40.0]]);
        let test = built(dir.path(), CFG, true).unwrap();
        assert_eq!((test.len(), test.ann_info(0).unwrap().bboxes.len()), (3, 3));
        let all = CFG.replace("\"classes\"", "\"filter_empty_gt\": false, \"classes\"");
        assert_eq!(built(dir.path(), &all, false).unwrap().len(), 2);
    }

    #[test]
    fn the_size_comes_from_the_image_when_the_xml_has_none() {
        let dir = folder("n");
        write(dir.path(), "n", &object("cat", ["1", "1", "9", "9"], ""));
        std::fs::create_dir(dir.path().join("JPEGImages")).unwrap();
        let picture = mmcv::image::Image::new(40, 50, 3, mmcv::image::Pixels::U8(vec![9; 6000])).unwrap();
        mmcv::image::imwrite(&picture, dir.path().join("JPEGImages/n.jpg")).unwrap();
        let d = built(dir.path(), CFG, false).unwrap();
        assert_eq!((d.img_info(0).width, d.img_info(0).height), (50, 40));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let dir = folder("a");
        let path = dir.path();
        let one = |body: String, part: &str| {
            write(path, "a", &body);
            let e = message(path, CFG, false);
            assert!(e.contains("Annotations/a.xml") && e.contains(part), "{e}");
        };
        one(
            format!("{SIZE}{}", object("cat", ["nan", "1", "2", "3"], "")),
            "object 1: <xmin> is 'nan', expected a number",
        );
        one(format!("{SIZE}<object><name>cat</name></object>"), "object 1: has no <bndbox>");
        one(format!("{SIZE}<object></object>"), "object 1: has no <name>");
        one("<size><width>ten</width><height>3</height></size>".into(), "<width> is 'ten', expected a whole number");
        one("<size>".into(), "not XML");
        let message_of = |list: &str, cfg: &str, test_mode| {
            let dir = folder(list);
            message(dir.path(), cfg, test_mode)
        };
        assert!(message_of("a\nmissing", CFG, false).contains("Annotations/missing.xml"));
        assert!(message_of("a\nbird\na", CFG, false).contains("list.txt: line 3: image 'a' is listed twice"));
        let e = message_of("bird", CFG, false);
        assert!(e.contains("none of its 1 images is left") && e.contains("the annotations name: bird"), "{e}");
        assert!(message_of("", CFG, true).contains("the data set is empty"));
        assert!(
            message_of("a", &CFG.replace(r#", "classes": ["cat", "dog"]"#, ""), false)
                .contains("classes: set the class names")
        );
        let small = CFG.replace("\"classes\"", "\"min_size\": 5, \"classes\"");
        assert!(message_of("a", &small, true).contains("min_size is for training only"));
        let voc = CFG.replace("XMLDataset", "VOCDataset").replace(r#", "classes": ["cat", "dog"]"#, "");
        assert!(message_of("a", &voc, false).contains("VOC2007 or VOC2012"), "{}", message_of("a", &voc, false));
    }

    #[test]
    fn vocs_year_is_in_its_folder() {
        let dir = folder("a");
        std::fs::rename(dir.path().join("Annotations"), dir.path().join("Annotations-")).unwrap();
        let root = dir.path().join("VOC2012");
        std::fs::create_dir(&root).unwrap();
        std::fs::rename(dir.path().join("Annotations-"), root.join("Annotations")).unwrap();
        let cfg = CFG.replace("XMLDataset", "VOCDataset").replace(r#", "classes": ["cat", "dog"]"#, "");
        let d = built(dir.path(), &cfg.replace(r#""img_prefix": "{dir}""#, r#""img_prefix": "{dir}/VOC2012/""#), false);
        let d = d.unwrap();
        assert!(matches!(d.source(), Source::Voc { year: 2012 }));
        assert_eq!((d.classes().len(), d.palette().len(), &d.ann_info(0).unwrap().labels[..1]), (20, 20, &[11][..]));
    }

    #[test]
    fn the_blood_cells_load_where_they_are_present() {
        let Some(dir) = real("bccd") else { return };
        // len(d), and over all images: boxes, ignored boxes, sum of coordinates, objects of each class; of mmdet's data set
        for (split, min_size, images, boxes, ignored, sum, counts) in [
            ("train", 1, 205, 2804, 1, 3_129_460.0, [214, 2381, 209]),
            ("val", 0, 87, 1138, 0, 1_280_726.0, [87, 968, 83]),
            ("test", 0, 72, 945, 0, 1_059_084.0, [71, 805, 69]),
        ] {
            let json = format!(
                r#"{{"type": "XMLDataset", "data_root": "{{dir}}", "ann_file": "ImageSets/Main/{split}.txt",
                    "classes": ["WBC", "RBC", "Platelets"], "min_size": {min_size}}}"#
            );
            let d = built(&dir, &json, split != "train").unwrap();
            let anns: Vec<_> = (0..d.len()).map(|i| d.ann_info(i).unwrap()).collect();
            let all: Vec<_> = anns.iter().flat_map(|a| &a.bboxes).collect();
            assert_eq!((d.len(), all.len()), (images, boxes));
            assert_eq!(anns.iter().map(|a| a.bboxes_ignore.len()).sum::<usize>(), ignored);
            assert_eq!(all.iter().flat_map(|b| b.map(f64::from)).sum::<f64>(), sum);
            let of = |label| anns.iter().flat_map(|a| &a.labels).filter(|l| **l == label).count();
            assert_eq!([of(0), of(1), of(2)], counts);
        }
    }
}
