//! Data sets from configs.

use mmcv::registry::names;
use mmdet::datasets::{DATASETS, PIPELINES};

#[test]
fn the_registered_data_sets_and_steps_are_these() {
    let expected = [
        "ClassBalancedDataset",
        "CocoDataset",
        "ConcatDataset",
        "CustomDataset",
        "MultiImageMixDataset",
        "RepeatDataset",
        "VOCDataset",
        "XMLDataset",
    ];
    assert_eq!(names(&DATASETS), expected);
    let expected = [
        "Collect",
        "CutOut",
        "DefaultFormatBundle",
        "Expand",
        "FilterAnnotations",
        "ImageToTensor",
        "LoadAnnotations",
        "LoadImageFromFile",
        "LoadImageFromWebcam",
        "LoadProposals",
        "MinIoURandomCrop",
        "MultiScaleFlipAug",
        "Normalize",
        "Pad",
        "RandomCrop",
        "RandomFlip",
        "RandomShift",
        "Resize",
        "ToTensor",
        "WrapFieldsToLists",
    ];
    assert_eq!(names(&PIPELINES), expected);
}
