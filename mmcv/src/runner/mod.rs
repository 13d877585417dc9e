//! The training loop, its hooks and schedules.

mod losses;

pub use losses::Losses;
