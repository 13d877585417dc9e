//! Detections read from a file, with the data set that they are of.

use std::path::Path;

use mmcv::Result;
use mmcv::cli::ConfigArgs;
use mmcv::config::Config;

use crate::core::DetResult;
use crate::datasets::{DatasetDefaults, DetDataset, Source, build_dataset, update_data_root};
use crate::evaluation::coco::{read_results, results_of_records};

/// The test data of a config and what was found in it.
pub(super) struct Predictions {
    /// The config.
    pub config: Config,
    /// Its `data.test`.
    pub dataset: Box<dyn DetDataset>,
    /// One result per image.
    pub results: Vec<DetResult>,
}

impl Predictions {
    /// Reads a COCO result file. Where the data set is not COCO's, an image's id is its place in the data set and a
    /// category's id its label.
    pub(super) fn load(args: &ConfigArgs, path: &Path) -> Result<Self> {
        let mut config = args.load()?;
        update_data_root(&mut config.root)?;
        let defaults = DatasetDefaults { test_mode: true };
        let dataset = build_dataset(config.require("data.test")?, defaults).map_err(|e| e.under("data.test"))?;
        let records = read_results(path)?;
        let results = match dataset.source() {
            Source::Coco(coco) => results_of_records(&records, coco.img_ids(), coco.cat_id_of_label()),
            _ => {
                let places = |n: usize| (0..n as i64).collect::<Vec<_>>();
                results_of_records(&records, &places(dataset.len()), &places(dataset.classes().len()))
            }
        };
        Ok(Self { config, dataset, results })
    }
}
