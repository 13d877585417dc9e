//! A number for both axes, or one for each.

use schemars::JsonSchema;
use serde::Deserialize;

/// `3` or `[3, 5]` (vertical, horizontal).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Pair {
    /// The same for both.
    Both(usize),
    /// `[vertical, horizontal]`.
    Each([usize; 2]),
}

impl Pair {
    /// `[vertical, horizontal]`.
    pub fn get(self) -> [usize; 2] {
        match self {
            Self::Both(n) => [n; 2],
            Self::Each(pair) => pair,
        }
    }

    /// 0, for `serde(default)`.
    pub fn zero() -> Self {
        Self::Both(0)
    }

    /// 1, for `serde(default)`.
    pub fn one() -> Self {
        Self::Both(1)
    }
}
