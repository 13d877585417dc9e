//! What data sets of all formats share: where images come from, classes, the pipeline.

use std::sync::Arc;

use mmcv::config::{Node, OneOrMany};
use mmcv::fileio::{FileClient, list_from_file};
use mmcv::image::Image;
use mmcv::{Error, Result, Rng};

use super::pipelines::{Pipeline, Results};
use super::{ClsSample, Label};

/// Where an image is.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file below the data set's folder.
    File(String),
    /// Read with the data set.
    Memory(Arc<Image>),
}

/// Images with their labels, and a pipeline.
pub struct Base {
    /// The folder of the files, or the data set's file for messages.
    pub prefix: String,
    /// Class names.
    pub classes: Vec<String>,
    /// The images and their labels.
    pub items: Vec<(Source, Label)>,
    pipeline: Pipeline,
}

impl Base {
    /// Without images yet.
    pub fn new(prefix: &str, pipeline: &[Node], classes: Vec<String>) -> Result<Self> {
        let pipeline = Pipeline::new(pipeline).map_err(|e| e.under("pipeline"))?;
        Ok(Self { prefix: prefix.to_owned(), classes, items: Vec::new(), pipeline })
    }

    /// The class names of a config: a list, or a file of lines.
    pub fn class_names(given: Option<&OneOrMany<String>>, default: &[&str]) -> Result<Vec<String>> {
        match given {
            None => Ok(default.iter().map(|c| (*c).to_owned()).collect()),
            Some(OneOrMany::Many(names)) => Ok(names.clone()),
            Some(OneOrMany::One(file)) => list_from_file(&FileClient::default(), file, "", 0, 0),
        }
    }

    /// Takes images; an error when there are none, or a label is no class.
    pub fn load(&mut self, items: Vec<(Source, i64)>) -> Result<()> {
        if items.is_empty() {
            return Err(Error::data(&self.prefix, "the data set is empty"));
        }
        let classes = self.classes.len() as i64;
        if let Some((i, (source, label))) = items.iter().enumerate().find(|(_, (_, l))| !(0..classes).contains(l)) {
            let name = match source {
                Source::File(file) => file.clone(),
                Source::Memory(_) => format!("image {i}"),
            };
            return Err(Error::data(&self.prefix, format!("{name}: label {label} is not one of {classes} classes")));
        }
        self.items = items.into_iter().map(|(source, label)| (source, Label::Class(label))).collect();
        Ok(())
    }

    /// Takes images of several classes each: 1, 0 or -1 for each class. An error when there are none.
    pub fn load_multi_label(&mut self, items: Vec<(Source, Vec<i8>)>) -> Result<()> {
        if items.is_empty() {
            return Err(Error::data(&self.prefix, "the data set is empty"));
        }
        self.items = items.into_iter().map(|(source, label)| (source, Label::Classes(label))).collect();
        Ok(())
    }

    /// How messages name an image.
    pub fn name(&self, index: usize) -> String {
        match &self.items[index].0 {
            Source::File(file) => file.clone(),
            Source::Memory(_) => format!("{} image {index}", self.prefix),
        }
    }

    /// The image as the pipeline leaves it.
    pub fn sample(&self, index: usize, rng: &mut Rng) -> Result<ClsSample> {
        let (source, label) = &self.items[index];
        let results = Results {
            img_prefix: self.prefix.clone(),
            gt_label: label.clone(),
            ..match source {
                Source::File(file) => Results { filename: file.clone(), ..Results::default() },
                Source::Memory(image) => {
                    Results { filename: self.name(index), img: Some((**image).clone()), ..Results::default() }
                }
            }
        };
        self.pipeline.sample(results, rng)
    }
}

/// Passes a data set's methods on to its [`Base`].
macro_rules! delegate {
    ($name:ident) => {
        impl crate::datasets::ClsDataset for $name {
            fn len(&self) -> usize {
                self.0.items.len()
            }
            fn classes(&self) -> &[String] {
                &self.0.classes
            }
            fn gt_label(&self, index: usize) -> crate::datasets::Label {
                self.0.items[index].1.clone()
            }
            fn name(&self, index: usize) -> String {
                self.0.name(index)
            }
            fn sample(&self, index: usize, rng: &mut mmcv::Rng) -> mmcv::Result<crate::datasets::ClsSample> {
                self.0.sample(index, rng)
            }
        }
    };
}
pub(super) use delegate;
