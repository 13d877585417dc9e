//! NAS-FPN: Learning Scalable Feature Pyramid Architecture for Object Detection, Ghiasi et al., CVPR 2019
//! (<https://arxiv.org/abs/1904.07392>).

use candle_core::{Result, Tensor, bail};
use mmcv::cnn::bricks::{MergeCell, MergeOp};
use mmcv::cnn::{ConvModule, ConvModuleConfig, ConvSpec};
use mmcv::config::Node;
use mmcv::nn::{Ctx, VarBuilder};
use mmcv::{Error, ops, register};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{NECKS, Neck};

/// `type = "NASFPN"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NasFpnConfig {
    /// Channels of each backbone level, fine to coarse.
    pub in_channels: Vec<usize>,
    /// Channels of every output level.
    pub out_channels: usize,
    /// Number of output levels; the architecture is made for 5.
    pub num_outs: usize,
    /// How often the pyramid is repeated.
    pub stack_times: usize,
    /// First backbone level used; default 0.
    #[serde(default)]
    pub start_level: usize,
    /// Last backbone level used; default -1, the last.
    #[serde(default = "minus_one")]
    pub end_level: i64,
    /// Accepted; the original doesn't use it either.
    #[serde(default)]
    pub add_extra_convs: Option<Node>,
    /// Kind of norm; default none.
    #[serde(default)]
    pub norm_cfg: Option<Node>,
    /// How weights start; default Caffe2's Xavier for convolutions.
    #[serde(default = "init_cfg")]
    pub init_cfg: Node,
}

fn minus_one() -> i64 {
    -1
}
fn init_cfg() -> Node {
    Node::from_json(r#"{"type": "Caffe2Xavier", "layer": "Conv2d"}"#).expect("the default is JSON")
}

/// The cells of one repetition, named by what they join: `gp_64_4` pools P6 into P4.
struct Stage {
    gp_64_4: MergeCell,
    sum_44_4: MergeCell,
    sum_43_3: MergeCell,
    sum_34_4: MergeCell,
    gp_43_5: MergeCell,
    sum_55_5: MergeCell,
    gp_54_7: MergeCell,
    sum_77_7: MergeCell,
    gp_75_6: MergeCell,
}

/// Keys: `lateral_convs.{i}.*`, `extra_downsamples.{i}.0.*`, `fpn_stages.{i}.{cell}.out_conv.*`.
pub struct NasFpn {
    lateral_convs: Vec<ConvModule>,
    extra_downsamples: Vec<ConvModule>,
    fpn_stages: Vec<Stage>,
    start_level: usize,
    num_ins: usize,
}

impl NasFpn {
    /// The neck at `vb`.
    pub fn new(cfg: &NasFpnConfig, vb: VarBuilder) -> mmcv::Result<Self> {
        let ins = cfg.in_channels.len();
        let to_last = cfg.end_level == -1 || cfg.end_level == ins as i64 - 1;
        let end = if to_last { ins } else { usize::try_from(cfg.end_level + 1).unwrap_or(0) };
        if cfg.start_level >= end || end > ins {
            let message = format!("levels {}..{end} of a backbone with {ins}", cfg.start_level);
            return Err(Error::config(message).under("end_level"));
        }
        let used = end - cfg.start_level;
        if cfg.num_outs != 5 || used > 5 || (!to_last && used != 5) {
            let message = format!("is {}: the architecture has 5 levels, {used} of them the backbone's", cfg.num_outs);
            return Err(Error::config(message).under("num_outs"));
        }
        vb.init_cfg(&cfg.init_cfg);
        let (c, norm) = (cfg.out_channels, cfg.norm_cfg.as_ref());
        let one = |from: usize, vb: VarBuilder| {
            ConvModule::new(ConvModuleConfig::new(ConvSpec::new(from, c, 1)).norm(norm).act(None), vb)
        };
        let mut lateral_convs = Vec::new();
        for (i, channels) in cfg.in_channels[cfg.start_level..end].iter().enumerate() {
            lateral_convs.push(one(*channels, vb.pp("lateral_convs").pp(i))?);
        }
        let mut extra_downsamples = Vec::new();
        for i in 0..cfg.num_outs - used {
            extra_downsamples.push(one(c, vb.pp("extra_downsamples").pp(i).pp(0))?);
        }
        let mut fpn_stages = Vec::new();
        for i in 0..cfg.stack_times {
            let vb = vb.pp("fpn_stages").pp(i);
            let cell = |op: MergeOp, name: &str| MergeCell::new(op, c, c, norm, &vb.pp(name));
            fpn_stages.push(Stage {
                gp_64_4: cell(MergeOp::GlobalPooling, "gp_64_4")?,
                sum_44_4: cell(MergeOp::Sum, "sum_44_4")?,
                sum_43_3: cell(MergeOp::Sum, "sum_43_3")?,
                sum_34_4: cell(MergeOp::Sum, "sum_34_4")?,
                gp_43_5: MergeCell::without_conv(MergeOp::GlobalPooling),
                sum_55_5: cell(MergeOp::Sum, "sum_55_5")?,
                gp_54_7: MergeCell::without_conv(MergeOp::GlobalPooling),
                sum_77_7: cell(MergeOp::Sum, "sum_77_7")?,
                gp_75_6: cell(MergeOp::GlobalPooling, "gp_75_6")?,
            });
        }
        Ok(Self { lateral_convs, extra_downsamples, fpn_stages, start_level: cfg.start_level, num_ins: ins })
    }
}

impl Stage {
    /// P3 to P7 in and out.
    fn forward(&self, levels: [Tensor; 5], ctx: &Ctx) -> Result<[Tensor; 5]> {
        let [p3, p4, p5, p6, p7] = levels;
        let size = |x: &Tensor| Ok::<_, candle_core::Error>((x.dim(2)?, x.dim(3)?));
        let (s3, s4, s5, s6, s7) = (size(&p3)?, size(&p4)?, size(&p5)?, size(&p6)?, size(&p7)?);
        let p4_1 = self.gp_64_4.forward(&p6, &p4, s4, ctx)?;
        let p4_2 = self.sum_44_4.forward(&p4_1, &p4, s4, ctx)?;
        let p3 = self.sum_43_3.forward(&p4_2, &p3, s3, ctx)?;
        let p4 = self.sum_34_4.forward(&p3, &p4_2, s4, ctx)?;
        let p5_tmp = self.gp_43_5.forward(&p4, &p3, s5, ctx)?;
        let p5 = self.sum_55_5.forward(&p5, &p5_tmp, s5, ctx)?;
        let p7_tmp = self.gp_54_7.forward(&p5, &p4_2, s7, ctx)?;
        let p7 = self.sum_77_7.forward(&p7, &p7_tmp, s7, ctx)?;
        let p6 = self.gp_75_6.forward(&p7, &p5, s6, ctx)?;
        Ok([p3, p4, p5, p6, p7])
    }
}

impl Neck for NasFpn {
    /// # Shapes
    /// - `feats[l]`: `[B, in_channels[l], H_l, W_l]`, one per backbone level
    /// - output `l` of 5: `[B, out_channels, H, W]` of backbone level `start_level + l`, halved for each level past the last
    fn forward(&self, feats: &[Tensor], ctx: &Ctx) -> Result<Vec<Tensor>> {
        if feats.len() != self.num_ins {
            bail!("NASFPN: {} levels came in, in_channels names {}", feats.len(), self.num_ins);
        }
        let mut levels = Vec::new();
        for (conv, x) in self.lateral_convs.iter().zip(&feats[self.start_level..]) {
            levels.push(conv.forward(x, ctx)?);
        }
        for conv in &self.extra_downsamples {
            let Some(last) = levels.last() else { bail!("NASFPN: no levels") };
            levels.push(ops::max_pool2d(&conv.forward(last, ctx)?, [2, 2], [2, 2], [0, 0], false)?);
        }
        let Ok(levels) = <[Tensor; 5]>::try_from(levels) else { bail!("NASFPN has 5 levels") };
        Ok(self.fpn_stages.iter().try_fold(levels, |levels, stage| stage.forward(levels, ctx))?.to_vec())
    }
}

register!(NECKS: dyn Neck, "NASFPN" => NasFpn, NasFpnConfig);
