//! SSD's anchors: two of ratio 1 and a pair per further ratio, sizes by level.

use candle_core::{Result, bail};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::anchor_generator::base_anchors;
use super::prior_generator::{PRIOR_GENERATORS, Pair, PriorGenerator, shifted};
use crate::core::BBox;

/// `type = "SSDAnchorGenerator"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SSDAnchorGeneratorConfig {
    /// Stride of each level, one number or `[w, h]`.
    pub strides: Vec<Pair>,
    /// Ratios beside 1 of each level; each comes with its inverse.
    pub ratios: Vec<Vec<f64>>,
    /// Smaller anchor size of each level; together with `max_sizes`, or neither.
    #[serde(default)]
    pub min_sizes: Option<Vec<f64>>,
    /// Larger size of each level: the second square anchor is the geometric mean.
    #[serde(default)]
    pub max_sizes: Option<Vec<f64>>,
    /// Sizes as parts of the input when none are given; default `[0.15, 0.9]`.
    #[serde(default = "ratio_range")]
    pub basesize_ratio_range: [f64; 2],
    /// 300 or 512 when no sizes are given; default 300.
    #[serde(default = "input_size")]
    pub input_size: i64,
    /// As `AnchorGenerator`'s; default true. SSD's configs set it false.
    #[serde(default = "yes")]
    pub scale_major: bool,
}

/// `type = "LegacySSDAnchorGenerator"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LegacySSDAnchorGeneratorConfig {
    /// Stride of each level.
    pub strides: Vec<f64>,
    /// Ratios beside 1 of each level; each comes with its inverse.
    pub ratios: Vec<Vec<f64>>,
    /// Sizes as parts of the input.
    pub basesize_ratio_range: [f64; 2],
    /// 300 or 512; default 300.
    #[serde(default = "input_size")]
    pub input_size: i64,
    /// As `AnchorGenerator`'s; default true.
    #[serde(default = "yes")]
    pub scale_major: bool,
}

fn ratio_range() -> [f64; 2] {
    [0.15, 0.9]
}
fn input_size() -> i64 {
    300
}
fn yes() -> bool {
    true
}

/// The sizes that SSD's authors fixed for two inputs and two data sets.
fn sizes(range: [f64; 2], input: i64, levels: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    // Smallest and largest size of the first level in percent of the input.
    let (low, high) = match (input, range[0]) {
        (300, 0.15) => (7, 15),
        (300, 0.2) => (10, 20),
        (512, 0.1) => (4, 10),
        (512, 0.15) => (7, 15),
        (300, r) => bail!("SSDAnchorGenerator: basesize_ratio_range starts at {r}, expected 0.15 or 0.2 for input 300"),
        (512, r) => bail!("SSDAnchorGenerator: basesize_ratio_range starts at {r}, expected 0.1 or 0.15 for input 512"),
        _ => bail!("SSDAnchorGenerator: input_size {input}, expected 300 or 512 when no sizes are given"),
    };
    let (first, last) = ((range[0] * 100.0) as i64, (range[1] * 100.0) as i64);
    let step = if levels > 2 { (last - first) / (levels as i64 - 2) } else { 0 };
    if step <= 0 {
        bail!("SSDAnchorGenerator: {levels} levels can't share sizes of {first} to {last} percent");
    }
    let part = |percent: i64| (input * percent / 100) as f64;
    let (mut min, mut max) = (vec![part(low)], vec![part(high)]);
    let mut percent = first;
    while percent <= last {
        min.push(part(percent));
        max.push(part(percent + step));
        percent += step;
    }
    Ok((min, max))
}

/// `type = "SSDAnchorGenerator"`.
#[derive(Debug, Clone)]
pub struct SSDAnchorGenerator {
    strides: Vec<[f64; 2]>,
    base_anchors: Vec<Vec<BBox>>,
}

impl SSDAnchorGenerator {
    /// An error when the number of sizes, ratios and strides differ.
    pub fn new(cfg: &SSDAnchorGeneratorConfig) -> Result<Self> {
        let centers = cfg.strides.iter().map(|s| s.pair().map(|v| v / 2.0)).collect();
        Self::with_centers(cfg, centers, false)
    }

    fn with_centers(cfg: &SSDAnchorGeneratorConfig, centers: Vec<[f64; 2]>, legacy: bool) -> Result<Self> {
        let strides: Vec<[f64; 2]> = cfg.strides.iter().map(|s| s.pair()).collect();
        let n = strides.len();
        let (min, max) = match (&cfg.min_sizes, &cfg.max_sizes) {
            (Some(min), Some(max)) => (min.clone(), max.clone()),
            (None, None) => sizes(cfg.basesize_ratio_range, cfg.input_size, n)?,
            _ => bail!("SSDAnchorGenerator: give min_sizes and max_sizes, or neither"),
        };
        if [min.len(), max.len(), cfg.ratios.len()] != [n; 3] {
            bail!(
                "SSDAnchorGenerator: {n} strides, {} ratios, {} min_sizes, {} max_sizes",
                cfg.ratios.len(),
                min.len(),
                max.len()
            );
        }
        let level = |k: usize| {
            let scales = [1.0, (max[k] / min[k]).sqrt() as f32];
            let mut ratios = vec![1f32];
            ratios.extend(cfg.ratios[k].iter().flat_map(|r| [(1.0 / r) as f32, *r as f32]));
            let all = base_anchors(min[k], &scales, &ratios, centers[k], cfg.scale_major, legacy);
            // The first of each ratio, and behind the first of all the one that follows them.
            let mut kept = all[..ratios.len()].to_vec();
            kept.insert(1, all[ratios.len()]);
            kept
        };
        Ok(Self { base_anchors: (0..n).map(level).collect(), strides })
    }
}

impl PriorGenerator for SSDAnchorGenerator {
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

/// `type = "LegacySSDAnchorGenerator"`: mmdet 1.x's anchors of SSD.
#[derive(Debug, Clone)]
pub struct LegacySSDAnchorGenerator(SSDAnchorGenerator);

impl LegacySSDAnchorGenerator {
    /// As [`SSDAnchorGenerator::new`].
    pub fn new(cfg: &LegacySSDAnchorGeneratorConfig) -> Result<Self> {
        let centers = cfg.strides.iter().map(|s| [(s - 1.0) / 2.0; 2]).collect();
        let cfg = SSDAnchorGeneratorConfig {
            strides: cfg.strides.iter().map(|s| Pair::One(*s)).collect(),
            ratios: cfg.ratios.clone(),
            min_sizes: None,
            max_sizes: None,
            basesize_ratio_range: cfg.basesize_ratio_range,
            input_size: cfg.input_size,
            scale_major: cfg.scale_major,
        };
        Ok(Self(SSDAnchorGenerator::with_centers(&cfg, centers, true)?))
    }
}

impl PriorGenerator for LegacySSDAnchorGenerator {
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

register!(PRIOR_GENERATORS: dyn PriorGenerator, "SSDAnchorGenerator" => SSDAnchorGenerator(SSDAnchorGeneratorConfig));
register!(PRIOR_GENERATORS: dyn PriorGenerator,
    "LegacySSDAnchorGenerator" => LegacySSDAnchorGenerator(LegacySSDAnchorGeneratorConfig));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::close;

    fn make(json: &str) -> Result<SSDAnchorGenerator> {
        SSDAnchorGenerator::new(&serde_json::from_str(json).unwrap())
    }

    const SSD300: &str = r#"{"strides": [8, 16, 32, 64, 100, 300], "ratios": [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        "basesize_ratio_range": [0.15, 0.9], "input_size": 300, "scale_major": false}"#;

    // SSDAnchorGenerator of these configs: base_anchors of the levels named.
    #[test]
    #[rustfmt::skip]
    fn base_anchors_are_mmdets() {
        let s = make(SSD300).unwrap();
        assert_eq!(s.num_base_priors(), [4, 6, 6, 6, 4, 4]);
        close(s.base_anchors[1].as_flattened(), &[
            -14.5, -14.5, 30.5, 30.5, -25.37289, -25.37289, 41.37289, 41.37289, -23.819805, -7.9099026, 39.819805, 23.909903,
            -7.9099026, -23.819805, 23.909903, 39.819805, -30.971146, -4.9903812, 46.971146, 20.990381, -4.9903812, -30.971142, 20.990381, 46.97114,
        ]);
        close(s.base_anchors[5].as_flattened(), &[
            19.5, 19.5, 280.5, 280.5, 6.634201, 6.634201, 293.36578, 293.36578, -34.55487, 57.722565, 334.55487, 242.27744, 57.722565, -34.55487, 242.27744, 334.55487,
        ]);
        let s = make(r#"{"strides": [16, 32, 64, 107, 160, 320], "ratios": [[2, 3], [2, 3], [2, 3], [2, 3], [2, 3], [2, 3]],
            "min_sizes": [48, 100, 150, 202, 253, 304], "max_sizes": [100, 150, 202, 253, 304, 320]}"#).unwrap();
        close(s.base_anchors[0].as_flattened(), &[
            -16.0, -16.0, 32.0, 32.0, -16.494898, -40.989796, 32.494896, 56.989796, -26.641018, -26.641018, 42.641018, 42.641018,
            -25.941124, -8.970562, 41.941124, 24.970562, -40.989796, -16.494898, 56.989796, 32.494896, -8.970562, -25.941124, 24.970562, 41.941124,
        ]);
        let s = make(r#"{"strides": [8, 16, 32, 64, 128, 256, 512], "ratios": [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]],
            "basesize_ratio_range": [0.1, 0.9], "input_size": 512, "scale_major": false}"#).unwrap();
        assert_eq!(s.base_anchors[0][0], [-6.0, -6.0, 14.0, 14.0]);
        close(&s.base_anchors[6][1], &[6.3402405, 6.3402405, 505.65976, 505.65976]);
        let legacy = LegacySSDAnchorGenerator::new(&serde_json::from_str(SSD300).unwrap()).unwrap();
        assert_eq!(legacy.grid_priors(&[(1, 1); 6]).unwrap()[0],
            [[-6.0, -6.0, 14.0, 14.0], [-11.0, -11.0, 18.0, 18.0], [-11.0, -3.0, 18.0, 10.0], [-3.0, -11.0, 10.0, 18.0]]);
    }

    #[test]
    fn unknown_inputs_and_wrong_counts_are_refused() {
        assert!(make(&SSD300.replace("\"input_size\": 300", "\"input_size\": 320")).is_err());
        assert!(make(&SSD300.replace("0.15", "0.16")).is_err());
        assert!(make(&SSD300.replace("[2], [2]]", "[2]]")).is_err());
        assert!(make(&SSD300.replace("\"scale_major\": false", "\"min_sizes\": [1, 2, 3, 4, 5, 6]")).is_err());
        assert!(make(r#"{"strides": [8, 16], "ratios": [[2], [2]]}"#).is_err());
    }
}
