//! The project's own small data set, drawn when it is first asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmcv::{Error, Result, Rng, register};

use super::pipelines::{ImgInfo, OneOrMany, Results, join};
use super::shapes::{SHAPES_CLASSES, make_shapes};
use super::{CocoDataset, CustomDatasetConfig, DATASETS, DatasetDefaults, DetDataset, Source};
use crate::core::AnnInfo;

/// `type = "ShapesDataset"`: a [`CocoDataset`] of [`make_shapes`]'s images (seed 0, 400 to train, 100 to validate), with its six
/// classes by default.
///
/// `ann_file` is `<folder>/annotations/<split>.json`; when the folder isn't there it is made.
pub struct ShapesDataset(CocoDataset);

impl ShapesDataset {
    /// Draws the images if need be and reads the annotations.
    pub fn new(cfg: &CustomDatasetConfig, defaults: DatasetDefaults) -> Result<Self> {
        let ann_file = PathBuf::from(join(cfg.data_root.as_deref(), &cfg.ann_file));
        let folder = ann_file.parent().filter(|p| p.ends_with("annotations")).and_then(Path::parent);
        let Some(folder) = folder else {
            let message = format!("is {}, expected <folder>/annotations/<split>.json", ann_file.display());
            return Err(Error::config(message).under("ann_file"));
        };
        if !folder.exists() {
            tracing::info!("drawing the shapes data set into {}", folder.display());
            make_shapes(folder, 0, 400, 100)?;
        }
        let mut cfg = cfg.clone();
        let classes = || OneOrMany::Many(SHAPES_CLASSES.iter().map(|c| (*c).to_owned()).collect());
        cfg.classes.get_or_insert_with(classes);
        CocoDataset::new(&cfg, defaults).map(Self)
    }
}

impl DetDataset for ShapesDataset {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn classes(&self) -> &[String] {
        self.0.classes()
    }

    fn palette(&self) -> &[[u8; 3]] {
        &[]
    }

    fn img_info(&self, index: usize) -> &ImgInfo {
        self.0.img_info(index)
    }

    fn ann_info(&self, index: usize) -> Result<Arc<AnnInfo>> {
        self.0.ann_info(index)
    }

    fn cat_ids(&self, index: usize) -> Result<Vec<i64>> {
        self.0.cat_ids(index)
    }

    fn labels_in(&self, index: usize) -> Result<Vec<i64>> {
        self.0.labels_in(index)
    }

    fn flag(&self, index: usize) -> u8 {
        self.0.flag(index)
    }

    fn fetch(&self, index: usize, rng: &mut Rng) -> Result<Results> {
        self.0.fetch(index, rng)
    }

    fn source(&self) -> Source<'_> {
        self.0.source()
    }
}

register!(DATASETS: dyn DetDataset, "ShapesDataset" => ShapesDataset, CustomDatasetConfig);

#[cfg(test)]
mod tests {
    use super::*;
    use mmcv::config::Node;

    #[test]
    fn a_wrong_place_of_the_annotations_is_an_error() {
        let cfg = r#"{"type": "ShapesDataset", "ann_file": "x/train.json", "pipeline": []}"#;
        let node = Node::from_json(cfg).unwrap();
        let e = mmcv::registry::build(&DATASETS, &node, DatasetDefaults::default()).err().unwrap().to_string();
        assert!(e.contains("annotations/<split>.json"), "{e}");
    }
}
