//! YOLO's anchors: given sizes around each cell's middle.

use candle_core::{Result, bail};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::prior_generator::{PRIOR_GENERATORS, Pair, PriorGenerator, shifted};
use crate::core::BBox;

/// `type = "YOLOAnchorGenerator"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct YOLOAnchorGeneratorConfig {
    /// Stride of each level, one number or `[w, h]`.
    pub strides: Vec<Pair>,
    /// Sizes of each level's anchors, one number or `[w, h]` pixels; as many at every level.
    pub base_sizes: Vec<Vec<Pair>>,
}

/// `type = "YOLOAnchorGenerator"`.
#[derive(Debug, Clone)]
pub struct YOLOAnchorGenerator {
    strides: Vec<[f64; 2]>,
    base_anchors: Vec<Vec<BBox>>,
}

impl YOLOAnchorGenerator {
    /// An error when levels differ in their number of anchors, or there isn't a stride for each.
    pub fn new(cfg: &YOLOAnchorGeneratorConfig) -> Result<Self> {
        let strides: Vec<[f64; 2]> = cfg.strides.iter().map(|s| s.pair()).collect();
        if cfg.base_sizes.len() != strides.len() {
            bail!("YOLOAnchorGenerator: {} strides for {} levels of base_sizes", strides.len(), cfg.base_sizes.len());
        }
        if let Some(level) = cfg.base_sizes.iter().find(|l| l.len() != cfg.base_sizes[0].len()) {
            bail!("YOLOAnchorGenerator: {} and {} anchors at two levels", cfg.base_sizes[0].len(), level.len());
        }
        let level = |(sizes, stride): (&Vec<Pair>, &[f64; 2])| {
            let [cx, cy] = stride.map(|s| s / 2.0);
            let anchor = |size: &Pair| {
                let [w, h] = size.pair();
                [cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h].map(|v| v as f32)
            };
            sizes.iter().map(anchor).collect()
        };
        Ok(Self { base_anchors: cfg.base_sizes.iter().zip(&strides).map(level).collect(), strides })
    }
}

impl PriorGenerator for YOLOAnchorGenerator {
    fn strides(&self) -> &[[f64; 2]] {
        &self.strides
    }

    fn num_base_priors(&self) -> Vec<usize> {
        self.base_anchors.iter().map(Vec::len).collect()
    }

    fn at(&self, level: usize, x: usize, y: usize, out: &mut Vec<BBox>) {
        shifted(&self.base_anchors[level], self.strides[level], x, y, out);
    }
}

register!(PRIOR_GENERATORS: dyn PriorGenerator, "YOLOAnchorGenerator" => YOLOAnchorGenerator(YOLOAnchorGeneratorConfig));

#[cfg(test)]
mod tests {
    use super::*;

    fn yolo() -> YOLOAnchorGenerator {
        let cfg = r#"{"strides": [32, 16], "base_sizes": [[[116, 90], [156, 198]], [[30, 61], [62, 45]]]}"#;
        YOLOAnchorGenerator::new(&serde_json::from_str(cfg).unwrap()).unwrap()
    }

    // y = YOLOAnchorGenerator(strides=[32,16], base_sizes=[[(116,90),(156,198)],[(30,61),(62,45)]])
    // y.base_anchors; y.sparse_priors(torch.tensor([0,5,11]), (2,3), 0, device='cpu')
    #[test]
    fn anchors_are_mmdets() {
        let y = yolo();
        assert_eq!(
            y.base_anchors,
            [
                [[-42.0, -29.0, 74.0, 61.0], [-62.0, -83.0, 94.0, 115.0]],
                [[-7.0, -22.5, 23.0, 38.5], [-23.0, -14.5, 39.0, 30.5]]
            ]
        );
        let sparse = y.sparse_priors(&[0, 5, 11], (2, 3), 0);
        assert_eq!(sparse, [[-42.0, -29.0, 74.0, 61.0], [2.0, -83.0, 158.0, 115.0], [2.0, -51.0, 158.0, 147.0]]);
    }

    // y.responsible_flags([(2,3),(4,6)], torch.tensor([[10.,10,30,31],[50,40,90,61]]), device='cpu')
    #[test]
    fn the_cell_with_a_boxs_centre_is_responsible() {
        let boxes = [[10.0, 10.0, 30.0, 31.0], [50.0, 40.0, 90.0, 61.0]];
        let flags = yolo().responsible_flags(&[(2, 3), (4, 6)], &boxes).unwrap();
        let set = |f: &[bool]| (0..f.len()).filter(|i| f[*i]).collect::<Vec<_>>();
        assert_eq!(set(&flags[0]), [0, 1, 10, 11]);
        assert_eq!(set(&flags[1]), [14, 15, 44, 45]);
        assert!(yolo().responsible_flags(&[(1, 1), (4, 6)], &boxes).is_err());
    }

    #[test]
    fn uneven_levels_are_refused() {
        for cfg in [
            r#"{"strides": [32, 16], "base_sizes": [[[1, 1]], [[1, 1], [2, 2]]]}"#,
            r#"{"strides": [32], "base_sizes": [[[1, 1]], [[1, 1]]]}"#,
        ] {
            assert!(YOLOAnchorGenerator::new(&serde_json::from_str(cfg).unwrap()).is_err());
        }
    }
}
