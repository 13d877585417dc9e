//! What a data set for classification is.

use candle_core::{Device, Tensor};
use mmcv::config::Node;
use mmcv::registry::{build, registry};
use mmcv::{Result, Rng};

use super::ConcatDataset;

/// What holds for a data set whose config doesn't say otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub struct DatasetDefaults {
    /// The test part of data sets that have two.
    pub test_mode: bool,
}

registry!(
    /// Data sets of images with classes.
    pub DATASETS: dyn ClsDataset, DatasetDefaults
);

/// What an image is labelled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    /// The one class that it is of.
    Class(i64),
    /// For each class 1 (it is there), 0 (it is not) or -1 (it is hard to see).
    Classes(Vec<i8>),
}

impl Default for Label {
    fn default() -> Self {
        Self::Class(0)
    }
}

impl From<i64> for Label {
    fn from(class: i64) -> Self {
        Self::Class(class)
    }
}

impl Label {
    /// The classes that are there: mmcls's `get_cat_ids`.
    pub fn cat_ids(&self) -> Vec<i64> {
        match self {
            Self::Class(class) => vec![*class],
            Self::Classes(classes) => (0..).zip(classes).filter(|(_, there)| **there == 1).map(|(i, _)| i).collect(),
        }
    }
}

/// How a data set's results are evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evaluation {
    /// As one.
    Whole,
    /// The results of each part (so many images, evaluated so) by themselves: `0_NAME`, `1_NAME`, ...
    Parts(Vec<(usize, Evaluation)>),
    /// Not at all, and why.
    Refused(&'static str),
}

/// One image as the network takes it.
#[derive(Debug, Clone)]
pub struct ClsSample {
    /// `[C, H, W]`, f32.
    pub img: Tensor,
    /// Its class or classes.
    pub gt_label: Label,
    /// Its file, for messages.
    pub filename: String,
}

/// A batch.
#[derive(Debug, Clone)]
pub struct ClsBatch {
    /// `[B, C, H, W]`.
    pub img: Tensor,
    /// `[B]` i64, or `[B, classes]` f32 of 1, 0 and -1.
    pub gt_label: Tensor,
}

/// Images with a class each, or with several.
pub trait ClsDataset: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Class names; labels are positions in it.
    fn classes(&self) -> &[String];

    /// The class or classes of an image.
    fn gt_label(&self, index: usize) -> Label;

    /// How messages name an image: its file, or its place in the data set.
    fn name(&self, index: usize) -> String;

    /// The image as its pipeline leaves it.
    fn sample(&self, index: usize, rng: &mut Rng) -> Result<ClsSample>;

    /// How its results are evaluated; as one unless it is made of others.
    fn evaluation(&self) -> Evaluation {
        Evaluation::Whole
    }

    /// The labels of all images.
    fn gt_labels(&self) -> Vec<Label> {
        (0..self.len()).map(|i| self.gt_label(i)).collect()
    }
}

impl mmcv::data::Dataset for dyn ClsDataset {
    type Item = ClsSample;

    fn len(&self) -> usize {
        ClsDataset::len(self)
    }
    fn get(&self, index: usize, rng: &mut Rng) -> Result<ClsSample> {
        self.sample(index, rng)
    }
    fn name(&self, index: usize) -> String {
        ClsDataset::name(self, index)
    }
}

/// Builds a data set; of a list one after the other.
pub fn build_dataset(node: &Node, defaults: DatasetDefaults) -> Result<Box<dyn ClsDataset>> {
    if let Some(list) = node.as_list() {
        return Ok(Box::new(ConcatDataset::of(list, true, defaults)?));
    }
    build(&DATASETS, node, defaults)
}

/// Samples to a batch; an error when their shapes differ.
pub fn collate(samples: Vec<ClsSample>) -> Result<ClsBatch> {
    let images: Vec<&Tensor> = samples.iter().map(|s| &s.img).collect();
    if let Some(other) = samples.iter().find(|s| Some(s.img.dims()) != images.first().map(|i| i.dims())) {
        let message = format!(
            "it comes out of the pipeline as {:?}, another image of the batch as {:?}: a step must bring all to one size",
            other.img.dims(),
            images.first().map(|i| i.dims()).unwrap_or_default()
        );
        return Err(mmcv::Error::data(&other.filename, message));
    }
    Ok(ClsBatch { img: Tensor::stack(&images, 0)?, gt_label: labels(&samples)? })
}

/// The labels of a batch; an error when they are not of one kind.
fn labels(samples: &[ClsSample]) -> Result<Tensor> {
    let (mut classes, mut rows) = (Vec::new(), Vec::new());
    for sample in samples {
        match &sample.gt_label {
            Label::Class(class) => classes.push(*class),
            Label::Classes(row) => rows.push(row),
        }
    }
    let Some(first) = rows.first() else { return Ok(Tensor::new(classes, &Device::Cpu)?) };
    let width = first.len();
    if !classes.is_empty() || rows.iter().any(|row| row.len() != width) {
        return Err(mmcv::Error::Run("the images of a batch have labels of different kinds".into()));
    }
    let values: Vec<f32> = rows.iter().flat_map(|row| row.iter().map(|v| f32::from(*v))).collect();
    Ok(Tensor::from_vec(values, (samples.len(), width), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_different_sizes_are_refused_by_name() {
        let sample = |w: usize| ClsSample {
            img: Tensor::zeros((1, 2, w), candle_core::DType::F32, &Device::Cpu).unwrap(),
            gt_label: Label::Class(w as i64),
            filename: format!("{w}.png"),
        };
        let batch = collate(vec![sample(3), sample(3)]).unwrap();
        assert_eq!((batch.img.dims(), batch.gt_label.to_vec1::<i64>().unwrap()), (&[2, 1, 2, 3][..], vec![3, 3]));
        let e = collate(vec![sample(3), sample(4)]).unwrap_err().to_string();
        assert!(e.starts_with("4.png") && e.contains("[1, 2, 4]"), "{e}");
    }

    #[test]
    fn labels_of_several_classes_are_rows() {
        let sample = |gt_label: Label| ClsSample {
            img: Tensor::zeros((1, 2, 3), candle_core::DType::F32, &Device::Cpu).unwrap(),
            gt_label,
            filename: String::new(),
        };
        let (one, two) = (Label::Classes(vec![1, 0, -1]), Label::Classes(vec![0, 1, 1]));
        assert_eq!((one.cat_ids(), two.cat_ids(), Label::Class(7).cat_ids()), (vec![0], vec![1, 2], vec![7]));
        let batch = collate(vec![sample(one.clone()), sample(two)]).unwrap();
        assert_eq!(batch.gt_label.to_vec2::<f32>().unwrap(), [[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]]);
        assert!(collate(vec![sample(one.clone()), sample(Label::Class(1))]).is_err());
        assert!(collate(vec![sample(one), sample(Label::Classes(vec![1]))]).is_err());
    }
}
