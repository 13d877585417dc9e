//! How losses are reduced.

use schemars::JsonSchema;
use serde::Deserialize;

/// How the element-wise loss becomes the result (a config's `reduction`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LossReduction {
    /// Stays element-wise.
    None,
    /// Sum over the number of elements, or over `avg_factor` when one is given.
    #[default]
    Mean,
    /// Sum; an `avg_factor` is an error.
    Sum,
}
