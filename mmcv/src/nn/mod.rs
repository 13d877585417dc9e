//! Parameters by their `state_dict` names, and the context that a forward pass runs in.

mod ctx;
mod init;
mod param;
mod var_builder;

pub use ctx::{Ctx, grad_enabled, no_grad};
pub use init::Init;
pub use param::{Param, ParamKind, ParamStore};
pub use var_builder::VarBuilder;
