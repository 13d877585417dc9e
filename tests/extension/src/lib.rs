//! A crate as someone else would write it: it adds to `mmdet` by `register!` lines alone, and its binary
//! (`src/main.rs`) trains with what it adds. `ARCHITECTURE.md` walks through it.

mod charbonnier_loss;
mod loss_range_hook;
mod random_invert;
mod shared_tower_head;
mod tiny_net;

pub use charbonnier_loss::{CharbonnierLoss, CharbonnierLossConfig};
pub use loss_range_hook::{LossRangeHook, LossRangeHookConfig};
pub use random_invert::{RandomInvert, RandomInvertConfig};
pub use shared_tower_head::{SharedTowerHead, SharedTowerHeadConfig};
pub use tiny_net::{TinyNet, TinyNetConfig};
