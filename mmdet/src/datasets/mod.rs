//! Data sets and their pipelines.
//!
//! A [`DetDataset`] knows images and their annotations. Its pipeline ([`pipelines`]) reads and augments one
//! image; [`collate`] makes batches. [`build_dataset`] makes data sets from a config.

mod base;
mod builder;
mod class_lists;
mod coco;
mod collate;
mod custom;
mod data_root;
mod dataset;
mod dataset_wrappers;
mod mix;
pub mod pipelines;
pub mod shapes;
mod shapes_dataset;
#[cfg(test)]
mod testing;
mod voc;
mod xml_style;

pub use builder::{DatasetDefaults, build_dataset};
pub use class_lists::{COCO_CLASSES, COCO_PALETTE, VOC_CLASSES, VOC_PALETTE};
pub use coco::CocoDataset;
pub use collate::collate;
pub use custom::{CustomDataset, CustomDatasetConfig};
pub use data_root::{DATASETS_VAR, replace_data_root, update_data_root};
pub use dataset::{DATASETS, DetDataset, Source};
pub use dataset_wrappers::{ClassBalancedDataset, ConcatDataset, RepeatDataset};
pub use mix::MultiImageMixDataset;
pub use pipelines::{ImgInfo, PIPELINES, Pipeline, Results, Transform};
pub use shapes_dataset::ShapesDataset;
pub use voc::VOCDataset;
pub use xml_style::{XmlDataset, XmlDatasetConfig};
