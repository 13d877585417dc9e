//! What a forward pass needs beside its input: train or eval, random numbers, whether a graph is recorded.

use std::cell::Cell;
use std::sync::Mutex;

use crate::rng::Rng;

/// Handed down through every `forward`.
#[derive(Debug)]
pub struct Ctx {
    /// Train mode: batch statistics, dropout.
    pub train: bool,
    /// Whether dropout and dropped paths are on in train mode.
    dropout: bool,
    /// Whether regions keep activations in half precision.
    half: bool,
    rng: Mutex<Rng>,
}

impl Ctx {
    /// A training pass that draws from `rng`.
    pub fn train(rng: Rng) -> Self {
        Self { train: true, dropout: true, half: false, rng: Mutex::new(rng) }
    }

    /// An evaluation pass. It draws nothing (a fixed stream is there for modules that ask all the same).
    pub fn eval() -> Self {
        Self { train: false, dropout: false, half: false, rng: Mutex::new(Rng::new(0)) }
    }

    /// The same pass, whose regions keep activations for the backward pass in half precision when `half`.
    #[must_use]
    pub fn keeping_halves(self, half: bool) -> Self {
        Self { half, ..self }
    }

    /// Whether regions keep activations in half precision.
    pub fn keeps_halves(&self) -> bool {
        self.half
    }

    /// An evaluation pass for a part of this one: frozen stages, norms that keep their statistics.
    pub fn still(&self) -> Self {
        Self::eval().keeping_halves(self.half)
    }

    /// The same pass with dropout off, as the originals' recorded numbers are made.
    #[must_use]
    pub fn without_dropout(self) -> Self {
        Self { dropout: false, ..self }
    }

    /// Whether dropout and dropped paths are on.
    pub fn drops(&self) -> bool {
        self.train && self.dropout
    }

    /// For running what comes now once more later, in the same mode and with the same random numbers.
    pub(super) fn replay(&self) -> Self {
        let rng = self.rng.lock().unwrap_or_else(|e| e.into_inner()).clone();
        Self { train: self.train, dropout: self.dropout, half: self.half, rng: Mutex::new(rng) }
    }

    /// Draws from the pass's stream.
    pub fn rng<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.rng.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

thread_local!(static NO_GRAD: Cell<u32> = const { Cell::new(0) });

/// Runs `f` without recording a graph: parameters read inside are constants, so intermediates are freed at once.
pub fn no_grad<T>(f: impl FnOnce() -> T) -> T {
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            NO_GRAD.set(NO_GRAD.get() - 1);
        }
    }
    NO_GRAD.set(NO_GRAD.get() + 1);
    let _guard = Guard;
    f()
}

/// Whether parameters read on this thread take part in a graph.
pub fn grad_enabled() -> bool {
    NO_GRAD.get() == 0
}
