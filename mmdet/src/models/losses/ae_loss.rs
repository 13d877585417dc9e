//! Associative embedding: Newell et al., NeurIPS 2017 (<https://arxiv.org/abs/1611.05424>) and CornerNet: mmdet's `ae_loss.py`.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use mmcv::register;
use schemars::JsonSchema;
use serde::Deserialize;

use super::element::values;
use super::utils::{Loss, Reduction};
use crate::registry::LOSSES;

/// The corners of one object: `[y, x]` of the top left and of the bottom right, on the embedding maps.
pub type Corners = [[usize; 2]; 2];

/// Pull and push of a batch. Both maps have `[B, M, H, W]`.
#[derive(Debug, Clone)]
struct Op {
    /// Objects of each image.
    matches: Vec<Vec<Corners>>,
    weights: [f32; 2],
    dims: [usize; 4],
}

impl Op {
    fn place(&self, image: usize, m: usize, at: [usize; 2]) -> usize {
        let [_, channels, h, w] = self.dims;
        ((image * channels + m) * h + at[0]) * w + at[1]
    }

    /// Places in the two maps of one image's embeddings. As in mmdet each channel of an object is an embedding of its own.
    fn embeddings(&self, image: usize) -> Vec<[usize; 2]> {
        let channels = self.dims[1];
        let of = |c: &Corners| {
            let (tl, br) = (c[0], c[1]);
            (0..channels).map(move |m| [self.place(image, m, tl), self.place(image, m, br)])
        };
        self.matches[image].iter().flat_map(of).collect()
    }

    /// Weighted pull and push of one image, and their derivatives by each embedding of the two maps; `grads` are the
    /// gradients of the two losses.
    fn image(&self, places: &[[usize; 2]], tl: &[f32], br: &[f32], grads: [f32; 2]) -> ([f32; 2], Vec<[f32; 2]>) {
        let n = places.len();
        let mut slopes = vec![[0f32; 2]; n];
        let (mut pull, mut push) = (0f32, 0f32);
        let mut means = Vec::with_capacity(n);
        for (at, slope) in places.iter().zip(&mut slopes) {
            let (a, b) = (tl[at[0]], br[at[1]]);
            let mean = (a + b) / 2.0;
            pull += (a - mean).powi(2) + (b - mean).powi(2);
            let by_a = (a - b) / n as f32 * self.weights[0] * grads[0];
            *slope = [by_a, -by_a];
            means.push(mean);
        }
        // Different embeddings are to be 1 apart.
        let share = 1.0 / (n * n.saturating_sub(1)).max(1) as f32;
        for i in 0..n {
            for j in (0..n).filter(|j| *j != i) {
                let apart = means[i] - means[j];
                let lack = 1.0 - apart.abs();
                if lack > 0.0 {
                    push += lack * share;
                    let sign = if apart == 0.0 { 0.0 } else { apart.signum() };
                    let by_mean = -sign * share * self.weights[1] * grads[1] * 0.5;
                    slopes[i].iter_mut().for_each(|s| *s += by_mean);
                    slopes[j].iter_mut().for_each(|s| *s -= by_mean);
                }
            }
        }
        ([pull / n.max(1) as f32 * self.weights[0], push * self.weights[1]], slopes)
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        "associative_embedding_loss"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (tl, br) = (values("ae_loss", s1, l1)?, values("ae_loss", s2, l2)?);
        let mut out = vec![0f32; 2];
        for image in 0..self.matches.len() {
            let (losses, _) = self.image(&self.embeddings(image), tl, br, [0.0; 2]);
            out.iter_mut().zip(losses).for_each(|(o, l)| *o += l);
        }
        Ok((CpuStorage::F32(out), Shape::from(2)))
    }

    fn bwd(&self, tl: &Tensor, br: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let side = |side| tl.apply_op3_no_bwd(br, &grad, &Backward { op: self.clone(), side });
        Ok((Some(side(0)?), Some(side(1)?)))
    }
}

/// The gradient of the top left map (side 0) or of the other.
struct Backward {
    op: Op,
    side: usize,
}

impl CustomOp3 for Backward {
    fn name(&self) -> &'static str {
        "associative_embedding_loss_backward"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (tl, br) = (values("ae_loss", s1, l1)?, values("ae_loss", s2, l2)?);
        let grads = values("ae_loss", s3, l3)?;
        let mut out = vec![0f32; tl.len()];
        for image in 0..self.op.matches.len() {
            let places = self.op.embeddings(image);
            let (_, slopes) = self.op.image(&places, tl, br, [grads[0], grads[1]]);
            places.iter().zip(slopes).for_each(|(at, slope)| out[at[self.side]] += slope[self.side]);
        }
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

/// `type = "AssociativeEmbeddingLoss"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssociativeEmbeddingLossConfig {
    /// Factor of the pull between corners of one object; default 0.25.
    #[serde(default = "quarter")]
    pub pull_weight: f64,
    /// Factor of the push between objects; default 0.25.
    #[serde(default = "quarter")]
    pub push_weight: f64,
}

fn quarter() -> f64 {
    0.25
}

/// Associative embedding loss.
#[derive(Debug, Clone)]
pub struct AssociativeEmbeddingLoss(AssociativeEmbeddingLossConfig);

impl AssociativeEmbeddingLoss {
    /// Always succeeds.
    pub fn new(cfg: &AssociativeEmbeddingLossConfig) -> Result<Self> {
        Ok(Self(cfg.clone()))
    }

    /// Pull and push, `[2]`; gradients flow to both maps.
    ///
    /// # Shapes
    /// - `tl`, `br`: `[B, M, H, W]` embeddings of top left and bottom right corners
    /// - `matches`: the objects of each image
    pub fn losses(&self, tl: &Tensor, br: &Tensor, matches: &[Vec<Corners>]) -> Result<Tensor> {
        let (b, m, h, w) = tl.dims4()?;
        let outside = |at: &[usize; 2]| at[0] >= h || at[1] >= w;
        if br.dims() != tl.dims() || matches.len() != b || matches.iter().flatten().flatten().any(outside) {
            bail!(
                "AssociativeEmbeddingLoss: maps {:?} and {:?} with {} images of matches, which must lie on them",
                tl.dims(),
                br.dims(),
                matches.len()
            );
        }
        let weights = [self.0.pull_weight as f32, self.0.push_weight as f32];
        let op = Op { matches: matches.to_vec(), weights, dims: [b, m, h, w] };
        tl.contiguous()?.apply_op2(&br.contiguous()?, op)
    }
}

impl Loss for AssociativeEmbeddingLoss {
    /// [`AssociativeEmbeddingLoss::losses`] of top left `pred` and bottom right `target`; `weight` holds the matches as
    /// rows `[image, tl_y, tl_x, br_y, br_x]`. The result is `[2]`, pull and push.
    fn forward(
        &self,
        pred: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
        _: Option<f64>,
        _: Option<Reduction>,
    ) -> Result<Tensor> {
        let Some(rows) = weight else { bail!("AssociativeEmbeddingLoss: needs the matches as weight, [objects, 5]") };
        let mut matches = vec![Vec::new(); pred.dim(0)?];
        for row in rows.to_dtype(DType::F32)?.to_vec2::<f32>()? {
            let [image, ty, tx, by, bx] = row[..] else { bail!("AssociativeEmbeddingLoss: a match is not 5 numbers") };
            let Some(of) = matches.get_mut(image as usize) else { bail!("AssociativeEmbeddingLoss: no image {image}") };
            of.push([[ty as usize, tx as usize], [by as usize, bx as usize]]);
        }
        self.losses(pred, target, &matches)
    }
}

register!(LOSSES: dyn Loss, "AssociativeEmbeddingLoss" => AssociativeEmbeddingLoss(AssociativeEmbeddingLossConfig));
