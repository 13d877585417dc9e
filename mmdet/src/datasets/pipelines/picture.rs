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

    /// Pads at the right and bottom to at least `[h, w]`; later, if normalising waits too. One value is the first
    /// channel's, the others get 0: so does cv2, and so mmcv.
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
        let mut values = vec![0.0; c * h * w];
        if let Some((_, value)) = self.pad {
            // cv2 takes one number for the first channel's and 0 for the others'.
            values[..h * w].fill(value as f32);
        }
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

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::*;

    fn norm() -> ImgNormCfg {
        ImgNormCfg { mean: vec![123.675, 116.28, 103.53], std: vec![58.395, 57.12, 57.375], to_rgb: true }
    }

    #[test]
    fn waiting_changes_nothing() {
        let picture = || sample().img.unwrap();
        for value in [0.0, -2.5] {
            let waiting = picture().normalize(norm()).unwrap().pad([64, 64], &[value]).unwrap();
            assert_eq!(waiting.shape(), [64, 64, 3]);
            let at_once = Picture::new(picture().normalize(norm()).unwrap().into_image().unwrap());
            let at_once = at_once.pad([64, 64], &[value]).unwrap();
            assert!(waiting.clone().into_image().unwrap() == at_once.clone().into_image().unwrap());
            let values = |p: Picture| p.to_tensor().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(values(waiting) == values(at_once), "{value}");
        }
    }

    #[test]
    fn steps_in_another_order_are_done_in_that_order() {
        let picture = || sample().img.unwrap();
        let twice = picture().normalize(norm()).unwrap().normalize(norm()).unwrap().into_image().unwrap();
        let once = picture().normalize(norm()).unwrap().into_image().unwrap();
        assert_eq!(twice, normalize(&once, &norm()).unwrap());
        let padded = picture().pad([64, 64], &[9.0]).unwrap().normalize(norm()).unwrap().into_image().unwrap();
        let by_hand = impad(&sample().img.unwrap().into_image().unwrap(), (64, 64), &[9.0], PadMode::Constant).unwrap();
        assert_eq!(padded, normalize(&by_hand, &norm()).unwrap());
    }
}
