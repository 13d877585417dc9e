//! Features of regions: mmdet's `single_level_roi_extractor.py`.

use candle_core::{DType, Result, Tensor, bail};
use mmcv::cnn::bricks::Pair;
use mmcv::config::Node;
use mmcv::nn::VarBuilder;
use mmcv::ops::{PoolMode, RoiAlignConfig, roi_align, roi_pool};
use mmcv::registry::registry;
use mmcv::{Error, register};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::models::losses::zero_loss;

/// A region: the image's place in the batch, then `[x1, y1, x2, y2]` in the network input's pixels.
pub type Roi = [f32; 5];

/// Cuts regions out of feature maps.
pub trait RoiExtractor: Send + Sync {
    /// `feats[l]` `[B, C, H_l, W_l]` and `n` regions to `[n, C, h, w]`.
    fn forward(&self, feats: &[Tensor], rois: &[Roi]) -> Result<Tensor>;

    /// How many levels it looks at, from the finest on.
    fn num_inputs(&self) -> usize;
}

registry!(
    /// What cuts regions out of feature maps.
    pub ROI_EXTRACTORS: dyn RoiExtractor, VarBuilder
);

/// `type = "SingleRoIExtractor"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SingleRoIExtractorConfig {
    /// `RoIAlign` or `RoIPool`, and its arguments.
    pub roi_layer: Node,
    /// Channels of the levels.
    pub out_channels: usize,
    /// Stride of each level.
    pub featmap_strides: Vec<f64>,
    /// Regions below twice this size are cut out of the finest level; default 56.
    #[serde(default = "finest_scale")]
    pub finest_scale: f64,
    /// Accepted; there is nothing to start.
    #[serde(default)]
    pub init_cfg: Option<Node>,
}

fn finest_scale() -> f64 {
    56.0
}

/// `roi_layer` of type `RoIAlign`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RoIAlignLayer {
    output_size: Pair,
    #[serde(default)]
    sampling_ratio: usize,
    #[serde(default = "avg")]
    pool_mode: String,
    #[serde(default = "yes")]
    aligned: bool,
    #[serde(default, rename = "use_torchvision")]
    _use_torchvision: bool,
}

/// `roi_layer` of type `RoIPool`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RoIPoolLayer {
    output_size: Pair,
}

fn avg() -> String {
    "avg".into()
}
fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy)]
enum Layer {
    Align(RoiAlignConfig),
    Pool((usize, usize)),
}

impl Layer {
    fn parse(node: &Node) -> mmcv::Result<Self> {
        let size = |pair: Pair| {
            let [h, w] = pair.get();
            (h, w)
        };
        match node.type_name() {
            Some("RoIAlign") => {
                let cfg: RoIAlignLayer = node.without("type").parse()?;
                let pool_mode = match cfg.pool_mode.as_str() {
                    "avg" => PoolMode::Avg,
                    "max" => PoolMode::Max,
                    other => return Err(node.error(format!("'{other}', expected 'avg' or 'max'")).under("pool_mode")),
                };
                Ok(Self::Align(RoiAlignConfig {
                    output_size: size(cfg.output_size),
                    spatial_scale: 1.0,
                    sampling_ratio: cfg.sampling_ratio,
                    pool_mode,
                    aligned: cfg.aligned,
                }))
            }
            Some("RoIPool") => Ok(Self::Pool(size(node.without("type").parse::<RoIPoolLayer>()?.output_size))),
            other => Err(node.error(format!("{other:?}, expected RoIAlign or RoIPool")).under("type")),
        }
    }

    fn output_size(self) -> (usize, usize) {
        match self {
            Self::Align(cfg) => cfg.output_size,
            Self::Pool(size) => size,
        }
    }

    fn forward(self, x: &Tensor, rois: &Tensor, stride: f64) -> Result<Tensor> {
        match self {
            Self::Align(cfg) => roi_align(x, rois, &RoiAlignConfig { spatial_scale: 1.0 / stride, ..cfg }),
            Self::Pool(size) => roi_pool(x, rois, size, 1.0 / stride),
        }
    }
}

/// Each region from the level that suits its size (Lin et al., CVPR 2017).
#[derive(Debug)]
pub struct SingleRoIExtractor {
    layer: Layer,
    out_channels: usize,
    strides: Vec<f64>,
    finest_scale: f32,
}

impl SingleRoIExtractor {
    /// Has no parameters.
    pub fn new(cfg: &SingleRoIExtractorConfig, _: VarBuilder) -> mmcv::Result<Self> {
        if cfg.featmap_strides.is_empty() || cfg.featmap_strides.iter().any(|s| s.is_nan() || *s <= 0.0) {
            return Err(Error::config("must name a stride above 0 for each level").under("featmap_strides"));
        }
        Ok(Self {
            layer: Layer::parse(&cfg.roi_layer).map_err(|e| e.under("roi_layer"))?,
            out_channels: cfg.out_channels,
            strides: cfg.featmap_strides.clone(),
            finest_scale: cfg.finest_scale as f32,
        })
    }

    /// The level of a region, of `levels`.
    fn level(&self, roi: &Roi, levels: usize) -> usize {
        let scale = ((roi[3] - roi[1]) * (roi[4] - roi[2])).sqrt();
        let level = (scale / self.finest_scale + 1e-6).log2().floor();
        // Not a number for an inside-out region: the finest.
        level.clamp(0.0, levels as f32 - 1.0) as usize
    }
}

impl RoiExtractor for SingleRoIExtractor {
    fn forward(&self, feats: &[Tensor], rois: &[Roi]) -> Result<Tensor> {
        let Some(first) = feats.first() else { bail!("SingleRoIExtractor: no levels") };
        if feats.len() > self.strides.len() {
            bail!("SingleRoIExtractor: {} levels came in, featmap_strides has {}", feats.len(), self.strides.len());
        }
        let (h, w) = self.layer.output_size();
        let device = first.device();
        let cut = |l: usize, own: &[Roi]| {
            let rois = Tensor::from_vec(own.concat(), (own.len(), 5), device)?;
            self.layer.forward(&feats[l], &rois, self.strides[l])
        };
        if rois.is_empty() {
            return Tensor::zeros((0, self.out_channels, h, w), DType::F32, device);
        }
        if feats.len() == 1 {
            return cut(0, rois);
        }
        let mut of_level: Vec<Vec<usize>> = vec![Vec::new(); feats.len()];
        for (i, roi) in rois.iter().enumerate() {
            of_level[self.level(roi, feats.len())].push(i);
        }
        let mut parts = Vec::new();
        let mut unused: Option<Tensor> = None;
        let mut place = vec![0u32; rois.len()];
        let mut done = 0;
        for (l, inds) in of_level.iter().enumerate() {
            if inds.is_empty() {
                // Keeps every level in the graph, as the original does.
                if feats[l].track_op() {
                    let zero = zero_loss(&feats[l])?;
                    unused = Some(match unused {
                        Some(sum) => (sum + zero)?,
                        None => zero,
                    });
                }
                continue;
            }
            let own: Vec<Roi> = inds.iter().map(|i| rois[*i]).collect();
            parts.push(cut(l, &own)?);
            for i in inds {
                place[*i] = done;
                done += 1;
            }
        }
        let n = place.len();
        let mut all = match parts.as_slice() {
            [one] => one.clone(),
            several => Tensor::cat(several, 0)?.index_select(&Tensor::from_vec(place, n, device)?, 0)?,
        };
        if let Some(zero) = unused {
            all = all.broadcast_add(&zero)?;
        }
        Ok(all)
    }

    fn num_inputs(&self) -> usize {
        self.strides.len()
    }
}

register!(ROI_EXTRACTORS: dyn RoiExtractor, "SingleRoIExtractor" => SingleRoIExtractor, SingleRoIExtractorConfig);

#[cfg(test)]
mod tests {
    use super::*;

    // SingleRoIExtractor(dict(type='RoIAlign', output_size=7), 8, [4, 8, 16, 32]).map_roi_levels(rois, 4)
    #[test]
    fn regions_go_to_the_level_of_their_size() {
        let json = r#"{"roi_layer": {"type": "RoIAlign", "output_size": 7}, "out_channels": 8, "featmap_strides": [4, 8, 16, 32]}"#;
        let cfg = Node::from_json(json).unwrap().parse().unwrap();
        let extractor = SingleRoIExtractor::new(&cfg, VarBuilder::scratch()).unwrap();
        for (size, level) in [(10.0, 0), (111.9, 0), (112.0, 1), (223.0, 1), (224.0, 2), (448.0, 3), (2000.0, 3)] {
            assert_eq!(extractor.level(&[0.0, 5.0, 5.0, 5.0 + size, 5.0 + size], 4), level, "{size}");
        }
        assert_eq!(extractor.level(&[0.0, 9.0, 0.0, 5.0, 5.0], 4), 0);
    }
}
