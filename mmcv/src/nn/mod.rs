//! Parameters by their `state_dict` names, and the context that a forward pass runs in.

mod backward;
mod ctx;
mod init;
mod init_cfg;
mod kept;
mod param;
mod region;
mod tape;
mod var_builder;

pub use backward::{backward, seeded};
pub use ctx::{Ctx, grad_enabled, no_grad};
pub use init::Init;
pub use init_cfg::{Distribution, FanMode, Initializer, bias_init_with_prob, init_weights, initialize};
pub use param::{Param, ParamKind, ParamStore};
pub use region::{Block, Keep, Recomputable, Recorded, recorded, region};
pub(crate) use tape::{apply1, apply2, apply3, contiguous, tracked};
pub use var_builder::VarBuilder;
