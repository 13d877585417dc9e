//! Running a classifier over a data set.

use std::sync::Arc;

use mmcv::Result;
use mmcv::data::{DataLoader, LoaderConfig, OnError, Sampler as _, SequentialSampler};

use crate::datasets::{ClsDataset, collate};
use crate::models::classifiers::Classifier;

/// Probabilities (a row of classes) of every image of `dataset`, in order; `step` is called with the number of images
/// done after each batch.
pub fn single_gpu_test(
    model: &dyn Classifier,
    dataset: &Arc<dyn ClsDataset>,
    loading: &LoaderConfig,
    mut step: impl FnMut(usize),
) -> Result<Vec<Vec<f32>>> {
    let sampler = SequentialSampler { len: dataset.len() }.batched(loading.samples_per_gpu, false);
    let options = mmcv::data::LoaderOptions { on_error: OnError::Fatal, ..loading.options(0) };
    let mut rows = Vec::with_capacity(dataset.len());
    for batch in DataLoader::new(dataset.clone(), sampler, collate, options).epoch(0, 0) {
        rows.extend(model.simple_test(&batch?.data.img)?.to_vec2::<f32>()?);
        step(rows.len());
    }
    Ok(rows)
}
