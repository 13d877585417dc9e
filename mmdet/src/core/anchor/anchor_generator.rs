//! Anchors of every scale and ratio at every position.

use candle_core::{Result, bail};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::prior_generator::{PRIOR_GENERATORS, Pair, PriorGenerator, shifted};
use crate::core::BBox;

/// `type = "AnchorGenerator"` and `type = "LegacyAnchorGenerator"`. Either `scales`, or `octave_base_scale` and
/// `scales_per_octave`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnchorGeneratorConfig {
    /// Stride of each level, one number or `[w, h]`.
    pub strides: Vec<Pair>,
    /// Height over width.
    pub ratios: Vec<f64>,
    /// Multiples of the base size.
    #[serde(default)]
    pub scales: Option<Vec<f64>>,
    /// Size at scale 1 per level; by default the smaller stride.
    #[serde(default)]
    pub base_sizes: Option<Vec<f64>>,
    /// Anchors of one ratio stand together; otherwise those of one scale do. Default true.
    #[serde(default = "yes")]
    pub scale_major: bool,
    /// Smallest scale of an octave.
    #[serde(default)]
    pub octave_base_scale: Option<f64>,
    /// Scales per octave, `2^(i / n)` apart.
    #[serde(default)]
    pub scales_per_octave: Option<usize>,
    /// Centre `[x, y]` of each level's first anchors, pixels.
    #[serde(default)]
    pub centers: Option<Vec<[f64; 2]>>,
    /// Centre as a part of the base size, 0 to 1; default 0.
    #[serde(default)]
    pub center_offset: f64,
}

fn yes() -> bool {
    true
}

impl AnchorGeneratorConfig {
    fn scales(&self) -> Result<Vec<f32>> {
        match (&self.scales, self.octave_base_scale, self.scales_per_octave) {
            (Some(scales), base, per) if base.is_none() || per.is_none() => {
                Ok(scales.iter().map(|s| *s as f32).collect())
            }
            (None, Some(base), Some(per)) => {
                Ok((0..per).map(|i| (2f64.powf(i as f64 / per as f64) * base) as f32).collect())
            }
            _ => bail!("AnchorGenerator: give either scales or octave_base_scale with scales_per_octave"),
        }
    }

    fn base_anchors(&self, legacy: bool) -> Result<(Vec<[f64; 2]>, Vec<Vec<BBox>>)> {
        let strides: Vec<[f64; 2]> = self.strides.iter().map(|s| s.pair()).collect();
        let n = strides.len();
        if let Some(s) = strides.iter().find(|s| !(s[0] > 0.0 && s[1] > 0.0)) {
            bail!("AnchorGenerator: stride {s:?} is not positive");
        }
        if !(0.0..=1.0).contains(&self.center_offset) {
            bail!("AnchorGenerator: center_offset {} is not within 0 to 1", self.center_offset);
        }
        if self.center_offset != 0.0 && self.centers.is_some() {
            bail!("AnchorGenerator: centers can't be set when center_offset is {}", self.center_offset);
        }
        if let Some(centers) = self.centers.as_ref().filter(|c| c.len() != n) {
            bail!("AnchorGenerator: {} centers for {n} strides", centers.len());
        }
        let sizes = self.base_sizes.clone().unwrap_or_else(|| strides.iter().map(|s| s[0].min(s[1])).collect());
        if sizes.len() != n {
            bail!("AnchorGenerator: {} base_sizes for {n} strides", sizes.len());
        }
        let scales = self.scales()?;
        let ratios: Vec<f32> = self.ratios.iter().map(|r| *r as f32).collect();
        let level = |(i, size): (usize, &f64)| {
            let by_offset = self.center_offset * if legacy { size - 1.0 } else { *size };
            let center = self.centers.as_ref().map_or([by_offset; 2], |c| c[i]);
            base_anchors(*size, &scales, &ratios, center, self.scale_major, legacy)
        };
        Ok((strides, sizes.iter().enumerate().map(level).collect()))
    }
}

/// The anchors of one position around `center`. `legacy` counts pixels as mmdet 1.x did: a box from 0 to 7 is 8 wide, and
/// corners are whole.
pub(super) fn base_anchors(
    size: f64,
    scales: &[f32],
    ratios: &[f32],
    center: [f64; 2],
    scale_major: bool,
    legacy: bool,
) -> Vec<BBox> {
    let (size, cx, cy) = (size as f32, center[0] as f32, center[1] as f32);
    let one = |ratio: f32, scale: f32| {
        let h_ratio = ratio.sqrt();
        let w_ratio = 1.0 / h_ratio;
        // The order of the factors is mmdet's: it decides the last bit.
        let (w, h) = if scale_major {
            (size * w_ratio * scale, size * h_ratio * scale)
        } else {
            (size * scale * w_ratio, size * scale * h_ratio)
        };
        if legacy {
            let (w, h) = (0.5 * (w - 1.0), 0.5 * (h - 1.0));
            return [cx - w, cy - h, cx + w, cy + h].map(f32::round_ties_even);
        }
        [cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h]
    };
    if scale_major {
        ratios.iter().flat_map(|r| scales.iter().map(move |s| one(*r, *s))).collect()
    } else {
        scales.iter().flat_map(|s| ratios.iter().map(move |r| one(*r, *s))).collect()
    }
}

/// `type = "AnchorGenerator"`.
#[derive(Debug, Clone)]
pub struct AnchorGenerator {
    strides: Vec<[f64; 2]>,
    base_anchors: Vec<Vec<BBox>>,
}

impl AnchorGenerator {
    /// An error when counts don't match or the scales are given twice or not at all.
    pub fn new(cfg: &AnchorGeneratorConfig) -> Result<Self> {
        let (strides, base_anchors) = cfg.base_anchors(false)?;
        Ok(Self { strides, base_anchors })
    }

    /// The anchors of the position at column 0, row 0, per level.
    pub fn base_anchors(&self) -> &[Vec<BBox>] {
        &self.base_anchors
    }
}

impl PriorGenerator for AnchorGenerator {
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

/// `type = "LegacyAnchorGenerator"`: mmdet 1.x's anchors, for its checkpoints. Its configs set `center_offset = 0.5`.
#[derive(Debug, Clone)]
pub struct LegacyAnchorGenerator(AnchorGenerator);

impl LegacyAnchorGenerator {
    /// As [`AnchorGenerator::new`].
    pub fn new(cfg: &AnchorGeneratorConfig) -> Result<Self> {
        let (strides, base_anchors) = cfg.base_anchors(true)?;
        Ok(Self(AnchorGenerator { strides, base_anchors }))
    }
}

impl PriorGenerator for LegacyAnchorGenerator {
    fn strides(&self) -> &[[f64; 2]] {
        self.0.strides()
    }

    fn num_base_priors(&self) -> Vec<usize> {
        self.0.num_base_priors()
    }

    fn at(&self, level: usize, x: usize, y: usize, out: &mut Vec<BBox>) {
        self.0.at(level, x, y, out);
    }
}

register!(PRIOR_GENERATORS: dyn PriorGenerator, "AnchorGenerator" => AnchorGenerator(AnchorGeneratorConfig));
register!(PRIOR_GENERATORS: dyn PriorGenerator, "LegacyAnchorGenerator" => LegacyAnchorGenerator(AnchorGeneratorConfig));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::close;

    fn make(json: &str) -> Result<AnchorGenerator> {
        AnchorGenerator::new(&serde_json::from_str(json).unwrap())
    }

    const RETINA: &str = r#"{"strides": [8, 16, 32, 64, 128], "ratios": [0.5, 1.0, 2.0], "octave_base_scale": 4, "scales_per_octave": 3}"#;
    const SIZES: [(usize, usize); 5] = [(3, 4), (2, 2), (1, 1), (1, 1), (1, 1)];

    // r = AnchorGenerator(strides=[8,16,32,64,128], ratios=[0.5,1.0,2.0], octave_base_scale=4, scales_per_octave=3)
    // r.base_anchors[0]; g = r.grid_priors(sizes, device='cpu'); g[0][9*7+5], g[1][35]
    #[test]
    #[rustfmt::skip]
    fn retinanets_anchors_are_mmdets() {
        let r = make(RETINA).unwrap();
        close(r.base_anchors()[0].as_flattened(), &[
            -22.627417, -11.313708, 22.627417, 11.313708, -28.508759, -14.254379, 28.508759, 14.254379, -35.918785, -17.959393, 35.918785, 17.959393,
            -16.0, -16.0, 16.0, 16.0, -20.158737, -20.158737, 20.158737, 20.158737, -25.398417, -25.398417, 25.398417, 25.398417,
            -11.313708, -22.627417, 11.313708, 22.627417, -14.254379, -28.508759, 14.254379, 28.508759, -17.959393, -35.918785, 17.959393, 35.918785,
        ]);
        let g = r.grid_priors(&SIZES).unwrap();
        assert_eq!(g.iter().map(Vec::len).collect::<Vec<_>>(), [108, 36, 9, 9, 9]);
        assert_eq!(g[0][9 * 7 + 5], [-1.3984165, -17.398417, 49.398415, 33.398415]);
        assert_eq!(g[1][35], [-19.918785, -55.83757, 51.918785, 87.83757]);
        let picked: Vec<usize> = (0..108).step_by(7).collect();
        let sparse = r.sparse_priors(&picked, SIZES[0], 0);
        assert_eq!(sparse, picked.iter().map(|i| g[0][*i]).collect::<Vec<_>>());
        assert_eq!(r.num_base_priors(), [9; 5]);
    }

    // [int(f.sum()) for f in r.valid_flags(sizes, (17, 20, 3), device='cpu')], and every ninth of the first level
    #[test]
    fn positions_on_the_padding_are_not_valid() {
        let flags = make(RETINA).unwrap().valid_flags(&SIZES, (17, 20)).unwrap();
        let counts: Vec<usize> = flags.iter().map(|f| f.iter().filter(|v| **v).count()).collect();
        assert_eq!(counts, [81, 36, 9, 9, 9]);
        let first: Vec<bool> = flags[0].iter().step_by(9).copied().collect();
        assert_eq!(first, [true, true, true, false].repeat(3));
    }

    // AnchorGenerator(strides=[(8, 4)], ratios=[0.3, 1.7], scales=[2, 3.5], scale_major=False, base_sizes=[7], center_offset=0.5)
    // AnchorGenerator(strides=[16], ratios=[1.0], scales=[1.0], base_sizes=[9], centers=[(2.5, 3.0)])
    #[test]
    #[rustfmt::skip]
    fn offsets_centres_and_minor_scales_are_mmdets() {
        let a = make(r#"{"strides": [[8, 4]], "ratios": [0.3, 1.7], "scales": [2, 3.5], "scale_major": false, "base_sizes": [7], "center_offset": 0.5}"#).unwrap();
        let g = a.grid_priors(&[(2, 2)]).unwrap();
        close(g[0][..6].as_flattened(), &[
            -9.280192, -0.33405805, 16.280193, 7.334058, -1.8687549, -5.6268835, 8.868755, 12.6268835, -18.865337, -3.2096014, 25.865337, 10.209601,
            -5.895321, -12.472046, 12.895321, 19.472046, -1.2801924, -0.33405805, 24.280193, 7.334058, 6.131245, -5.6268835, 16.868755, 12.6268835,
        ]);
        close(&g[0][15], &[2.104679, -8.472046, 20.89532, 23.472046]);
        let a = make(r#"{"strides": [16], "ratios": [1.0], "scales": [1.0], "base_sizes": [9], "centers": [[2.5, 3.0]]}"#).unwrap();
        assert_eq!(a.grid_priors(&[(1, 2)]).unwrap(), [[[-2.0, -1.5, 7.0, 7.5], [14.0, -1.5, 23.0, 7.5]]]);
    }

    // LegacyAnchorGenerator(strides=[8], ratios=[0.5,1.0,2.0], octave_base_scale=4, scales_per_octave=2, center_offset=0.5).base_anchors[0]
    #[test]
    fn legacy_anchors_are_whole() {
        let cfg = r#"{"strides": [8], "ratios": [0.5, 1.0, 2.0], "octave_base_scale": 4, "scales_per_octave": 2, "center_offset": 0.5}"#;
        let a = LegacyAnchorGenerator::new(&serde_json::from_str(cfg).unwrap()).unwrap();
        let expected = [
            [-19.0, -7.0, 26.0, 14.0],
            [-28.0, -12.0, 35.0, 19.0],
            [-12.0, -12.0, 19.0, 19.0],
            [-19.0, -19.0, 26.0, 26.0],
            [-7.0, -19.0, 14.0, 26.0],
            [-12.0, -28.0, 19.0, 35.0],
        ];
        assert_eq!(a.grid_priors(&[(1, 1)]).unwrap()[0], expected);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for cfg in [
            r#"{"strides": [8], "ratios": [1]}"#,
            r#"{"strides": [8], "ratios": [1], "scales": [1], "octave_base_scale": 4, "scales_per_octave": 3}"#,
            r#"{"strides": [8], "ratios": [1], "scales": [1], "base_sizes": [1, 2]}"#,
            r#"{"strides": [8], "ratios": [1], "scales": [1], "centers": [[0, 0]], "center_offset": 0.5}"#,
            r#"{"strides": [8], "ratios": [1], "scales": [1], "center_offset": 1.5}"#,
            r#"{"strides": [0], "ratios": [1], "scales": [1]}"#,
        ] {
            assert!(make(cfg).is_err(), "{cfg}");
        }
        assert!(make(RETINA).unwrap().grid_priors(&SIZES[1..]).is_err());
    }

    #[test]
    fn an_empty_map_has_no_anchors() {
        let mut sizes = SIZES;
        sizes[0] = (0, 4);
        let g = make(RETINA).unwrap().grid_priors(&sizes).unwrap();
        assert!(g[0].is_empty() && g[1].len() == 36);
    }
}
