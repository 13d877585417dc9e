//! Data sets and their pipelines.
//!
//! A [`ClsDataset`] knows images and their classes. Its pipeline ([`pipelines`]) reads and augments one image;
//! [`collate`] makes batches. [`build_dataset`] makes data sets from a config.

mod base;
mod cifar;
mod class_lists;
mod custom;
mod dataset;
mod dataset_wrappers;
mod mnist;
pub mod pipelines;
mod voc;

pub use base::Base;
pub use cifar::{Cifar10, Cifar100, CifarConfig};
pub use class_lists::imagenet_classes;
pub use custom::{CustomDataset, CustomDatasetConfig, ImageNet};
pub use dataset::{
    ClsBatch, ClsDataset, ClsSample, DATASETS, DatasetDefaults, Evaluation, Label, build_dataset, collate,
};
pub use dataset_wrappers::{
    ClassBalancedDataset, ClassBalancedDatasetConfig, ConcatDataset, ConcatDatasetConfig, KFoldDataset,
    KFoldDatasetConfig, RepeatDataset, RepeatDatasetConfig,
};
pub use mnist::{FashionMnist, Mnist, MnistConfig};
pub use voc::{Voc, VocConfig};
