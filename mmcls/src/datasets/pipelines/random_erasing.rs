//! A random rectangle filled; mmcls's `RandomErasing`.

use mmcv::config::OneOrMany;
use mmcv::image::{Image, Pixels};
use mmcv::{Error, Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PIPELINES, Results, Transform, ensure};

/// What a rectangle is filled with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EraseMode {
    /// One colour.
    #[default]
    Const,
    /// Noise.
    Rand,
}

/// `type = "RandomErasing"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomErasingConfig {
    /// Probability; default 0.5.
    #[serde(default = "half")]
    pub erase_prob: f64,
    /// Least share of the image's area; default 0.02.
    #[serde(default = "fiftieth")]
    pub min_area_ratio: f64,
    /// Greatest share; default 0.4.
    #[serde(default = "two_fifths")]
    pub max_area_ratio: f64,
    /// `(min, max)` of height by width, or one of them, whose inverse is the other; default `(3/10, 10/3)`.
    #[serde(default = "aspects")]
    pub aspect_range: OneOrMany<f64>,
    /// `const` or `rand`; default `const`.
    #[serde(default)]
    pub mode: EraseMode,
    /// The colour, or the mean of `rand` with `fill_std`: a number or one for each of three channels; default 128.
    #[serde(default = "grey")]
    pub fill_color: OneOrMany<f64>,
    /// Makes `rand` normal with this deviation (a number or one for each channel); even over 0 to 255 without it.
    #[serde(default)]
    pub fill_std: Option<OneOrMany<f64>>,
}

fn half() -> f64 {
    0.5
}
fn fiftieth() -> f64 {
    0.02
}
fn two_fifths() -> f64 {
    0.4
}
fn aspects() -> OneOrMany<f64> {
    OneOrMany::Many(vec![3.0 / 10.0, 10.0 / 3.0])
}
fn grey() -> OneOrMany<f64> {
    OneOrMany::One(128.0)
}

fn three(values: &OneOrMany<f64>, key: &str) -> Result<[f64; 3]> {
    let list = values.to_vec();
    match (values, list.as_slice()) {
        (OneOrMany::One(v), _) => Ok([*v; 3]),
        (_, [a, b, c]) => Ok([*a, *b, *c]),
        _ => Err(Error::config(format!("is {list:?}, expected a number or 3")).under(key)),
    }
}

/// Fills a rectangle now and then.
pub struct RandomErasing {
    prob: f64,
    area: [f64; 2],
    /// Logarithms of the aspect range.
    aspect: [f64; 2],
    mode: EraseMode,
    color: [f64; 3],
    std: Option<[f64; 3]>,
}

impl RandomErasing {
    /// An error for shares, aspects and colours that are none.
    pub fn new(cfg: &RandomErasingConfig) -> Result<Self> {
        let share = 0.0..=1.0;
        for (key, v) in [
            ("erase_prob", cfg.erase_prob),
            ("min_area_ratio", cfg.min_area_ratio),
            ("max_area_ratio", cfg.max_area_ratio),
        ] {
            ensure(share.contains(&v), key, || format!("is {v}, expected 0 to 1"))?;
        }
        ensure(cfg.min_area_ratio <= cfg.max_area_ratio, "min_area_ratio", || {
            format!("is {}, above max_area_ratio, which is {}", cfg.min_area_ratio, cfg.max_area_ratio)
        })?;
        let aspects = cfg.aspect_range.to_vec();
        let [low, high] = match (&cfg.aspect_range, aspects.as_slice()) {
            (OneOrMany::One(a), _) => [f64::min(*a, 1.0 / *a), f64::max(*a, 1.0 / *a)],
            (_, [low, high]) => [*low, *high],
            _ => [0.0, 0.0],
        };
        ensure(low > 0.0 && low <= high, "aspect_range", || {
            format!("is {aspects:?}, expected a number or (min, max) above 0")
        })?;
        Ok(Self {
            prob: cfg.erase_prob,
            area: [cfg.min_area_ratio, cfg.max_area_ratio],
            // In f32, as the original has them.
            aspect: [low, high].map(|a| f64::from((a as f32).ln())),
            mode: cfg.mode,
            color: three(&cfg.fill_color, "fill_color")?,
            std: cfg.fill_std.as_ref().map(|s| three(s, "fill_std")).transpose()?,
        })
    }

    /// `(top, left, height, width)` in an image of `h` x `w`.
    fn draw(&self, h: usize, w: usize, rng: &mut Rng) -> (usize, usize, usize, usize) {
        let aspect = rng.uniform(self.aspect[0], self.aspect[1]).exp();
        let area = (h * w) as f64 * rng.uniform(self.area[0], self.area[1]);
        let eh = ((area * aspect).sqrt().round_ties_even() as usize).min(h);
        let ew = ((area / aspect).sqrt().round_ties_even() as usize).min(w);
        // The last place is never drawn, as in the original.
        (rng.below(h - eh), rng.below(w - ew), eh, ew)
    }

    /// A pixel's fill.
    fn fill(&self, rng: &mut Rng) -> [u8; 3] {
        match (self.mode, self.std) {
            (EraseMode::Const, _) => self.color.map(|v| v as i64 as u8),
            (EraseMode::Rand, None) => [(); 3].map(|()| rng.below(256) as u8),
            (EraseMode::Rand, Some(std)) => {
                let mut out = [0; 3];
                for (o, (mean, std)) in out.iter_mut().zip(self.color.iter().zip(std)) {
                    *o = (mean + std * rng.normal()).trunc().clamp(0.0, 255.0) as u8;
                }
                out
            }
        }
    }

    fn erase(&self, image: &mut Image, rng: &mut Rng) {
        let (top, left, h, w) = self.draw(image.height(), image.width(), rng);
        let pitch = image.width();
        for y in top..top + h {
            for x in left..left + w {
                let (at, fill) = ((y * pitch + x) * 3, self.fill(rng));
                match image.pixels_mut() {
                    Pixels::U8(v) => v[at..at + 3].copy_from_slice(&fill),
                    Pixels::F32(v) => v[at..at + 3].copy_from_slice(&fill.map(f32::from)),
                }
            }
        }
    }
}

impl Transform for RandomErasing {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        if rng.unit() > self.prob {
            return Ok(());
        }
        let mut image = results.take_image("RandomErasing")?;
        if image.channels() != 3 {
            let message = format!("RandomErasing needs an image of 3 channels, not {}", image.channels());
            return Err(Error::data(&results.filename, message));
        }
        self.erase(&mut image, rng);
        results.img = Some(image);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "RandomErasing" => RandomErasing(RandomErasingConfig));

#[cfg(test)]
mod tests {
    use mmcv::config::Node;

    use super::*;

    fn made(json: &str) -> Result<RandomErasing> {
        RandomErasing::new(&Node::from_json(json)?.parse()?)
    }

    #[test]
    fn rectangles_are_of_the_asked_share_and_shape() {
        let step = made("{}").unwrap();
        let mut rng = Rng::new(1);
        for _ in 0..500 {
            let (y, x, h, w) = step.draw(100, 120, &mut rng);
            assert!(y + h <= 100 && x + w <= 120);
            let share = (h * w) as f64 / 12_000.0;
            assert!((0.015..0.42).contains(&share), "{share}");
            // A side may be cut at the image's.
            assert!(h == 100 || w == 120 || (0.25..3.8).contains(&(h as f64 / w as f64)), "{h} {w}");
        }
    }

    #[test]
    fn fills_are_as_asked() {
        let erased = |json: &str| -> Vec<u8> {
            let step = made(json).unwrap();
            let mut image = Image::new(40, 40, 3, Pixels::U8(vec![9; 4800])).unwrap();
            step.erase(&mut image, &mut Rng::new(2));
            let Pixels::U8(v) = image.into_pixels() else { panic!("bytes") };
            v
        };
        let plain = erased(r#"{"fill_color": [123.67, 116.3, 103.5]}"#);
        assert!(plain.chunks_exact(3).all(|p| p == [9; 3] || p == [123, 116, 103]));
        assert!(plain.contains(&123));
        let noise = erased(r#"{"mode": "rand", "min_area_ratio": 0.4}"#);
        let filled: Vec<f64> = noise.iter().filter(|v| **v != 9).map(|v| f64::from(*v)).collect();
        let mean = filled.iter().sum::<f64>() / filled.len() as f64;
        assert!(filled.len() > 1500 && (mean - 127.5).abs() < 8.0, "{mean}");
        let normal = erased(r#"{"mode": "rand", "min_area_ratio": 0.4, "fill_color": 200, "fill_std": 5}"#);
        let filled: Vec<f64> = normal.iter().filter(|v| **v != 9).map(|v| f64::from(*v)).collect();
        let mean = filled.iter().sum::<f64>() / filled.len() as f64;
        assert!((mean - 199.5).abs() < 1.0 && filled.iter().all(|v| *v > 150.0), "{mean}");
    }

    #[test]
    fn mistakes_are_named() {
        for (json, key) in [
            (r#"{"min_area_ratio": 0.5}"#, "min_area_ratio"),
            (r#"{"aspect_range": [2, 1]}"#, "aspect_range"),
            (r#"{"aspect_range": -1.0}"#, "aspect_range"),
            (r#"{"fill_std": [1, 2]}"#, "fill_std"),
            (r#"{"erase_prob": 1.5}"#, "erase_prob"),
        ] {
            let e = made(json).err().unwrap();
            assert!(e.is_usage() && e.to_string().contains(key), "{e}");
        }
    }
}
