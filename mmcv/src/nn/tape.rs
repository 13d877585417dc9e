//! The gradient tape of a [`super::region`]: which ops of ours ran on what, so that their gradients need no help of candle's
//! backward pass, which fills a buffer with zeros for each tensor and adds to it on one thread.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use candle_core::{CustomOp1, CustomOp2, CustomOp3, Result, Tensor, TensorId, bail};

use super::kept::Kept;
use super::{Param, grad_enabled};
use crate::ops::kernel::sum_of_two;

/// An op and its inputs.
enum Call {
    One(TensorId, Box<dyn CustomOp1 + Send + Sync>),
    Two([TensorId; 2], Box<dyn CustomOp2 + Send + Sync>),
    Three([TensorId; 3], Box<dyn CustomOp3 + Send + Sync>),
    /// Another layout of the same values.
    Same(TensorId),
}

/// What ran in a region.
#[derive(Default)]
pub(super) struct Tape {
    /// Calls, and the tensor that each gave.
    calls: Vec<(Call, TensorId)>,
    /// The calls' tensors.
    kept: HashMap<TensorId, Kept>,
    /// Whether activations are kept in half precision.
    half: bool,
    /// Tensors that have a gradient: the region's input, parameters, results of calls on them.
    tracked: HashSet<TensorId>,
    /// Trainable parameters that were read.
    pub params: Vec<Param>,
}

thread_local! {
    static RECORDING: RefCell<Option<Tape>> = const { RefCell::new(None) };
    static READS: RefCell<Option<Vec<Param>>> = const { RefCell::new(None) };
    static BACKWARD: RefCell<Option<HashSet<TensorId>>> = const { RefCell::new(None) };
}

/// Whether a region records on this thread.
pub(super) fn recording() -> bool {
    grad_enabled() && RECORDING.with_borrow(Option::is_some)
}

/// Whether a tensor has a gradient: of candle's graph, or of the tape that records or is gone back through.
pub(crate) fn tracked(t: &Tensor) -> bool {
    let of = |set: Option<&HashSet<TensorId>>| set.is_some_and(|s| s.contains(&t.id()));
    t.track_op()
        || BACKWARD.with_borrow(|b| of(b.as_ref()))
        || RECORDING.with_borrow(|r| of(r.as_ref().map(|tape| &tape.tracked)))
}

/// Runs `f`, and gives the trainable parameters that it read outside of regions.
pub(super) fn reads<T>(f: impl FnOnce() -> Result<T>) -> Result<(T, Vec<Param>)> {
    struct Guard(Option<Vec<Param>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            READS.set(self.0.take());
        }
    }
    let _guard = Guard(READS.replace(Some(Vec::new())));
    let y = f()?;
    Ok((y, READS.take().unwrap_or_default()))
}

/// Whether the tape that is gone back through has a gradient for this tensor.
fn known(id: TensorId) -> bool {
    BACKWARD.with_borrow(|b| b.as_ref().is_some_and(|set| set.contains(&id)))
}

/// Notes that a trainable parameter is read: for [`reads`], and for the tape that records.
pub(super) fn read(param: &Param) {
    READS.with_borrow_mut(|reads| {
        if let Some(reads) = reads {
            reads.push(param.clone());
        }
    });
    RECORDING.with_borrow_mut(|r| {
        if let Some(tape) = r
            && tape.tracked.insert(param.value().id())
        {
            tape.params.push(param.clone());
        }
    });
}

/// Runs `f`, and gives what it recorded. `inputs` are tracked; activations are kept in half precision when `half`.
pub(super) fn record(inputs: &[&Tensor], half: bool, f: impl FnOnce() -> Result<Tensor>) -> Result<(Tensor, Tape)> {
    struct Guard(Option<Tape>);
    impl Drop for Guard {
        fn drop(&mut self) {
            RECORDING.set(self.0.take());
        }
    }
    let mut tape = Tape { half, ..Tape::default() };
    for x in inputs {
        tape.tracked.insert(x.id());
        tape.kept.insert(x.id(), Kept::Whole((*x).clone()));
    }
    let _guard = Guard(RECORDING.replace(Some(tape)));
    let y = f()?;
    Ok((y, RECORDING.take().unwrap_or_default()))
}

/// Puts a call on the tape, with its tensors.
fn write(call: Call, inputs: &[&Tensor], y: Tensor) -> Result<Tensor> {
    RECORDING.with_borrow_mut(|r| {
        let Some(tape) = r else { return Ok(()) };
        for t in inputs.iter().copied().chain([&y]) {
            if !tape.kept.contains_key(&t.id()) {
                // Parameters and other leaves live anyway.
                let inner = t.id() == y.id();
                tape.kept.insert(t.id(), if tape.half && inner { Kept::half(t)? } else { Kept::Whole(t.clone()) });
            }
        }
        tape.tracked.insert(y.id());
        tape.calls.push((call, y.id()));
        Result::Ok(())
    })?;
    Ok(y)
}

/// A contiguous version of `x`, on the tape where it takes part in it.
pub(crate) fn contiguous(x: &Tensor) -> Result<Tensor> {
    if !recording() {
        return x.contiguous();
    }
    if x.track_op() {
        bail!("a tensor from outside of a region takes part in a graph: only the region's input may");
    }
    let y = x.contiguous()?;
    if y.id() != x.id() && tracked(x) { write(Call::Same(x.id()), &[x], y) } else { Ok(y) }
}

/// `op` on a contiguous version of `x`, as a part of the tape where one records and of candle's graph elsewhere.
pub(crate) fn apply1(x: &Tensor, op: impl CustomOp1 + Send + Sync + 'static) -> Result<Tensor> {
    if !recording() {
        return x.contiguous()?.apply_op1(op);
    }
    let x = contiguous(x)?;
    let y = x.apply_op1_no_bwd(&op)?;
    if tracked(&x) { write(Call::One(x.id(), Box::new(op)), &[&x], y) } else { Ok(y) }
}

/// As [`apply1`], with two inputs.
pub(crate) fn apply2(a: &Tensor, b: &Tensor, op: impl CustomOp2 + Send + Sync + 'static) -> Result<Tensor> {
    if !recording() {
        return a.contiguous()?.apply_op2(&b.contiguous()?, op);
    }
    let (a, b) = (contiguous(a)?, contiguous(b)?);
    let y = a.apply_op2_no_bwd(&b, &op)?;
    if [&a, &b].into_iter().any(tracked) {
        return write(Call::Two([a.id(), b.id()], Box::new(op)), &[&a, &b], y);
    }
    Ok(y)
}

/// As [`apply1`], with three inputs.
pub(crate) fn apply3(a: &Tensor, b: &Tensor, c: &Tensor, op: impl CustomOp3 + Send + Sync + 'static) -> Result<Tensor> {
    if !recording() {
        return a.contiguous()?.apply_op3(&b.contiguous()?, &c.contiguous()?, op);
    }
    let (a, b, c) = (contiguous(a)?, contiguous(b)?, contiguous(c)?);
    let y = a.apply_op3_no_bwd(&b, &c, &op)?;
    if [&a, &b, &c].into_iter().any(tracked) {
        return write(Call::Three([a.id(), b.id(), c.id()], Box::new(op)), &[&a, &b, &c], y);
    }
    Ok(y)
}

impl Tape {
    /// Whether a tensor has a gradient here.
    pub fn tracks(&self, t: &Tensor) -> bool {
        self.tracked.contains(&t.id())
    }

    /// A tensor of the tape, known to [`tracked`] if the one that was kept is.
    fn tensor(&self, id: TensorId, like: &Tensor) -> Result<Tensor> {
        let Some(kept) = self.kept.get(&id) else { bail!("region: a tensor of its tape is gone") };
        let t = kept.get(like)?;
        BACKWARD.with_borrow_mut(|set| {
            if let Some(set) = set.as_mut().filter(|set| set.contains(&id)) {
                set.insert(t.id());
            }
        });
        Ok(t)
    }

    /// The gradients of a call's inputs, given its result and that one's gradient.
    fn call(&self, call: &Call, y: &Tensor, grad: &Tensor) -> Result<Vec<(TensorId, Option<Tensor>)>> {
        let get = |id: TensorId| self.tensor(id, grad);
        Ok(match call {
            Call::One(x, op) => vec![(*x, op.bwd(&get(*x)?, y, grad)?)],
            Call::Two([a, b], op) => {
                let (da, db) = op.bwd(&get(*a)?, &get(*b)?, y, grad)?;
                vec![(*a, da), (*b, db)]
            }
            Call::Three([a, b, c], op) => {
                let (da, db, dc) = op.bwd(&get(*a)?, &get(*b)?, &get(*c)?, y, grad)?;
                vec![(*a, da), (*b, db), (*c, dc)]
            }
            Call::Same(x) => vec![(*x, Some(grad.clone()))],
        })
    }

    /// The gradients of the region's input and parameters, from that of its result. Frees each call's tensors when it is
    /// through with them.
    pub fn backward(mut self, y: &Tensor, grad: &Tensor) -> Result<HashMap<TensorId, Tensor>> {
        struct Guard(Option<HashSet<TensorId>>);
        impl Drop for Guard {
            fn drop(&mut self) {
                BACKWARD.set(self.0.take());
            }
        }
        let _guard = Guard(BACKWARD.replace(Some(std::mem::take(&mut self.tracked))));
        let mut grads = HashMap::from([(y.id(), grad.contiguous()?)]);
        while let Some((call, id)) = self.calls.pop() {
            // What came of this result is done with.
            let (Some(y), Some(grad)) = (self.kept.remove(&id), grads.remove(&id)) else { continue };
            for (x, dx) in self.call(&call, &y.get(&grad)?, &grad)? {
                let Some(dx) = dx.filter(|_| known(x)) else { continue };
                let sum = match grads.remove(&x) {
                    Some(before) => sum_of_two(&before, &dx)?,
                    None => dx,
                };
                grads.insert(x, sum);
            }
        }
        Ok(grads)
    }
}
