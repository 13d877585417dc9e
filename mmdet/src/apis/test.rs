//! Running a detector over a data set.

use std::sync::Arc;

use mmcv::data::{DataLoader, Dataset, LoaderOptions, OnError, Sampler as _, SequentialSampler};
use mmcv::{Result, Rng};

use crate::core::{DetResult, DetSample, ImgMeta};
use crate::datasets::DetDataset;
use crate::models::detectors::Detector;

/// A data set in test mode, its samples with all their views.
struct Views(Arc<dyn DetDataset>);

impl Dataset for Views {
    type Item = Vec<DetSample>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize, _: &mut Rng) -> Result<Vec<DetSample>> {
        self.0.test_samples(index)
    }

    fn name(&self, index: usize) -> String {
        self.0.img_info(index).filename.clone()
    }
}

/// Detections of one image from its views, in the frame of its file.
pub fn infer_image(model: &dyn Detector, views: &[DetSample]) -> Result<DetResult> {
    let batch =
        views.iter().map(|v| Ok((v.img.unsqueeze(0)?, v.meta.clone()))).collect::<candle_core::Result<Vec<_>>>()?;
    Ok(match batch.as_slice() {
        [(img, meta)] => {
            let metas = std::slice::from_ref(meta);
            let found = match views.first().and_then(|v| v.proposals.as_ref()) {
                Some(proposals) => model.test_proposals(img, metas, std::slice::from_ref(proposals), true)?,
                None => model.simple_test(img, metas, true)?,
            };
            found.into_iter().next().unwrap_or_default()
        }
        views => model.aug_test(views, true)?,
    })
}

/// Detections of every image of `dataset`, in order; `step` is called after each with the image's position, what was found
/// and what the pipeline did to it. `workers` threads read ahead.
pub fn single_gpu_test(
    model: &dyn Detector,
    dataset: &Arc<dyn DetDataset>,
    workers: usize,
    mut step: impl FnMut(usize, &DetResult, &ImgMeta) -> Result<()>,
) -> Result<Vec<DetResult>> {
    let views = Arc::new(Views(dataset.clone()));
    let sampler = SequentialSampler { len: dataset.len() }.batched(1, false);
    let options = LoaderOptions { workers, on_error: OnError::Fatal, ..LoaderOptions::default() };
    let one = |mut batch: Vec<Vec<DetSample>>| Ok(batch.pop().unwrap_or_default());
    let mut results = Vec::with_capacity(dataset.len());
    for batch in DataLoader::new(views, sampler, one, options).epoch(0, 0) {
        let views = batch?.data;
        let found = infer_image(model, &views)?;
        if let Some(view) = views.first() {
            step(results.len(), &found, &view.meta)?;
        }
        results.push(found);
    }
    Ok(results)
}
