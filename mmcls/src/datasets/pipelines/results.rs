//! What a pipeline's steps hand on: mmcls's dictionary of results, typed.

use candle_core::Tensor;
use mmcv::image::Image;
use mmcv::{Error, Result};

use crate::datasets::Label;

/// The state of one sample on its way through a pipeline.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// The folder of the images.
    pub img_prefix: String,
    /// The file, relative to it; the image's name for messages where it comes from no file of its own.
    pub filename: String,
    /// The image, once it is read: BGR, or as the data set has it in memory.
    pub img: Option<Image>,
    /// Its class or classes.
    pub gt_label: Label,
    /// The image as the network takes it, `[C, H, W]` f32.
    pub tensor: Option<Tensor>,
    /// Whether `Collect` was there.
    pub collected: bool,
}

impl Results {
    /// Takes the image out; an error when no earlier step has set it.
    pub fn take_image(&mut self, step: &str) -> Result<Image> {
        self.img.take().ok_or_else(|| {
            let message = format!("{step}: there is no image: no step of the pipeline before it reads one");
            Error::config(message)
        })
    }
}
