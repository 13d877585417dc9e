//! The order of hooks.

use serde_json::Value;

use crate::config::Node;
use crate::error::{Error, Result, did_you_mean};

/// When a hook is called among the hooks of a stage: lower is earlier, equals go by registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    /// 0
    pub const HIGHEST: Self = Self(0);
    /// 10: learning rates
    pub const VERY_HIGH: Self = Self(10);
    /// 30: momenta
    pub const HIGH: Self = Self(30);
    /// 40: the optimizer
    pub const ABOVE_NORMAL: Self = Self(40);
    /// 50: checkpoints, custom hooks
    pub const NORMAL: Self = Self(50);
    /// 60
    pub const BELOW_NORMAL: Self = Self(60);
    /// 70: timers, evaluation
    pub const LOW: Self = Self(70);
    /// 90: loggers
    pub const VERY_LOW: Self = Self(90);
    /// 100
    pub const LOWEST: Self = Self(100);

    const NAMES: [(&'static str, Self); 9] = [
        ("HIGHEST", Self::HIGHEST),
        ("VERY_HIGH", Self::VERY_HIGH),
        ("HIGH", Self::HIGH),
        ("ABOVE_NORMAL", Self::ABOVE_NORMAL),
        ("NORMAL", Self::NORMAL),
        ("BELOW_NORMAL", Self::BELOW_NORMAL),
        ("LOW", Self::LOW),
        ("VERY_LOW", Self::VERY_LOW),
        ("LOWEST", Self::LOWEST),
    ];

    /// A priority from 0 to 100.
    pub fn new(value: u8) -> Result<Self> {
        if value > 100 {
            return Err(Error::config(format!("priority: found {value}, expected a value in 0..=100")));
        }
        Ok(Self(value))
    }

    /// A config's `priority`: a number or a name, in any case.
    pub fn from_node(node: &Node) -> Result<Self> {
        if let Some(n) = node.as_i64() {
            let value = u8::try_from(n).ok().and_then(|v| Self::new(v).ok());
            return value
                .ok_or_else(|| node.error(format!("found {n}, expected a value in 0..=100")).under("priority"));
        }
        let Some(name) = node.as_str() else {
            return Err(node.error(format!("found {}, expected a number or a name", node.kind())).under("priority"));
        };
        let upper = name.to_uppercase();
        Self::NAMES.iter().find(|(n, _)| *n == upper).map(|(_, p)| *p).ok_or_else(|| {
            let names = Self::NAMES.map(|(n, _)| n);
            let hint = did_you_mean(&upper, names);
            node.error(format!("unknown priority '{name}'{hint} (allowed: {})", names.join(", "))).under("priority")
        })
    }

    /// The number.
    pub fn value(self) -> u8 {
        self.0
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Self::NAMES.iter().find(|(_, p)| p == self) {
            Some((name, _)) => f.pad(name),
            None => f.pad(&self.0.to_string()),
        }
    }
}

impl From<Priority> for Value {
    fn from(p: Priority) -> Self {
        p.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_case_and_numbers_are_priorities() {
        assert_eq!(Priority::from_node(&Node::from("very_low")).unwrap().value(), 90);
        assert_eq!(Priority::from_node(&Node::from(49i64)).unwrap().to_string(), "49");
        assert!(Priority::from_node(&Node::from(101i64)).is_err());
        let e = Priority::from_node(&Node::from("NORMEL")).unwrap_err().to_string();
        assert!(e.contains("did you mean 'NORMAL'?"), "{e}");
    }
}
