//! The training loop, its hooks and schedules.
