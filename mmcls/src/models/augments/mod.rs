//! Mixing of a batch's images and labels in training; mmcls's `models/utils/augment`.

mod cutmix;
mod identity;
mod mixup;
mod resizemix;

use candle_core::{DType, Result, Tensor};
use mmcv::config::Node;
use mmcv::registry::{build, registry};
use mmcv::{Error, Rng};

pub use cutmix::{BatchCutMix, BatchCutMixConfig};
pub use identity::{Identity, IdentityConfig};
pub use mixup::{BatchMixup, BatchMixupConfig};
pub use resizemix::{BatchResizeMix, BatchResizeMixConfig, ResizeMode};

use super::losses::one_hot;

/// A way of mixing a batch.
pub trait Augment: Send + Sync {
    /// How likely it is drawn.
    fn prob(&self) -> f64;

    /// Number of classes.
    fn num_classes(&self) -> usize;

    /// Mixed images and labels.
    ///
    /// # Shapes
    /// - `img`: `[B, C, H, W]`
    /// - `label`: `[B]` i64, or `[B, classes]`
    /// - output: `[B, C, H, W]` and `[B, classes]` f32
    fn apply(&self, img: &Tensor, label: &Tensor, rng: &mut Rng) -> Result<(Tensor, Tensor)>;
}

registry!(
    /// Ways of mixing a batch.
    pub AUGMENT: dyn Augment, ()
);

/// What `train_cfg.augments` names: for each batch one is drawn by the probabilities; what they leave is [`Identity`]'s.
pub struct Augments(Vec<Box<dyn Augment>>);

/// Sums of probabilities are off by roundings.
const ROUNDING: f64 = 1e-9;

impl Augments {
    /// Of one augment's node, or a list; an error for none, and when the probabilities don't sum up.
    pub fn new(node: &Node) -> mmcv::Result<Self> {
        let nodes: &[Node] = node.as_list().unwrap_or(std::slice::from_ref(node));
        if nodes.is_empty() {
            return Err(node.error("is empty, expected at least one augment"));
        }
        let numbered = node.as_list().is_some();
        let one = |(i, augment): (usize, &Node)| {
            build(&AUGMENT, augment, ()).map_err(|e| if numbered { e.under(&i.to_string()) } else { e })
        };
        let mut augments = nodes.iter().enumerate().map(one).collect::<mmcv::Result<Vec<_>>>()?;
        let sum: f64 = augments.iter().map(|a| a.prob()).sum();
        let whole = nodes.iter().any(|n| n.type_name() == Some("Identity"));
        if sum > 1.0 + ROUNDING || (whole && sum < 1.0 - ROUNDING) {
            let wanted = if whole { "1 with Identity among them" } else { "at most 1" };
            return Err(node.error(format!("the probabilities sum up to {sum:.2}, expected {wanted}")));
        }
        if !whole && sum < 1.0 {
            let num_classes = augments.first().map_or(0, |a| a.num_classes());
            augments.push(Box::new(Identity::new(&IdentityConfig { num_classes, prob: (1.0 - sum).max(0.0) })?));
        }
        Ok(Self(augments))
    }

    /// One of them, by the probabilities.
    fn draw(&self, rng: &mut Rng) -> Option<&dyn Augment> {
        let sum: f64 = self.0.iter().map(|a| a.prob()).sum();
        let mut left = rng.uniform(0.0, sum);
        for augment in &self.0 {
            left -= augment.prob();
            if left < 0.0 {
                return Some(&**augment);
            }
        }
        self.0.last().map(|a| &**a)
    }

    /// Mixed images `[B, C, H, W]` and labels `[B, classes]` f32.
    pub fn apply(&self, img: &Tensor, label: &Tensor, rng: &mut Rng) -> Result<(Tensor, Tensor)> {
        match self.draw(rng) {
            Some(augment) => augment.apply(img, label, rng),
            None => Ok((img.clone(), label.clone())),
        }
    }
}

fn one() -> f64 {
    1.0
}

/// What all of them refuse in a config.
fn checked(num_classes: usize, prob: f64, alpha: Option<f64>) -> mmcv::Result<()> {
    let error = |message: String, key: &str| Err(Error::config(message).under(key));
    if num_classes == 0 {
        return error("is 0, expected at least 1".into(), "num_classes");
    }
    if !(0.0..=1.0).contains(&prob) {
        return error(format!("is {prob}, expected 0 to 1"), "prob");
    }
    match alpha {
        Some(alpha) if !(alpha > 0.0 && alpha.is_finite()) => error(format!("is {alpha}, expected above 0"), "alpha"),
        _ => Ok(()),
    }
}

/// A random partner for each of `n` images.
fn partners(n: usize, rng: &mut Rng) -> Vec<u32> {
    rng.permutation(n).into_iter().map(|i| i as u32).collect()
}

/// `lam` of each row of `x` and the rest of its partner's.
fn blended(x: &Tensor, partners: &[u32], lam: f64) -> Result<Tensor> {
    let other = of_partners(x, partners)?;
    x.affine(lam, 0.0)? + other.affine(1.0 - lam, 0.0)?
}

/// The rows of the partners.
fn of_partners(x: &Tensor, partners: &[u32]) -> Result<Tensor> {
    x.contiguous()?.index_select(&Tensor::new(partners, x.device())?, 0)
}

/// Labels as rows, each `lam` of its own and the rest of its partner's.
fn mixed_labels(label: &Tensor, classes: usize, partners: &[u32], lam: f64) -> Result<Tensor> {
    blended(&one_hot(label, classes)?.to_dtype(DType::F32)?, partners, lam)
}

#[cfg(test)]
mod testing {
    use candle_core::{Device, Tensor};

    /// `torch.arange(48.).reshape(2, 1, 4, 6)`
    pub fn images() -> Tensor {
        Tensor::from_vec((0..48).map(|i| i as f32).collect::<Vec<_>>(), (2, 1, 4, 6), &Device::Cpu).unwrap()
    }

    /// `torch.tensor([0, 2])`
    pub fn labels() -> Tensor {
        Tensor::new(&[0i64, 2], &Device::Cpu).unwrap()
    }

    /// The images `[2, 1, 4, 6]` as two rows.
    pub fn rows(img: &Tensor) -> Vec<Vec<f32>> {
        img.reshape((2, 24)).unwrap().to_vec2().unwrap()
    }

    /// Whether all are within 1e-4.
    pub fn near(found: &[f32], want: &[f32]) {
        let same = found.len() == want.len() && found.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(same, "{found:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{images, labels, rows};
    use super::*;

    fn made(json: &str) -> mmcv::Result<Augments> {
        Augments::new(&Node::from_json(json)?)
    }

    #[test]
    fn augments_are_drawn_by_their_probabilities() {
        let augments = made(
            r#"[{"type": "BatchMixup", "alpha": 1.0, "num_classes": 3, "prob": 0.5},
                {"type": "BatchCutMix", "alpha": 1.0, "num_classes": 3, "prob": 0.3}]"#,
        )
        .unwrap();
        assert_eq!(augments.0.len(), 3);
        let mut rng = Rng::new(1);
        let mut counts = [0; 3];
        for _ in 0..4000 {
            let prob = augments.draw(&mut rng).unwrap().prob();
            let at = augments.0.iter().position(|a| a.prob() == prob).unwrap();
            counts[at] += 1;
        }
        let near = |n: i32, share: f64| (f64::from(n) / 4000.0 - share).abs() < 0.03;
        assert!(near(counts[0], 0.5) && near(counts[1], 0.3) && near(counts[2], 0.2), "{counts:?}");
    }

    #[test]
    fn one_augment_needs_no_list_and_identity_makes_rows() {
        let augments = made(r#"{"type": "Identity", "num_classes": 3}"#).unwrap();
        let (img, label) = augments.apply(&images(), &labels(), &mut Rng::new(0)).unwrap();
        assert_eq!(rows(&img), rows(&images()));
        assert_eq!(label.to_vec2::<f32>().unwrap(), [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
        // Rows stay as they are.
        let (_, same) = augments.apply(&images(), &label, &mut Rng::new(0)).unwrap();
        assert_eq!(same.to_vec2::<f32>().unwrap(), label.to_vec2::<f32>().unwrap());
    }

    #[test]
    fn mistakes_are_named() {
        for (json, words) in [
            ("[]", "is empty"),
            (r#"[{"type": "BatchMixUp", "alpha": 1, "num_classes": 3}]"#, "did you mean 'BatchMixup'"),
            (r#"[{"type": "BatchMixup", "alpha": 0, "num_classes": 3}]"#, "0.alpha"),
            (r#"[{"type": "BatchMixup", "alpha": 1, "num_classes": 3, "prob": 1.2}]"#, "0.prob"),
            (r#"{"type": "BatchMixup", "alpha": 1, "num_classes": 0}"#, "num_classes"),
            (
                r#"[{"type": "BatchMixup", "alpha": 1, "num_classes": 3, "prob": 0.7},
                    {"type": "BatchCutMix", "alpha": 1, "num_classes": 3, "prob": 0.7}]"#,
                "sum up to 1.40, expected at most 1",
            ),
            (r#"{"type": "Identity", "num_classes": 3, "prob": 0.5}"#, "sum up to 0.50, expected 1"),
        ] {
            let e = made(json).err().expect(json);
            assert!(e.is_usage() && e.to_string().contains(words), "{e}");
        }
    }
}
