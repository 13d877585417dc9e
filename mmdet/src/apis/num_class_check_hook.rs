//! mmdet's `NumClassCheckHook`.

use mmcv::Result;
use mmcv::register;
use mmcv::runner::{HOOKS, Hook};
use schemars::JsonSchema;
use serde::Deserialize;

/// `type = "NumClassCheckHook"`: no fields.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NumClassCheckHookConfig {}

/// Accepted for configs of the original. What it asks for is done for every run before it starts
/// ([`num_classes_fit`](super::num_classes_fit)), so that a mismatch is found before the first epoch and not in it.
#[derive(Debug)]
pub struct NumClassCheckHook;

impl NumClassCheckHook {
    /// Always succeeds.
    pub fn new(_: &NumClassCheckHookConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Hook for NumClassCheckHook {}

register!(HOOKS: dyn Hook, "NumClassCheckHook" => NumClassCheckHook(NumClassCheckHookConfig));
