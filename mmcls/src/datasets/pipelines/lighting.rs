//! AlexNet's noise of light; mmcls's `Lighting`.

use mmcv::image::adjust_lighting;
use mmcv::{Result, Rng, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PIPELINES, Results, Transform, ensure};

/// `type = "Lighting"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LightingConfig {
    /// Eigenvalues of the covariance of pixels.
    pub eigval: Vec<f64>,
    /// For each channel a row with one number for each eigenvalue.
    pub eigvec: Vec<Vec<f64>>,
    /// Deviation of the factor of each eigenvalue; default 0.1.
    #[serde(default = "tenth")]
    pub alphastd: f64,
    /// BGR becomes RGB first; default true.
    #[serde(default = "yes")]
    pub to_rgb: bool,
}

fn tenth() -> f64 {
    0.1
}
fn yes() -> bool {
    true
}

/// Adds noise along the eigenvectors; values are f32 after that.
pub struct Lighting(LightingConfig);

impl Lighting {
    /// An error unless there are three rows, each as long as the list of eigenvalues.
    pub fn new(cfg: &LightingConfig) -> Result<Self> {
        let n = cfg.eigval.len();
        let fits = cfg.eigvec.len() == 3 && cfg.eigvec.iter().all(|row| row.len() == n);
        ensure(fits, "eigvec", || format!("expected 3 rows of {n} numbers, as many as eigval has"))?;
        Ok(Self(cfg.clone()))
    }
}

impl Transform for Lighting {
    fn apply(&self, results: &mut Results, rng: &mut Rng) -> Result<()> {
        let image = results.take_image("Lighting")?;
        let alpha: Vec<f64> = self.0.eigval.iter().map(|_| self.0.alphastd * rng.normal()).collect();
        results.img = Some(adjust_lighting(&image, &self.0.eigval, &self.0.eigvec, &alpha, self.0.to_rgb)?);
        Ok(())
    }
}

register!(PIPELINES: dyn Transform, "Lighting" => Lighting(LightingConfig));

#[cfg(test)]
mod tests {
    use mmcv::config::Node;
    use mmcv::image::{Image, Pixels};

    use super::*;

    fn made(json: &str) -> Result<Lighting> {
        Lighting::new(&Node::from_json(json)?.parse()?)
    }

    #[test]
    fn without_deviation_only_the_order_changes() {
        let step = made(r#"{"eigval": [55, 4], "eigvec": [[1, 2], [3, 4], [5, 6]], "alphastd": 0}"#).unwrap();
        let image = Image::new(1, 1, 3, Pixels::U8(vec![1, 2, 3])).unwrap();
        let mut results = Results { img: Some(image.clone()), ..Results::default() };
        step.apply(&mut results, &mut Rng::new(0)).unwrap();
        assert_eq!(results.img.unwrap().pixels(), &Pixels::F32(vec![3.0, 2.0, 1.0]));
        // One eigenvalue along red, green and blue by 1, 2 and 3.
        let step = made(r#"{"eigval": [2], "eigvec": [[1], [2], [3]], "to_rgb": false}"#).unwrap();
        let mut results = Results { img: Some(image), ..Results::default() };
        step.apply(&mut results, &mut Rng::new(0)).unwrap();
        let Pixels::F32(v) = results.img.unwrap().into_pixels() else { panic!("f32") };
        let added = [v[0] - 1.0, v[1] - 2.0, v[2] - 3.0];
        assert!(
            added[0] != 0.0 && (added[1] - 2.0 * added[0]).abs() < 1e-5 && (added[2] - 3.0 * added[0]).abs() < 1e-5
        );
        assert!(made(r#"{"eigval": [1, 2], "eigvec": [[1], [2], [3]]}"#).err().unwrap().is_usage());
    }
}
