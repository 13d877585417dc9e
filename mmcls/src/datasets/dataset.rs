//! What a data set for classification is.

use candle_core::{Device, Tensor};
use mmcv::config::Node;
use mmcv::registry::{build, registry};
use mmcv::{Result, Rng};

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

/// One image as the network takes it.
#[derive(Debug, Clone)]
pub struct ClsSample {
    /// `[C, H, W]`, f32.
    pub img: Tensor,
    /// Its class.
    pub gt_label: i64,
    /// Its file, for messages.
    pub filename: String,
}

/// A batch.
#[derive(Debug, Clone)]
pub struct ClsBatch {
    /// `[B, C, H, W]`.
    pub img: Tensor,
    /// `[B]` i64.
    pub gt_label: Tensor,
}

/// Images with a class each.
pub trait ClsDataset: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Class names; labels are positions in it.
    fn classes(&self) -> &[String];

    /// The class of an image.
    fn gt_label(&self, index: usize) -> i64;

    /// How messages name an image: its file, or its place in the data set.
    fn name(&self, index: usize) -> String;

    /// The image as its pipeline leaves it.
    fn sample(&self, index: usize, rng: &mut Rng) -> Result<ClsSample>;

    /// The classes of all images.
    fn gt_labels(&self) -> Vec<i64> {
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

/// Builds a data set.
pub fn build_dataset(node: &Node, defaults: DatasetDefaults) -> Result<Box<dyn ClsDataset>> {
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
    let labels: Vec<i64> = samples.iter().map(|s| s.gt_label).collect();
    Ok(ClsBatch { img: Tensor::stack(&images, 0)?, gt_label: Tensor::new(labels, &Device::Cpu)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_different_sizes_are_refused_by_name() {
        let sample = |w: usize| ClsSample {
            img: Tensor::zeros((1, 2, w), candle_core::DType::F32, &Device::Cpu).unwrap(),
            gt_label: w as i64,
            filename: format!("{w}.png"),
        };
        let batch = collate(vec![sample(3), sample(3)]).unwrap();
        assert_eq!((batch.img.dims(), batch.gt_label.to_vec1::<i64>().unwrap()), (&[2, 1, 2, 3][..], vec![3, 3]));
        let e = collate(vec![sample(3), sample(4)]).unwrap_err().to_string();
        assert!(e.starts_with("4.png") && e.contains("[1, 2, 4]"), "{e}");
    }
}
