//! The hooks of mmcv.

mod check_invalid_loss;
mod checkpoint;
mod distributed;
mod ema;
mod evaluation;
mod events;
mod fp16;
mod iter_timer;
mod logger;
mod optimizer;
mod profiler;
pub mod schedule;
mod tensorboard;
mod text_logger;

pub use check_invalid_loss::{CheckInvalidLossConfig, CheckInvalidLossHook};
pub use checkpoint::{CheckpointHook, CheckpointHookConfig};
pub use distributed::{
    DistSamplerSeedConfig, DistSamplerSeedHook, EmptyCacheConfig, EmptyCacheHook, SyncBuffersConfig, SyncBuffersHook,
};
pub use ema::{
    EmaHook, EmaHookConfig, ExpMomentumEmaConfig, ExpMomentumEmaHook, LinearMomentumEmaConfig, LinearMomentumEmaHook,
};
pub use evaluation::{EvalConfig, EvalHook, EvalResults};
pub use events::EventWriter;
pub use fp16::{DynamicScale, Fp16OptimizerHook, Fp16OptimizerHookConfig, LossScale};
pub use iter_timer::{IterTimerConfig, IterTimerHook};
pub use logger::{LogEvery, python_float};
pub use optimizer::{
    GradClip, GradientCumulativeConfig, GradientCumulativeOptimizerHook, OptimizerHook, OptimizerHookConfig,
};
pub use profiler::{ProfilerConfig, ProfilerHook, Timings};
pub use tensorboard::{TensorboardConfig, TensorboardLoggerHook};
pub use text_logger::{TextLoggerConfig, TextLoggerHook};
