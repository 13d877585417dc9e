//! What small networks share: stages in a row, of which some are frozen and some handed on.

use candle_core::{Result, Tensor};

use crate::error::{Error, Result as CoreResult};
use crate::nn::{Ctx, Recomputable};

/// Stages of blocks.
pub(super) struct Stages {
    pub stages: Vec<Vec<Recomputable>>,
    /// Stages whose output is handed on.
    pub out_indices: Vec<usize>,
    /// The first stages, which run in evaluation mode always.
    pub frozen: usize,
    /// Whether batch norms keep their running statistics in training.
    pub norm_eval: bool,
}

impl Stages {
    /// The outputs that are asked for.
    pub fn forward(&self, x: Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        self.forward_from(0, x, ctx)
    }

    /// Those that stage `first` and the ones behind it put out, from what comes in to stage `first`.
    pub fn forward_from(&self, first: usize, mut x: Tensor, ctx: &Ctx) -> Result<Vec<Tensor>> {
        let still = ctx.still();
        let mut outs = Vec::new();
        for (i, stage) in self.stages.iter().enumerate().skip(first) {
            let ctx = if self.norm_eval || i < self.frozen { &still } else { ctx };
            x = stage.iter().try_fold(x, |x, block| block.forward(&x, ctx))?;
            if self.out_indices.contains(&i) {
                outs.push(x.clone());
            }
        }
        Ok(outs)
    }
}

/// An error unless `out_indices` and `frozen_stages` name some of `stages`.
pub(super) fn check_stages(out_indices: &[usize], frozen_stages: i64, stages: usize) -> CoreResult<()> {
    if let Some(bad) = out_indices.iter().find(|i| **i >= stages) {
        return Err(Error::config(format!("names stage {bad}, expected 0 to {}", stages - 1)).under("out_indices"));
    }
    if !(-1..stages as i64).contains(&frozen_stages) {
        let message = format!("is {frozen_stages}, expected -1 to {}", stages - 1);
        return Err(Error::config(message).under("frozen_stages"));
    }
    Ok(())
}
