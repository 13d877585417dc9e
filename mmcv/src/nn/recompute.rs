//! Activation checkpointing: `with_cp` of OpenMMLab's configs, `torch.utils.checkpoint`.
//!
//! Training Deep Nets with Sublinear Memory Cost, Chen et al., 2016 (<https://arxiv.org/abs/1604.06174>).

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor, Var, bail};

use super::backward::{hand_in, seeded};
use super::{Ctx, Param, VarBuilder, grad_enabled};

/// What is run again: a block of a model.
pub type Block = Arc<dyn Fn(&Tensor, &Ctx) -> Result<Tensor> + Send + Sync>;

/// `block(x, ctx)`, of whose insides nothing is kept for the backward pass but `x`: there it runs again, with the same random
/// numbers. `params` are the parameters it uses.
///
/// The gradients are those of the plain call, taken by [`super::backward`]. Batch statistics move running ones twice, as they do
/// in torch. Without a graph, or where `x` is no part of one, it is the plain call, as in mmdet.
pub fn recompute(block: &Block, params: &[Param], x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
    if !(grad_enabled() && x.track_op()) {
        return block(x, ctx);
    }
    let again = ctx.replay();
    let y = super::no_grad(|| block(&x.detach(), ctx))?;
    x.contiguous()?.apply_op1(Recompute {
        block: block.clone(),
        params: params.to_vec(),
        again,
        y: Mutex::new(Some(y)),
    })
}

/// A block with the choice of `with_cp`: kept for the backward pass, or run again in it.
pub struct Recomputable {
    block: Block,
    /// Its parameters, where it is run again.
    params: Option<Vec<Param>>,
}

impl Recomputable {
    /// `block`, whose parameters are all those at `vb`.
    pub fn new(block: Block, with_cp: bool, vb: &VarBuilder) -> Self {
        let here = vb.key("");
        let own = || vb.store().all().into_iter().filter(|p| p.name().starts_with(&here)).collect();
        Self { block, params: with_cp.then(own) }
    }

    /// The block's result.
    pub fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        match &self.params {
            Some(params) => recompute(&self.block, params, x, ctx),
            None => (self.block)(x, ctx),
        }
    }
}

struct Recompute {
    block: Block,
    params: Vec<Param>,
    again: Ctx,
    /// The result, until it is handed on.
    y: Mutex<Option<Tensor>>,
}

impl CustomOp1 for Recompute {
    fn name(&self) -> &'static str {
        "recompute"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some(y) = self.y.lock().unwrap_or_else(|e| e.into_inner()).take() else { bail!("recompute: run twice") };
        let y = y.contiguous()?;
        let (storage, layout) = y.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(CpuStorage::F32(values)), Some((from, to))) => {
                Ok((CpuStorage::F32(values[from..to].to_vec()), y.shape().clone()))
            }
            _ => bail!("recompute: expected f32 on the CPU, found {:?} on {:?}", y.dtype(), y.device()),
        }
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let x = Var::from_tensor(&x.detach())?;
        let y = (self.block)(x.as_tensor(), &self.again.replay())?;
        let mut grads = seeded(&y, grad)?.backward()?;
        for param in self.params.iter().filter(|p| p.trainable()) {
            if let Some(grad) = grads.remove(param.var()) {
                hand_in(param.var(), grad);
            }
        }
        Ok(grads.remove(&x))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::Rng;
    use crate::nn::{Init, ParamStore, backward};
    use crate::ops;

    #[test]
    fn gradients_are_those_of_the_plain_call() -> Result<()> {
        let store = ParamStore::new(&Device::Cpu, 0);
        let vb = VarBuilder::new(&store);
        let weight = vb.param("w", (4, 4), Init::Uniform(-1.0, 1.0))?;
        let shared = weight.clone();
        let block: Block = Arc::new(move |x, ctx| {
            let y = ops::linear(x, &shared.get(), None)?;
            ctx.rng(|rng| ops::dropout(&ops::relu(&y)?, 0.5, rng))
        });
        let x = Var::from_tensor(&Tensor::randn(0f32, 1.0, (3, 4), &Device::Cpu)?)?;
        let run = |again: bool| -> Result<[Vec<f32>; 3]> {
            let ctx = Ctx::train(Rng::new(5));
            // Two blocks of one weight, and the weight once more outside of them.
            let call = |x: &Tensor| if again { recompute(&block, &store.all(), x, &ctx) } else { block(x, &ctx) };
            let y = call(&call(x.as_tensor())?)?;
            let loss = (y.sqr()?.sum_all()? + weight.get().sum_all()?)?;
            let grads = backward(&loss)?;
            let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
            Ok([flat(&y)?, flat(grads.get(&x).unwrap())?, flat(grads.get(weight.var()).unwrap())?])
        };
        let plain = run(false)?;
        assert!(plain[1].iter().any(|v| *v != 0.0));
        for (ours, theirs) in run(true)?.iter().zip(&plain) {
            for (a, b) in ours.iter().zip(theirs) {
                assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} {b}");
            }
        }
        Ok(())
    }
}
