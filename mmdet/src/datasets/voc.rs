//! PASCAL VOC.

use std::sync::Arc;

use mmcv::{Error, Result, Rng, register};

use super::pipelines::{ImgInfo, Results};
use super::{DATASETS, DatasetDefaults, DetDataset, Source, VOC_CLASSES, VOC_PALETTE, XmlDataset, XmlDatasetConfig};
use crate::core::AnnInfo;

/// VOC2007 or VOC2012, which `img_prefix` must name; 20 classes unless the config lists others.
pub struct VOCDataset {
    xml: XmlDataset,
    year: u16,
}

impl VOCDataset {
    /// Reads the annotations.
    pub fn new(cfg: &XmlDatasetConfig, defaults: DatasetDefaults) -> Result<Self> {
        let xml = XmlDataset::with_classes(cfg, defaults, &VOC_CLASSES)?;
        let year = match xml.img_prefix() {
            p if p.contains("VOC2007") => 2007,
            p if p.contains("VOC2012") => 2012,
            p => {
                let message = format!("can't tell the year from '{p}': it must hold VOC2007 or VOC2012");
                return Err(Error::config(message).under("img_prefix"));
            }
        };
        Ok(Self { xml, year })
    }
}

impl DetDataset for VOCDataset {
    fn len(&self) -> usize {
        self.xml.len()
    }
    fn classes(&self) -> &[String] {
        self.xml.classes()
    }
    fn palette(&self) -> &[[u8; 3]] {
        &VOC_PALETTE
    }
    fn img_info(&self, index: usize) -> &ImgInfo {
        self.xml.img_info(index)
    }
    fn ann_info(&self, index: usize) -> Result<Arc<AnnInfo>> {
        self.xml.ann_info(index)
    }
    fn cat_ids(&self, index: usize) -> Result<Vec<i64>> {
        self.xml.cat_ids(index)
    }
    fn flag(&self, index: usize) -> u8 {
        self.xml.flag(index)
    }
    fn fetch(&self, index: usize, rng: &mut Rng) -> Result<Results> {
        self.xml.fetch(index, rng)
    }
    fn source(&self) -> Source<'_> {
        Source::Voc { year: self.year }
    }
}

register!(DATASETS: dyn DetDataset, "VOCDataset" => VOCDataset, XmlDatasetConfig);
