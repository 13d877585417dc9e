//! What a detection data set is.

use std::sync::Arc;

use mmcv::registry::registry;
use mmcv::{Error, Result, Rng};

use super::{CocoDataset, DatasetDefaults};
use crate::core::{AnnInfo, DetSample};
use crate::datasets::pipelines::{ImgInfo, Results};

registry!(
    /// Detection data sets.
    pub DATASETS: dyn DetDataset, DatasetDefaults
);

/// Images with boxes.
pub trait DetDataset: Send + Sync {
    /// Number of images (of samples, for wrappers).
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Class names; labels are positions in it.
    fn classes(&self) -> &[String];

    /// A colour (RGB) for each class; empty when the data set has none of its own.
    fn palette(&self) -> &[[u8; 3]];

    /// Name and size of an image.
    fn img_info(&self, index: usize) -> &ImgInfo;

    /// Boxes and classes of an image.
    fn ann_info(&self, index: usize) -> Result<Arc<AnnInfo>>;

    /// The categories in an image, one for each object, numbered as the format numbers them.
    fn cat_ids(&self, index: usize) -> Result<Vec<i64>>;

    /// 1 when the image is wider than high, else 0: images of one batch share it.
    fn flag(&self, index: usize) -> u8;

    /// The image as its pipeline leaves it. In training, when the pipeline drops it, another one of the same flag.
    fn fetch(&self, index: usize, rng: &mut Rng) -> Result<Results>;

    /// What it is, for evaluation.
    fn source(&self) -> Source<'_>;

    /// [`DetDataset::cat_ids`] as labels; other categories are left out.
    fn labels_in(&self, index: usize) -> Result<Vec<i64>> {
        self.cat_ids(index)
    }

    /// For each class the images that hold it, as `ClassAwareSampler` takes it.
    fn cat2imgs(&self) -> Result<Vec<Vec<usize>>> {
        let mut found = vec![Vec::new(); self.classes().len()];
        for index in 0..self.len() {
            let mut cats = self.labels_in(index)?;
            cats.sort_unstable();
            cats.dedup();
            for cat in cats {
                if let Some(images) = usize::try_from(cat).ok().and_then(|c| found.get_mut(c)) {
                    images.push(index);
                }
            }
        }
        Ok(found)
    }

    /// The versions of an image that test-time augmentation makes (one without it). Nothing is random.
    fn test_samples(&self, index: usize) -> Result<Vec<DetSample>> {
        let results = self.fetch(index, &mut Rng::new(0))?;
        if results.samples.is_empty() {
            return Err(no_sample());
        }
        Ok(results.samples)
    }
}

/// A data set's format, with what its evaluation needs.
pub enum Source<'a> {
    /// COCO.
    Coco(&'a CocoDataset),
    /// PASCAL VOC of a year.
    Voc {
        /// 2007 or 2012.
        year: u16,
    },
    /// VOC's XML with classes of one's own.
    Xml,
    /// The middle format.
    Custom,
    /// One after the other.
    Concat {
        /// The parts.
        parts: Vec<&'a dyn DetDataset>,
        /// Whether each is evaluated on its own.
        separate_eval: bool,
    },
    /// A data set in another order or number.
    Wrapped(&'a dyn DetDataset),
}

fn no_sample() -> Error {
    Error::config("the pipeline makes no sample: it must end in Collect, or in MultiScaleFlipAug with Collect inside")
}

impl mmcv::data::Dataset for dyn DetDataset {
    type Item = DetSample;

    fn len(&self) -> usize {
        DetDataset::len(self)
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<DetSample> {
        self.fetch(index, rng)?.samples.into_iter().next().ok_or_else(no_sample)
    }

    fn flag(&self, index: usize) -> u8 {
        DetDataset::flag(self, index)
    }

    fn name(&self, index: usize) -> String {
        self.img_info(index).filename.clone()
    }
}
