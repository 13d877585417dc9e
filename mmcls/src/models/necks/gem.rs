//! Fine-tuning CNN Image Retrieval with No Human Annotation, Radenović et al., TPAMI 2018
//! (<https://arxiv.org/abs/1711.02512>); mmcls's `gem.py`.

use candle_core::{Result, Tensor};
use mmcv::nn::{Init, Param, VarBuilder};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{NECKS, Neck};

/// `type = "GeneralizedMeanPooling"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneralizedMeanPoolingConfig {
    /// The power, at least 1; default 3.
    #[serde(default = "three")]
    pub p: f64,
    /// Values below count as this; default 1e-6.
    #[serde(default = "tiny")]
    pub eps: f64,
    /// Whether values below `eps` are raised to it; default true.
    #[serde(default = "yes")]
    pub clamp: bool,
}

fn three() -> f64 {
    3.0
}
fn tiny() -> f64 {
    1e-6
}
fn yes() -> bool {
    true
}

/// `mean(x^p)^(1/p)` over space. Key: `p`.
pub struct GeneralizedMeanPooling {
    p: Param,
    eps: f64,
    clamp: bool,
}

impl GeneralizedMeanPooling {
    /// The power starts as the config says and is trained.
    pub fn new(cfg: &GeneralizedMeanPoolingConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        if cfg.p < 1.0 {
            return Err(mmcv::Error::config(format!("is {}, expected at least 1", cfg.p)).under("p"));
        }
        let p = vb.layer("GeneralizedMeanPooling").param("p", 1, Init::Const(cfg.p))?;
        Ok(Self { p, eps: cfg.eps, clamp: cfg.clamp })
    }
}

impl Neck for GeneralizedMeanPooling {
    fn forward(&self, feats: &[Tensor]) -> Result<Vec<Tensor>> {
        let p = self.p.get();
        let one = |x: &Tensor| {
            let x = x.flatten_from(2)?;
            let x = if self.clamp { x.maximum(self.eps)? } else { x };
            // x^p as exp(p log x), whose gradient reaches p.
            let powered = x.log()?.broadcast_mul(&p)?.exp()?;
            powered.mean(2)?.log()?.broadcast_div(&p)?.exp()
        };
        feats.iter().map(one).collect()
    }
}

register!(NECKS: dyn Neck, "GeneralizedMeanPooling" => GeneralizedMeanPooling, GeneralizedMeanPoolingConfig);
