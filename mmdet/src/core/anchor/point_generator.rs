//! Points of anchor-free heads.

use candle_core::{Result, bail};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::prior_generator::{PRIOR_GENERATORS, Pair, PriorGenerator};
use crate::core::BBox;

/// `type = "MlvlPointGenerator"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MlvlPointGeneratorConfig {
    /// Stride of each level, one number or `[w, h]`.
    pub strides: Vec<Pair>,
    /// Where in its cell a point sits, in strides; default 0.5.
    #[serde(default = "half")]
    pub offset: f64,
}

fn half() -> f64 {
    0.5
}

/// `type = "MlvlPointGenerator"`: one point `[x, y, stride_w, stride_h]` per position.
#[derive(Debug, Clone)]
pub struct MlvlPointGenerator {
    strides: Vec<[f64; 2]>,
    offset: f32,
}

impl MlvlPointGenerator {
    /// An error for a stride that is not positive.
    pub fn new(cfg: &MlvlPointGeneratorConfig) -> Result<Self> {
        let strides: Vec<[f64; 2]> = cfg.strides.iter().map(|s| s.pair()).collect();
        if let Some(s) = strides.iter().find(|s| !(s[0] > 0.0 && s[1] > 0.0)) {
            bail!("MlvlPointGenerator: stride {s:?} is not positive");
        }
        Ok(Self { strides, offset: cfg.offset as f32 })
    }
}

impl PriorGenerator for MlvlPointGenerator {
    fn strides(&self) -> &[[f64; 2]] {
        &self.strides
    }

    fn num_base_priors(&self) -> Vec<usize> {
        vec![1; self.strides.len()]
    }

    fn at(&self, level: usize, x: usize, y: usize, out: &mut Vec<BBox>) {
        let [w, h] = self.strides[level].map(|s| s as f32);
        out.push([(x as f32 + self.offset) * w, (y as f32 + self.offset) * h, w, h]);
    }
}

register!(PRIOR_GENERATORS: dyn PriorGenerator, "MlvlPointGenerator" => MlvlPointGenerator(MlvlPointGeneratorConfig));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::close;

    // MlvlPointGenerator([8,(16,32)], offset=0.3).grid_priors([(2,2),(1,2)], device='cpu', with_stride=True)
    #[test]
    fn points_are_mmdets() {
        let cfg = serde_json::from_str(r#"{"strides": [8, [16, 32]], "offset": 0.3}"#).unwrap();
        let p = MlvlPointGenerator::new(&cfg).unwrap().grid_priors(&[(2, 2), (1, 2)]).unwrap().concat();
        let expected = [
            [2.4, 2.4, 8.0, 8.0],
            [10.4, 2.4, 8.0, 8.0],
            [2.4, 10.4, 8.0, 8.0],
            [10.4, 10.4, 8.0, 8.0],
            [4.8, 9.6, 16.0, 32.0],
            [20.8, 9.6, 16.0, 32.0],
        ];
        close(p.as_flattened(), expected.as_flattened());
    }
}
