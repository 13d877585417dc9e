//! Hooks that matter to several processes or to a GPU's allocator. They are there so that configs which name them
//! run; in one process on a CPU they have nothing to do.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::{HOOKS, Hook};
use crate::{Result, register};

/// `type = "SyncBuffersHook"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncBuffersConfig {
    /// Whether there are several processes.
    #[serde(default = "yes")]
    pub distributed: bool,
}

fn yes() -> bool {
    true
}

/// Would average buffers (BatchNorm's running statistics) over processes; in one process it does nothing.
#[derive(Debug)]
pub struct SyncBuffersHook;

impl SyncBuffersHook {
    /// From its config.
    pub fn new(_: &SyncBuffersConfig) -> Result<Self> {
        Ok(Self)
    }
}
impl Hook for SyncBuffersHook {}
register!(HOOKS: dyn Hook, "SyncBuffersHook" => SyncBuffersHook(SyncBuffersConfig));

/// `type = "EmptyCacheHook"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmptyCacheConfig {
    /// Before each epoch.
    #[serde(default)]
    pub before_epoch: bool,
    /// After each epoch.
    #[serde(default = "yes")]
    pub after_epoch: bool,
    /// After each iteration.
    #[serde(default)]
    pub after_iter: bool,
}

/// Would empty PyTorch's cache of GPU memory; candle keeps none, so it does nothing.
#[derive(Debug)]
pub struct EmptyCacheHook;

impl EmptyCacheHook {
    /// From its config.
    pub fn new(_: &EmptyCacheConfig) -> Result<Self> {
        Ok(Self)
    }
}
impl Hook for EmptyCacheHook {}
register!(HOOKS: dyn Hook, "EmptyCacheHook" => EmptyCacheHook(EmptyCacheConfig));

/// `type = "DistSamplerSeedHook"`: it has no fields.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DistSamplerSeedConfig {}

/// Would tell samplers the epoch; the runner does so for every sampler, so it does nothing.
#[derive(Debug)]
pub struct DistSamplerSeedHook;

impl DistSamplerSeedHook {
    /// From its config.
    pub fn new(_: &DistSamplerSeedConfig) -> Result<Self> {
        Ok(Self)
    }
}
impl Hook for DistSamplerSeedHook {}
register!(HOOKS: dyn Hook, "DistSamplerSeedHook" => DistSamplerSeedHook(DistSamplerSeedConfig));
