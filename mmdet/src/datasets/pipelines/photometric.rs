//! Colour distortion.

use mmcv::image::{Image, Pixels, bgr2hsv, hsv2bgr};
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::options::ensure;
use super::{PIPELINES, Results, Transform};

/// `type = "PhotoMetricDistortion"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhotoMetricDistortionConfig {
    /// Up to this is added or subtracted.
    #[serde(default = "brightness_delta")]
    pub brightness_delta: f64,
    /// Values are multiplied by a number of this range.
    #[serde(default = "around_one")]
    pub contrast_range: [f64; 2],
    /// Saturation is multiplied by a number of this range.
    #[serde(default = "around_one")]
    pub saturation_range: [f64; 2],
    /// Hue is turned by up to this, degrees.
    #[serde(default = "hue_delta")]
    pub hue_delta: f64,
}

fn brightness_delta() -> f64 {
    32.0
}

fn hue_delta() -> f64 {
    18.0
}

fn around_one() -> [f64; 2] {
    [0.5, 1.5]
}

/// Changes brightness, contrast (before or after the next two), saturation, hue and the order of channels, each with
/// probability 0.5. The image is f32 after that, and values may leave 0 to 255.
pub struct PhotoMetricDistortion(PhotoMetricDistortionConfig);

/// What one image goes through; `None` is left out.
#[derive(Debug, Default)]
struct Distortion {
    /// Added.
    brightness: Option<f32>,
    /// Contrast comes before saturation and hue instead of after them.
    contrast_first: bool,
    contrast: Option<f32>,
    saturation: Option<f32>,
    /// Degrees.
    hue: Option<f32>,
    /// The old position of each channel.
    order: Option<[usize; 3]>,
}

impl PhotoMetricDistortion {
    /// Nothing can go wrong.
    pub fn new(cfg: &PhotoMetricDistortionConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }

    fn draw(&self, rng: &mut Rng) -> Distortion {
        let cfg = &self.0;
        let [delta, hue] = [cfg.brightness_delta, cfg.hue_delta];
        let mut maybe = |[low, high]: [f64; 2]| (rng.below(2) == 1).then(|| rng.uniform(low, high) as f32);
        let brightness = maybe([-delta, delta]);
        let contrast = maybe(cfg.contrast_range);
        let saturation = maybe(cfg.saturation_range);
        let hue = maybe([-hue, hue]);
        let contrast_first = rng.below(2) == 1;
        let order = (rng.below(2) == 1).then(|| {
            let order = rng.permutation(3);
            [order[0], order[1], order[2]]
        });
        Distortion { brightness, contrast_first, contrast, saturation, hue, order }
    }
}

impl Distortion {
    fn apply(&self, image: Image) -> Result<Image> {
        let mut image = image.into_f32();
        ensure(image.channels() == 3, || "PhotoMetricDistortion: the image is not a colour image".into())?;
        if let Some(delta) = self.brightness {
            values(&mut image).iter_mut().for_each(|v| *v += delta);
        }
        let contrast = |image: &mut Image, now: bool| {
            if let Some(factor) = self.contrast.filter(|_| now) {
                values(image).iter_mut().for_each(|v| *v *= factor);
            }
        };
        contrast(&mut image, self.contrast_first);
        // Also when neither saturation nor hue changes: the way there and back is not exact, and mmdet goes it.
        let mut image = bgr2hsv(&image)?;
        self.change(values(&mut image).as_chunks_mut::<3>().0);
        let mut image = hsv2bgr(&image)?;
        contrast(&mut image, !self.contrast_first);
        if let Some([a, b, c]) = self.order {
            values(&mut image).as_chunks_mut::<3>().0.iter_mut().for_each(|p| *p = [p[a], p[b], p[c]]);
        }
        Ok(image)
    }

    fn change(&self, pixels: &mut [[f32; 3]]) {
        for hsv in pixels {
            if let Some(factor) = self.saturation {
                hsv[1] *= factor;
            }
            if let Some(delta) = self.hue {
                hsv[0] += delta;
                if hsv[0] > 360.0 {
                    hsv[0] -= 360.0;
                }
                if hsv[0] < 0.0 {
                    hsv[0] += 360.0;
                }
            }
        }
    }
}

fn values(image: &mut Image) -> &mut [f32] {
    match image.pixels_mut() {
        Pixels::F32(v) => v,
        Pixels::U8(_) => &mut [],
    }
}

impl Transform for PhotoMetricDistortion {
    fn apply(&self, mut results: Results, rng: &mut Rng) -> Result<Option<Results>> {
        let image = results.take_image("PhotoMetricDistortion")?;
        results.set_image(self.draw(rng).apply(image)?);
        Ok(Some(results))
    }
}

register!(PIPELINES: dyn Transform, "PhotoMetricDistortion" => PhotoMetricDistortion(PhotoMetricDistortionConfig));

#[cfg(test)]
mod tests {
    use super::super::testing::{image, sample, step};
    use super::*;

    #[test]
    fn distortions_are_mmdets() {
        // PhotoMetricDistortion()(sample): img.sum(), img[0, 0], img[20, 30], img[36, 52], with
        // (1) uniform giving 10.5, 1.25, 0.8, -15 and randint 1, 1, 1, 1, 1, 0
        // (2) uniform giving -20.5, 1.4, 15, 0.6 and randint 1, 0, 1, 1, 1, 0
        let first = Distortion {
            brightness: Some(10.5),
            contrast_first: true,
            contrast: Some(1.25),
            saturation: Some(0.8),
            hue: Some(-15.0),
            order: None,
        };
        let second = Distortion {
            brightness: Some(-20.5),
            contrast_first: false,
            contrast: Some(0.6),
            saturation: Some(1.4),
            hue: Some(15.0),
            order: None,
        };
        let cases = [
            (
                first,
                1_058_095.375_7,
                [[27.625, 42.125_004, 85.625], [237.375_06, 323.125, 96.124_99], [110.125, 124.625_01, 168.125]],
            ),
            (
                second,
                342_123.006_3,
                [[-26.22, 10.320_004, 22.5], [136.5, 113.189_95, -54.18], [13.38, 49.920_006, 62.100_002]],
            ),
        ];
        for (distortion, sum, corners) in cases {
            let mut made = distortion.apply(image(&sample())).unwrap();
            let v = values(&mut made);
            let total: f64 = v.iter().map(|v| f64::from(*v)).sum();
            assert!((total - sum).abs() < 0.5, "{total} {sum}");
            for (at, expected) in [0, 20 * 53 + 30, 36 * 53 + 52].into_iter().zip(corners) {
                let found = &v[at * 3..at * 3 + 3];
                assert!(
                    found.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-3),
                    "{found:?} {expected:?}"
                );
            }
        }
    }

    #[test]
    fn channels_change_places() {
        let plain = values(&mut Distortion::default().apply(image(&sample())).unwrap()).to_vec();
        let order = Distortion { order: Some([2, 0, 1]), ..Distortion::default() };
        let mut made = order.apply(image(&sample())).unwrap();
        assert_eq!(values(&mut made)[..3], [plain[2], plain[0], plain[1]]);
    }

    #[test]
    fn everything_is_drawn_half_of_the_time_and_within_its_range() {
        let step = PhotoMetricDistortion::new(&mmcv::config::Node::from_json("{}").unwrap().parse().unwrap()).unwrap();
        let mut rng = Rng::new(2);
        let drawn: Vec<Distortion> = (0..2000).map(|_| step.draw(&mut rng)).collect();
        let half = |of: &dyn Fn(&Distortion) -> bool| {
            let share = drawn.iter().filter(|d| of(d)).count() as f64 / 2000.0;
            assert!((share - 0.5).abs() < 0.05, "{share}");
        };
        half(&|d| d.brightness.is_some());
        half(&|d| d.contrast.is_some());
        half(&|d| d.saturation.is_some());
        half(&|d| d.hue.is_some());
        half(&|d| d.contrast_first);
        half(&|d| d.order.is_some());
        half(&|d| d.contrast.is_some() != d.contrast_first);
        assert!(drawn.iter().filter_map(|d| d.hue).all(|v| v.abs() <= 18.0));
        assert!(drawn.iter().filter_map(|d| d.brightness).all(|v| v.abs() <= 32.0));
        assert!(drawn.iter().filter_map(|d| d.saturation).all(|v| (0.5..=1.5).contains(&v)));
    }

    #[test]
    fn a_grey_image_is_an_error() {
        let grey = Image::new(2, 2, 1, Pixels::U8(vec![0; 4])).unwrap();
        let step = step(r#"{"type": "PhotoMetricDistortion"}"#).unwrap();
        let e = step.apply(Results::from_image(grey), &mut Rng::new(0)).unwrap_err().to_string();
        assert!(e.contains("not a colour image"), "{e}");
    }
}
