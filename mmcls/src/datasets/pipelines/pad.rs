//! Images made larger; mmcls's `Pad`.

use mmcv::config::OneOrMany;
use mmcv::image::{PadMode, impad};
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PIPELINES, Results, Transform, ensure};

/// `type = "Pad"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PadConfig {
    /// `(height, width)`; a side that is longer stays. Not with `pad_to_square`.
    #[serde(default)]
    pub size: Option<[usize; 2]>,
    /// Makes both sides as long as the longer; default false.
    #[serde(default)]
    pub pad_to_square: bool,
    /// Fill: one for each channel, or a number, which is the first channel's (the others are 0), as cv2 takes it; default 0.
    #[serde(default = "zero")]
    pub pad_val: OneOrMany<f64>,
    /// `constant`, `edge`, `reflect` or `symmetric`; default `constant`.
    #[serde(default)]
    pub padding_mode: PadMode,
}

fn zero() -> OneOrMany<f64> {
    OneOrMany::One(0.0)
}

/// Adds pixels on the right and below.
pub struct Pad {
    size: Option<[usize; 2]>,
    pad_val: Vec<f64>,
    mode: PadMode,
}

impl Pad {
    /// An error unless one of `size` and `pad_to_square` is given.
    pub fn new(cfg: &PadConfig) -> Result<Self> {
        ensure(cfg.size.is_some() != cfg.pad_to_square, "size", || {
            "give one of size and pad_to_square, not both or none".into()
        })?;
        Ok(Self { size: cfg.size, pad_val: cfg.pad_val.to_vec(), mode: cfg.padding_mode })
    }
}

impl Transform for Pad {
    fn apply(&self, results: &mut Results, _: &mut Rng) -> Result<()> {
        let image = results.take_image("Pad")?;
        let side = image.height().max(image.width());
        let [h, w] = self.size.unwrap_or([side, side]);
        results.img = Some(impad(&image, (h, w), &self.pad_val, self.mode)?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "Pad" => Pad(PadConfig));

#[cfg(test)]
mod tests {
    use mmcv::config::Node;
    use mmcv::image::{Image, Pixels};

    use super::*;

    fn made(json: &str) -> Result<Pad> {
        Pad::new(&Node::from_json(json)?.parse()?)
    }

    // img = (np.arange(60) * 37 % 256).astype(np.uint8).reshape(4, 5, 3); o = Pad(...)(dict(img=img))['img']; o.shape, o.astype(int).sum()
    #[test]
    fn sums_are_mmcls() {
        let image = Image::new(4, 5, 3, Pixels::U8((0..60).map(|i| (i * 37 % 256) as u8).collect())).unwrap();
        for (json, shape, sum) in [
            (r#"{"size": [5, 7], "pad_val": [1, 2, 3]}"#, [5, 7, 3], 7212),
            (r#"{"pad_to_square": true, "pad_val": 5}"#, [5, 5, 3], 7147),
            (r#"{"pad_to_square": true, "padding_mode": "reflect"}"#, [5, 5, 3], 8969),
        ] {
            let mut results = Results { img: Some(image.clone()), ..Results::default() };
            made(json).unwrap().apply(&mut results, &mut Rng::new(0)).unwrap();
            let padded = results.img.unwrap();
            let Pixels::U8(v) = padded.pixels() else { panic!("bytes") };
            assert_eq!((padded.shape(), v.iter().map(|v| u32::from(*v)).sum::<u32>()), (shape, sum), "{json}");
        }
        assert!(made("{}").err().unwrap().is_usage());
        assert!(made(r#"{"size": [1, 1], "pad_to_square": true}"#).err().unwrap().is_usage());
    }
}
