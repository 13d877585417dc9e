//! An image on its way through a pipeline, whose normalisation waits until it must be done.

use candle_core::{Device, Tensor};
use mmcv::image::{Image, PadMode, imnormalize, impad, normalize_to_chw_into};
use mmcv::{Error, Result};

use crate::core::ImgNormCfg;

/// An image, and what is still to be done to it: normalising, then padding at the right and bottom.
///
/// A typical pipeline ends in `Normalize`, `Pad` and a conversion to a tensor. Done one by one these read and write
/// four bytes a value three times over; waiting, they are one pass with the same arithmetic. A step that needs
/// the values calls [`Picture::into_image`] and gets what the steps done one by one would have made.
#[derive(Debug, Clone)]
pub struct Picture {
    image: Image,
    norm: Option<ImgNormCfg>,
    /// `[h, w]` and the fill value.
    pad: Option<([usize; 2], f64)>,
}

impl Picture {
    /// An image with nothing to do.
    pub fn new(image: Image) -> Self {
        Self { image, norm: None, pad: None }
    }

    /// `[h, w, c]` once everything is done.
    pub fn shape(&self) -> [usize; 3] {
        let [h, w, c] = self.image.shape();
        self.pad.map_or([h, w, c], |([h, w], _)| [h, w, c])
    }

    /// Whether it holds bytes and will go on doing so.
    pub fn is_u8(&self) -> bool {
        self.norm.is_none() && matches!(self.image.pixels(), mmcv::image::Pixels::U8(_))
    }

    /// The image with everything done.
    pub fn into_image(self) -> Result<Image> {
        let Self { image, norm, pad } = self;
        let image = match &norm {
            Some(norm) => normalize(&image, norm)?,
            None => image,
        };
        match pad {
            Some((size, value)) => impad(&image, (size[0], size[1]), &[value], PadMode::Constant),
            None => Ok(image),
        }
    }

    /// Normalises, later.
    pub fn normalize(self, norm: ImgNormCfg) -> Result<Self> {
        let channels = self.image.channels();
        if norm.mean.len() != channels || norm.std.len() != channels {
            return Err(Error::config(format!(
                "Normalize: mean and std have {} and {} values, the image has {channels} channels",
                norm.mean.len(),
                norm.std.len()
            )));
        }
        let image = if self.norm.is_some() || self.pad.is_some() { self.into_image()? } else { self.image };
        Ok(Self { image, norm: Some(norm), pad: None })
    }

    /// Pads at the right and bottom to at least `[h, w]`, with one value for every channel; later, if normalising waits too.
    pub fn pad(self, [h, w]: [usize; 2], value: &[f64]) -> Result<Self> {
        let [now_h, now_w, _] = self.shape();
        let size = [h.max(now_h), w.max(now_w)];
        if size == [now_h, now_w] {
            return Ok(self);
        }
        match (&self.norm, &self.pad, value) {
            (Some(_), None, [value]) => Ok(Self { pad: Some((size, *value)), ..self }),
            _ => {
                let image = self.into_image()?;
                Ok(Self::new(impad(&image, (size[0], size[1]), value, PadMode::Constant)?))
            }
        }
    }

    /// `[C, H, W]` f32.
    pub fn to_tensor(self) -> Result<Tensor> {
        let [h, w, c] = self.shape();
        let Some(norm) = &self.norm else { return self.into_image()?.to_chw_tensor() };
        let mut values = vec![self.pad.map_or(0.0, |(_, value)| value as f32); c * h * w];
        let (mean, std) = (to_f64(&norm.mean), to_f64(&norm.std));
        normalize_to_chw_into(&self.image, &mean, &std, norm.to_rgb, (h, w), &mut values)?;
        Ok(Tensor::from_vec(values, (c, h, w), &Device::Cpu)?)
    }
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn normalize(image: &Image, norm: &ImgNormCfg) -> Result<Image> {
    imnormalize(image, &to_f64(&norm.mean), &to_f64(&norm.std), norm.to_rgb)
}
