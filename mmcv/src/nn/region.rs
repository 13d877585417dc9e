//! A block of a model as one node of candle's graph: its insides are differentiated by a tape of our own, or run again in the
//! backward pass in place of being kept (activation checkpointing: `with_cp` of OpenMMLab's configs, Training Deep Nets with
//! Sublinear Memory Cost, Chen et al., 2016, <https://arxiv.org/abs/1604.06174>).

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp2, Device, Layout, Result, Shape, Storage, Tensor, TensorId, Var, bail};

use super::backward::{hand_in, seeded};
use super::tape::{Tape, reads, record, recording};
use super::{Ctx, grad_enabled, no_grad};

/// What a region runs: a block of a model, whose result hangs on its input and on parameters alone.
pub type Block = Arc<dyn Fn(&Tensor, &Ctx) -> Result<Tensor> + Send + Sync>;

/// What a [`region`] keeps for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// What its ops need, which must be ones of `mmcv::ops`: an operation of candle's would stop gradients. A parameter that
    /// gets none for that is an error of the backward pass.
    All,
    /// Its input alone; the rest is computed again, with the same random numbers. Any operations will do.
    Input,
}

/// `block(x, ctx)`, with gradients for `x` and the parameters that it reads, taken by [`super::backward`].
///
/// With [`Keep::Input`] batch statistics move running ones twice, as they do in torch's checkpoint; where `x` takes part in
/// no graph it is a plain call, as in mmdet.
pub fn region(block: &Block, x: &Tensor, ctx: &Ctx, keep: Keep) -> Result<Tensor> {
    if !grad_enabled() || recording() {
        return block(x, ctx);
    }
    let (wanted, again, x) = (x.track_op(), ctx.replay(), x.contiguous()?);
    let inner = x.detach();
    if keep == Keep::Input && !wanted {
        return block(&x, ctx);
    }
    let (y, kept) = if keep == Keep::Input {
        (no_grad(|| block(&inner, ctx))?, None)
    } else {
        let inputs: &[&Tensor] = if wanted { &[&inner] } else { &[] };
        let (y, tape) = record(inputs, ctx.keeps_halves(), || block(&inner, ctx))?;
        if !tape.tracks(&y) {
            if let Some(param) = tape.params.first() {
                bail!("region: its result doesn't hang on {} by ops of mmcv", param.name());
            }
            return Ok(y);
        }
        (y.clone(), Some((tape, y, inner.clone())))
    };
    // Candle goes back only through nodes that a variable leads to.
    let anchor = Var::zeros((), candle_core::DType::F32, &Device::Cpu)?;
    let state = Mutex::new(State { y: Some(y), kept });
    x.apply_op2(&anchor, Region { block: block.clone(), again, keep, state })
}

/// A function of `mmcv::ops` that ran with a tape, for its gradients without any graph of candle's.
pub struct Recorded {
    output: Tensor,
    tape: Tape,
    inputs: Vec<TensorId>,
}

/// Runs `f`, which makes its result of `inputs`, constants to candle, by `mmcv::ops` alone.
pub fn recorded(inputs: &[&Tensor], f: impl FnOnce() -> Result<Tensor>) -> Result<Recorded> {
    let (output, tape) = record(inputs, false, f)?;
    Ok(Recorded { output, tape, inputs: inputs.iter().map(|x| x.id()).collect() })
}

impl Recorded {
    /// What the function gave.
    pub fn output(&self) -> &Tensor {
        &self.output
    }

    /// The gradients of the inputs, from that of the output.
    pub fn backward(self, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let mut grads = self.tape.backward(&self.output, grad)?;
        Ok(self.inputs.iter().map(|id| grads.remove(id)).collect())
    }
}

struct State {
    /// The result, until it is handed on.
    y: Option<Tensor>,
    /// The tape, the result and the input as the tape knows them.
    kept: Option<(Tape, Tensor, Tensor)>,
}

struct Region {
    block: Block,
    again: Ctx,
    keep: Keep,
    state: Mutex<State>,
}

impl Region {
    /// Runs the block once more as a graph of candle's, and goes back through it; the gradient of the input.
    fn again_by_candle(&self, x: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let x = Var::from_tensor(&x.detach())?;
        let (y, params) = reads(|| (self.block)(x.as_tensor(), &self.again.replay()))?;
        let mut grads = seeded(&y, grad)?.backward()?;
        for param in params {
            // One that is read twice is handed in once.
            if let Some(grad) = grads.remove(param.var()) {
                hand_in(param.var(), grad);
            }
        }
        Ok(grads.remove(&x))
    }
}

impl CustomOp2 for Region {
    fn name(&self) -> &'static str {
        "region"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = self.state.lock().unwrap_or_else(|e| e.into_inner()).y.take();
        let Some(y) = y.map(|y| y.contiguous()).transpose()? else { bail!("region: run twice") };
        let (storage, layout) = y.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(CpuStorage::F32(values)), Some((from, to))) => {
                Ok((CpuStorage::F32(values[from..to].to_vec()), y.shape().clone()))
            }
            _ => bail!("region: expected f32 on the CPU, found {:?} on {:?}", y.dtype(), y.device()),
        }
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        if self.keep == Keep::Input {
            return Ok((self.again_by_candle(x, grad)?, None));
        }
        let kept = self.state.lock().unwrap_or_else(|e| e.into_inner()).kept.take();
        let Some((mut tape, y, x)) = kept else { bail!("region: a second backward pass, and its tape is used up") };
        let params = std::mem::take(&mut tape.params);
        let mut grads = tape.backward(&y, grad)?;
        for param in params {
            match grads.remove(&param.value().id()) {
                Some(grad) => hand_in(param.var(), grad),
                None => bail!(
                    "{} got no gradient: an operation of its block is not one of mmcv::ops, which regions are made of",
                    param.name()
                ),
            }
        }
        Ok((grads.remove(&x.id()), None))
    }
}

/// A block with the choice of `with_cp`.
pub struct Recomputable {
    block: Block,
    with_cp: bool,
}

impl Recomputable {
    /// `block`, run again in the backward pass `with_cp`, else a plain part of whatever graph or region it is in.
    pub fn new(block: Block, with_cp: bool) -> Self {
        Self { block, with_cp }
    }

    /// The block's result.
    pub fn forward(&self, x: &Tensor, ctx: &Ctx) -> Result<Tensor> {
        if self.with_cp { region(&self.block, x, ctx, Keep::Input) } else { (self.block)(x, ctx) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::nn::{Init, ParamStore, VarBuilder, backward};
    use crate::ops;

    fn flat(t: &Tensor) -> Result<Vec<f32>> {
        t.flatten_all()?.to_vec1()
    }

    /// A linear layer with dropout, used twice, and its weight once more outside of it.
    fn run(keep: Option<Keep>, x: &Tensor) -> Result<[Vec<f32>; 3]> {
        let store = ParamStore::new(&Device::Cpu, 0);
        let weight = VarBuilder::new(&store).param("w", (4, 4), Init::Uniform(-1.0, 1.0))?;
        let shared = weight.clone();
        let block: Block = Arc::new(move |x, ctx| {
            let y = ops::linear(x, &shared.get(), None)?;
            let z = ctx.rng(|rng| ops::dropout(&ops::relu(&y)?, 0.5, rng))?;
            ops::add_relu(&z, &y)
        });
        let ctx = Ctx::train(Rng::new(5));
        let call = |x: &Tensor| keep.map_or_else(|| block(x, &ctx), |keep| region(&block, x, &ctx, keep));
        let y = call(&call(x)?)?;
        let grads = backward(&(y.sqr()?.sum_all()? + weight.get().sum_all()?)?)?;
        let of = |t: &Tensor| grads.get(t).map_or(Ok(Vec::new()), flat);
        Ok([flat(&y)?, of(x)?, of(weight.var())?])
    }

    #[test]
    fn gradients_are_those_of_the_plain_call() -> Result<()> {
        let x = Var::from_tensor(&Tensor::randn(0f32, 1.0, (3, 4), &Device::Cpu)?)?;
        for x in [x.as_tensor().clone(), x.as_detached_tensor(), x.t()?.contiguous()?.t()?.narrow(1, 0, 4)?] {
            let plain = run(None, &x)?;
            assert!(plain[2].iter().any(|v| *v != 0.0));
            assert_eq!(plain[1].is_empty(), !x.is_variable());
            for keep in [Keep::All, Keep::Input] {
                for (ours, theirs) in run(Some(keep), &x)?.iter().zip(&plain) {
                    assert_eq!(ours.len(), theirs.len());
                    assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0)), "{ours:?}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn halves_give_nearly_the_same_gradients() -> Result<()> {
        let store = ParamStore::new(&Device::Cpu, 0);
        let weight = VarBuilder::new(&store).param("w", (64, 64), Init::Uniform(-0.2, 0.2))?;
        let shared = weight.clone();
        let block: Block = Arc::new(move |x, _| {
            let y = ops::relu(&ops::linear(x, &shared.get(), None)?)?;
            ops::add_relu(&ops::linear(&y, &shared.get(), None)?, x)
        });
        let x = Var::from_tensor(&Tensor::randn(0f32, 1.0, (128, 64), &Device::Cpu)?)?;
        let run = |half: bool| -> Result<[Vec<f32>; 3]> {
            let ctx = Ctx::train(Rng::new(0)).keeping_halves(half);
            let y = region(&block, &x, &ctx, Keep::All)?;
            let grads = backward(&y.sqr()?.sum_all()?)?;
            Ok([flat(&y)?, flat(grads.get(&x).unwrap())?, flat(grads.get(weight.var()).unwrap())?])
        };
        let (whole, halves) = (run(false)?, run(true)?);
        assert_eq!(whole[0], halves[0]);
        // The input's gradient needs signs and weights alone.
        assert!(whole[2] != halves[2]);
        for (a, b) in whole.iter().zip(&halves).skip(1) {
            let scale = a.iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3 * scale));
        }
        Ok(())
    }

    #[test]
    fn an_operation_that_no_tape_knows_is_an_error() -> Result<()> {
        let store = ParamStore::new(&Device::Cpu, 0);
        let weight = VarBuilder::new(&store).param("w", (2, 2), Init::Const(1.0))?;
        let block: Block = Arc::new(move |x, _| ops::relu(&(ops::linear(x, &weight.get(), None)? * 2.0)?));
        let x = Tensor::ones((1, 2), candle_core::DType::F32, &Device::Cpu)?;
        let e = region(&block, &x, &Ctx::eval(), Keep::All).unwrap_err().to_string();
        assert!(e.contains("doesn't hang on w"), "{e}");
        let x = Var::from_tensor(&x)?;
        let store = ParamStore::new(&Device::Cpu, 0);
        let weight = VarBuilder::new(&store).param("w", (2, 2), Init::Const(1.0))?;
        let block: Block = Arc::new(move |x, _| ops::add_relu(&(ops::linear(x, &weight.get(), None)? * 2.0)?, x));
        let y = region(&block, &x, &Ctx::eval(), Keep::All)?;
        let e = backward(&y.sum_all()?).unwrap_err().to_string();
        assert!(e.contains("w got no gradient"), "{e}");
        Ok(())
    }
}
