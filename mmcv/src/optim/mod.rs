//! Optimizers with the numerics of PyTorch: each update is one fused, parallel pass over the parameter, in place.
//!
//! [`build_optimizer`] reads a config's `optimizer` (with `paramwise_cfg` and `constructor`, or one optimizer per
//! submodule); [`Grads`] holds, clips and sums the gradients between `backward` and [`Optimizer::step`].

mod adagrad;
mod adam;
mod constructor;
mod grads;
mod group;
mod kernel;
mod multi;
mod optimizer;
mod rmsprop;
mod sgd;
#[cfg(test)]
mod tests;

pub use adagrad::{Adagrad, AdagradConfig};
pub use adam::{Adam, AdamConfig, AdamW, AdamWConfig};
pub use constructor::{
    Base, CustomKey, DefaultOptimizerConstructor, OPTIMIZER_BUILDERS, OptimizerConstructor, ParamwiseCfg,
};
pub use grads::Grads;
pub use group::{GroupState, ParamGroup, ParamSpec};
pub use multi::{MultiOptimizer, build_optimizer};
pub use optimizer::{OPTIMIZERS, OptimState, Optimizer};
pub use rmsprop::{Rmsprop, RmspropConfig};
pub use sgd::{Sgd, SgdConfig};
