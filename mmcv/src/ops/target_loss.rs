//! Losses of scores with a target in `[0, 1]` for each class: focal and asymmetric. The target is a constant.

use candle_core::{Result, Tensor};

use super::element_loss::{Pointwise, apply, bce_value};
use super::math::sigmoid;

#[derive(Clone, Copy)]
struct Focal {
    gamma: f32,
    alpha: f32,
}

impl Pointwise for Focal {
    const NAME: &'static str = "sigmoid_focal_loss_of_targets";

    #[inline(always)]
    fn value(self, x: f32, t: f32) -> f32 {
        let p = sigmoid(x);
        let off = (1.0 - p) * t + p * (1.0 - t);
        (self.alpha * t + (1.0 - self.alpha) * (1.0 - t)) * off.powf(self.gamma) * bce_value(x, t)
    }

    #[inline(always)]
    fn slope(self, x: f32, t: f32) -> f32 {
        let p = sigmoid(x);
        let off = (1.0 - p) * t + p * (1.0 - t);
        let turn = p * (1.0 - p) * (1.0 - 2.0 * t);
        let bend = if self.gamma == 0.0 { 0.0 } else { self.gamma * off.powf(self.gamma - 1.0) * turn };
        let weight = self.alpha * t + (1.0 - self.alpha) * (1.0 - t);
        weight * (bend * bce_value(x, t) + off.powf(self.gamma) * (p - t))
    }
}

#[derive(Clone, Copy)]
struct Asymmetric {
    gamma_pos: f32,
    gamma_neg: f32,
    clip: f32,
    eps: f32,
}

impl Asymmetric {
    /// The probability of the truth, its slope, and the exponent.
    #[inline(always)]
    fn parts(self, p: f32, t: f32) -> (f32, f32, f32) {
        let no = 1.0 - p + self.clip;
        let (no, turn) = if self.clip > 0.0 && no > 1.0 { (1.0, 0.0) } else { (no, -1.0) };
        let exponent = self.gamma_pos * t + self.gamma_neg * (1.0 - t);
        (no * (1.0 - t) + p * t, turn * (1.0 - t) + t, exponent)
    }
}

impl Pointwise for Asymmetric {
    const NAME: &'static str = "asymmetric_loss";

    #[inline(always)]
    fn value(self, p: f32, t: f32) -> f32 {
        let (truth, _, exponent) = self.parts(p, t);
        -truth.max(self.eps).ln() * (1.0 - truth).powf(exponent)
    }

    #[inline(always)]
    fn slope(self, p: f32, t: f32) -> f32 {
        let (truth, turn, exponent) = self.parts(p, t);
        let log = if truth >= self.eps { turn / truth } else { 0.0 };
        let bend = if exponent == 0.0 { 0.0 } else { exponent * (1.0 - truth).powf(exponent - 1.0) * turn };
        -log * (1.0 - truth).powf(exponent) + truth.max(self.eps).ln() * bend
    }
}

/// Focal loss of logits with a target for each class, unreduced: Lin et al., ICCV 2017
/// (<https://arxiv.org/abs/1708.02002>), mmcls's `sigmoid_focal_loss`.
///
/// # Shapes
/// - `pred`, `target`: one shape, targets in `[0, 1]`
pub fn sigmoid_focal_loss_of_targets(pred: &Tensor, target: &Tensor, gamma: f64, alpha: f64) -> Result<Tensor> {
    apply(vec![Focal { gamma: gamma as f32, alpha: alpha as f32 }], pred, target)
}

/// Asymmetric loss of probabilities with a target for each class, unreduced: Ridnik et al., ICCV 2021
/// (<https://arxiv.org/abs/2009.14119>). Negatives below `clip` count as right; 0 is no clip.
///
/// # Shapes
/// - `probability`, `target`: one shape, in `[0, 1]`
pub fn asymmetric_loss(
    probability: &Tensor,
    target: &Tensor,
    [gamma_pos, gamma_neg]: [f64; 2],
    clip: f64,
    eps: f64,
) -> Result<Tensor> {
    let (gamma_pos, gamma_neg) = (gamma_pos as f32, gamma_neg as f32);
    apply(vec![Asymmetric { gamma_pos, gamma_neg, clip: clip as f32, eps: eps as f32 }], probability, target)
}
