//! Named losses and their sum.

use candle_core::{DType, Result, Tensor};
use indexmap::IndexMap;

/// What a training step gives: scalars by name, in order. Those with `loss` in their name are summed and
/// trained; the others (`acc`) are only logged.
#[derive(Debug, Clone, Default)]
pub struct Losses(IndexMap<String, Tensor>);

impl Losses {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a loss; of more than one value, the mean counts. A name that is there already is replaced.
    pub fn push(&mut self, name: impl Into<String>, value: &Tensor) -> Result<()> {
        let value = if value.elem_count() == 1 { value.flatten_all()?.squeeze(0)? } else { value.mean_all()? };
        self.0.insert(name.into(), value);
        Ok(())
    }

    /// Adds the sum of the means of `values` (one per feature level, as a rule).
    pub fn push_sum(&mut self, name: impl Into<String>, values: &[Tensor]) -> Result<()> {
        let mut means = values.iter().map(Tensor::mean_all);
        let Some(first) = means.next() else { return Ok(()) };
        let sum = means.try_fold(first?, |sum, v| sum + v)?;
        self.0.insert(name.into(), sum);
        Ok(())
    }

    /// The loss called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// Takes in those of `other`, with `prefix` in front of their names.
    pub fn extend(&mut self, prefix: &str, other: Self) {
        self.0.extend(other.0.into_iter().map(|(k, v)| (format!("{prefix}{k}"), v)));
    }

    /// The sum of all whose name holds `loss`; nothing when there is none.
    pub fn total(&self) -> Result<Option<Tensor>> {
        let mut losses = self.0.iter().filter(|(name, _)| name.contains("loss")).map(|(_, v)| v.clone());
        let Some(first) = losses.next() else { return Ok(None) };
        losses.try_fold(first, |sum, v| sum + v).map(Some)
    }

    /// The numbers of all, then `loss` as the sum: what mmdet's `_parse_losses` logs.
    pub fn log_vars(&self, total: Option<&Tensor>) -> Result<IndexMap<String, f64>> {
        let number = |v: &Tensor| v.to_dtype(DType::F64)?.to_scalar::<f64>();
        let mut vars: IndexMap<String, f64> =
            self.0.iter().map(|(k, v)| Ok((k.clone(), number(v)?))).collect::<Result<_>>()?;
        if let Some(total) = total {
            vars.insert("loss".into(), number(total)?);
        }
        Ok(vars)
    }
}

impl<S: Into<String>> FromIterator<(S, Tensor)> for Losses {
    /// From scalars.
    fn from_iter<I: IntoIterator<Item = (S, Tensor)>>(iter: I) -> Self {
        Self(iter.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    // from mmdet.models.detectors.base import BaseDetector
    // BaseDetector._parse_losses(None, dict(loss_cls=[tensor([1., 3.]), tensor([4.])], loss_bbox=tensor(0.5), acc=tensor([80.])))
    // loss = 6.5; log_vars = loss_cls 6.0, loss_bbox 0.5, acc 80.0, loss 6.5
    #[test]
    fn means_are_summed_and_only_losses_are_trained() -> Result<()> {
        let t = |v: &[f32]| Tensor::new(v, &Device::Cpu);
        let mut l = Losses::new();
        l.push_sum("loss_cls", &[t(&[1.0, 3.0])?, t(&[4.0])?])?;
        l.push("loss_bbox", &Tensor::new(0.5f32, &Device::Cpu)?)?;
        l.push("acc", &t(&[80.0])?)?;
        let total = l.total()?.unwrap();
        assert_eq!(total.to_scalar::<f32>()?, 6.5);
        let vars = l.log_vars(Some(&total))?;
        let vars: Vec<_> = vars.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        assert_eq!(vars, [("loss_cls", 6.0), ("loss_bbox", 0.5), ("acc", 80.0), ("loss", 6.5)]);
        assert!(Losses::new().total()?.is_none());
        Ok(())
    }
}
